package previews

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/matrix-org/dendrite/common/netguard"
)

// newClient makes a client that may connect to 127.0.0.1, and nowhere else inside.
func newClient() *Client {
	guard := netguard.New([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("10.0.0.0/8")},
		[]netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")})
	return New(Options{Guard: guard, DenyHosts: []string{"denied.example"}, MaxRedirects: 3, MaxPage: 64 << 10, MaxImage: 1000, UserAgent: "test", AcceptLanguage: "de"})
}

// serve serves pages by their paths; an answer with a colon in front is a redirect.
func serve(t *testing.T, pages map[string]string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, ok := pages[r.URL.Path]
		kind, body, _ := strings.Cut(text, "|")
		switch {
		case !ok:
			http.NotFound(w, r)
		case kind == "redirect":
			w.Header().Set("Location", body)
			w.WriteHeader(http.StatusFound)
		case r.Header.Get("User-Agent") != "test" || r.Header.Get("Accept-Language") != "de":
			w.WriteHeader(http.StatusTeapot)
		default:
			w.Header().Set("Content-Type", kind)
			_, _ = io.WriteString(w, body)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func look(t *testing.T, c *Client, at string) (*Preview, error) {
	t.Helper()
	u, err := c.Parse(at)
	if err != nil {
		return nil, err
	}
	return c.Look(t.Context(), u)
}

func TestPages(t *testing.T) {
	pages := map[string]string{
		"/og": `text/html|<html><head><title>No</title><meta property="og:title" content="A &amp; B"><meta property="OG:Description" content=" two
			words "><meta property="og:image" content="/i.png"><meta property="og:image:width" content="9"><meta property="og:url" content="https://x/"></head>`,
		"/plain":  `text/html|<title>The <b>title</title><body><nav>menu</nav><script>alert("no")</script><p>First words.</p><style>p{}</style><p>More.`,
		"/meta":   `text/html|<title>t</title><meta name=description content="d1"><meta name=description content="d2"><p>text`,
		"/card":   `text/html|<meta name="twitter:title" content="tt"><meta name="twitter:image" content="https://cdn.example/a.png"><link rel="image_src" href="no">`,
		"/latin":  "text/html; charset=iso-8859-1|<title>Gr\xfc\xdfe</title>",
		"/sjis":   "text/html|<meta charset=shift_jis><title>\x93\xfa\x96\x7b</title>",
		"/binary": "application/octet-stream|\x00\x01",
		"/image":  "image/png|xx",
		"/empty":  "text/html|",
		"/base":   `text/html|<base href="/deep/"><meta property="og:image" content="i.png">`,
		"/data":   `text/html|<meta property="og:image" content="data:image/png;base64,AAAA"><title>x</title>`,
		"/file":   `text/html|<meta property="og:image" content="file:///etc/passwd"><title>x</title>`,
		"/tricky": "text/html|<title>a\u202eb\x00c</title>",
		"/oembed": `text/html|<title>t</title><link rel="alternate" type="application/json+oembed" href="/o.json">`,
		"/o.json": `application/json|{"type":"photo","title":"O","provider_name":"P","author_name":7,"url":"https://cdn.example/o.png","html":"<script>"}`,
		"/to":     "redirect|/og",
		"/wrong":  `text/html|<title>t</title><link rel="alternate" type="application/json+oembed" href="http://10.0.0.1/o.json">`,
	}
	at := serve(t, pages)
	for path, want := range map[string]struct {
		properties map[string]string
		image      string
	}{
		"/og":     {map[string]string{"og:title": "A & B", "og:description": "two words", "og:url": "https://x/"}, at + "/i.png"},
		"/to":     {map[string]string{"og:title": "A & B", "og:description": "two words", "og:url": "https://x/"}, at + "/i.png"},
		"/plain":  {map[string]string{"og:title": "The <b>title", "og:description": "First words. More."}, ""},
		"/meta":   {map[string]string{"og:title": "t", "og:description": "d1"}, ""},
		"/card":   {map[string]string{"og:title": "tt"}, "https://cdn.example/a.png"},
		"/latin":  {map[string]string{"og:title": "Grüße"}, ""},
		"/sjis":   {map[string]string{"og:title": "日本"}, ""},
		"/binary": {map[string]string{}, ""},
		"/image":  {map[string]string{}, at + "/image"},
		"/empty":  {map[string]string{}, ""},
		"/base":   {map[string]string{}, at + "/deep/i.png"},
		"/data":   {map[string]string{"og:title": "x"}, ""},
		"/file":   {map[string]string{"og:title": "x"}, ""},
		"/tricky": {map[string]string{"og:title": "abc"}, ""},
		"/oembed": {map[string]string{"og:title": "O", "og:site_name": "P"}, "https://cdn.example/o.png"},
		"/wrong":  {map[string]string{"og:title": "t"}, ""},
	} {
		p, err := look(t, newClient(), at+path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		image := ""
		if p.Image != nil {
			image = p.Image.String()
		}
		if !maps.Equal(p.Properties, want.properties) || image != want.image {
			t.Errorf("%s: %q, %q", path, p.Properties, image)
		}
	}
}

// TestRefused: addresses inside are not connected to, however they are come by.
func TestRefused(t *testing.T) {
	reached := false
	inside := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	l := inside.Listener
	inside.Start()
	defer inside.Close()
	port := netip.MustParseAddrPort(l.Addr().String()).Port()
	target := fmt.Sprintf("http://127.0.0.2:%d/", port)
	at := serve(t, map[string]string{
		"/redirect": "redirect|" + target, "/scheme": "redirect|file:///etc/passwd", "/host": "redirect|http://a.denied.example/",
		"/loop": "redirect|/loop", "/gone": "redirect|/nothing",
	})
	for path, want := range map[string]error{
		target: netguard.ErrDenied, at + "/redirect": netguard.ErrDenied, at + "/scheme": ErrURL, at + "/host": ErrDenied, at + "/loop": ErrAway, at + "/gone": ErrAway,
		"http://[::ffff:127.0.0.2]/": netguard.ErrDenied, "http://[::1]/": netguard.ErrDenied, "http://10.1.2.3/": netguard.ErrDenied,
		"http://2130706434/": ErrAway, "ftp://example.org/": ErrURL, "javascript:alert(1)": ErrURL, "http:///x": ErrURL, "": ErrURL, "http://user:secret@example.org/": ErrURL,
		"https://DENIED.example./x": ErrDenied, "http://x.denied.example/": ErrDenied, "http://a/" + strings.Repeat("x", maxURL): ErrURL, "http://%zz/": ErrURL,
	} {
		if _, err := look(t, newClient(), path); !errors.Is(err, want) || reached {
			t.Errorf("%.80s: %v, want %v; reached: %v", path, err, want, reached)
		}
	}
}

// TestEndless: neither pages nor images nor answers that never come take more than
// they may.
func TestEndless(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		line := []byte("<p>and so on ")
		switch r.URL.Path {
		case "/silent":
			<-r.Context().Done()
			return
		case "/image":
			w.Header().Set("Content-Type", "image/png")
		case "/tag":
			w.Header().Set("Content-Type", "text/html")
			line = []byte("<meta content='xxxxxxxx")
			_, _ = io.WriteString(w, "<title>t</title>")
		default:
			w.Header().Set("Content-Type", "text/html")
			_, _ = io.WriteString(w, "<title>t</title>")
		}
		for {
			if _, err := w.Write(line); err != nil {
				return
			}
		}
	}))
	defer s.Close()
	for _, path := range []string{"/page", "/tag"} {
		if p, err := look(t, newClient(), s.URL+path); err != nil || p.Properties["og:title"] != "t" || len(p.Properties["og:description"]) > 4*maxDescription {
			t.Errorf("%s: %+v %v", path, p, err)
		}
	}
	u, err := url.Parse(s.URL + "/image")
	if err != nil {
		t.Fatal(err)
	}
	body, kind, err := newClient().Image(t.Context(), u)
	if err != nil || kind != "image/png" {
		t.Fatal(kind, err)
	}
	defer body.Close()
	if n, err := io.Copy(io.Discard, body); !errors.Is(err, ErrTooLarge) || n > 1000 {
		t.Errorf("%d bytes: %v", n, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	u.Path = "/silent"
	if _, err := newClient().Look(ctx, u); !errors.Is(err, ErrAway) {
		t.Errorf("silence: %v", err)
	}
}

func TestOEmbed(t *testing.T) {
	for _, text := range []string{"", "[]", "null", `{"title":`, `"x"`, `{"title":{"a":[]},"thumbnail_url":5,"type":["photo"]}`, strings.Repeat("[", 100_000)} {
		o := readOEmbed([]byte(text))
		if len(o.properties()) != 0 || o.image() != "" {
			t.Errorf("%.20s: %v", text, o)
		}
	}
}

// FuzzPage: whatever a page holds, what is found is bounded, and text.
func FuzzPage(f *testing.F) {
	f.Add([]byte(`<meta property="og:title" content="x"><title>t</title><body><p>text<link rel=alternate type="application/json+oembed" href="x">`), "text/html")
	f.Add([]byte("<title>\x93\xfa"), "text/html; charset=shift_jis")
	f.Add([]byte("<svg><script><![CDATA[<title>x"), "")
	f.Fuzz(func(t *testing.T, data []byte, contentType string) {
		p := readPage(data, contentType)
		found := maps.Clone(p.properties)
		p.complete(found)
		if len(found) > maxProperties+2 {
			t.Fatalf("%d properties", len(found))
		}
		for name, value := range found {
			if len(name) > maxName || len(value) > 4*maxURL || strings.ContainsRune(value, 0) {
				t.Fatalf("%q: %q", name, value)
			}
		}
		at := &url.URL{Scheme: "https", Host: "example.org", Path: "/"}
		p.resolve(at, p.oembed)
	})
}

// FuzzOEmbed: so for what an endpoint answers.
func FuzzOEmbed(f *testing.F) {
	f.Add([]byte(`{"type":"photo","title":"O","url":"https://x/"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		o := readOEmbed(data)
		o.image()
		for name, value := range o.properties() {
			if len(value) > 8*maxText {
				t.Fatalf("%q: %q", name, value)
			}
		}
	})
}
