package pushapi

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/eventlog/eventlogtest"
	"github.com/matrix-org/dendrite/common/pushrules"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/common/testwait"
	directoryapi "github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	syncapi "github.com/matrix-org/dendrite/syncapi/api"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

const (
	alice, bob, carol = "@alice:test", "@bob:test", "@carol:test"
	room              = "!room:test"
	testVersion       = gomatrixserverlib.RoomVersion("11")
	partitions        = 2 // of room.output
)

// world is push-servers over a real log and database, and real gateways; the test
// is the other roles.
type world struct {
	t       *testing.T
	dir     string
	log     eventlog.Log
	shared  bool // whether the log can be another process's too
	config  config.Push
	gateway *gateway

	mu       sync.Mutex
	seqs     []int64
	userSeqs []int64
	events   map[string]*roomapi.StoredEvent
	joined   map[string]map[string]bool // users by room
	state    map[string]map[gomatrixserverlib.StateKey]*roomapi.StoredEvent
	pushers  map[string][]userapi.Pusher
	data     map[string]map[string]jsontext.Value
	threads  []userapi.ThreadOf
	unread   syncapi.UnreadResponse
	read     map[string]bool // events
	asked    map[string]int
	made     int
}

// gateway is a push gateway that keeps what it was told.
type gateway struct {
	server *httptest.Server
	mu     sync.Mutex
	told   []told
	// answer is how it answers; 0 means 200.
	answer   int
	rejects  map[string]bool
	busy     map[string]bool // pushkeys
	overlaps int
}

// told is a notification, as it was sent.
type told struct {
	notification
	Raw string
}

func newGateway(t *testing.T) *gateway {
	g := &gateway{rejects: map[string]bool{}, busy: map[string]bool{}}
	g.server = httptest.NewServer(g)
	t.Cleanup(g.server.Close)
	return g
}

// ServeHTTP implements http.Handler.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var req struct{ Notification told }
	if err != nil || json.Unmarshal(body, &req, json.MatchCaseInsensitiveNames(true)) != nil || len(req.Notification.Devices) != 1 {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	req.Notification.Raw = string(body)
	key := req.Notification.Devices[0].Pushkey
	g.mu.Lock()
	if g.busy[key] {
		g.overlaps++
	}
	g.busy[key] = true
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.busy[key] = false
	}()
	answer, rejected := g.answer, g.rejects[key]
	if answer == 0 && !rejected {
		g.told = append(g.told, req.Notification)
	}
	g.mu.Unlock()
	if answer != 0 {
		w.WriteHeader(answer)
		return
	}
	list := []string{}
	if rejected {
		list = append(list, key)
	}
	if err := json.MarshalWrite(w, map[string][]string{"rejected": list}); err != nil {
		panic(http.ErrAbortHandler)
	}
}

func (g *gateway) answers(status int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.answer = status
}

// about lists the events that a pushkey was told of, in order.
func (g *gateway) about(key string) (out []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, n := range g.told {
		if n.Devices[0].Pushkey == key && n.EventID != "" {
			out = append(out, n.EventID)
		}
	}
	return out
}

func (g *gateway) all() []told {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.told)
}

func engines(t *testing.T, test func(t *testing.T, w *world)) {
	sqldbtest.Each(t, func(t *testing.T) { test(t, newWorld(t)) })
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), gateway: newGateway(t), config: config.Push{AnyURL: true, AllowRanges: []string{"127.0.0.0/8"}},
		seqs: make([]int64, partitions), userSeqs: make([]int64, userapi.UserOutputPartitions), events: map[string]*roomapi.StoredEvent{},
		joined: map[string]map[string]bool{}, state: map[string]map[gomatrixserverlib.StateKey]*roomapi.StoredEvent{},
		pushers: map[string][]userapi.Pusher{}, data: map[string]map[string]jsontext.Value{}, read: map[string]bool{}, asked: map[string]int{}}
	log, err := eventlog.OpenEmbedded(t.Context(), filepath.Join(w.dir, "log.db"), eventlog.EmbeddedOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.log = log
	for _, topic := range []eventlog.TopicSpec{roomapi.OutputTopic(partitions), userapi.UserOutputTopic(0)} {
		if _, err := log.EnsureTopic(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// server runs an instance until stop.
func (w *world) server() (s *Server, stop func()) {
	w.t.Helper()
	db, err := sqldb.Open(w.t.Context(), sqldbtest.Options(w.t, filepath.Join(w.dir, "push.db")))
	if err != nil {
		w.t.Fatal(err)
	}
	logger := logrus.New()
	logger.SetOutput(w.t.Output())
	log := w.log
	if w.shared {
		log = eventlogtest.Shared{Log: w.log}
	}
	denied := config.Default().Federation
	s, err = New(w.t.Context(), Deps{Config: w.config, Log: log, DB: db, Caller: w.others(), Denied: denied.Denied(), Partitions: partitions,
		LeaseTTL: 400 * time.Millisecond, Logger: logrus.NewEntry(logger)})
	if err != nil {
		w.t.Fatal(err)
	}
	s.minBackoff, s.pollEvery, s.duePage = 10*time.Millisecond, 10*time.Millisecond, 2
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
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

// others are the roles that are asked.
func (w *world) others() *rpc.Server {
	srv := rpc.NewServer()
	userapi.QueryPushed.Serve(srv, w.queryPushed)
	userapi.QueryPushers.Serve(srv, func(_ context.Context, r *userapi.PushersRequest) (*userapi.PushersResponse, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return &userapi.PushersResponse{Pushers: slices.Clone(w.pushers[r.UserID])}, nil
	})
	userapi.QueryAccountData.Serve(srv, func(_ context.Context, r *userapi.AccountDataRequest) (*userapi.AccountDataResponse, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return &userapi.AccountDataResponse{Data: map[string]map[string]jsontext.Value{"": w.dataOf(r.UserID)}}, nil
	})
	userapi.DropPusher.Serve(srv, func(_ context.Context, r *userapi.DropPusherRequest) (*userapi.WriteResponse, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.setPushers(r.UserID, slices.DeleteFunc(slices.Clone(w.pushers[r.UserID]), func(p userapi.Pusher) bool {
			return p.AppID == r.AppID && p.Pushkey == r.Pushkey && (r.ID == "" || r.ID == p.ID)
		})), nil
	})
	userapi.PutPusher.Serve(srv, func(_ context.Context, r *userapi.PutPusherRequest) (*userapi.WriteResponse, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.made++
		p := r.Pusher
		p.ID, p.SetTS = fmt.Sprint("pusher", w.made), 5000
		return w.setPushers(r.UserID, append(slices.Clone(w.pushers[r.UserID]), p)), nil
	})
	userapi.QueryThreadsOf.Serve(srv, func(_ context.Context, r *userapi.ThreadsOfRequest) (*userapi.ThreadsOfResponse, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		res := &userapi.ThreadsOfResponse{}
		for _, t := range w.threads {
			if slices.Contains(r.UserIDs, t.UserID) {
				res.Threads = append(res.Threads, t)
			}
		}
		return res, nil
	})
	directoryapi.QueryJoined.Serve(srv, w.queryJoined)
	roomapi.QueryEvents.Serve(srv, w.queryEvents)
	roomapi.QueryState.Serve(srv, w.queryState)
	syncapi.QueryUnread.Serve(srv, func(_ context.Context, r *syncapi.UnreadRequest) (*syncapi.UnreadResponse, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.asked["unread"]++
		res := w.unread
		res.Read = w.read[r.EventID]
		return &res, nil
	})
	return srv
}

// dataOf is a user's account data; w.mu is held.
func (w *world) dataOf(userID string) map[string]jsontext.Value {
	out := map[string]jsontext.Value{}
	for typ, content := range w.data[userID] {
		out[typ] = content
	}
	if out[userapi.TypePushRules] == nil {
		rules, err := pushrules.Load(nil, userID, pushrules.Features{ThreadSubscriptions: true})
		if err != nil {
			panic(err)
		}
		if out[userapi.TypePushRules], err = rules.Content(); err != nil {
			panic(err)
		}
	}
	return out
}

func (w *world) queryPushed(_ context.Context, r *userapi.PushedRequest) (*userapi.PushedResponse, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	res := &userapi.PushedResponse{}
	for id, list := range w.pushers {
		if id > r.After && len(list) > 0 {
			res.Users = append(res.Users, userapi.PushedUser{UserID: id, Pushers: list, Data: w.dataOf(id)})
		}
	}
	slices.SortFunc(res.Users, func(a, b userapi.PushedUser) int {
		if a.UserID < b.UserID {
			return -1
		}
		return 1
	})
	res.Users = res.Users[:min(len(res.Users), r.Limit)]
	return res, nil
}

func (w *world) queryJoined(_ context.Context, r *directoryapi.JoinedRequest) (*directoryapi.JoinedResponse, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked["joined"]++
	res := &directoryapi.JoinedResponse{Rooms: map[string][]string{}}
	for id, users := range w.joined {
		for _, user := range r.UserIDs {
			if users[user] && eventlog.PartitionFor(id, partitions) == r.Partition {
				res.Rooms[user] = append(res.Rooms[user], id)
			}
		}
	}
	return res, nil
}

func (w *world) queryEvents(_ context.Context, r *roomapi.EventsRequest) (*roomapi.EventsResponse, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked["events"]++
	res := &roomapi.EventsResponse{}
	for _, id := range r.EventIDs {
		if ev := w.events[id]; ev != nil && (r.Viewer == "" || w.joined[ev.RoomID()][r.Viewer]) {
			res.Events = append(res.Events, ev)
		}
	}
	return res, nil
}

func (w *world) queryState(_ context.Context, r *roomapi.StateRequest) (*roomapi.StateResponse, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked["state"]++
	res := &roomapi.StateResponse{}
	for _, key := range r.Keys {
		if ev := w.state[r.RoomID][key]; ev != nil {
			res.Events = append(res.Events, ev)
		}
	}
	return res, nil
}

// change publishes a change as the user-api would; w.mu is held.
func (w *world) change(c userapi.UserChange) *userapi.WriteResponse {
	p := eventlog.PartitionFor(c.UserID, len(w.userSeqs))
	w.userSeqs[p]++
	c.V, c.Seq = 1, w.userSeqs[p]
	value, err := json.Marshal(&c)
	if err != nil {
		panic(err)
	}
	if _, err := w.log.Append(context.Background(), eventlog.Message{Topic: userapi.TopicUserOutput, Partition: p, Key: []byte(c.UserID), Value: value}); err != nil {
		panic(err)
	}
	return &userapi.WriteResponse{Partition: p, Seq: c.Seq}
}

// setPushers makes a user's pushers what is given; w.mu is held.
func (w *world) setPushers(userID string, list []userapi.Pusher) *userapi.WriteResponse {
	w.pushers[userID] = list
	content, err := json.Marshal(list, json.FormatNilSliceAsNull(false))
	if err != nil {
		panic(err)
	}
	return w.change(userapi.UserChange{UserID: userID, Kind: userapi.ChangePushers, Content: content})
}

// pusher makes a pusher of the gateway known to instances.
func (w *world) pusher(s *Server, userID, key, data string) {
	w.t.Helper()
	if data == "" {
		data = "{}"
	}
	content := jsontext.Value(data[:1] + `"url":"` + w.gateway.server.URL + notifyPath + `"`)
	if data != "{}" {
		content = append(content, ',')
	}
	content = append(content, data[1:]...)
	w.mu.Lock()
	w.made++
	res := w.setPushers(userID, append(slices.Clone(w.pushers[userID]), userapi.Pusher{ID: fmt.Sprint("pusher", w.made), DeviceID: "D", Kind: "http",
		AppID: "app", Pushkey: key, AppName: "A", DeviceName: "D", Lang: "en", Data: content, SetTS: 5000}))
	w.mu.Unlock()
	if !s.people.reach(w.t.Context(), res.Partition, res.Seq) {
		w.t.Fatal("the pusher did not come to be known")
	}
}

// send publishes an event as the room server would, and returns its ID.
func (w *world) send(roomID, typ, sender string, stateKey *string, content string) string {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	p := eventlog.PartitionFor(roomID, partitions)
	w.seqs[p]++
	ev, err := (&gomatrixserverlib.EventBuilder{RoomID: roomID, Type: typ, Sender: sender, StateKey: stateKey, Content: jsontext.Value(content),
		OriginServerTS: w.seqs[p], Depth: w.seqs[p], PrevEvents: []string{"$x"}, AuthEvents: []string{"$x"}}).Build(testVersion)
	if err != nil {
		w.t.Fatal(err)
	}
	stored := &roomapi.StoredEvent{Event: ev, Position: roomapi.Position{Partition: p, Seq: w.seqs[p]}}
	w.events[ev.EventID()] = stored
	rec := &roomapi.OutputRecord{V: 1, Kind: roomapi.OutputEvent, Position: stored.Position, RoomID: roomID, RoomVersion: string(testVersion),
		EventID: ev.EventID(), Type: typ, Sender: sender, StateKey: stateKey, Local: true}
	if stateKey != nil {
		change := roomapi.StateChange{Type: typ, StateKey: *stateKey, EventID: ev.EventID()}
		if typ == typeMember {
			change.Membership, rec.Membership = ev.Membership(), ev.Membership()
			if w.joined[roomID] == nil {
				w.joined[roomID] = map[string]bool{}
			}
			delete(w.joined[roomID], *stateKey)
			if ev.Membership() == "join" {
				w.joined[roomID][*stateKey] = true
			}
		}
		rec.Changes = []roomapi.StateChange{change}
		if w.state[roomID] == nil {
			w.state[roomID] = map[gomatrixserverlib.StateKey]*roomapi.StoredEvent{}
		}
		w.state[roomID][ev.Key()] = stored
	}
	rec.JoinedCount = len(w.joined[roomID])
	value, err := rec.Encode(ev.JSON())
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.log.Append(w.t.Context(), eventlog.Message{Topic: roomapi.TopicOutput, Partition: p, Key: []byte(roomID), Value: value}); err != nil {
		w.t.Fatal(err)
	}
	return ev.EventID()
}

// publish publishes a record that brings no event.
func (w *world) publish(rec *roomapi.OutputRecord) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	p := eventlog.PartitionFor(rec.RoomID, partitions)
	w.seqs[p]++
	rec.V, rec.RoomVersion, rec.Position = 1, string(testVersion), roomapi.Position{Partition: p, Seq: w.seqs[p]}
	value, err := rec.Encode()
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.log.Append(w.t.Context(), eventlog.Message{Topic: roomapi.TopicOutput, Partition: p, Key: []byte(rec.RoomID), Value: value}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) member(roomID, sender, userID, membership string) string {
	return w.send(roomID, typeMember, sender, &userID, `{"membership":"`+membership+`","displayname":"`+userID[1:2]+`"}`)
}

func (w *world) message(roomID, sender, body string) string {
	return w.send(roomID, "m.room.message", sender, nil, `{"body":"`+body+`","msgtype":"m.text"}`)
}

// expect waits until a pushkey was told of just these events.
func (w *world) expect(key string, want ...string) {
	w.t.Helper()
	testwait.Until(w.t, fmt.Sprintf("%s is told of %d events", key, len(want)), func() bool { return len(w.gateway.about(key)) >= len(want) })
	if got := w.gateway.about(key); !slices.Equal(got, want) {
		w.t.Fatalf("%s was told of %v, not %v", key, got, want)
	}
}
