package rpc

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// instance serves methods as one of several and returns its host:port.
func instance(t *testing.T, s *Server, leaving <-chan struct{}) string {
	return strings.TrimPrefix(serveHTTP(t, HandlerOptions{Server: s, Leaving: leaving}), "http://")
}

// named serves a method that says which instance answered.
var named = NewMethod[struct{}, everything]("test", "named")

func namedServer(name string) *Server {
	s := NewServer()
	named.Serve(s, func(context.Context, *struct{}) (*everything, error) { return &everything{Text: name}, nil })
	return s
}

// spread makes a client of the instances.
func spread(t *testing.T, d *Directory, o ClientOptions) *HTTPClient {
	o.Address = func(ctx context.Context, service, _ string) (string, error) { return d.Address(ctx, service, "") }
	o.Outcome = d.Outcome
	return client(t, "", o)
}

func deadAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestInstanceGone: a call that could not be sent is made at another instance,
// harmless or not, and the one that is gone is not asked again for a while.
func TestInstanceGone(t *testing.T) {
	gone := deadAddress(t)
	d := NewDirectory(map[string][]string{"test": {gone, instance(t, namedServer("b"), nil)}}, false)
	c := spread(t, d, ClientOptions{})
	for range 20 {
		res, err := named.Call(t.Context(), c, &struct{}{})
		if err != nil || res.Text != "b" {
			t.Fatalf("%+v, %v", res, err)
		}
	}
	if d.good(gone) {
		t.Error("who is gone is asked again")
	}
}

// TestInstanceHangs: one that takes calls and does not answer is passed over.
func TestInstanceHangs(t *testing.T) {
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then is it seen that the caller has gone
		<-r.Context().Done()
	}))
	defer hanging.Close()
	d := NewDirectory(map[string][]string{"test": {strings.TrimPrefix(hanging.URL, "http://"), instance(t, namedServer("b"), nil)}}, false)
	c := spread(t, d, ClientOptions{AttemptTimeout: 50 * time.Millisecond})
	for range 10 {
		res, err := named.Harmless().Call(t.Context(), c, &struct{}{})
		if err != nil || res.Text != "b" {
			t.Fatalf("%+v, %v", res, err)
		}
	}
}

// TestInstanceLeaves: one that says that it is leaving answers, and is not asked
// again.
func TestInstanceLeaves(t *testing.T) {
	leaving := make(chan struct{})
	leaver := instance(t, namedServer("a"), leaving)
	d := NewDirectory(map[string][]string{"test": {leaver, instance(t, namedServer("b"), nil)}}, false)
	c := spread(t, d, ClientOptions{})
	ask := func() string {
		t.Helper()
		res, err := named.Call(t.Context(), c, &struct{}{})
		if err != nil {
			t.Fatal(err)
		}
		return res.Text
	}
	close(leaving)
	for d.good(leaver) {
		ask()
	}
	for range 10 {
		if by := ask(); by != "b" {
			t.Errorf("%s was asked", by)
		}
	}
}

func TestDirectory(t *testing.T) {
	d := NewDirectory(map[string][]string{"one": {"room-server:80"}, "none": nil}, true)
	lookUps := 0
	d.lookUp = func(_ context.Context, host string) ([]string, error) {
		if lookUps++; host != "room-server" || lookUps > 1 {
			return nil, errors.New("no such host")
		}
		return []string{"10.0.0.1", "fd00::1"}, nil
	}
	seen := map[string]bool{}
	for range 100 {
		a, err := d.Address(t.Context(), "one", "")
		if err != nil {
			t.Fatal(err)
		}
		seen[a] = true
	}
	if len(seen) != 2 || !seen["https://10.0.0.1:80"] || !seen["https://[fd00::1]:80"] {
		t.Errorf("got %v", seen)
	}
	if lookUps != 1 {
		t.Errorf("%d look-ups", lookUps)
	}
	if a, err := d.Address(t.Context(), "one", "10.9.9.9:1"); a != "https://10.9.9.9:1" || err != nil {
		t.Errorf("preferred: %s, %v", a, err)
	}
	d.Outcome("https://10.9.9.9:1", Gone)
	if a, err := d.Address(t.Context(), "one", "10.9.9.9:1"); a == "https://10.9.9.9:1" || err != nil {
		t.Errorf("preferred, but gone: %s, %v", a, err)
	}
	d.Outcome("https://10.0.0.1:80", Gone)
	d.Outcome("https://[fd00::1]:80", Gone)
	for _, failsNext := range []string{"https://10.0.0.1:80", "https://[fd00::1]:80", "https://10.0.0.1:80"} {
		a, err := d.Address(t.Context(), "one", "")
		if a != failsNext || err != nil {
			t.Errorf("all gone, and %s longest: %s, %v", failsNext, a, err)
		}
		d.Outcome(failsNext, Gone)
	}
	d.Outcome("https://10.0.0.1:80", Answered)
	for range 10 {
		if a, err := d.Address(t.Context(), "one", ""); a != "https://10.0.0.1:80" || err != nil {
			t.Errorf("one is back: %s, %v", a, err)
		}
	}
	if _, err := d.Address(t.Context(), "none", ""); !errors.Is(err, errNobody) {
		t.Errorf("nobody: %v", err)
	}
}
