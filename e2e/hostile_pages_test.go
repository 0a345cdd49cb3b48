package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// hostileWeb is a server of pages that mean no good, which may be connected to, and
// one that may not.
type hostileWeb struct {
	t       *testing.T
	url     string
	inside  string // HOST:PORT of the other
	reached atomic.Int64
	gzipped []byte
}

func newHostileWeb(t *testing.T) *hostileWeb {
	t.Helper()
	w := &hostileWeb{t: t, gzipped: append([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3}, deflated(t, gigabyte)...)}
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	w.inside = l.Addr().String()
	private := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { w.reached.Add(1) })}}
	private.Start()
	public := httptest.NewServer(w)
	t.Cleanup(func() {
		public.CloseClientConnections()
		public.Close()
		private.Close()
	})
	w.url = public.URL
	return w
}

// hostilePage is a page, and what looking at it gives.
type hostilePage struct {
	url    string
	status int
	says   string
}

// pages are all there are; none has an image.
func (w *hostileWeb) pages() map[string]hostilePage {
	_, port, err := net.SplitHostPort(w.inside)
	if err != nil {
		w.t.Fatal(err)
	}
	at := func(path string, status int, says string) hostilePage { return hostilePage{w.url + path, status, says} }
	away := func(path string) hostilePage { return at(path, 502, "M_UNKNOWN") }
	out := map[string]hostilePage{
		"no answer": away("/silent"), "redirects without end": away("/loop"), "redirect to a file": away("/to?file:///etc/passwd"),
		"headers without end": away("/headers"), "answers before the answer, without end": away("/hints"),
		"a body that drips": at("/drip", 200, "dripping"), "a page without end": at("/endless", 200, "endless"), "a tag without end": at("/tag", 200, "tagged"),
		"a compressed bomb": at("/gzip", 200, ""), "elements in elements": at("/deep", 200, "deep"),
		"an image without end": at("/image?"+w.url+"/noise", 200, "picture"), "an image inside": at("/image?http://"+w.inside+"/", 200, "picture"),
		"an image that drips": at("/image?"+w.url+"/drip", 200, "picture"), "oEmbed inside": at("/oembed?http://"+w.inside+"/", 200, "embedded"),
	}
	for _, host := range []string{"127.0.0.2", "[::ffff:127.0.0.2]", "[::ffff:7f00:2]", "[64:ff9b::7f00:2]", "[2002:7f00:2::]", "2130706434", "0x7f000002", "0177.0.0.2", "0.0.0.0", "[::]"} {
		out["inside, by "+host] = hostilePage{"http://" + host + ":" + port + "/", 502, "M_UNKNOWN"}
		if !strings.Contains(host, ":") || strings.Contains(host, "ffff:127") {
			out["redirect to "+host] = away("/to?http://" + host + ":" + port + "/")
		}
	}
	return out
}

// ServeHTTP implements http.Handler.
func (w *hostileWeb) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	target := r.URL.RawQuery
	begin := func(title string) {
		rw.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(rw, "<title>%s</title>", title)
	}
	switch r.URL.Path {
	case "/silent":
		<-r.Context().Done()
	case "/loop":
		http.Redirect(rw, r, fmt.Sprintf("/loop?%s1", target[:min(len(target), 100)]), http.StatusFound)
	case "/to":
		rw.Header().Set("Location", target)
		rw.WriteHeader(http.StatusFound)
	case "/headers":
		for n := range 1000 {
			rw.Header().Set(fmt.Sprint("X-", n), strings.Repeat("x", 10_000))
		}
	case "/hints":
		for r.Context().Err() == nil {
			rw.Header().Set("X-Hint", strings.Repeat("x", 1000))
			rw.WriteHeader(http.StatusEarlyHints)
		}
	case "/drip":
		begin("dripping")
		w.repeat(rw, r, "x", 50*time.Millisecond)
	case "/endless":
		begin("endless")
		w.repeat(rw, r, strings.Repeat("<p>and so on ", 1000), 0)
	case "/tag":
		begin("tagged")
		_, _ = io.WriteString(rw, "<p ")
		w.repeat(rw, r, strings.Repeat("a=b ", 1000), 0)
	case "/deep":
		begin("deep")
		_, _ = io.WriteString(rw, strings.Repeat("<div><svg><table>", 50_000))
	case "/gzip":
		rw.Header().Set("Content-Type", "text/html")
		rw.Header().Set("Content-Encoding", "gzip")
		_, _ = rw.Write(w.gzipped)
	case "/image":
		begin("picture")
		_, _ = fmt.Fprintf(rw, `<meta property="og:image" content=%q>`, target)
	case "/oembed":
		begin("embedded")
		_, _ = fmt.Fprintf(rw, `<link rel="alternate" type="application/json+oembed" href=%q>`, target)
	case "/noise":
		rw.Header().Set("Content-Type", "image/png")
		_, _ = io.WriteString(rw, "\x89PNG\r\n\x1a\n")
		w.repeat(rw, r, strings.Repeat("x", 64<<10), 0)
	default:
		http.NotFound(rw, r)
	}
}

// repeat sends a text until nobody listens any more.
func (w *hostileWeb) repeat(rw http.ResponseWriter, r *http.Request, text string, every time.Duration) {
	for r.Context().Err() == nil {
		if _, err := io.WriteString(rw, text); err != nil {
			return
		}
		if every > 0 {
			_ = http.NewResponseController(rw).Flush() // who has gone is seen above
			select {
			case <-r.Context().Done():
			case <-time.After(every):
			}
		}
	}
}
