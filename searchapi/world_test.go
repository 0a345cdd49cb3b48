package searchapi

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
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
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/eventlog/eventlogtest"
	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/common/testwait"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/syncapi"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

const (
	alice, bob, carol = "@alice:test", "@bob:test", "@carol:test"
	roomA, roomB      = "!a:test", "!b:test" // of both partitions
	partitions        = 2
)

// world is search-servers beside the room server and the sync-api, as they are, on
// one log; the test is the user-api.
type world struct {
	t      *testing.T
	dir    string
	log    eventlog.Log
	shared bool // whether other instances may have the log open
	calls  *rpc.Server
	caller rpc.Caller // whom instances ask
	rooms  *roomserver.Server
	answer int64 // offset of room.answers to read next
	n      int
	clock  int64

	mu       sync.Mutex
	userSeqs []int64
	ignored  map[string]jsontext.Value
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), calls: rpc.NewServer(), clock: 1_700_000_000_000, userSeqs: make([]int64, userapi.UserOutputPartitions),
		ignored: map[string]jsontext.Value{}}
	log, err := eventlog.OpenEmbedded(t.Context(), filepath.Join(w.dir, "log.db"), eventlog.EmbeddedOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.log = log
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	w.caller = w.calls
	w.serveUsers()
	key := gomatrixserverlib.SigningKey{ID: "ed25519:a", Private: ed25519.NewKeyFromSeed(make([]byte, 32))}
	w.rooms, err = roomserver.New(t.Context(), roomserver.Deps{ServerName: "test", Keys: []gomatrixserverlib.SigningKey{key}, Log: log, DB: w.open("rooms"),
		Partitions: partitions, Logger: w.logger(), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	w.rooms.Register(w.calls)
	w.run(w.rooms)
	syncs, err := syncapi.New(t.Context(), syncapi.Deps{Config: config.SyncAPI{MaxLag: 20 * time.Second}, ServerName: "test", Log: log, DB: w.open("sync"),
		Caller: w.calls, Partitions: partitions, Logger: w.logger()})
	if err != nil {
		t.Fatal(err)
	}
	syncs.Register(w.calls)
	w.run(syncs)
	return w
}

func (w *world) logger() *logrus.Entry {
	logger := logrus.New()
	logger.SetOutput(w.t.Output())
	logger.SetLevel(logrus.ErrorLevel)
	return logrus.NewEntry(logger)
}

func (w *world) open(name string) *sqldb.DB {
	db, err := sqldb.Open(w.t.Context(), sqldbtest.Options(w.t, filepath.Join(w.dir, name+".db")))
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

// run runs a role until stop, or the end of the test.
func (w *world) run(role interface{ Run(context.Context) error }) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- role.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(stop)
	return stop
}

// serveUsers is the user-api, as far as it is asked.
func (w *world) serveUsers() {
	userapi.QueryAccountData.Serve(w.calls, func(_ context.Context, r *userapi.AccountDataRequest) (*userapi.AccountDataResponse, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		data := map[string]jsontext.Value{}
		if list := w.ignored[r.UserID]; list != nil {
			data[userapi.TypeIgnoredUsers] = list
		}
		return &userapi.AccountDataResponse{Data: map[string]map[string]jsontext.Value{"": data}}, nil
	})
	userapi.QueryForgotten.Serve(w.calls, func(context.Context, *userapi.ForgottenRequest) (*userapi.ForgottenResponse, error) {
		return &userapi.ForgottenResponse{}, nil // nobody forgets a room here
	})
	userapi.QueryHeads.Serve(w.calls, func(context.Context, *userapi.HeadsRequest) (*userapi.HeadsResponse, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return &userapi.HeadsResponse{Seqs: slices.Clone(w.userSeqs)}, nil
	})
}

// server runs an instance of the search-server.
func (w *world) server() (s *Server, stop func()) { return w.serverOn("search", w.log) }

func (w *world) serverOn(store string, log eventlog.Log) (s *Server, stop func()) {
	w.t.Helper()
	if w.shared {
		log = eventlogtest.Shared{Log: log}
	}
	db, err := sqldb.Open(w.t.Context(), sqldbtest.Options(w.t, filepath.Join(w.dir, store+".db")))
	if err != nil {
		w.t.Fatal(err)
	}
	s, err = New(w.t.Context(), Deps{Config: config.Search{WaitTimeout: 20 * time.Second}, Log: log, DB: db, Caller: w.caller, Partitions: partitions,
		LeaseTTL: 400 * time.Millisecond, Logger: w.logger()})
	if err != nil {
		w.t.Fatal(err)
	}
	end := w.run(s)
	stop = sync.OnceFunc(func() {
		end()
		if err := db.Close(); err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(stop)
	if err := s.Ready(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return s, stop
}

// submit appends a record and waits until it is accepted.
func (w *world) submit(rec roomapi.InputRecord) string {
	w.t.Helper()
	w.n++
	w.clock += 1000
	rec.V, rec.RequestID, rec.TS, rec.Origin = 1, fmt.Sprint("request", w.n), w.clock, "test"
	value, err := rec.Encode()
	if err == nil {
		_, err = w.log.Append(w.t.Context(), eventlog.Message{Topic: roomapi.TopicInput, Partition: eventlog.PartitionFor(rec.RoomID, partitions), Key: []byte(rec.RoomID), Value: value})
	}
	if err != nil {
		w.t.Fatal(err)
	}
	for {
		answers, err := w.log.Read(w.t.Context(), roomapi.TopicAnswers, 0, w.answer, 1<<20)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, a := range answers {
			w.answer = a.Offset + 1
			v, err := roomapi.DecodeVerdict(a.Value)
			if err != nil {
				w.t.Fatal(err)
			}
			if v.RequestID != rec.RequestID {
				continue
			}
			if v.Status != roomapi.StatusAccepted {
				w.t.Fatalf("%+v: %+v", rec, v)
			}
			return strings.Join(v.EventIDs, " ")
		}
	}
}

// send sends an event and returns its ID.
func (w *world) send(room, sender, typ string, stateKey *string, content string) string {
	w.t.Helper()
	rec := roomapi.InputRecord{RoomID: room, Kind: roomapi.KindNew,
		Events: []roomapi.InputEvent{{Proto: &roomapi.Proto{Type: typ, StateKey: stateKey, Sender: sender, Content: jsontext.Value(content)}}}}
	if typ == "m.room.create" {
		rec.RoomVersion = "11"
	}
	return w.submit(rec)
}

func (w *world) state(room, sender, typ, content string) string {
	w.t.Helper()
	key := ""
	return w.send(room, sender, typ, &key, content)
}

func (w *world) member(room, user, membership string) {
	w.t.Helper()
	w.send(room, user, "m.room.member", &user, `{"membership":"`+membership+`","displayname":"`+user[1:3]+`"}`)
}

// create makes a public room.
func (w *world) create(room, creator string, members ...string) {
	w.t.Helper()
	w.state(room, creator, "m.room.create", `{"room_version":"11"}`)
	w.member(room, creator, "join")
	w.state(room, creator, "m.room.join_rules", `{"join_rule":"public"}`)
	for _, m := range members {
		w.member(room, m, "join")
	}
}

func (w *world) say(room, sender, body string) string {
	w.t.Helper()
	return w.send(room, sender, "m.room.message", nil, `{"body":"`+body+`","msgtype":"m.text"}`)
}

func (w *world) edit(room, sender, eventID, body string) string {
	w.t.Helper()
	return w.send(room, sender, "m.room.message", nil, `{"body":"* `+body+`","msgtype":"m.text","m.new_content":{"body":"`+body+`","msgtype":"m.text"},`+
		`"m.relates_to":{"rel_type":"m.replace","event_id":"`+eventID+`"}}`)
}

func (w *world) redact(room, sender, eventID string) {
	w.t.Helper()
	w.submit(roomapi.InputRecord{RoomID: room, Kind: roomapi.KindNew, Events: []roomapi.InputEvent{{Proto: &roomapi.Proto{
		Type: "m.room.redaction", Sender: sender, Content: jsontext.Value(`{"redacts":"` + eventID + `"}`), Redacts: eventID}}}})
}

// ignore has a user ignore another.
func (w *world) ignore(user, other string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ignored[user] = jsontext.Value(`{"ignored_users":{"` + other + `":{}}}`)
	p := eventlog.PartitionFor(user, len(w.userSeqs))
	w.userSeqs[p]++
	value, err := json.Marshal(&userapi.UserChange{V: 1, Seq: w.userSeqs[p], UserID: user, Kind: userapi.ChangeAccountData, Type: "m.ignored_user_list", Content: w.ignored[user]})
	if err == nil {
		_, err = w.log.Append(w.t.Context(), eventlog.Message{Topic: userapi.TopicUserOutput, Partition: p, Key: []byte(user), Value: value})
	}
	if err != nil {
		w.t.Error(err)
	}
}

// found is an answer as a client reads it.
type found struct {
	Count      int64    `json:"count"`
	Highlights []string `json:"highlights"`
	Next       string   `json:"next_batch"`
	Results    []struct {
		Rank   float64 `json:"rank"`
		Result struct {
			ID       string         `json:"event_id"`
			RoomID   string         `json:"room_id"`
			Unsigned jsontext.Value `json:"unsigned"`
		} `json:"result"`
		Context struct {
			Start    string                       `json:"start"`
			End      string                       `json:"end"`
			Before   []shownEvent                 `json:"events_before"`
			After    []shownEvent                 `json:"events_after"`
			Profiles map[string]map[string]string `json:"profile_info"`
		} `json:"context"`
	} `json:"results"`
	Groups map[string]map[string]struct {
		Next    string   `json:"next_batch"`
		Order   int      `json:"order"`
		Results []string `json:"results"`
	} `json:"groups"`
	State map[string][]shownEvent `json:"state"`
}

type shownEvent struct {
	ID   string `json:"event_id"`
	Type string `json:"type"`
}

func (f *found) ids() (out []string) {
	for _, r := range f.Results {
		out = append(out, r.Result.ID)
	}
	return out
}

// try searches; more is what else is in room_events, after a comma.
func (w *world) try(s *Server, user, term, more, next string) (*found, error) {
	w.t.Helper()
	quoted, err := json.Marshal(term)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.post(s, user, `{"search_categories":{"room_events":{"search_term":`+string(quoted)+more+`}}}`, next)
}

func (w *world) post(s *Server, user, body, next string) (*found, error) {
	w.t.Helper()
	target := "/_matrix/client/v3/search"
	if next != "" {
		target += "?next_batch=" + next
	}
	r := &httpapi.Request{Request: httptest.NewRequestWithContext(w.t.Context(), "POST", target, strings.NewReader(body)), Device: &httpapi.Device{UserID: user, DeviceID: "D"}}
	res, err := s.search(r)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(res)
	var out struct {
		Categories struct {
			RoomEvents found `json:"room_events"`
		} `json:"search_categories"`
	}
	if err = errors.Join(err, json.Unmarshal(text, &out, json.MatchCaseInsensitiveNames(true))); err != nil {
		w.t.Fatalf("%s: %v", text, err)
	}
	return &out.Categories.RoomEvents, nil
}

func (w *world) search(s *Server, user, term, more, next string) *found {
	w.t.Helper()
	out, err := w.try(s, user, term, more, next)
	if err != nil {
		w.t.Fatalf("%s for %q%s: %v", user, term, more, err)
	}
	return out
}

// expect compares what a user finds, newest first, with what there is to find.
func (w *world) expect(s *Server, user, term string, want ...string) {
	w.t.Helper()
	got := w.search(s, user, term, `,"order_by":"recent"`, "")
	if !slices.Equal(got.ids(), want) || got.Count != int64(len(want)) {
		w.t.Errorf("%s finds %d by %q, %v, not %v", user, got.Count, term, got.ids(), want)
	}
}

// settled waits until an instance has read all history.
func (w *world) settled(s *Server) {
	w.t.Helper()
	testwait.Until(w.t, "history is read", func() bool {
		list, err := s.db.Histories(w.t.Context(), []int64{0, 1})
		if err != nil {
			w.t.Fatal(err)
		}
		return len(list) == 0
	})
}
