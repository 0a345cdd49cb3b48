package clientapi

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/directoryapi"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// world is the client-api's rooms over the embedded log, the real directory-api
// and a small room server (rooms_test.go). Users are whoever the test says.
type world struct {
	t       *testing.T
	server  *Server
	mux     *http.ServeMux
	caller  *rpc.Server
	log     eventlog.Log
	rooms   *testRooms
	mu      sync.Mutex
	data    map[string]jsontext.Value // "user|room|type" of account data
	forgot  map[string]string         // "user|room" to member event
	devices map[string]*httpapi.Device
}

func newWorld(t *testing.T) *world { return newWorldWith(t, config.ClientAPI{}) }

func newWorldWith(t *testing.T, cfg config.ClientAPI) *world {
	t.Helper()
	w := &world{
		t: t, caller: rpc.NewServer(), log: openLog(t), mux: http.NewServeMux(),
		data: map[string]jsontext.Value{}, forgot: map[string]string{}, devices: map[string]*httpapi.Device{},
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.serveUsers()
	w.rooms = newTestRooms(ctx, t, w.log, w.caller)
	db, err := sqldb.Open(ctx, sqldb.Options{URL: "file:" + filepath.Join(t.TempDir(), "directory.db"), Durable: true})
	if err != nil {
		t.Fatal(err)
	}
	directory, err := directoryapi.New(ctx, directoryapi.Deps{ServerName: "test", Log: w.log, DB: db, Partitions: 1, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	directory.Register(w.caller)
	w.server, err = New(ctx, Deps{
		Config: cfg, ServerName: "test", Keys: testServer(t).keys, Log: w.log, Caller: w.caller, Partitions: 1, Logger: quiet(),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range w.server.roomEndpoints() {
		w.mux.HandleFunc(e.Method+" "+e.Path, w.handler(e))
	}
	done := make(chan error, 3)
	go func() { done <- directory.Run(ctx) }()
	go func() { done <- w.server.Run(ctx) }()
	go func() { done <- w.rooms.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		for range 3 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		if err := w.log.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// handler does what of the edge matters here: the device, and errors.
func (w *world) handler(e httpapi.Endpoint) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		answer, err := e.Handler(&httpapi.Request{Request: r, Device: w.device(r.Header.Get("User"))})
		status := 200
		if err != nil {
			known := matrixerror.From(err)
			if known == nil {
				w.t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
				known = matrixerror.New(500, "M_UNKNOWN", "internal")
			}
			status, answer = known.Status, known
		}
		if answer == nil {
			answer = struct{}{}
		}
		rw.WriteHeader(status)
		if err := json.MarshalWrite(rw, answer); err != nil {
			w.t.Errorf("%s %s: answer: %v", r.Method, r.URL.Path, err)
		}
	}
}

// device is the only device of a user, by localpart; nil for nobody.
func (w *world) device(user string) *httpapi.Device {
	if user == "" {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.devices[user] == nil {
		w.devices[user] = &httpapi.Device{UserID: "@" + user + ":test", DeviceID: "DEV"}
	}
	return w.devices[user]
}

// serveUsers serves what is asked of the user-api. Users whose name begins with
// "no" do not exist.
func (w *world) serveUsers() {
	userapi.QueryProfile.Serve(w.caller, func(_ context.Context, r *userapi.ProfileRequest) (*userapi.ProfileResponse, error) {
		if strings.HasPrefix(r.UserID, "@no") {
			return nil, matrixerror.NotFound("no such user")
		}
		name := strings.ToUpper(r.UserID[1:2])
		return &userapi.ProfileResponse{Fields: map[string]jsontext.Value{"displayname": quote(name)}}, nil
	})
	userapi.QueryAccountData.Serve(w.caller, func(_ context.Context, r *userapi.AccountDataRequest) (*userapi.AccountDataResponse, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		res := &userapi.AccountDataResponse{Data: map[string]map[string]jsontext.Value{}}
		for _, room := range r.RoomIDs {
			for _, typ := range r.Types {
				if v, ok := w.data[r.UserID+"|"+room+"|"+typ]; ok {
					if res.Data[room] == nil {
						res.Data[room] = map[string]jsontext.Value{}
					}
					res.Data[room][typ] = v
				}
			}
		}
		return res, nil
	})
	userapi.PutAccountData.Serve(w.caller, func(_ context.Context, r *userapi.PutAccountDataRequest) (*userapi.WriteResponse, error) {
		w.setData(r.UserID, r.RoomID, r.Type, string(r.Content))
		return &userapi.WriteResponse{}, nil
	})
	userapi.Forget.Serve(w.caller, func(_ context.Context, r *userapi.ForgetRequest) (*userapi.WriteResponse, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.forgot[r.UserID+"|"+r.RoomID] = r.EventID
		return &userapi.WriteResponse{}, nil
	})
	userapi.QueryForgotten.Serve(w.caller, func(_ context.Context, r *userapi.ForgottenRequest) (*userapi.ForgottenResponse, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return &userapi.ForgottenResponse{EventID: w.forgot[r.UserID+"|"+r.RoomID]}, nil
	})
}

func (w *world) setData(userID, roomID, typ, content string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.data[userID+"|"+roomID+"|"+typ] = jsontext.Value(content)
}

// answer is the status and body of an answer.
type answer struct {
	status int
	raw    string
	body   map[string]any
}

// String words an answer as "200" or "403 M_FORBIDDEN".
func (a answer) String() string {
	if code, ok := a.body["errcode"]; ok {
		return fmt.Sprintf("%d %v", a.status, code)
	}
	return fmt.Sprint(a.status)
}

// do sends a request as a user; the path is behind /_matrix/client/v3.
func (w *world) do(user, method, path, body string) answer {
	w.t.Helper()
	r := httptest.NewRequest(method, v3+path, strings.NewReader(body))
	r.Header.Set("User", user)
	rec := httptest.NewRecorder()
	ctx, cancel := context.WithTimeout(r.Context(), 20*time.Second)
	defer cancel()
	w.mux.ServeHTTP(rec, r.WithContext(ctx))
	a := answer{status: rec.Code, raw: rec.Body.String()}
	if strings.HasPrefix(a.raw, "{") {
		if err := json.Unmarshal([]byte(a.raw), &a.body); err != nil {
			w.t.Errorf("%s %s: %s", method, path, a.raw)
		}
	}
	return a
}

// must is do for what has to succeed.
func (w *world) must(user, method, path, body string) answer {
	w.t.Helper()
	a := w.do(user, method, path, body)
	if a.status != 200 {
		w.t.Fatalf("%s %s %s: %d %s", user, method, path, a.status, a.raw)
	}
	return a
}

// expect is do for what has to be answered so.
func (w *world) expect(want, user, method, path, body string) answer {
	w.t.Helper()
	a := w.do(user, method, path, body)
	if a.String() != want {
		w.t.Errorf("%s %s %s %.200s: %s, want %s (%s)", user, method, path, body, a, want, a.raw)
	}
	return a
}

// create makes a room and returns its ID.
func (w *world) create(user, body string) string {
	w.t.Helper()
	return w.must(user, "POST", "/createRoom", body).body["room_id"].(string)
}
