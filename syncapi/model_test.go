package syncapi

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http/httptest"
	"net/url"
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
	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/syncapi/storage"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

const (
	testServer  = "test"
	testVersion = gomatrixserverlib.RoomVersionV11
)

// model is a room server and a user-api in a few lines: they decide nothing,
// keep everything in slices, and publish on a real log. The sync-api in front
// of it is the real one.
type model struct {
	t    testing.TB
	log  eventlog.Log
	s    *Server // one of all
	view *view
	all  []*Server
	// instances is how many share the work; 0: one, that is alone.
	instances int
	stop      func()
	dir       string
	db        string // the view's, in dir
	calls     *rpc.Server
	retention config.Retention

	// real is the room server, in place of the model's own; nil: none.
	real *realRooms

	mu       sync.Mutex
	seqs     []int64
	userSeqs []int64
	rooms    map[string]*modelRoom
	account  map[string]map[string]map[string]jsontext.Value
	current  []userapi.UserChange // the last one of each thing that was changed
	resyncs  chan int             // unless nil, taken from before a resync is told
	order    map[string][]string  // the IDs of a room's events
	asked    map[string]int       // queries by name
	clock    int64
	// past are push rules that users had before.
	past map[string][]userapi.PastRules
	// threads are what users have said of threads, last last.
	threads map[string][]userapi.ThreadSubscription
	inboxes *inboxes
	// statements counts those of the last instance that was started.
	statements func() int64
}

type modelRoom struct {
	id        string
	partition int
	events    []*event
	state     map[gomatrixserverlib.StateKey]*event
	// history has each change of state, latest the Seq of the last record.
	history []modelChange
	latest  int64
	// only are events that have no place in the timeline.
	only []*event
	// gap holds what is missing before the first event.
	gap []string
	hv  string
}

// modelChange is a change of a room's state; ev is nil where it was removed.
type modelChange struct {
	seq int64
	key gomatrixserverlib.StateKey
	ev  *event
}

// set changes an entry of the state.
func (r *modelRoom) set(seq int64, key gomatrixserverlib.StateKey, ev *event) {
	r.history = append(r.history, modelChange{seq, key, ev})
	if ev == nil {
		delete(r.state, key)
	} else {
		r.state[key] = ev
	}
}

func newModel(t testing.TB) *model { return newModelOn(t, false, 0) }

// newModelOn makes a model, with the real room server or its own, and so many
// instances of the sync-api that any /sync goes to any of them.
func newModelOn(t testing.TB, real bool, instances int) *model {
	m := &model{
		instances: instances,
		t:         t, dir: t.TempDir(), db: "sync.db", seqs: make([]int64, roomapi.DefaultPartitions), userSeqs: make([]int64, userapi.UserOutputPartitions),
		past: map[string][]userapi.PastRules{}, threads: map[string][]userapi.ThreadSubscription{}, rooms: map[string]*modelRoom{}, account: map[string]map[string]map[string]jsontext.Value{}, asked: map[string]int{}, order: map[string][]string{}, clock: 1_700_000_000_000,
	}
	log, err := eventlog.OpenEmbedded(context.Background(), filepath.Join(m.dir, "log.db"), eventlog.EmbeddedOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m.log = log
	m.calls, m.inboxes = rpc.NewServer(), newInboxes()
	m.serve()
	if real {
		m.real = newRealRooms(m)
	}
	m.start()
	t.Cleanup(func() {
		m.stop()
		if m.real != nil {
			m.real.stop()
		}
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// start runs the sync-api on the model's database; stop ends it.
func (m *model) start() {
	m.all = nil
	var stops []func()
	for range max(m.instances, 1) {
		s, stop := m.instance()
		m.all, stops = append(m.all, s), append(stops, stop)
	}
	m.s, m.view = m.all[0], m.all[0].view
	simpleRules(m)
	m.stop = sync.OnceFunc(func() {
		for _, stop := range stops {
			stop()
		}
	})
}

// instance runs an instance until stop.
func (m *model) instance() (s *Server, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	log := m.log
	if m.instances > 0 {
		log = eventlogtest.Shared{Log: m.log}
	}
	db, err := sqldb.Open(ctx, sqldbtest.Options(m.t, filepath.Join(m.dir, m.db)))
	if err != nil {
		m.t.Fatal(err)
	}
	m.statements = db.Statements
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	s, err = New(ctx, Deps{Config: config.SyncAPI{MaxLag: 5 * time.Second}, Retention: m.retention, ServerName: testServer, Log: log, DB: db, Caller: m.calls,
		LeaseTTL: 500 * time.Millisecond, Logger: logrus.NewEntry(logger)})
	if err != nil {
		m.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return s, sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			m.t.Error(err)
		}
		if err := db.Close(); err != nil {
			m.t.Error(err)
		}
	})
}

// restart starts the sync-api anew on the same database.
func (m *model) restart() {
	m.stop()
	m.start()
}

func (m *model) room(id string) *modelRoom {
	if m.rooms[id] == nil {
		m.rooms[id] = &modelRoom{id: id, partition: eventlog.PartitionFor(id, len(m.seqs)), state: map[gomatrixserverlib.StateKey]*event{}}
	}
	return m.rooms[id]
}

// sent describes an event to be sent.
type sent struct {
	room, sender, typ string
	key               *string
	content           string
	redacts           string
	device, txn       string
	delayID           string
}

func stateKey(s string) *string { return &s }

// send adds an event and publishes it; it returns the event ID.
func (m *model) send(e sent) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.real != nil {
		id := m.real.send(e)
		m.order[e.room] = append(m.order[e.room], id)
		return id
	}
	r := m.room(e.room)
	m.clock++
	b := gomatrixserverlib.EventBuilder{RoomID: e.room, Sender: e.sender, Type: e.typ, StateKey: e.key, Content: jsontext.Value(e.content),
		Redacts: e.redacts, OriginServerTS: m.clock, Depth: int64(len(r.events) + 1)}
	if len(r.events) > 0 {
		b.PrevEvents = []string{r.events[len(r.events)-1].EventID()}
		b.AuthEvents = []string{r.events[0].EventID()}
	}
	built, err := b.Build(testVersion)
	if err != nil {
		m.t.Fatal(err)
	}
	m.seqs[r.partition]++
	pos := roomapi.Position{Partition: r.partition, Seq: m.seqs[r.partition]}
	ev := fromStored(&roomapi.StoredEvent{Event: built, Position: pos, Device: e.device, TxnID: e.txn, DelayID: e.delayID})
	rec := &roomapi.OutputRecord{V: 1, Kind: roomapi.OutputEvent, Position: pos, RoomID: e.room, RoomVersion: string(testVersion),
		EventID: built.EventID(), Type: e.typ, StateKey: e.key, Sender: e.sender, TS: m.clock, Local: true, Device: e.device, TxnID: e.txn, DelayID: e.delayID, Redacts: e.redacts}
	if e.typ == "m.room.history_visibility" {
		rec.HistoryVisibilityBefore = cmpOr(r.hv, "shared")
		r.hv = string(gomatrixserverlib.HistoryVisibilityOf(built))
	}
	rec.HistoryVisibility = cmpOr(r.hv, "shared")
	ev.HistoryVisibility, ev.HistoryVisibilityBefore, ev.hvBefore = rec.HistoryVisibility, rec.HistoryVisibilityBefore, rec.HistoryVisibilityBefore
	if e.key != nil {
		key := built.Key()
		c := roomapi.StateChange{Type: e.typ, StateKey: *e.key, EventID: built.EventID()}
		if old := r.state[key]; old != nil {
			c.Replaced, rec.ReplacesState, ev.ReplacesState = old.EventID(), old.EventID(), old.EventID()
			rec.MembershipBefore = old.Membership()
		}
		rec.Changes = append(rec.Changes, c)
		rec.Membership = built.Membership()
		r.set(pos.Seq, key, ev)
	}
	r.latest = pos.Seq
	if e.redacts != "" {
		r.redact(m.t, e.redacts, built.EventID())
	}
	rec.JoinedCount, rec.InvitedCount = r.count("join"), r.count("invite")
	r.events = append(r.events, ev)
	value, err := rec.Encode(built.JSON())
	if err != nil {
		m.t.Fatal(err)
	}
	m.append(roomapi.TopicOutput, r.partition, e.room, value)
	m.order[e.room] = append(m.order[e.room], built.EventID())
	return built.EventID()
}

func cmpOr(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

func (r *modelRoom) count(membership string) (n int) {
	for key, ev := range r.state {
		if key.Type == typeMember && ev.Membership() == membership {
			n++
		}
	}
	return n
}

func (r *modelRoom) redact(t testing.TB, id, by string) {
	for i, ev := range r.events {
		if ev.EventID() == id {
			left, err := ev.Redact()
			if err != nil {
				t.Fatal(err)
			}
			stored := *ev.StoredEvent
			stored.Event, stored.RedactedBy = left, by
			r.events[i] = fromStored(&stored)
			for j := range r.history {
				if c := &r.history[j]; c.ev == ev {
					c.ev = r.events[i]
				}
			}
			if ev.IsState() && r.state[ev.Key()] == ev {
				r.state[ev.Key()] = r.events[i]
			}
		}
	}
}

func (m *model) append(topic string, partition int, key string, value []byte) {
	if _, err := m.log.Append(context.Background(), eventlog.Message{Topic: topic, Partition: partition, Key: []byte(key), Value: value}); err != nil {
		m.t.Fatal(err)
	}
}

// change publishes a change of a user's data.
func (m *model) change(c userapi.UserChange) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := eventlog.PartitionFor(c.UserID, len(m.userSeqs))
	m.keep(c)
	m.publishChange(p, c)
}

// publishChange publishes a change with its partition's next Seq. m.mu is held.
func (m *model) publishChange(p int, c userapi.UserChange) {
	m.userSeqs[p]++
	c.V, c.Seq = 1, m.userSeqs[p]
	if c.Kind == userapi.ChangeAccountData {
		if m.account[c.UserID] == nil {
			m.account[c.UserID] = map[string]map[string]jsontext.Value{}
		}
		if m.account[c.UserID][c.RoomID] == nil {
			m.account[c.UserID][c.RoomID] = map[string]jsontext.Value{}
		}
		m.account[c.UserID][c.RoomID][c.Type] = c.Content
	}
	if c.Kind == userapi.ChangeThread && !c.Again {
		m.putThread(&c)
	}
	value, err := json.Marshal(&c)
	if err != nil {
		m.t.Fatal(err)
	}
	m.append(userapi.TopicUserOutput, p, c.UserID, value)
}

func (m *model) receipt(user, room, event, typ, thread string) {
	m.change(userapi.UserChange{UserID: user, Kind: userapi.ChangeReceipt, RoomID: room, Type: typ,
		Receipt: &userapi.Receipt{EventID: event, Type: typ, ThreadID: thread, TS: 5}})
}

func (m *model) ephemeral(e userapi.Ephemeral) {
	e.V = 1
	value, err := json.Marshal(&e)
	if err != nil {
		m.t.Fatal(err)
	}
	m.append(userapi.TopicEphemeral, 0, "k", value)
}

// create makes a room with its first members.
func (m *model) create(id, creator string, members ...string) {
	m.send(sent{room: id, sender: creator, typ: "m.room.create", key: stateKey(""), content: `{"room_version":"11"}`})
	m.member(id, creator, creator, "join")
	if m.real == nil {
		m.send(sent{room: id, sender: creator, typ: "m.room.power_levels", key: stateKey(""), content: `{}`})
	} else {
		m.send(sent{room: id, sender: creator, typ: "m.room.join_rules", key: stateKey(""), content: `{"join_rule":"public"}`})
	}
	for _, u := range members {
		m.member(id, u, u, "join")
	}
}

func (m *model) member(room, sender, target, membership string) string {
	return m.send(sent{room: room, sender: sender, typ: typeMember, key: stateKey(target), content: `{"membership":"` + membership + `"}`})
}

func (m *model) message(room, sender, body string) string {
	return m.send(sent{room: room, sender: sender, typ: "m.room.message", content: `{"body":"` + body + `","msgtype":"m.text"}`})
}

// heads is how far the model has published.
func (m *model) heads() *vector {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.real != nil {
		return &vector{rooms: m.real.heads(), users: slices.Clone(m.userSeqs)}
	}
	return &vector{rooms: slices.Clone(m.seqs), users: slices.Clone(m.userSeqs)}
}

// settle waits until the view has everything.
func (m *model) settle() {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, s := range m.all {
		if !s.view.reach(ctx, m.heads()) {
			m.t.Fatal("the view does not catch up")
		}
	}
}

// request makes a request of a user.
func request(user, device, target string, path map[string]string) *httpapi.Request {
	r := httptest.NewRequest("GET", target, nil)
	for k, v := range path {
		r.SetPathValue(k, v)
	}
	return &httpapi.Request{Request: r, Device: &httpapi.Device{UserID: user, DeviceID: device}}
}

// answerOf is an answer of /sync as a client reads it.
type answerOf struct {
	Next  string `json:"next_batch"`
	Rooms struct {
		Join   map[string]roomOf `json:"join"`
		Leave  map[string]roomOf `json:"leave"`
		Invite map[string]struct {
			State batchOf `json:"invite_state"`
		} `json:"invite"`
		Knock map[string]struct {
			State batchOf `json:"knock_state"`
		} `json:"knock"`
	} `json:"rooms"`
	Account  batchOf `json:"account_data"`
	Presence batchOf `json:"presence"`
	ToDevice batchOf `json:"to_device"`
	Lists    struct {
		Changed []string `json:"changed"`
		Left    []string `json:"left"`
	} `json:"device_lists"`
	Counts map[string]int64 `json:"device_one_time_keys_count"`
	Unused []string         `json:"device_unused_fallback_key_types"`
}

type roomOf struct {
	Timeline struct {
		Events  []eventOf `json:"events"`
		Limited bool      `json:"limited"`
		Prev    string    `json:"prev_batch"`
	} `json:"timeline"`
	State      batchOf  `json:"state"`
	StateAfter *batchOf `json:"state_after"`
	Ephemeral  batchOf  `json:"ephemeral"`
	Account    batchOf  `json:"account_data"`
	Summary    *struct {
		Heroes  []string `json:"m.heroes"`
		Joined  int      `json:"m.joined_member_count"`
		Invited int      `json:"m.invited_member_count"`
	} `json:"summary"`
	Unread  tallyOf            `json:"unread_notifications"`
	Threads map[string]tallyOf `json:"unread_thread_notifications"`
}

type tallyOf struct {
	Highlights    int `json:"highlight_count"`
	Notifications int `json:"notification_count"`
}

type batchOf struct {
	Events []eventOf `json:"events"`
}

type eventOf struct {
	ID       string         `json:"event_id"`
	Type     string         `json:"type"`
	Sender   string         `json:"sender"`
	RoomID   string         `json:"room_id"`
	StateKey *string        `json:"state_key"`
	Content  jsontext.Value `json:"content"`
	Unsigned struct {
		Membership string                    `json:"membership"`
		Txn        string                    `json:"transaction_id"`
		DelayID    string                    `json:"org.matrix.msc4140.delay_id"`
		Prev       jsontext.Value            `json:"prev_content"`
		Because    *eventOf                  `json:"redacted_because"`
		Relations  map[string]jsontext.Value `json:"m.relations"`
	} `json:"unsigned"`
}

func (b batchOf) types() []string {
	var out []string
	for _, e := range b.Events {
		out = append(out, e.Type)
	}
	slices.Sort(out)
	return out
}

// sync answers a user's /sync; args are name, value pairs of the query.
func (m *model) sync(user, since string, args ...string) *answerOf {
	m.t.Helper()
	a, err := m.trySync(context.Background(), user, since, args...)
	if err != nil {
		m.t.Fatalf("sync of %s: %v", user, err)
	}
	return a
}

func (m *model) trySync(ctx context.Context, user, since string, args ...string) (*answerOf, error) {
	q := url.Values{}
	if since != "" {
		q.Set("since", since)
	}
	device := "D" + user
	for i := 0; i < len(args); i += 2 {
		if args[i] == "device" {
			device = args[i+1]
			continue
		}
		q.Set(args[i], args[i+1])
	}
	r := request(user, device, "/sync?"+q.Encode(), nil)
	r.Request = r.WithContext(ctx)
	v, err := m.all[rand.IntN(len(m.all))].sync(r)
	if err != nil {
		return nil, err
	}
	var out answerOf
	if err := json.Unmarshal(v.(jsontext.Value), &out); err != nil {
		m.t.Fatalf("%v in %s", err, v)
	}
	return &out, nil
}

// get calls one of the other endpoints.
func (m *model) get(h httpapi.Handler, user, query string, path map[string]string, into any) error {
	v, err := h(request(user, "D"+user, "/x?"+query, path))
	if err != nil {
		return err
	}
	raw, ok := v.(jsontext.Value)
	if !ok {
		if raw, err = json.Marshal(v); err != nil {
			return err
		}
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%w in %s", err, raw)
	}
	return nil
}

func (m *model) count(name string) {
	m.asked[name]++
}

// serve answers the queries that the sync-api makes.
func (m *model) serve() {
	roomapi.QueryHeads.Serve(m.calls, func(context.Context, *roomapi.HeadsRequest) (*roomapi.HeadsResponse, error) {
		return &roomapi.HeadsResponse{Seqs: m.heads().rooms}, nil
	})
	userapi.QueryHeads.Serve(m.calls, func(context.Context, *userapi.HeadsRequest) (*userapi.HeadsResponse, error) {
		return &userapi.HeadsResponse{Seqs: m.heads().users}, nil
	})
	userapi.Resync.Serve(m.calls, m.resync)
	m.serveDevices()
	userapi.QueryAccountData.Serve(m.calls, m.accountData)
	userapi.QueryPastRules.Serve(m.calls, func(_ context.Context, r *userapi.PastRulesRequest) (*userapi.PastRulesResponse, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		return &userapi.PastRulesResponse{Rules: slices.Clone(m.past[r.UserID])}, nil
	})
	userapi.QueryThreadSubscriptions.Serve(m.calls, m.queryThreads)
	userapi.QueryPresence.Serve(m.calls, func(context.Context, *userapi.PresenceRequest) (*userapi.PresenceResponse, error) {
		return &userapi.PresenceResponse{}, nil
	})
	userapi.QueryForgotten.Serve(m.calls, func(_ context.Context, r *userapi.ForgottenRequest) (*userapi.ForgottenResponse, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, c := range m.current {
			if c.Kind == userapi.ChangeForget && c.UserID == r.UserID && c.RoomID == r.RoomID {
				return &userapi.ForgottenResponse{EventID: c.EventID}, nil
			}
		}
		return &userapi.ForgottenResponse{}, nil
	})
	userapi.QueryFilter.Serve(m.calls, func(_ context.Context, r *userapi.FilterRequest) (*userapi.FilterResponse, error) {
		if r.FilterID != "7" {
			return nil, matrixerror.NotFound("no such filter")
		}
		return &userapi.FilterResponse{Filter: jsontext.Value(`{"room":{"timeline":{"limit":1}}}`)}, nil
	})
	roomapi.QueryRoom.Serve(m.calls, func(_ context.Context, r *roomapi.RoomRequest) (*roomapi.RoomResponse, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		room := m.room(r.RoomID)
		return &roomapi.RoomResponse{Version: testVersion, Partition: room.partition, JoinedCount: room.count("join"), InvitedCount: room.count("invite")}, nil
	})
	roomapi.QueryState.Serve(m.calls, m.state)
	roomapi.QueryStateChanges.Serve(m.calls, m.stateChanges)
	roomapi.QueryEvents.Serve(m.calls, m.events)
	roomapi.QueryHistory.Serve(m.calls, m.history)
	roomapi.QueryMemberships.Serve(m.calls, m.memberships)
	roomapi.QueryBatch.Serve(m.calls, func(ctx context.Context, r *roomapi.BatchRequest) (*roomapi.BatchResponse, error) {
		return &roomapi.BatchResponse{States: answers(ctx, r.States, m.state), Histories: answers(ctx, r.Histories, m.history),
			Events: answers(ctx, r.Events, m.events)}, nil
	})
}

// answers are those to questions of a batch; nil for those that have none.
func answers[Req, Res any](ctx context.Context, questions []*Req, answer func(context.Context, *Req) (*Res, error)) []*Res {
	out := make([]*Res, len(questions))
	for i, q := range questions {
		if res, err := answer(ctx, q); err == nil {
			out[i] = res
		}
	}
	return out
}

func (m *model) accountData(_ context.Context, r *userapi.AccountDataRequest) (*userapi.AccountDataResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string]map[string]jsontext.Value{}
	for room, types := range m.account[r.UserID] {
		if r.RoomIDs != nil && !slices.Contains(r.RoomIDs, room) {
			continue
		}
		out[room] = map[string]jsontext.Value{}
		for typ, content := range types {
			if r.Types == nil || slices.Contains(r.Types, typ) {
				out[room][typ] = content
			}
		}
	}
	return &userapi.AccountDataResponse{Data: out}, nil
}

// stateAt is a room's state right after a position; 0 is now.
func (r *modelRoom) stateAt(seq int64) map[gomatrixserverlib.StateKey]*event {
	out := map[gomatrixserverlib.StateKey]*event{}
	for _, c := range r.history {
		if seq != 0 && c.seq > seq {
			break
		}
		out[c.key] = c.ev
	}
	maps.DeleteFunc(out, func(_ gomatrixserverlib.StateKey, ev *event) bool { return ev == nil })
	return out
}

func (m *model) state(_ context.Context, r *roomapi.StateRequest) (*roomapi.StateResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count("state")
	room, ok := m.rooms[r.RoomID]
	if !ok {
		return nil, matrixerror.NotFound("no such room")
	}
	at := roomapi.Position{Partition: room.partition, Seq: r.AtSeq}
	if r.AtSeq == 0 {
		at.Seq = room.latest
	}
	res := &roomapi.StateResponse{RoomVersion: testVersion, At: at}
	for key, ev := range room.stateAt(r.AtSeq) {
		if r.Keys != nil && !slices.Contains(r.Keys, key) ||
			r.WithoutMembers && key.Type == typeMember && !slices.Contains(r.Members, key.StateKey) {
			continue
		}
		res.Events = append(res.Events, ev.StoredEvent)
	}
	return res, nil
}

func (m *model) stateChanges(_ context.Context, r *roomapi.StateChangesRequest) (*roomapi.StateChangesResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count("state_changes")
	room, ok := m.rooms[r.RoomID]
	if !ok {
		return nil, matrixerror.NotFound("no such room")
	}
	from, to := room.stateAt(max(r.FromSeq, -1)), room.stateAt(r.ToSeq)
	if r.FromSeq == 0 {
		from = nil
	}
	res := &roomapi.StateChangesResponse{}
	for key, ev := range to {
		if from[key] == nil || from[key].EventID() != ev.EventID() {
			res.Events = append(res.Events, ev.StoredEvent)
		}
	}
	for key := range from {
		if to[key] == nil {
			res.Removed = append(res.Removed, key)
		}
	}
	return res, nil
}

func (m *model) events(_ context.Context, r *roomapi.EventsRequest) (*roomapi.EventsResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count("events")
	res := &roomapi.EventsResponse{}
	for _, id := range r.EventIDs {
		for roomID, room := range m.rooms {
			if r.RoomID != "" && r.RoomID != roomID {
				continue
			}
			for _, ev := range slices.Concat(room.events, room.only) {
				if ev.EventID() == id && (r.Viewer == "" || visible(room.changes(r.Viewer), ev, r.Viewer)) {
					res.Events = append(res.Events, ev.StoredEvent)
				}
			}
		}
	}
	return res, nil
}

func (r *modelRoom) changes(user string) []storage.Membership {
	var out []storage.Membership
	for _, c := range r.history {
		if c.key == (gomatrixserverlib.StateKey{Type: typeMember, StateKey: user}) {
			m := storage.Membership{Seq: c.seq, Membership: "leave"}
			if c.ev != nil {
				m.Membership = c.ev.Membership()
			}
			out = append(out, m)
		}
	}
	return out
}

func (m *model) history(_ context.Context, r *roomapi.HistoryRequest) (*roomapi.HistoryResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count("history")
	room, ok := m.rooms[r.RoomID]
	if !ok {
		return nil, matrixerror.NotFound("no such room")
	}
	all := slices.Clone(room.events)
	if r.Backwards {
		slices.Reverse(all)
	}
	res := &roomapi.HistoryResponse{Next: r.From}
	zero := roomapi.Position{}
	for _, ev := range all {
		pos := ev.Position
		low, high := r.To, r.From
		if !r.Backwards {
			low, high = r.From, r.To
		}
		if low != zero && !low.Less(pos) || high != zero && high.Less(pos) {
			continue
		}
		if r.Viewer != "" && !visible(room.changes(r.Viewer), ev, r.Viewer) {
			continue
		}
		if len(res.Events) == r.Limit {
			res.More = true
			break
		}
		res.Events = append(res.Events, ev.StoredEvent)
		res.Next = pos
		if r.Backwards {
			res.Next = before(pos)
		}
	}
	if r.Backwards && !res.More && (len(all) == 0 || r.To.Less(all[len(all)-1].Position)) {
		res.Gap = room.gap
	}
	return res, nil
}

func (m *model) memberships(_ context.Context, r *roomapi.MembershipsRequest) (*roomapi.MembershipsResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	res := &roomapi.MembershipsResponse{}
	for key, ev := range m.room(r.RoomID).state {
		if key.Type == typeMember && (r.Membership == nil || slices.Contains(r.Membership, ev.Membership())) {
			res.Members = append(res.Members, roomapi.Member{UserID: key.StateKey, Membership: ev.Membership(), EventID: ev.EventID(), Position: ev.Position})
		}
	}
	return res, nil
}
