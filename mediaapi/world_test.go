package mediaapi

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	directory "github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/mediaapi/blobs/blobstest"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// world is a database and a store, and instances on them behind the real edge.
type world struct {
	*testing.T
	dir    string
	config config.MediaAPI
	caller *rpc.Server // of the first instance, and of the other components
	used   []string    // pictures of users and rooms
	fetch  Fetcher

	mu    sync.Mutex
	clock time.Time
}

// instance is a media-api.
type instance struct {
	*Server
	w    *world
	edge http.Handler
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, dir: t.TempDir(), config: config.Default().MediaAPI, caller: rpc.NewServer(), clock: time.Now()}
	w.config.Path = filepath.Join(w.dir, "files")
	w.config.URLPreview.AllowRanges = []string{"127.0.0.1/32"}
	userapi.QueryAvatars.Serve(w.caller, func(_ context.Context, r *userapi.AvatarsRequest) (*userapi.AvatarsResponse, error) {
		return &userapi.AvatarsResponse{Used: w.usedOf(r.URIs)}, nil
	})
	directory.QueryAvatars.Serve(w.caller, func(_ context.Context, r *directory.AvatarsRequest) (*directory.AvatarsResponse, error) {
		return &directory.AvatarsResponse{}, nil
	})
	return w
}

func (w *world) usedOf(uris []string) (out []string) {
	for _, uri := range uris {
		if slices.Contains(w.used, uri) {
			out = append(out, uri)
		}
	}
	return out
}

// deployments runs a test as installations are: SQLite and a folder, PostgreSQL and
// S3.
func deployments(t *testing.T, test func(w *world)) {
	sqldbtest.Each(t, func(t *testing.T) {
		w := newWorld(t)
		if sqldbtest.EngineOf(t) == sqldbtest.PostgreSQL {
			w.config.S3 = blobstest.Bucket(t)
		}
		test(w)
	})
}

// people are whose tokens there are.
type people struct{}

// Authenticate implements httpapi.Authenticator: tokens are localparts.
func (people) Authenticate(_ context.Context, token string) (*httpapi.Device, error) {
	switch token {
	case "alice", "bob":
		return &httpapi.Device{UserID: "@" + token + ":test", DeviceID: "D"}, nil
	case "guest":
		return &httpapi.Device{UserID: "@guest:test", IsGuest: true}, nil
	case "suspended":
		return &httpapi.Device{UserID: "@suspended:test", Suspended: true}, nil
	}
	return nil, matrixerror.UnknownToken("no")
}

// start starts an instance, until the test ends.
func (w *world) start() *instance {
	w.Helper()
	logger := logrus.New()
	logger.SetOutput(w.Output())
	denied := config.Default().Federation.Denied()
	s, err := New(w.Context(), Deps{Config: w.config, ServerName: "test", DataDir: w.dir, Denied: denied, DB: sqldbtest.Open(w, filepath.Join(w.dir, "media.db")),
		Caller: w.caller, Fetcher: w.fetch, Logger: logrus.NewEntry(logger), Metrics: prometheus.NewRegistry()})
	if err != nil {
		w.Fatal(err)
	}
	s.now = w.now
	i := &instance{Server: s, w: w}
	s.Register(w.caller)
	i.edge, err = httpapi.NewRouter(httpapi.Options{Authenticator: people{}, Logger: logrus.NewEntry(logger), BodyTimeout: time.Minute}, s.Endpoints())
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	w.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.Error(err)
		}
	})
	return i
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clock
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock = w.clock.Add(d)
}

// ask makes a request of who has a token; headers are pairs.
func (i *instance) ask(token, method, path string, body io.Reader, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, body)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for n := 0; n+1 < len(headers); n += 2 {
		r.Header.Set(headers[n], headers[n+1])
	}
	rec := httptest.NewRecorder()
	i.edge.ServeHTTP(rec, r)
	return rec
}

const (
	clientV1 = "/_matrix/client/v1/media"
	mediaV3  = "/_matrix/media/v3"
	mediaV1  = "/_matrix/media/v1"
)

// answer reads an answer of 200 that is JSON.
func (i *instance) answer(rec *httptest.ResponseRecorder) map[string]any {
	i.w.Helper()
	var v map[string]any
	if err := json.Unmarshal(rec.Body.Bytes(), &v); err != nil || rec.Code != http.StatusOK {
		i.w.Fatalf("%d %s: %v", rec.Code, rec.Body, err)
	}
	return v
}

// refused checks that an answer is an error.
func (i *instance) refused(rec *httptest.ResponseRecorder, status int, code string) {
	i.w.Helper()
	var v map[string]any
	if err := json.Unmarshal(rec.Body.Bytes(), &v); err != nil || rec.Code != status || v["errcode"] != code {
		i.w.Errorf("answered %d %s, want %d %s", rec.Code, rec.Body, status, code)
	}
}

// up uploads, and returns the part of the path that names the media.
func (i *instance) up(token, contentType, filename string, data []byte) string {
	i.w.Helper()
	path := mediaV3 + "/upload"
	if filename != "" {
		path += "?filename=" + filename
	}
	v := i.answer(i.ask(token, "POST", path, bytes.NewReader(data), "Content-Type", contentType))
	uri, _ := v["content_uri"].(string)
	if _, _, err := gomatrixserverlib.ParseMXC(uri); err != nil {
		i.w.Fatalf("the URI is %v", v)
	}
	return strings.TrimPrefix(uri, "mxc:/")
}

// get downloads.
func (i *instance) get(media string, headers ...string) *httptest.ResponseRecorder {
	return i.ask("bob", "GET", clientV1+"/download"+media, nil, headers...)
}

// picture is a PNG.
func picture(t testing.TB, width, height int) []byte {
	t.Helper()
	m := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			m.SetNRGBA(x, y, color.NRGBA{uint8(x), uint8(y), 100, 255})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// eventually waits for a condition.
func (w *world) eventually(what string, is func() bool) {
	w.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); {
		if time.Now().After(deadline) {
			w.Fatalf("not within 20 s: %s", what)
		}
		select {
		case <-w.Context().Done():
			w.Fatal(w.Context().Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// files counts what is in the folder of files, but for spools.
func (w *world) files() int {
	found, err := filepath.Glob(filepath.Join(w.config.Path, "*", "*", "*"))
	if err != nil {
		w.Fatal(err)
	}
	return len(found)
}

// spools counts spool files.
func (i *instance) spooled() int {
	found, err := filepath.Glob(filepath.Join(i.spools, "*"))
	if err != nil {
		i.w.Fatal(err)
	}
	return len(found)
}

func headersOf(rec *httptest.ResponseRecorder, names ...string) string {
	var out []string
	for _, name := range names {
		out = append(out, rec.Header().Get(name))
	}
	return strings.Join(out, "|")
}

func keysOf(v map[string]any) string { return fmt.Sprint(slices.Sorted(maps.Keys(v))) }
