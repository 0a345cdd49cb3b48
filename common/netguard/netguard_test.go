package netguard

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

func TestCheck(t *testing.T) {
	g := New(prefixes("10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "::1/128", "fe80::/10"), prefixes("10.1.0.0/16"))
	for text, allowed := range map[string]bool{
		"1.1.1.1": true, "10.0.0.1": false, "10.1.0.1": true, "127.0.0.1": false, "169.254.169.254": false,
		"::1": false, "::ffff:127.0.0.1": false, "::ffff:1.1.1.1": true, "fe80::1": false, "fe80::1%eth0": false, "2606:4700::1111": true,
		"64:ff9b::7f00:1": false, "64:ff9b::101:101": true, "2002:7f00:1::": false, "2002:a9fe:a9fe::1": false, "2002:101:101::1": true,
	} {
		err := g.Check(netip.MustParseAddr(text))
		if (err == nil) != allowed || err != nil && !errors.Is(err, ErrDenied) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if err := g.Check(netip.Addr{}); !errors.Is(err, ErrDenied) {
		t.Errorf("no address: %v", err)
	}
}

// TestTransport: names and redirects lead nowhere else.
func TestTransport(t *testing.T) {
	reached := 0
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ }))
	defer inside.Close()
	client := &http.Client{Transport: New(prefixes("127.0.0.0/8", "::1/128"), nil).Transport()}
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]"} {
		res, err := client.Get("http://" + host + inside.URL[len("http://127.0.0.1"):])
		if err == nil {
			res.Body.Close()
		}
		if !errors.Is(err, ErrDenied) || reached != 0 {
			t.Errorf("%s: %v, reached %d times", host, err, reached)
		}
	}
	client.Transport = New(prefixes("127.0.0.0/8"), prefixes("127.0.0.1/32")).Transport()
	res, err := client.Get(inside.URL)
	if err != nil || reached != 1 {
		t.Fatalf("what is allowed: %v", err)
	}
	res.Body.Close()
}
