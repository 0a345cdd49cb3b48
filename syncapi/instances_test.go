package syncapi

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// writes tells how many partitions' rows an instance writes, by its leases.
func (s *Server) writes() int { return len(s.feed.leases.Held()) }

// share waits until instances have the partitions in equal parts.
func share(t *testing.T, all ...*Server) {
	t.Helper()
	n := roomapi.DefaultPartitions + userapi.UserOutputPartitions
	waitFor(t, func() bool {
		sum := 0
		for _, s := range all {
			if s.writes() > n/len(all)+1 {
				return false
			}
			sum += s.writes()
		}
		return sum == n
	})
}

// on makes all requests go to one instance.
func (m *model) on(s *Server) *model {
	m.s, m.view, m.all = s, s.view, []*Server{s}
	return m
}

// TestRowsOutliveTheirWriter: an instance that has nobody in memory, and did not
// write the rows itself, shows what another has written, and goes on to write
// from where that one stopped, however it stopped.
func TestRowsOutliveTheirWriter(t *testing.T) { sqldbtest.Each(t, testRowsOutliveTheirWriter) }

func testRowsOutliveTheirWriter(t *testing.T) {
	m := newModelOn(t, false, 2)
	all := slices.Clone(m.all)
	share(t, all...)
	const rooms = 8
	n := 0
	use := func() {
		t.Helper()
		for i := range rooms {
			id := fmt.Sprintf("!%d-%d:test", n, i)
			m.create(id, alice)
			m.member(id, alice, bob, "invite")
			parent := m.message(id, alice, "parent")
			m.send(sent{room: id, sender: alice, typ: "m.room.message", content: `{"body":"x","m.relates_to":{"rel_type":"m.thread","event_id":"` + parent + `"}}`})
			m.receipt(alice, id, parent, "m.read", "")
		}
		n++
	}
	check := func(s *Server) {
		t.Helper()
		m.on(s)
		s.view.mu.Lock() // as if it had been restarted
		for _, u := range s.view.users {
			s.view.dropLocked(u)
		}
		s.view.mu.Unlock()
		m.settle()
		if got := m.sync(bob, ""); len(got.Rooms.Invite) != n*rooms {
			t.Fatalf("%d invites, not %d", len(got.Rooms.Invite), n*rooms)
		}
		got := m.sync(alice, "")
		if len(got.Rooms.Join) != n*rooms {
			t.Fatalf("%d rooms, not %d", len(got.Rooms.Join), n*rooms)
		}
		for id, r := range got.Rooms.Join {
			if len(r.Ephemeral.Events) != 1 {
				t.Fatalf("%s: %d receipts", id, len(r.Ephemeral.Events))
			}
			var page struct {
				Chunk []eventOf `json:"chunk"`
			}
			if err := m.get(m.s.threads, alice, "", map[string]string{"roomId": id}, &page); err != nil || len(page.Chunk) != 1 {
				t.Fatalf("%s: %d threads, %v", id, len(page.Chunk), err)
			}
		}
	}
	for range 3 {
		use()
		check(all[0])
		check(all[1])
	}
	for range 5 { // both lose their leases without knowing
		m.expire()
		use()
		check(all[0])
		check(all[1])
	}
}

// expire makes all leases run out, as those of a process that was stopped.
func (m *model) expire() {
	m.t.Helper()
	db, err := sqldb.Open(m.t.Context(), sqldbtest.Options(m.t, filepath.Join(m.dir, "sync.db")))
	if err != nil {
		m.t.Fatal(err)
	}
	defer db.Close()
	err = db.Write(m.t.Context(), func(tx *sqldb.Tx) error {
		_, err := tx.Exec(m.t.Context(), "UPDATE lease_partitions SET owner = '', epoch = epoch + 1, expiry = 0")
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

// TestOneWriter: rows are written by one instance each, not by all.
func TestOneWriter(t *testing.T) { sqldbtest.Each(t, testOneWriter) }

func testOneWriter(t *testing.T) {
	m := newModelOn(t, false, 2)
	all := slices.Clone(m.all)
	share(t, all...)
	m.create(testRoom, alice, bob)
	m.settle()
	p := m.view.partition(testRoom)
	waitFor(t, func() bool {
		rows, err := m.view.store.Memberships(t.Context(), alice)
		return err == nil && len(rows) == 1
	})
	owners := 0
	for _, s := range all {
		s.view.stored.mu.Lock()
		seq := s.view.stored.rooms[p]
		s.view.stored.mu.Unlock()
		s.view.mu.Lock()
		needed := s.view.needed.rooms[p]
		s.view.mu.Unlock()
		if needed == 0 && seq > 0 {
			owners++
		}
	}
	if owners != 1 {
		t.Errorf("%d instances have written the rows", owners)
	}
}

// TestTokenOfAnother: an instance that lags waits for the position of a token
// that another gave.
func TestTokenOfAnother(t *testing.T) { sqldbtest.Each(t, testTokenOfAnother) }

func testTokenOfAnother(t *testing.T) {
	m := newModelOn(t, false, 2)
	all := slices.Clone(m.all)
	m.create(testRoom, alice, bob)
	m.settle()
	first := m.sync(alice, "")
	next := m.view.applied.Load().clone()
	next.rooms[m.view.partition(testRoom)]++ // of a message that is to come
	got := make(chan error, 2)
	for _, s := range all {
		go func() {
			_, err := s.sync(request(alice, "D", "/sync?since="+next.String(), nil))
			got <- err
		}()
	}
	m.message(testRoom, bob, "now")
	for range all {
		if err := <-got; err != nil {
			t.Error(err)
		}
	}
	if again := m.sync(alice, first.Next).Rooms.Join[testRoom].Timeline.Events; len(again) != 1 {
		t.Errorf("%+v", again)
	}
}

// TestTypingEndsElsewhere: that nobody types any more is told by an instance which
// had nobody of the room in memory when it heard of it, and so is who types.
func TestTypingEndsElsewhere(t *testing.T) { sqldbtest.Each(t, testTypingEndsElsewhere) }

func testTypingEndsElsewhere(t *testing.T) {
	m := newModelOn(t, false, 3)
	all := slices.Clone(m.all)
	m.create(testRoom, alice, bob)
	m.settle()
	since := m.on(all[0]).sync(alice, "").Next
	for i, users := range [][]string{{bob}, {}} {
		m.ephemeral(userapi.Ephemeral{Typing: &userapi.Typing{RoomID: testRoom, UserIDs: users}})
		for _, s := range all {
			waitFor(t, func() bool { return s.view.applied.Load().eph[0] == int64(i+1) })
		}
		a := m.on(all[i+1]).sync(alice, since)
		want := fmt.Sprintf(`{"user_ids":["%s"]}`, bob)
		if len(users) == 0 {
			want = `{"user_ids":[]}`
		}
		if got := a.Rooms.Join[testRoom].Ephemeral.Events; len(got) != 1 || string(got[0].Content) != want {
			t.Errorf("%v type, and what is told is %+v", users, got)
		}
		since = a.Next
	}
}

// BenchmarkIdle is what a message costs that concerns nobody here.
func BenchmarkIdle(b *testing.B) {
	m := newModelOn(b, false, 1)
	m.create(testRoom, alice, bob)
	m.message(testRoom, alice, "a message of usual length, as people write them")
	m.settle()
	m.stop()
	benchmarkApply(b, m)
}
