package netguard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// nameserver is one of a stranger's: what a name is changes from one question to the
// next.
type nameserver struct {
	asked atomic.Int64
	// is tells the addresses that the n-th question is answered with.
	is func(name string, n int64) []netip.Addr
}

// serve answers questions until the test ends, and returns where.
func (s *nameserver) serve(t *testing.T) string {
	t.Helper()
	at, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { at.Close() })
	go func() {
		question := make([]byte, 512)
		for {
			n, from, err := at.ReadFrom(question)
			if err != nil {
				return
			}
			if answer, err := s.answer(question[:n]); err != nil {
				t.Error(err)
			} else if _, err := at.WriteTo(answer, from); err != nil {
				return
			}
		}
	}()
	return at.LocalAddr().String()
}

func (s *nameserver) answer(question []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil {
		return nil, err
	}
	m.Response, m.RecursionAvailable = true, true
	q := m.Questions[0]
	head := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET}
	if q.Type == dnsmessage.TypeA {
		for _, a := range s.is(strings.TrimSuffix(q.Name.String(), "."), s.asked.Add(1)) {
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head, Body: &dnsmessage.AResource{A: a.As4()}})
		}
	}
	m.Additionals = nil
	return m.Pack()
}

// listen serves at an address of this machine, and counts requests; /away redirects to
// the same host.
func listen(t *testing.T, at netip.AddrPort, reached *atomic.Int64) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached.Add(1)
		w.Header().Set("Connection", "close")
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "/", http.StatusFound)
		}
	})}}
	s.Start()
	t.Cleanup(s.Close)
	return netip.MustParseAddrPort(l.Addr().String())
}

// TestRebinding: a name that was an allowed address a moment ago is none that opens
// the way to another.
func TestRebinding(t *testing.T) {
	allowed, denied := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")
	var reached, inside atomic.Int64
	port := listen(t, netip.AddrPortFrom(allowed, 0), &reached).Port()
	listen(t, netip.AddrPortFrom(denied, port), &inside)
	s := &nameserver{is: func(name string, n int64) []netip.Addr {
		switch {
		case name == "both.test":
			return []netip.Addr{denied, allowed}
		case n%2 == 1: // an allowed address the first time, then the other
			return []netip.Addr{allowed}
		}
		return []netip.Addr{denied}
	}}
	at := s.serve(t)
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", at)
	}}
	client := &http.Client{Transport: New(prefixes("127.0.0.0/8", "::1/128"), prefixes("127.0.0.1/32")).transport(resolver)}
	get := func(host, path string) error {
		res, err := client.Get(fmt.Sprintf("http://%s:%d%s", host, port, path))
		if err == nil {
			res.Body.Close()
		}
		return err
	}
	if err := get("one.test", "/"); err != nil {
		t.Errorf("what is allowed: %v", err)
	}
	if err := get("one.test", "/"); !errors.Is(err, ErrDenied) {
		t.Errorf("what it has become: %v", err)
	}
	if err := get("one.test", "/away"); !errors.Is(err, ErrDenied) || reached.Load() != 2 {
		t.Errorf("a redirect to what it has become: %v, reached %d times", err, reached.Load())
	}
	if err := get("both.test", "/"); err != nil || reached.Load() != 3 {
		t.Errorf("a name of both: %v, reached %d times", err, reached.Load())
	}
	if n := inside.Load(); n > 0 || s.asked.Load() < 5 {
		t.Errorf("what is inside was reached %d times, after %d questions", n, s.asked.Load())
	}
}
