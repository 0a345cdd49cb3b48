package mediaapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/mediaapi/api"
	"github.com/matrix-org/dendrite/mediaapi/storage"
)

// TestUpload: what is uploaded through one instance is had through another.
func TestUpload(t *testing.T) {
	deployments(t, func(w *world) {
		a, b := w.start(), w.start()
		data := bytes.Repeat([]byte("0123456789"), 30_000)
		for _, c := range []struct{ kind, filename, wantKind, disposition string }{
			{"image/png", "a.png", "image/png", "inline; filename=a.png"},
			{"text/plain; charset=utf-8", "", "text/plain; charset=utf-8", "inline"},
			{"text/html", "x%22%0d%0ay.html", "text/html", `attachment; filename*=utf-8''x%22%0D%0Ay.html`},
			{"image/svg+xml", "%C3%A4.svg", "image/svg+xml", "attachment; filename*=utf-8''%C3%A4.svg"},
			{"", "", "application/octet-stream", "attachment"},
			{"nonsense; ;", "", "application/octet-stream", "attachment"},
			{"IMAGE/PNG", "", "IMAGE/PNG", "inline"},
		} {
			media := a.up("alice", c.kind, c.filename, data)
			rec := b.get(media)
			if rec.Code != 200 || !bytes.Equal(rec.Body.Bytes(), data) || headersOf(rec, "Content-Type", "Content-Disposition") != c.wantKind+"|"+c.disposition {
				t.Errorf("%q: %d %v", c.kind, rec.Code, rec.Header())
			}
			if headersOf(rec, "Cross-Origin-Resource-Policy", "X-Content-Type-Options", "Content-Security-Policy") != "cross-origin|nosniff|"+securityPolicy {
				t.Errorf("%v", rec.Header())
			}
			etag := rec.Header().Get("ETag")
			if rec = b.get(media, "Range", "bytes=299995-"); rec.Code != 206 || rec.Body.String() != "56789" {
				t.Errorf("range: %d %s", rec.Code, rec.Body)
			}
			if rec = b.get(media, "If-None-Match", etag); rec.Code != 304 || rec.Body.Len() != 0 {
				t.Errorf("what is there already: %d", rec.Code)
			}
			if rec = b.get(media + "/other%20name.bin"); !strings.Contains(rec.Header().Get("Content-Disposition"), `filename="other name.bin"`) {
				t.Errorf("renamed: %v", rec.Header())
			}
		}
		if a.spooled()+b.spooled() != 0 {
			t.Error("spool files are left")
		}
	})
}

// TestRefusals: what is asked wrongly.
func TestRefusals(t *testing.T) {
	w := newWorld(t)
	w.config.MaxUploadBytes, w.config.AllowedTypes, w.config.MaxUserBytes = 1000, []string{"image/*", "text/plain"}, 1500
	i := w.start()
	media := i.up("alice", "image/png", "", make([]byte, 1000))
	for _, c := range []struct {
		token, method, path, kind string
		size, status              int
		code                      string
	}{
		{"", "POST", mediaV3 + "/upload", "image/png", 1, 401, "M_MISSING_TOKEN"},
		{"guest", "POST", mediaV3 + "/upload", "image/png", 1, 403, "M_GUEST_ACCESS_FORBIDDEN"},
		{"suspended", "POST", mediaV3 + "/upload", "image/png", 1, 403, "M_USER_SUSPENDED"},
		{"suspended", "POST", mediaV1 + "/create", "", 0, 403, "M_USER_SUSPENDED"},
		{"bob", "POST", mediaV3 + "/upload", "image/png", 1001, 413, "M_TOO_LARGE"},
		{"bob", "POST", mediaV3 + "/upload", "text/html", 1, 403, "M_FORBIDDEN"},
		{"bob", "POST", mediaV3 + "/upload", "", 1, 403, "M_FORBIDDEN"},
		{"bob", "POST", mediaV3 + "/upload?filename=" + strings.Repeat("x", 2000), "image/png", 1, 400, "M_INVALID_PARAM"},
		{"alice", "POST", mediaV3 + "/upload", "image/png", 501, 403, "M_FORBIDDEN"},
		{"", "GET", clientV1 + "/download" + media, "", 0, 401, "M_MISSING_TOKEN"},
		{"", "GET", mediaV3 + "/download" + media, "", 0, 404, "M_NOT_FOUND"}, // frozen
		{"", "GET", mediaV3 + "/thumbnail" + media + "?width=1&height=1", "", 0, 404, "M_NOT_FOUND"},
		{"bob", "GET", clientV1 + "/download/test/nothing", "", 0, 404, "M_NOT_FOUND"},
		{"bob", "GET", clientV1 + "/download/other.example/x", "", 0, 404, "M_NOT_FOUND"},
		{"bob", "GET", clientV1 + "/download/test/..%2f..%2fmedia.db", "", 0, 404, "M_NOT_FOUND"},
		{"bob", "GET", clientV1 + "/download/..%2f/x", "", 0, 404, "M_NOT_FOUND"},
		{"bob", "GET", clientV1 + "/download" + media + "?timeout_ms=soon", "", 0, 400, "M_INVALID_PARAM"},
		{"bob", "GET", clientV1 + "/thumbnail" + media + "?width=1", "", 0, 400, "M_MISSING_PARAM"},
		{"bob", "GET", clientV1 + "/thumbnail" + media + "?width=-1&height=5", "", 0, 400, "M_INVALID_PARAM"},
		{"bob", "GET", clientV1 + "/thumbnail" + media + "?width=1.5&height=5", "", 0, 400, "M_INVALID_PARAM"},
		{"bob", "GET", clientV1 + "/thumbnail" + media + "?width=5&height=5&method=stretch", "", 0, 400, "M_INVALID_PARAM"},
		{"bob", "GET", clientV1 + "/thumbnail" + media + "?width=5&height=5&animated=2", "", 0, 400, "M_INVALID_PARAM"},
		{"bob", "GET", clientV1 + "/thumbnail" + media + "?width=5&height=5", "", 0, 400, "M_UNKNOWN"}, // no image
		{"", "GET", clientV1 + "/config", "", 0, 401, "M_MISSING_TOKEN"},
	} {
		rec := i.ask(c.token, c.method, c.path, bytes.NewReader(make([]byte, c.size)), "Content-Type", c.kind)
		t.Logf("%s %.80s", c.method, c.path)
		i.refused(rec, c.status, c.code)
	}
	// Neither does an unannounced body get through.
	rec := i.ask("alice", "POST", mediaV3+"/upload", io.MultiReader(bytes.NewReader(make([]byte, 501))), "Content-Type", "image/png")
	i.refused(rec, 403, "M_FORBIDDEN")
	for _, path := range []string{clientV1, mediaV3, "/_matrix/media/r0"} {
		if v := i.answer(i.ask("guest", "GET", path+"/config", nil)); v["m.upload.size"] != 1000.0 {
			t.Errorf("%s: %v", path, v)
		}
	}
	if got := i.ask("guest", "GET", clientV1+"/download"+media, nil); got.Code != 200 {
		t.Errorf("a guest gets %d", got.Code)
	}
	if i.spooled() != 0 {
		t.Error("spool files are left")
	}
}

// TestFreeze: the old endpoints give what was there before, and only that.
func TestFreeze(t *testing.T) {
	w := newWorld(t)
	w.config.UnauthenticatedBefore = w.now().Add(time.Hour).Format(time.RFC3339)
	i := w.start()
	before := i.up("alice", "image/png", "", picture(t, 100, 100))
	w.pass(2 * time.Hour)
	after := i.up("alice", "image/png", "", picture(t, 100, 100))
	for _, path := range []string{mediaV3 + "/download%s", mediaV3 + "/download%s/n.png", "/_matrix/media/r0/download%s", mediaV3 + "/thumbnail%s?width=32&height=32&method=crop"} {
		if rec := i.ask("", "GET", strings.ReplaceAll(path, "%s", before), nil); rec.Code != 200 || !strings.HasPrefix(rec.Header().Get("Cache-Control"), "public") {
			t.Errorf("%s: %d %s", path, rec.Code, rec.Body)
		}
		i.refused(i.ask("", "GET", strings.ReplaceAll(path, "%s", after), nil), 404, "M_NOT_FOUND")
	}
}

// TestAsync: an ID first, the content later, for those who wait on any instance.
func TestAsync(t *testing.T) {
	deployments(t, func(w *world) {
		w.config.MaxPending = 2
		a, b := w.start(), w.start()
		v := a.answer(a.ask("alice", "POST", mediaV1+"/create", nil))
		media := strings.TrimPrefix(v["content_uri"].(string), "mxc:/")
		if got, want := v["unused_expires_at"], float64(w.now().Add(24*time.Hour).UnixMilli()); got != want {
			t.Errorf("expires at %v, want %v", got, want)
		}
		a.refused(a.get(media+"?timeout_ms=0"), 504, "M_NOT_YET_UPLOADED")
		b.refused(b.ask("bob", "GET", clientV1+"/thumbnail"+media+"?width=5&height=5&timeout_ms=1", nil), 504, "M_NOT_YET_UPLOADED")
		var wg sync.WaitGroup
		for _, i := range []*instance{a, b} {
			wg.Go(func() {
				if rec := i.get(media + "?timeout_ms=60000"); rec.Code != 200 || rec.Body.String() != "late" {
					t.Errorf("who waits: %d %s", rec.Code, rec.Body)
				}
			})
		}
		w.eventually("both wait", func() bool { return len(a.waiting) == 1 && len(b.waiting) == 1 })
		put := func(token, media, text string) *httptest.ResponseRecorder {
			return a.ask(token, "PUT", mediaV3+"/upload"+media, strings.NewReader(text), "Content-Type", "text/plain")
		}
		a.refused(put("bob", media, "x"), 403, "M_FORBIDDEN")
		a.refused(put("alice", "/test/unknown", "x"), 404, "M_NOT_FOUND")
		a.refused(put("alice", "/other"+media[len("/test"):], "x"), 404, "M_NOT_FOUND")
		if v := a.answer(put("alice", media, "late")); len(v) != 0 {
			t.Errorf("answered %v", v)
		}
		wg.Wait()
		a.refused(put("alice", media, "other"), 409, "M_CANNOT_OVERWRITE_MEDIA")
		var pending string
		for range 2 {
			v := b.answer(b.ask("alice", "POST", mediaV1+"/create", nil))
			pending = strings.TrimPrefix(v["content_uri"].(string), "mxc:/")
		}
		b.refused(b.ask("alice", "POST", mediaV1+"/create", nil), 429, "M_LIMIT_EXCEEDED")
		w.pass(25 * time.Hour)
		a.refused(put("alice", pending, "x"), 404, "M_NOT_FOUND")
		a.refused(a.get(pending), 404, "M_NOT_FOUND")
	})
}

// TestQuarantine: by URI, user and hash; what is blocked does not come again.
func TestQuarantine(t *testing.T) {
	deployments(t, func(w *world) {
		a, b := w.start(), w.start()
		media, twin := a.up("alice", "image/png", "", picture(t, 200, 200)), a.up("bob", "image/png", "", picture(t, 200, 200))
		thumbnail := clientV1 + "/thumbnail" + media + "?width=32&height=32"
		if rec := b.ask("bob", "GET", thumbnail, nil); rec.Code != 200 {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
		set := func(sel api.Selection, to bool, want int64) {
			t.Helper()
			res, err := api.Quarantine.Call(t.Context(), w.caller, &api.QuarantineRequest{Selection: sel, Quarantined: to})
			if err != nil || res.Count != want {
				t.Fatalf("%+v: %v %v", sel, res, err)
			}
		}
		uri := "mxc:/" + media
		set(api.Selection{URIs: []string{uri, "not one"}}, true, 1)
		b.refused(b.get(media), 404, "M_NOT_FOUND")
		b.refused(b.ask("bob", "GET", thumbnail, nil), 404, "M_NOT_FOUND")
		if rec := b.get(twin); rec.Code != 200 {
			t.Errorf("another's: %d", rec.Code)
		}
		set(api.Selection{URIs: []string{uri}}, false, 1)
		if rec := b.get(media); rec.Code != 200 {
			t.Errorf("given back: %d", rec.Code)
		}
		list, err := api.QueryUserMedia.Call(t.Context(), w.caller, &api.UserMediaRequest{UserID: "@alice:test", Limit: 1})
		if err != nil || len(list.Media) != 1 || list.Media[0].URI != uri || list.Bytes != list.Media[0].Size {
			t.Fatalf("%+v %v", list, err)
		}
		if more, err := api.QueryUserMedia.Call(t.Context(), w.caller, &api.UserMediaRequest{UserID: "@alice:test", From: list.Next}); err != nil || len(more.Media) != 0 || more.Next != "" {
			t.Errorf("%+v %v", more, err)
		}
		set(api.Selection{Hash: strings.ToUpper(list.Media[0].Hash)}, true, 2)
		a.refused(a.get(twin), 404, "M_NOT_FOUND")
		a.refused(a.ask("bob", "POST", mediaV3+"/upload", bytes.NewReader(picture(t, 200, 200)), "Content-Type", "image/png"), 403, "M_FORBIDDEN")
		set(api.Selection{Hash: list.Media[0].Hash}, false, 2)
		a.up("bob", "image/png", "", picture(t, 200, 200))
		set(api.Selection{UserID: "@bob:test"}, true, 2)
		for _, wrong := range []api.Selection{{}, {URIs: []string{"x"}}, {UserID: "a", Hash: "b"}} {
			if _, err := api.Quarantine.Call(t.Context(), w.caller, &api.QuarantineRequest{Selection: wrong}); !matrixerror.Is(err, "M_INVALID_PARAM") {
				t.Errorf("%+v: %v", wrong, err)
			}
		}
	})
}

// TestDelete: the file goes with the last media that have it, and comes again.
func TestDelete(t *testing.T) { sqldbtest.Each(t, testDelete) }

func testDelete(t *testing.T) {
	w := newWorld(t)
	i := w.start()
	data := picture(t, 500, 500)
	first, second := i.up("alice", "application/x", "", data), i.up("bob", "application/x", "", data)
	if rec := i.ask("bob", "GET", clientV1+"/thumbnail"+first+"?width=32&height=32", nil); rec.Code != 200 || w.files() != 2 {
		t.Fatalf("%d, %d files", rec.Code, w.files())
	}
	remove := func(sel api.Selection, want int64) {
		t.Helper()
		if res, err := api.Delete.Call(t.Context(), w.caller, &api.DeleteRequest{Selection: sel}); err != nil || res.Count != want {
			t.Fatalf("%v %v", res, err)
		}
	}
	remove(api.Selection{URIs: []string{"mxc:/" + first}}, 1)
	i.refused(i.get(first), 404, "M_NOT_FOUND")
	if err := i.sweep(t.Context()); err != nil || w.files() != 2 {
		t.Fatalf("%d files, %v", w.files(), err)
	}
	if rec := i.get(second); rec.Code != 200 {
		t.Fatalf("the other: %d", rec.Code)
	}
	remove(api.Selection{UserID: "@bob:test"}, 1)
	w.eventually("the file and its thumbnail are removed", func() bool { return w.files() == 0 })
	if rec := i.get(i.up("alice", "application/x", "", data)); rec.Code != 200 {
		t.Errorf("uploaded anew: %d", rec.Code)
	}
}

// TestCrash: what an instance has left that died half way through a removal, or an
// upload, another one takes up.
func TestCrash(t *testing.T) {
	w := newWorld(t)
	i := w.start()
	media := i.up("alice", "text/plain", "", []byte("x"))
	m, _, err := i.db.Media(t.Context(), refOf(media))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.db.Delete(t.Context(), []storage.Ref{m.Ref}); err != nil {
		t.Fatal(err)
	}
	if _, doomed, err := i.db.Doom(t.Context(), m.Hash); !doomed || err != nil { // and then it died
		t.Fatal(doomed, err)
	}
	uploaded := make(chan string, 1)
	go func() { uploaded <- w.start().up("bob", "text/plain", "", []byte("x")) }()
	if rec := i.get(<-uploaded); rec.Code != 200 || rec.Body.String() != "x" {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

// TestRetention: what nobody has got for long goes, but for what is protected,
// quarantined, or somebody's picture.
func TestRetention(t *testing.T) {
	deployments(t, func(w *world) {
		w.config.Retention.Local = 90 * 24 * time.Hour
		i := w.start()
		names := []string{"old", "used", "protected", "quarantined", "picture"}
		media := map[string]string{}
		for _, name := range names {
			media[name] = i.up("alice", "text/plain", name, []byte(name))
		}
		w.used = []string{"mxc:/" + media["picture"]}
		if _, err := api.Protect.Call(t.Context(), w.caller, &api.ProtectRequest{Selection: api.Selection{URIs: []string{"mxc:/" + media["protected"]}}, Protected: true}); err != nil {
			t.Fatal(err)
		}
		if _, err := api.Quarantine.Call(t.Context(), w.caller, &api.QuarantineRequest{Selection: api.Selection{URIs: []string{"mxc:/" + media["quarantined"]}}, Quarantined: true}); err != nil {
			t.Fatal(err)
		}
		w.pass(60 * 24 * time.Hour)
		i.get(media["used"])
		if err := i.db.Touch(t.Context(), i.accesses.take(), w.now().UnixMilli()); err != nil {
			t.Fatal(err)
		}
		w.pass(60 * 24 * time.Hour)
		if err := i.keepHouse(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			_, there, err := i.db.Media(t.Context(), refOf(media[name]))
			if err != nil || there != (name != "old") {
				t.Errorf("%s: there %v %v", name, there, err)
			}
		}
		i.config.Retention.Avatars = true
		if err := i.keepHouse(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, there, err := i.db.Media(t.Context(), refOf(media["picture"])); there || err != nil {
			t.Errorf("the picture: there %v %v", there, err)
		}
	})
}

// TestHousekeeping: of two instances one does it, and not again at once.
func TestHousekeeping(t *testing.T) {
	w := newWorld(t)
	a := w.start()
	media := strings.TrimPrefix(a.answer(a.ask("alice", "POST", mediaV1+"/create", nil))["content_uri"].(string), "mxc:/")
	w.eventually("the first round is done", func() bool {
		ok, err := a.db.TakeJob(t.Context(), houseJob, a.owner, 1000) // which it has, or it is not due
		return !ok && err == nil
	})
	w.pass(25 * time.Hour)
	if err := a.housekeeping(t.Context()); err != nil { // not due
		t.Fatal(err)
	}
	if _, there, err := a.db.Media(t.Context(), refOf(media)); !there || err != nil {
		t.Fatal(there, err)
	}
	if err := a.keepHouse(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, there, err := a.db.Media(t.Context(), refOf(media)); there || err != nil {
		t.Error(there, err)
	}
}

// TestScan: nobody gets what the scanner does not like, or cannot be asked about.
func TestScan(t *testing.T) {
	scanner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		switch {
		case err != nil || r.Header.Get("X-Media-User") != "@alice:test" || len(r.Header.Get("X-Media-SHA256")) != 64:
			w.WriteHeader(http.StatusTeapot)
		case string(body) == "virus":
			w.WriteHeader(http.StatusForbidden)
		case string(body) == "broken":
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer scanner.Close()
	w := newWorld(t)
	w.config.Scan.URL = scanner.URL
	i := w.start()
	up := func(text string) *httptest.ResponseRecorder {
		return i.ask("alice", "POST", mediaV3+"/upload", strings.NewReader(text), "Content-Type", "text/plain")
	}
	i.refused(up("virus"), 403, "M_FORBIDDEN")
	i.refused(up("broken"), 503, "M_UNKNOWN")
	i.answer(up("fine"))
	if w.files() != 1 {
		t.Errorf("%d files", w.files())
	}
	i.config.Scan.FailOpen = true
	i.answer(up("broken"))
	i.refused(up("virus"), 403, "M_FORBIDDEN")
	scanner.Close()
	i.answer(up("away"))
}

// TestCut: an upload that breaks off leaves nothing.
func TestCut(t *testing.T) {
	w := newWorld(t)
	i := w.start()
	rec := i.ask("alice", "POST", mediaV3+"/upload", io.MultiReader(strings.NewReader("abc"), failing{}), "Content-Type", "text/plain")
	i.refused(rec, 400, "M_UNKNOWN")
	if w.files() != 0 || i.spooled() != 0 {
		t.Error("files are left")
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("cut") }

// elsewhere is where media of other servers come from.
type elsewhere struct {
	mu    sync.Mutex
	asked int
}

// Fetch implements Fetcher.
func (e *elsewhere) Fetch(_ context.Context, server, mediaID string) (*Fetched, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked++
	switch mediaID {
	case "large":
		return &Fetched{Body: io.NopCloser(io.LimitReader(endless{}, 1<<40)), ContentType: "image/png"}, nil
	case "there":
		return &Fetched{Body: io.NopCloser(strings.NewReader("of " + server)), ContentType: "text/plain", Filename: "f"}, nil
	}
	return nil, matrixerror.NotFound("no")
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestRemote: media of other servers are fetched once, and not of those that are
// blocked; what is too large is told as the spec wants it.
func TestRemote(t *testing.T) {
	w := newWorld(t)
	from := &elsewhere{}
	w.fetch, w.config.MaxUploadBytes = from, 1<<20
	w.config.UnauthenticatedBefore = "2000-01-01T00:00:00Z"
	i := w.start()
	for range 2 {
		if rec := i.get("/far.example/there"); rec.Code != 200 || rec.Body.String() != "of far.example" || headersOf(rec, "Content-Disposition") != "inline; filename=f" {
			t.Errorf("%d %s %v", rec.Code, rec.Body, rec.Header())
		}
	}
	if from.asked != 1 {
		t.Errorf("asked %d times", from.asked)
	}
	i.refused(i.get("/far.example/large"), 502, "M_TOO_LARGE")
	i.refused(i.get("/far.example/none"), 404, "M_NOT_FOUND")
	i.refused(i.ask("", "GET", mediaV3+"/download/far.example/there", nil), 404, "M_NOT_FOUND")
	if _, err := api.Quarantine.Call(t.Context(), w.caller, &api.QuarantineRequest{Selection: api.Selection{Server: "far.example"}, Quarantined: true}); err != nil {
		t.Fatal(err)
	}
	asked := from.asked
	i.refused(i.get("/far.example/there"), 404, "M_NOT_FOUND")
	i.refused(i.get("/far.example/other"), 404, "M_NOT_FOUND")
	if from.asked != asked || i.spooled() != 0 {
		t.Error("a server that is blocked is asked")
	}
}

func TestURIs(t *testing.T) {
	for uri, want := range map[string]bool{
		"mxc://example.org/aB0_-": true, "mxc://example.org:8448/x": true, "mxc://[::1]/x": true,
		"mxc://example.org/": false, "mxc:///x": false, "mxc://example.org/../x": false, "mxc://example.org/x/y": false, "mxc://exa mple/x": false,
		"http://example.org/x": false, "mxc://example.org/x?y": false, "mxc://example.org/" + strings.Repeat("x", 300): false,
	} {
		if _, _, err := gomatrixserverlib.ParseMXC(uri); (err == nil) != want {
			t.Errorf("%s: %v", uri, err)
		}
	}
	found := api.FindURIs(`{"content":{"url":"mxc://a/b","info":{"thumbnail_url":"mxc://a/c"},"body":"mxc://a/b <img src='mxc://d/e'> mxc:// mxc://f"}}`)
	if strings.Join(found, " ") != "mxc://a/b mxc://a/c mxc://d/e" {
		t.Errorf("found %q", found)
	}
}

// refOf names media by what up returns.
func refOf(media string) storage.Ref {
	server, id, _ := strings.Cut(strings.TrimPrefix(media, "/"), "/")
	return storage.Ref{Server: server, ID: id}
}
