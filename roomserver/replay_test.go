package roomserver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// traffic makes rooms and sends to them, refusals and retries included.
func (r *rig) traffic() {
	for i, version := range []gomatrixserverlib.RoomVersion{"12", "10", "1", "12", "6"} {
		room := r.room(version)
		r.post(room, member(bob, bob, "join"))
		for n := range 12 {
			r.post(room, message(alice, fmt.Sprint(n)))
			r.post(room, proto(bob, "m.room.topic", key(""), fmt.Sprintf(`{"topic":"%d"}`, n))) // refused
			r.submit(&api.InputRecord{RoomID: room, RequestID: fmt.Sprint("retried", i), Events: []api.InputEvent{message(bob, "x")}})
		}
		e := proto(alice, "m.room.redaction", nil, `{}`)
		e.Proto.Redacts = r.post(room, message(bob, "bad")).EventIDs[0]
		r.post(room, e)
		r.post(room, member(bob, bob, "leave"))
	}
}

// tables returns all that a store holds, but for the consumer's leases.
func (r *rig) tables() map[string][]string {
	out := map[string][]string{}
	for table, columns := range map[string]string{
		"rooms":         "room_nid, room_id, version, partition_id, depth, latest_seq, state_seq, joined, invited, local_joined, gaps, extremities, parked",
		"events":        "event_nid, room_nid, event_id, seq, sub, ts, flags, state_seq, fork_nid, redacted_by, output, json",
		"state_changes": "room_nid, type, state_key, from_seq, event_nid", "requests": "request_id, ts, verdict",
		"positions": "partition_id, seq, others", "forks": "fork_nid, room_nid, base_seq, parent_nid, depth",
		"fork_entries": "fork_nid, type, state_key, event_nid", "gaps": "room_nid, seq, sub, missing", "state_sets": "room_nid, set_id, event_id, ts",
		"outputs": "output_nid, room_nid, event_nid, output", "out_of_room": "room_id, user_id, output_nid, version, event_id, json, stripped",
		"early_redactions": "target_id, redaction_id, 0", "set_aside": "room_id, n, partition_id, request_id, answers, record",
	} {
		if err := r.db.Read(r.Context(), func(tx *sqldb.Tx) error {
			rows, err := tx.Query(r.Context(), "SELECT "+columns+" FROM "+table+"")
			if err != nil {
				return err
			}
			defer rows.Close()
			names, err := rows.Columns()
			if err != nil {
				return err
			}
			for rows.Next() {
				values := make([]any, len(names))
				for i := range values {
					values[i] = new(any)
				}
				if err := rows.Scan(values...); err != nil {
					return err
				}
				line := ""
				for _, v := range values {
					if b, ok := (*v.(*any)).([]byte); ok { // also the form in which PostgreSQL's driver gives text
						line += "|" + string(b)
						continue
					}
					line += fmt.Sprintf("|%v", *v.(*any))
				}
				out[table] = append(out[table], line)
			}
			return rows.Err()
		}); err != nil {
			r.Fatal(table, err)
		}
		slices.Sort(out[table])
	}
	return out
}

// outputs returns all records of room.output.
func (r *rig) outputs() (out []string) {
	for p := range testPartitions {
		start, end, err := r.log.Bounds(r.Context(), api.TopicOutput, p)
		if err != nil {
			r.Fatal(err)
		}
		for next := start; next < end; {
			records, err := r.log.Read(r.Context(), api.TopicOutput, p, next, 1<<20)
			if err != nil {
				r.Fatal(err)
			}
			for _, rec := range records {
				out = append(out, fmt.Sprintf("%d %s", p, rec.Value))
				next = rec.Offset + 1
			}
		}
	}
	return out
}

// settle waits until everything appended has been consumed: the verdict of one
// more record, asked for in each partition, says so.
func (r *rig) settle() {
	for p := range testPartitions {
		room := ""
		for i := 0; room == "" || eventlog.PartitionFor(room, testPartitions) != p; i++ {
			room = fmt.Sprintf("!settle%d:test", i)
		}
		r.submit(&api.InputRecord{RoomID: room, RequestID: fmt.Sprint("settle", p), Events: []api.InputEvent{message(alice, "x")}})
	}
}

func diff(t testing.TB, what string, want, got []string) {
	t.Helper()
	if len(want) != len(got) {
		t.Errorf("%s: %d rows, want %d", what, len(got), len(want))
	}
	for i := range min(len(want), len(got)) {
		if want[i] != got[i] {
			t.Fatalf("%s, row %d:\n%s\nwant\n%s", what, i, got[i], want[i])
		}
	}
	if len(want) == 0 {
		t.Errorf("%s: nothing to compare", what)
	}
}

// used are the tables that traffic fills.
var used = []string{"rooms", "events", "state_changes", "requests", "positions"}

// TestReplay: the log, read into an empty store, gives the same rows; read into
// an empty log of outputs besides, the same outputs.
func TestReplay(t *testing.T) { sqldbtest.Each(t, testReplay) }

func testReplay(t *testing.T) {
	r := newRig(t)
	r.traffic()
	r.settle()
	tables, outputs := r.tables(), r.outputs()
	r.end()

	r.start("empty.db")
	r.settle()
	for table, want := range r.tables() {
		if slices.Contains(used, table) || len(want) > 0 {
			diff(t, table, tables[table], want)
		}
	}
	diff(t, "outputs", outputs, r.outputs())
	r.end()

	// Input alone, in another log.
	inputs := r.copyInputs()
	r.logPath = filepath.Join(r.dir, "other.db")
	r.start("other-store.db")
	for _, m := range inputs {
		if _, err := r.log.Append(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	r.settle()
	for table, want := range r.tables() {
		if slices.Contains(used, table) || len(want) > 0 {
			diff(t, table, tables[table], want)
		}
	}
	// An event redacted in its own batch is published as what is left of it,
	// and batches differ: the headers are compared.
	diff(t, "outputs of another log", headers(outputs), headers(r.outputs()))
}

func (r *rig) copyInputs() (out []eventlog.Message) {
	log, err := eventlog.OpenEmbedded(r.Context(), r.logPath, eventlog.EmbeddedOptions{})
	if err != nil {
		r.Fatal(err)
	}
	defer log.Close()
	if _, err := log.EnsureTopic(r.Context(), api.InputTopic(testPartitions)); err != nil {
		r.Fatal(err)
	}
	for p := range testPartitions {
		_, end, err := log.Bounds(r.Context(), api.TopicInput, p)
		if err != nil {
			r.Fatal(err)
		}
		for next := int64(0); next < end; {
			records, err := log.Read(r.Context(), api.TopicInput, p, next, 1<<20)
			if err != nil {
				r.Fatal(err)
			}
			for _, rec := range records {
				out = append(out, eventlog.Message{Topic: api.TopicInput, Partition: p, Value: rec.Value})
				next = rec.Offset + 1
			}
		}
	}
	return out
}

// TestRepublish: what was committed and not published, because of a crash
// between the two, is published when the partition is acquired.
func TestRepublish(t *testing.T) { sqldbtest.Each(t, testRepublish) }

func testRepublish(t *testing.T) {
	r := newRig(t)
	r.traffic()
	want := r.outputs()
	r.end()
	for _, suffix := range []string{"", "-wal", "-shm", ".lock"} {
		if err := os.Remove(r.logPath + suffix); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	r.open("store.db")
	if err := r.s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "not the one") {
		t.Fatalf("with another log, the room server says %v", err)
	}
	for p := range testPartitions {
		if err := r.s.republish(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	// Redacted content is not published again, so the headers are compared.
	diff(t, "outputs", headers(want), headers(r.outputs()))
	if err := errors.Join(r.log.Close(), r.db.Close()); err != nil {
		t.Error(err)
	}
}

func headers(outputs []string) (out []string) {
	for _, o := range outputs {
		header, _, _ := strings.Cut(o, "\n")
		out = append(out, header)
	}
	return out
}

// TestConflict: where room.output holds something else than what comes of
// room.input, the partition stands still.
func TestConflict(t *testing.T) { sqldbtest.Each(t, testConflict) }

func testConflict(t *testing.T) {
	r := newRig(t)
	room := r.room("10")
	r.post(room, message(alice, "x"))
	outputs := r.outputs()
	r.end()

	// The same room.output, and a room.input in which something else was said.
	r.start("other.db")
	if got := r.outputs(); len(got) != len(outputs) {
		t.Fatalf("%d outputs, want %d", len(got), len(outputs))
	}
	r.end()
	r.open("third.db")
	p := eventlog.PartitionFor(room, testPartitions)
	if err := r.s.republish(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	w := &input{partition: p, record: &api.InputRecord{RoomID: room}}
	for i, o := range outputs {
		header, _, _ := strings.Cut(strings.TrimPrefix(o, fmt.Sprint(p, " ")), "\n")
		if i == 2 {
			header = strings.Replace(header, `"type":"m`, `"type":"n`, 1)
		}
		w.staged = append(w.staged, &staged{header: []byte(header), output: api.OutputRecord{Kind: api.OutputEvent,
			Position: api.Position{Partition: p, Seq: int64(i + 1)}}})
	}
	if err := r.s.adopt(t.Context(), &batch{inputs: []*input{{staged: w.staged[:2]}}}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.s.adopt(t.Context(), &batch{inputs: []*input{w}}); !errors.Is(err, errConflict) {
			t.Fatalf("a conflict gives %v", err)
		}
	}
	if err := errors.Join(r.log.Close(), r.db.Close()); err != nil {
		t.Error(err)
	}
}

// TestAdoptVersions: what another version has published, with members that this
// one does not know or without those that it has added, is adopted as it is.
func TestAdoptVersions(t *testing.T) {
	const before = `{"v":1,"kind":"state","pos":{"p":0,"s":7},"room_id":"!r:test","room_version":"11","changes":[{"type":"m.room.member","state_key":"@a:test","event_id":"$a"`
	ours := strings.Replace(before, `"changes"`, `"delay_id":"later","changes"`, 1) + `,"membership":"join"}],"joined":2,"invited":0}`
	for _, c := range []struct {
		logged string
		same   bool
	}{
		{ours, true},
		{before + `,"membership":"join","new":1}],"joined":2,"invited":0,"knocked":1}`, true},
		{before + `,"membership":"join"}],"joined":3,"invited":0,"knocked":1}`, false},
		{before + `}],"joined":2,"invited":0}`, true},
		{before + `}],"joined":3,"invited":0}`, false},
		{before + `,"membership":"join"}],"joined":2,"invited":0,"delay_id":"another"}`, false},
		{before + `,"membership":"leave"}],"joined":2,"invited":0}`, false},
		{before + `},{"type":"m.room.member","state_key":"@b:test","event_id":"$b"}],"joined":2,"invited":0}`, false},
	} {
		log, err := eventlog.OpenEmbedded(t.Context(), filepath.Join(t.TempDir(), "log.db"), eventlog.EmbeddedOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := log.EnsureTopic(t.Context(), eventlog.TopicSpec{Name: api.TopicOutput, Partitions: 1, Durability: eventlog.Derived}); err != nil {
			t.Fatal(err)
		}
		if _, err := log.Append(t.Context(), eventlog.Message{Topic: api.TopicOutput, Value: []byte(c.logged)}); err != nil {
			t.Fatal(err)
		}
		s := &Server{published: []int64{7}, adopted: []*adopted{{log: log}}}
		if err := s.metrics.register(prometheus.NewRegistry()); err != nil {
			t.Fatal(err)
		}
		st := &staged{header: []byte(ours), output: api.OutputRecord{Kind: api.OutputState, Position: api.Position{Seq: 7}}}
		err = s.adopt(t.Context(), &batch{inputs: []*input{{staged: []*staged{st}}}})
		if (err == nil) != c.same || c.same && string(st.header) != c.logged || !c.same && !errors.Is(err, errConflict) {
			t.Errorf("%s is adopted as %s: %v", c.logged, st.header, err)
		}
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	}
}
