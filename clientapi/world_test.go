package clientapi

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/directoryapi"
	"github.com/matrix-org/dendrite/roomserver"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	syncapi "github.com/matrix-org/dendrite/syncapi/api"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// world is the client-api's rooms over the embedded log, with the real room
// server, directory-api and edge. Users are whoever the test says.
type world struct {
	t       *testing.T
	server  *Server
	edge    http.Handler
	caller  *rpc.Server
	log     eventlog.Log
	mu      sync.Mutex
	data    map[string]jsontext.Value // "user|room|type" of account data
	forgot  map[string]string         // "user|room" to member event
	devices map[string]*httpapi.Device
}

func newWorld(t *testing.T) *world { return newWorldWith(t, config.ClientAPI{}) }

func newWorldWith(t *testing.T, cfg config.ClientAPI) *world {
	t.Helper()
	w := &world{
		t: t, caller: rpc.NewServer(), log: openLog(t),
		data: map[string]jsontext.Value{}, forgot: map[string]string{}, devices: map[string]*httpapi.Device{},
	}
	ctx, cancel := context.WithCancel(context.Background())
	keys, metrics := testServer(t).keys, prometheus.NewRegistry()
	rooms, err := roomserver.New(ctx, roomserver.Deps{
		ServerName: "test", Keys: keys, Log: w.log, DB: w.open("rooms.db"), Partitions: 2, Logger: quiet(), Metrics: metrics,
	})
	if err != nil {
		t.Fatal(err)
	}
	rooms.Register(w.caller)
	directory, err := directoryapi.New(ctx, directoryapi.Deps{ServerName: "test", Log: w.log, DB: w.open("directory.db"), Partitions: 2, Logger: quiet(), Metrics: metrics})
	if err != nil {
		t.Fatal(err)
	}
	directory.Register(w.caller)
	w.serveUsers()
	w.servePositions()
	w.server, err = New(ctx, Deps{
		Config: cfg, ServerName: "test", Keys: keys, Log: w.log, Caller: w.caller, Partitions: 2, Logger: quiet(), Metrics: metrics,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.edge, err = httpapi.NewRouter(httpapi.Options{Authenticator: w, Logger: quiet()}, w.server.roomEndpoints())
	if err != nil {
		t.Fatal(err)
	}
	runs := []func(context.Context) error{rooms.Run, directory.Run}
	if cfg.Writer.AnswerTimeout != deaf {
		runs = append(runs, w.server.Run)
	}
	done := make(chan error, len(runs))
	for _, run := range runs {
		go func() { done <- run(ctx) }()
	}
	t.Cleanup(func() { // before those of open
		cancel()
		for range runs {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if err := w.log.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// deaf is an AnswerTimeout of worlds in which no verdict is heard.
const deaf = 300 * time.Millisecond

func (w *world) open(name string) *sqldb.DB {
	w.t.Helper()
	db, err := sqldb.Open(context.Background(), sqldbtest.Options(w.t, filepath.Join(w.t.TempDir(), name)))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := db.Close(); err != nil {
			w.t.Error(err)
		}
	})
	return db
}

// Authenticate takes a user's localpart for a token.
func (w *world) Authenticate(_ context.Context, token string) (*httpapi.Device, error) {
	return w.device(token), nil
}

// heads is how many events there are.
func (w *world) heads() (n int64) {
	w.t.Helper()
	res, err := roomapi.QueryHeads.Call(w.t.Context(), w.caller, &roomapi.HeadsRequest{})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, seq := range res.Seqs {
		n += seq
	}
	return n
}

// event reads a stored event.
func (w *world) event(roomID, eventID string) *roomapi.StoredEvent {
	w.t.Helper()
	res, err := roomapi.QueryEvents.Call(w.t.Context(), w.caller, &roomapi.EventsRequest{RoomID: roomID, EventIDs: []string{eventID}})
	if err != nil || len(res.Events) != 1 {
		w.t.Fatal(res, err)
	}
	return res.Events[0]
}

// servePositions takes event IDs for tokens of the sync-api.
func (w *world) servePositions() {
	syncapi.QueryPosition.Serve(w.caller, func(ctx context.Context, r *syncapi.PositionRequest) (*syncapi.PositionResponse, error) {
		res, err := roomapi.QueryEvents.Call(ctx, w.caller, &roomapi.EventsRequest{RoomID: r.RoomID, EventIDs: []string{r.Token}})
		if err != nil || len(res.Events) == 0 {
			return nil, matrixerror.InvalidParam("token")
		}
		return &syncapi.PositionResponse{Position: res.Events[0].Position}, nil
	})
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
	userapi.ChangePushRule.Serve(w.caller, func(_ context.Context, r *userapi.ChangePushRuleRequest) (*userapi.WriteResponse, error) {
		w.setData(r.UserID, r.Rule.ID, "rules of", r.Before)
		return &userapi.WriteResponse{}, nil
	})
	userapi.QueryGuests.Serve(w.caller, func(_ context.Context, r *userapi.GuestsRequest) (*userapi.GuestsResponse, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		res := &userapi.GuestsResponse{}
		for _, d := range w.devices {
			if d.IsGuest && slices.Contains(r.UserIDs, d.UserID) {
				res.UserIDs = append(res.UserIDs, d.UserID)
			}
		}
		return res, nil
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

// do sends a request as a user; the path is behind /_matrix/client/v3, if it
// does not begin with /_matrix itself.
func (w *world) do(user, method, path, body string) answer {
	w.t.Helper()
	if !strings.HasPrefix(path, "/_matrix/") {
		path = v3 + path
	}
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if user != "" {
		r.Header.Set("Authorization", "Bearer "+user)
	}
	rec := httptest.NewRecorder()
	ctx, cancel := context.WithTimeout(r.Context(), 20*time.Second)
	defer cancel()
	w.edge.ServeHTTP(rec, r.WithContext(ctx))
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
