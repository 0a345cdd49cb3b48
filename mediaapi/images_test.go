package mediaapi

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// sizeOf decodes an answer with an image.
func (i *instance) sizeOf(rec *httptest.ResponseRecorder, contentType string) image.Point {
	i.w.Helper()
	m, _, err := image.Decode(rec.Body)
	if err != nil || rec.Code != 200 || rec.Header().Get("Content-Type") != contentType {
		i.w.Fatalf("%d %v: %v", rec.Code, rec.Header(), err)
	}
	return m.Bounds().Size()
}

// TestThumbnails: of any size asked for, made once, from any instance.
func TestThumbnails(t *testing.T) {
	deployments(t, func(w *world) {
		a, b := w.start(), w.start()
		media := a.up("alice", "image/png", "", picture(t, 400, 300))
		thumb := func(i *instance, query string) *httptest.ResponseRecorder {
			return i.ask("guest", "GET", clientV1+"/thumbnail"+media+"?"+query, nil)
		}
		for query, want := range map[string]image.Point{
			"width=32&height=32&method=crop":     {X: 32, Y: 32},
			"width=100&height=100":               {X: 134, Y: 100},
			"width=77&height=33&method=crop":     {X: 77, Y: 33},
			"width=9000&height=9000":             {X: 400, Y: 300},
			"width=320&height=240&method=scale":  {X: 320, Y: 240},
			"width=320&height=240&animated=true": {X: 320, Y: 240},
			"width=1000&height=2&method=crop":    {X: 400, Y: 2},
		} {
			for _, i := range []*instance{a, b} {
				rec := thumb(i, query)
				if got := i.sizeOf(rec, "image/png"); got != want {
					t.Errorf("%s: %v, want %v", query, got, want)
				}
				if headersOf(rec, "Content-Disposition", "Cross-Origin-Resource-Policy") != `inline; filename="thumbnail.png"|cross-origin` {
					t.Errorf("%v", rec.Header())
				}
			}
		}
		// The usual ones are made without being asked for.
		w.eventually("the usual sizes are there", func() bool {
			all, err := a.db.Thumbnails(t.Context(), a.hashOf(media))
			sizes := map[string]bool{}
			for _, t := range all {
				sizes[fmt.Sprintf("%dx%d %s", t.Width, t.Height, t.Method)] = true
			}
			return err == nil && sizes["32x32 crop"] && sizes["96x96 crop"] && sizes["320x240 scale"]
		})
	})
}

func (i *instance) hashOf(media string) string {
	i.w.Helper()
	m, ok, err := i.db.Media(i.w.Context(), refOf(media))
	if err != nil || !ok {
		i.w.Fatal(ok, err)
	}
	return m.Hash
}

// TestVariants: whoever asks for every size there is gets some that are there.
func TestVariants(t *testing.T) {
	w := newWorld(t)
	i := w.start()
	media := i.up("alice", "image/png", "", picture(t, 150, 150))
	for n := range maxVariants + 5 {
		rec := i.ask("bob", "GET", fmt.Sprintf("%s/thumbnail%s?width=%d&height=%d&method=crop", clientV1, media, n+40, n+40), nil)
		if size := i.sizeOf(rec, "image/png"); size.X < min(n+40, 96) {
			t.Errorf("of %d: %v", n+40, size)
		}
	}
	all, err := i.db.Thumbnails(t.Context(), i.hashOf(media))
	if err != nil || len(all) > maxVariants+5 {
		t.Errorf("%d thumbnails, %v", len(all), err)
	}
	i.config.Thumbnails.Dynamic = false
	other := i.up("alice", "image/png", "", picture(t, 701, 700))
	for query, want := range map[string]image.Point{
		"width=33&height=33&method=crop": {X: 96, Y: 96}, "width=20&height=30&method=crop": {X: 32, Y: 32}, "width=200&height=200&method=crop": {X: 96, Y: 96},
		"width=321&height=240": {X: 640, Y: 640}, "width=900&height=10": {X: 701, Y: 700},
	} {
		size := i.sizeOf(i.ask("bob", "GET", clientV1+"/thumbnail"+other+"?"+query, nil), "image/png")
		if size.X != want.X {
			t.Errorf("%s: %v, want %v", query, size, want)
		}
	}
}

// TestOneMakes: however many ask for a thumbnail, it is made once.
func TestOneMakes(t *testing.T) {
	w := newWorld(t)
	w.config.Thumbnails.Sizes = []string{"1x1 crop"} // so that it is made by hand only
	i := w.start()
	media := i.up("alice", "application/octet-stream", "", picture(t, 900, 900))
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			rec := i.ask("bob", "GET", clientV1+"/thumbnail"+media+"?width=300&height=300", nil)
			if rec.Code != 200 {
				t.Errorf("%d %s", rec.Code, rec.Body)
			}
		})
	}
	wg.Wait()
	if w.files() != 2 {
		t.Errorf("%d files", w.files())
	}
}

// TestHostileImages: what would take too much, or is something else than it says.
func TestHostileImages(t *testing.T) {
	w := newWorld(t)
	w.config.Thumbnails.MaxPixels = 1_000_000
	i := w.start()
	head := append(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte("IHDR"), 30_000), 30_000), 8, 6, 0, 0, 0)
	bomb := binary.BigEndian.AppendUint32(append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d"), head...), crc32.ChecksumIEEE(head))
	for name, c := range map[string]struct {
		data   []byte
		status int
		code   string
	}{
		"bomb":     {bomb, 413, "M_TOO_LARGE"},
		"SVG":      {[]byte(`<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"><script>alert(1)</script></svg>`), 400, "M_UNKNOWN"},
		"HTML":     {[]byte("<script>alert(1)</script>"), 400, "M_UNKNOWN"},
		"cut":      {picture(t, 100, 100)[:200], 400, "M_UNKNOWN"},
		"nothing":  {nil, 400, "M_UNKNOWN"},
		"polyglot": {append([]byte("GIF89a/*"), "*/=1;alert(1)//"...), 413, "M_TOO_LARGE"},
	} {
		media := i.up("alice", "image/png", "", c.data)
		t.Log(name)
		i.refused(i.ask("bob", "GET", clientV1+"/thumbnail"+media+"?width=32&height=32", nil), c.status, c.code)
		// It can be had as what it was said to be, and is not run as something else.
		if rec := i.get(media); rec.Code != 200 || headersOf(rec, "Content-Type", "X-Content-Type-Options") != "image/png|nosniff" || !strings.HasPrefix(rec.Header().Get("Content-Security-Policy"), "sandbox") {
			t.Errorf("%s: %d %v", name, rec.Code, rec.Header())
		}
	}
}

// TestSmallAndMoving: what is small is shown as it is, unless it moves and must not.
func TestSmallAndMoving(t *testing.T) {
	w := newWorld(t)
	i := w.start()
	palette := color.Palette{color.Black, color.White}
	var moving bytes.Buffer
	frame := image.NewPaletted(image.Rect(0, 0, 20, 20), palette)
	if err := gif.EncodeAll(&moving, &gif.GIF{Image: []*image.Paletted{frame, frame}, Delay: []int{1, 1}}); err != nil {
		t.Fatal(err)
	}
	var photo bytes.Buffer
	if err := jpeg.Encode(&photo, image.NewGray(image.Rect(0, 0, 20, 20)), nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		data     []byte
		query    string
		kind     string
		original bool
	}{
		{moving.Bytes(), "width=64&height=64&animated=true", "image/gif", true},
		{moving.Bytes(), "width=64&height=64", "image/png", false},
		{moving.Bytes(), "width=10&height=10&animated=true", "image/png", false},
		{photo.Bytes(), "width=64&height=64", "image/jpeg", true},
		{photo.Bytes(), "width=10&height=10", "image/jpeg", false},
	} {
		media := i.up("alice", "text/plain", "", c.data)
		rec := i.ask("bob", "GET", clientV1+"/thumbnail"+media+"?"+c.query, nil)
		if rec.Code != 200 || rec.Header().Get("Content-Type") != c.kind || bytes.Equal(rec.Body.Bytes(), c.data) != c.original {
			t.Errorf("%s: %d %v", c.query, rec.Code, rec.Header())
		}
		if moves := bytes.Contains(rec.Body.Bytes(), []byte("acTL")); moves != (strings.Contains(c.query, "10&animated")) {
			t.Errorf("%s: moves: %v", c.query, moves)
		}
	}
}

// web is a server with pages.
type web struct {
	*httptest.Server
	asked atomic.Int64
}

func newWeb(t *testing.T) *web {
	s := &web{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		w.Header().Set("Content-Type", "text/html")
		switch r.URL.Path {
		case "/page":
			_, _ = io.WriteString(w, `<title>T</title><meta property="og:image" content="/i.png"><p>Words`)
		case "/svg":
			_, _ = io.WriteString(w, `<title>S</title><meta property="og:image" content="/i.svg">`)
		case "/inside":
			_, _ = io.WriteString(w, `<title>I</title><meta property="og:image" content="http://10.0.0.1/i.png">`)
		case "/endless-image":
			_, _ = io.WriteString(w, `<title>E</title><meta property="og:image" content="/endless">`)
		case "/endless":
			_, _ = io.Copy(w, endless{})
		case "/i.png":
			w.Header().Set("Content-Type", "text/html") // says what it likes
			_, _ = w.Write(picture(t, 30, 20))
		case "/i.svg":
			w.Header().Set("Content-Type", "image/png")
			_, _ = io.WriteString(w, `<svg xmlns="http://www.w3.org/2000/svg"/>`)
		case "/redirect":
			http.Redirect(w, r, "http://169.254.169.254/latest", http.StatusFound)
		case "/silent":
			<-r.Context().Done()
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// TestPreviews: a page is looked at once, its image is kept here and can be had.
func TestPreviews(t *testing.T) {
	deployments(t, func(w *world) {
		s := newWeb(t)
		w.config.URLPreview.DenyHosts, w.config.URLPreview.Timeout, w.config.URLPreview.MaxImageBytes = []string{"denied.example"}, 2*time.Second, 100_000
		a, b := w.start(), w.start()
		look := func(i *instance, at string) *httptest.ResponseRecorder {
			return i.ask("alice", "GET", clientV1+"/preview_url?ts=1510610716656&url="+url.QueryEscape(at), nil)
		}
		v := a.answer(look(a, s.URL+"/page#part"))
		image, _ := v["og:image"].(string)
		if v["og:title"] != "T" || v["og:description"] != "Words" || v["og:image:type"] != "image/png" || v["og:image:width"] != 30.0 || v["og:image:height"] != 20.0 ||
			v["matrix:image:size"] != float64(len(picture(t, 30, 20))) {
			t.Errorf("%v", v)
		}
		if rec := b.get(strings.TrimPrefix(image, "mxc:/")); rec.Code != 200 || rec.Header().Get("Content-Type") != "image/png" {
			t.Errorf("the image: %d %v", rec.Code, rec.Header())
		}
		asked := s.asked.Load()
		if again := b.answer(look(b, s.URL+"/page")); keysOf(again) != keysOf(v) || s.asked.Load() != asked {
			t.Errorf("again: %v", again)
		}
		for path, title := range map[string]string{"/svg": "S", "/inside": "I", "/endless-image": "E"} {
			if v := a.answer(look(a, s.URL+path)); v["og:title"] != title || v["og:image"] != nil {
				t.Errorf("%s: %v", path, v)
			}
		}
		for at, code := range map[string]string{
			s.URL + "/none": "502 M_UNKNOWN", s.URL + "/redirect": "502 M_UNKNOWN", s.URL + "/silent": "502 M_UNKNOWN", "http://10.0.0.1/": "502 M_UNKNOWN", "http://[::1]/": "502 M_UNKNOWN",
			"http://localhost.denied.example/": "403 M_FORBIDDEN", "file:///etc/passwd": "400 M_INVALID_PARAM", "": "400 M_MISSING_PARAM",
		} {
			rec := look(a, at)
			status, errcode, _ := strings.Cut(code, " ")
			if fmt.Sprint(rec.Code) != status || !strings.Contains(rec.Body.String(), errcode) {
				t.Errorf("%s: %d %s", at, rec.Code, rec.Body)
			}
		}
		a.refused(a.ask("guest", "GET", clientV1+"/preview_url?url=x", nil), 403, "M_GUEST_ACCESS_FORBIDDEN")
		a.refused(a.ask("alice", "GET", clientV1+"/preview_url?ts=x&url=http://a/", nil), 400, "M_INVALID_PARAM")
		w.pass(25 * time.Hour)
		if a.answer(look(a, s.URL+"/page")); s.asked.Load() == asked {
			t.Error("an old preview is for ever")
		}
		w.pass(49 * time.Hour)
		if err := a.keepHouse(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.refused(a.get(strings.TrimPrefix(image, "mxc:/")), 404, "M_NOT_FOUND")
		if a.spooled()+b.spooled() != 0 {
			t.Error("spool files are left")
		}
	})
}

func TestPreviewsOff(t *testing.T) {
	w := newWorld(t)
	w.config.URLPreview.Enabled = false
	i := w.start()
	i.refused(i.ask("alice", "GET", clientV1+"/preview_url?url=http://a/", nil), 404, "M_UNRECOGNIZED")
}
