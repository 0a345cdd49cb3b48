package roomserver

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

const (
	testServer     = "test"
	testPartitions = 4
	alice, bob     = "@alice:test", "@bob:test"
)

var testKey = gomatrixserverlib.SigningKey{ID: "ed25519:a", Private: ed25519.NewKeyFromSeed(make([]byte, 32))}

// rig is a room server on a log and a store in files.
type rig struct {
	testing.TB
	dir     string
	logPath string
	log     *eventlog.Embedded
	db      *sqldb.DB
	s       *Server
	name    string // of the server
	stop    func()
	answers int64 // offset on room.answers to read next
	n       int
	// verdicts were read, but not asked for yet.
	verdicts map[string]*api.Verdict
	// limits and computing are those of Deps.
	limits    limits
	computing func(ctx context.Context, roomID string)
}

func newRig(t testing.TB) *rig { return newRigOf(t, testServer) }

func newRigOf(t testing.TB, name string) *rig { return newRigWithin(t, name, limits{}) }

// newRigWithin is a rig with other limits than usual.
func newRigWithin(t testing.TB, name string, l limits) *rig {
	dir := t.TempDir()
	r := &rig{TB: t, dir: dir, logPath: filepath.Join(dir, "log.db"), name: name, limits: l}
	r.start("store.db")
	return r
}

// open opens the log and a store and makes a server on them.
func (r *rig) open(store string) {
	r.Helper()
	ctx := context.Background()
	var err error
	if r.log, err = eventlog.OpenEmbedded(ctx, r.logPath, eventlog.EmbeddedOptions{}); err != nil {
		r.Fatal(err)
	}
	if r.db, err = sqldb.Open(ctx, sqldbtest.Options(r, filepath.Join(r.dir, store))); err != nil {
		r.Fatal(err)
	}
	logger := logrus.New()
	logger.SetOutput(r.Output())
	if r.s, err = New(ctx, Deps{ServerName: r.name, Keys: []gomatrixserverlib.SigningKey{testKey}, Log: r.log, DB: r.db,
		Partitions: testPartitions, Logger: logrus.NewEntry(logger), Metrics: prometheus.NewRegistry(),
		limits: r.limits, computing: r.computing}); err != nil {
		r.Fatal(err)
	}
	r.answers, r.verdicts = 0, nil
}

// start opens everything and runs the server.
func (r *rig) start(store string) {
	r.Helper()
	r.open(store)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.s.Run(ctx) }()
	r.stop = func() {
		cancel()
		if err := errors.Join(<-done, r.log.Close(), r.db.Close()); err != nil {
			r.Error(err)
		}
	}
	r.Cleanup(r.end) // before the store goes
}

func (r *rig) end() {
	if r.stop != nil {
		r.stop()
		r.stop = nil
	}
}

func proto(sender, typ string, stateKey *string, content string) api.InputEvent {
	return api.InputEvent{Proto: &api.Proto{Type: typ, StateKey: stateKey, Sender: sender, Content: jsontext.Value(content)}}
}

func key(s string) *string { return &s }

func member(sender, target, membership string) api.InputEvent {
	return proto(sender, "m.room.member", &target, `{"membership":"`+membership+`"}`)
}

func message(sender, body string) api.InputEvent {
	return proto(sender, "m.room.message", nil, `{"body":"`+body+`"}`)
}

// submit appends a record and returns its verdict.
func (r *rig) submit(record *api.InputRecord, lines ...[]byte) *api.Verdict {
	r.Helper()
	r.append(record, lines...)
	return r.verdict(record.RequestID)
}

// append appends a record.
func (r *rig) append(record *api.InputRecord, lines ...[]byte) {
	r.Helper()
	r.n++
	record.V = 1
	if record.Origin == "" {
		record.Origin = r.name
	}
	if record.RequestID == "" {
		record.RequestID = fmt.Sprint("request", r.n)
	}
	if record.TS == 0 {
		record.TS = 1000 * int64(r.n)
	}
	if record.Kind == "" {
		record.Kind = api.KindNew
	}
	value, err := record.Encode(lines...)
	if err != nil {
		r.Fatal(err)
	}
	if _, err := r.log.Append(r.Context(), eventlog.Message{Topic: api.TopicInput,
		Partition: eventlog.PartitionFor(record.RoomID, testPartitions), Value: value}); err != nil {
		r.Fatal(err)
	}
	delete(r.verdicts, record.RequestID)
}

// verdict waits for the verdict of a request.
func (r *rig) verdict(id string) *api.Verdict {
	r.Helper()
	if v := r.verdicts[id]; v != nil {
		delete(r.verdicts, id)
		return v
	}
	for {
		records, err := r.log.Read(r.Context(), api.TopicAnswers, 0, r.answers, 1<<20)
		if err != nil {
			r.Fatal(err)
		}
		for _, a := range records {
			r.answers = a.Offset + 1
			v, err := api.DecodeVerdict(a.Value)
			if err != nil {
				r.Fatal(err)
			}
			if v.RequestID == id {
				return v
			}
			if r.verdicts == nil {
				r.verdicts = map[string]*api.Verdict{}
			}
			r.verdicts[v.RequestID] = v
		}
	}
}

func (r *rig) accepted(record *api.InputRecord, lines ...[]byte) *api.Verdict {
	r.Helper()
	v := r.submit(record, lines...)
	if v.Status != api.StatusAccepted {
		r.Fatalf("refused: %+v", v)
	}
	return v
}

// room makes a room of alice's and returns its ID.
func (r *rig) room(version gomatrixserverlib.RoomVersion) string {
	r.Helper()
	r.n++
	record := &api.InputRecord{RoomVersion: string(version)}
	content := jsontext.Value(fmt.Sprintf(`{"creator":%q,"room_version":%q,"entropy":"%d"}`, alice, version, r.n))
	var lines [][]byte
	if version.Rules().RoomIDFromCreate {
		b := gomatrixserverlib.EventBuilder{Sender: alice, Type: "m.room.create", StateKey: key(""), Content: content, OriginServerTS: 1, Depth: 1}
		event, err := b.Build(version)
		if err == nil {
			event, err = event.Sign(testServer, testKey)
		}
		if err != nil {
			r.Fatal(err)
		}
		record.RoomID, lines = event.RoomID(), [][]byte{event.JSON()}
		record.Events = append(record.Events, api.InputEvent{EventID: event.EventID()})
	} else {
		record.RoomID = fmt.Sprintf("!room%d:test", r.n)
		record.Events = append(record.Events, proto(alice, "m.room.create", key(""), string(content)))
	}
	record.Events = append(record.Events, member(alice, alice, "join"),
		proto(alice, "m.room.join_rules", key(""), `{"join_rule":"public"}`))
	r.accepted(record, lines...)
	return record.RoomID
}

func (r *rig) post(room string, events ...api.InputEvent) *api.Verdict {
	r.Helper()
	return r.submit(&api.InputRecord{RoomID: room, Events: events})
}

func TestEveryVersion(t *testing.T) { sqldbtest.Each(t, testEveryVersion) }

func testEveryVersion(t *testing.T) {
	for _, version := range gomatrixserverlib.SupportedRoomVersions() {
		t.Run(string(version), func(t *testing.T) {
			r := newRig(t)
			room := r.room(version)
			for i, e := range []api.InputEvent{member(bob, bob, "join"), message(bob, "hi"),
				proto(alice, "m.room.name", key(""), `{"name":"x"}`), member(alice, bob, "ban")} {
				if v := r.post(room, e); v.Status != api.StatusAccepted || len(v.EventIDs) != 1 || v.Position.Seq != int64(4+i) {
					t.Fatalf("event %d: %+v", i, v)
				}
			}
			v := r.post(room, message(bob, "still here?"))
			if v.Status != api.StatusRefused || v.HTTPStatus != 403 || v.Code != "M_FORBIDDEN" || v.Rule == "" {
				t.Fatalf("a banned user's message: %+v", v)
			}
			state, err := r.s.queryState(t.Context(), &api.StateRequest{RoomID: room})
			if err != nil || len(state.Events) != 5 {
				t.Fatalf("state of %d events, %v", len(state.Events), err)
			}
			for _, e := range state.Events {
				if err := e.VerifySignature(testServer, testKey.ID, testKey.Public()); err != nil {
					t.Errorf("%s: %v", e.Type(), err)
				}
				if _, err := gomatrixserverlib.ParseEvent(e.JSON(), version); err != nil {
					t.Errorf("%s: %v", e.Type(), err)
				}
			}
			info, err := r.s.queryRoom(t.Context(), &api.RoomRequest{RoomID: room})
			if err != nil || info.JoinedCount != 1 || info.Latest.Seq != 7 || info.Depth != 7 {
				t.Fatalf("%+v, %v", info, err)
			}
		})
	}
}

// TestAllOrNothing: one event that is refused refuses its record, and leaves no trace.
func TestAllOrNothing(t *testing.T) { sqldbtest.Each(t, testAllOrNothing) }

func testAllOrNothing(t *testing.T) {
	r := newRig(t)
	room := r.room("12")
	v := r.post(room, message(alice, "a"), proto(alice, "m.room.topic", key(""), `{"topic":"x"}`), message(bob, "b"))
	if v.Status != api.StatusRefused {
		t.Fatalf("%+v", v)
	}
	if v = r.post(room, message(alice, "c")); v.Position.Seq != 4 {
		t.Fatalf("the refused record took positions: %+v", v)
	}
	state, err := r.s.queryState(t.Context(), &api.StateRequest{RoomID: room, Types: []string{"m.room.topic"}})
	if err != nil || len(state.Events) != 0 {
		t.Fatalf("%v %v", state, err)
	}
	for name, bad := range map[string]*api.InputRecord{
		"an unknown room":    {RoomID: "!none:test", Events: []api.InputEvent{message(alice, "x")}},
		"an unknown version": {RoomID: "!none:test", RoomVersion: "99", Events: []api.InputEvent{message(alice, "x")}},
		"an unknown kind":    {RoomID: room, Kind: "strange"},
		"a missing line":     {RoomID: room, Events: []api.InputEvent{{EventID: "$x"}}},
		"too large":          {RoomID: room, Events: []api.InputEvent{message(alice, string(make([]byte, 0))+longText())}},
		"an expectation": {RoomID: room, Events: []api.InputEvent{{Proto: message(alice, "x").Proto, Expect: []api.Expectation{
			{UserID: bob, Membership: []string{"join"}, Status: 404, Code: "M_NOT_FOUND"}}}}},
	} {
		if v := r.submit(bad); v.Status != api.StatusRefused || v.Code == "" || v.HTTPStatus < 400 {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

func longText() string {
	b := make([]byte, 70000)
	for i := range b {
		b[i] = 'x'
	}
	return string(b)
}

// TestRetries: a request takes effect once, across restarts.
func TestRetries(t *testing.T) { sqldbtest.Each(t, testRetries) }

func testRetries(t *testing.T) {
	r := newRig(t)
	room := r.room("12")
	record := func(ts int64) *api.InputRecord {
		return &api.InputRecord{RequestID: "txn", TS: ts, RoomID: room, Events: []api.InputEvent{message(alice, "once")}}
	}
	first := r.accepted(record(1000))
	for range 2 {
		if again := r.accepted(record(2000)); again.EventIDs[0] != first.EventIDs[0] || again.Position != first.Position {
			t.Fatalf("%+v, was %+v", again, first)
		}
		r.end()
		r.start("store.db")
	}
	week := r.s.config.TransactionLifetime.Milliseconds()
	if later := r.accepted(record(1001 + week)); later.EventIDs[0] == first.EventIDs[0] {
		t.Fatal("a transaction is remembered for ever")
	}
	v, err := r.s.queryVerdict(t.Context(), &api.VerdictRequest{RoomID: room, RequestID: "txn"})
	if err != nil || v.Verdict == nil {
		t.Fatal(v, err)
	}
}

func TestRedaction(t *testing.T) { sqldbtest.Each(t, testRedaction) }

func testRedaction(t *testing.T) {
	for _, version := range []gomatrixserverlib.RoomVersion{"1", "10", "12"} {
		r := newRig(t)
		room := r.room(version)
		r.post(room, member(bob, bob, "join"))
		redact := func(sender, target string) *api.Verdict {
			e := proto(sender, "m.room.redaction", nil, `{"reason":"x"}`)
			e.Proto.Redacts = target
			return r.post(room, e)
		}
		content := func(id string) string {
			found, err := r.s.queryEvents(t.Context(), &api.EventsRequest{RoomID: room, EventIDs: []string{id}})
			if err != nil || len(found.Events) != 1 {
				t.Fatal(found, err)
			}
			page, err := r.s.queryHistory(t.Context(), &api.HistoryRequest{RoomID: room, Backwards: true, Limit: 100})
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page.Events { // which the page read before held in memory
				if e.EventID() == id && string(e.Content()) != string(found.Events[0].Content()) {
					t.Fatalf("version %s: a page shows %s, not %s", version, e.Content(), found.Events[0].Content())
				}
			}
			return string(found.Events[0].Content())
		}
		id := r.post(room, message(bob, "secret")).EventIDs[0]
		other := r.post(room, message(alice, "hello")).EventIDs[0]
		if content(id) != `{"body":"secret"}` {
			t.Fatalf("version %s: %s", version, content(id))
		}
		if v := redact(bob, id); v.Status != api.StatusAccepted || content(id) != "{}" {
			t.Fatalf("version %s: own message: %+v, %s", version, v, content(id))
		}
		if v := redact(bob, other); v.Status != api.StatusRefused || content(other) == "{}" {
			t.Fatalf("version %s: bob redacted alice: %+v", version, v)
		}
		both := r.post(room, message(alice, "x"), proto(alice, "m.room.topic", key(""), `{"topic":"secret"}`))
		redact(alice, both.EventIDs[1])
		state, err := r.s.queryState(t.Context(), &api.StateRequest{RoomID: room, Types: []string{"m.room.topic"}})
		if err != nil || len(state.Events) != 1 || string(state.Events[0].Content()) != "{}" || state.Events[0].RedactedBy == "" {
			t.Fatalf("version %s: state keeps what was redacted: %v %v", version, state, err)
		}
	}
}
