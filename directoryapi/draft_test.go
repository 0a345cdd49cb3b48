package directoryapi

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/directoryapi/storage"
)

// drafted is a Server for writing changes alone, with what counts its statements.
func drafted(t *testing.T) (*Server, *sqldb.DB) {
	t.Helper()
	db := sqldbtest.Open(t, filepath.Join(t.TempDir(), "directory.db"))
	d, err := storage.New(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	return &Server{db: d, serverName: "test"}, db
}

// put writes changes, with as many flushes as there are parts.
func (s *Server) put(t *testing.T, parts ...[]change) {
	t.Helper()
	for _, part := range parts {
		err := s.db.Write(t.Context(), func(tx *sqldb.Tx) error {
			d := newDraft()
			for i := range part {
				if err := s.writeChange(t.Context(), tx, &part[i], d); err != nil {
					return err
				}
			}
			return s.flush(t.Context(), tx, d)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// view is all that changes wrote about rooms and memberships.
func (s *Server) view(t *testing.T, rooms, users []string) string {
	t.Helper()
	known, err := s.db.Rooms(t.Context(), rooms)
	if err != nil {
		t.Fatal(err)
	}
	guests, err := s.db.GuestRooms(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	out := fmt.Sprintf("%+v %+v", known, guests)
	for _, user := range users {
		list, err := s.db.UserRooms(t.Context(), user)
		if err != nil {
			t.Fatal(err)
		}
		out += fmt.Sprintf(" %s: %+v", user, list)
	}
	return out
}

// someChange is a change at random.
func someChange(t *testing.T, r *rand.Rand, seq int64, rooms, users []string) change {
	c := change{seq: seq, roomID: rooms[r.IntN(len(rooms))], version: "11", joined: r.IntN(9), describes: true}
	switch r.IntN(8) {
	case 0:
		return change{seq: seq, roomID: c.roomID, purged: true}
	case 1, 2, 3:
		access := []string{"can_join", "forbidden"}[r.IntN(2)]
		c.set("m.room.guest_access", "", event(t, c.roomID, "m.room.guest_access", "@alice:test", new(string), `{"guest_access":"`+access+`"}`))
		fallthrough
	case 4:
		c.set("m.room.name", "", event(t, c.roomID, "m.room.name", "@alice:test", new(string), fmt.Sprintf(`{"name":"N%d"}`, seq)))
	default:
		for range 1 + r.IntN(3) {
			room := api.UserRoom{RoomID: c.roomID, Membership: []string{"join", "leave", ""}[r.IntN(3)], EventID: fmt.Sprintf("$%d", seq)}
			c.members = append(c.members, memberChange{userID: users[r.IntN(len(users))], room: room})
		}
	}
	return c
}

// TestDraft: what changes mean is the same, whether they are written one by one or
// together.
func TestDraft(t *testing.T) { sqldbtest.Each(t, testDraft) }

func testDraft(t *testing.T) {
	rooms, users := []string{"!a:test", "!b:test", "!c:test"}, []string{"@a:test", "@b:test", "@c:test", "@d:test"}
	r := rand.New(rand.NewPCG(1, 2))
	together, _ := drafted(t)
	alone, _ := drafted(t)
	seen := map[string]bool{}
	for seq := int64(1); seq < 300; {
		var batch []change
		for range 1 + r.IntN(20) {
			batch = append(batch, someChange(t, r, seq, rooms, users))
			seq++
		}
		together.put(t, batch)
		for _, c := range batch {
			alone.put(t, []change{c})
		}
		got, want := together.view(t, rooms, users), alone.view(t, rooms, users)
		if got != want {
			t.Fatalf("at %d:\ngot  %s\nwant %s", seq, got, want)
		}
		seen[want] = true
	}
	if len(seen) < 10 {
		t.Errorf("only %d different views were compared", len(seen))
	}
}

// TestDraftStatements: on PostgreSQL, where each statement is a round trip, many
// joins of many rooms take as many as one, and so do many new rooms.
func TestDraftStatements(t *testing.T) {
	t.Run(string(sqldbtest.PostgreSQL), func(t *testing.T) {
		s, db := drafted(t)
		count := func(n int) int64 {
			var changes []change
			for i := range n {
				c := change{seq: 1, roomID: fmt.Sprintf("!%d:test", i), version: "11", joined: 1, describes: true}
				c.members = []memberChange{{userID: "@a:test", room: api.UserRoom{RoomID: c.roomID, Membership: "join", EventID: "$1"}}}
				changes = append(changes, c)
				c.members = nil
				for _, typ := range []string{"m.room.name", "m.room.topic"} {
					c.set(typ, "", event(t, c.roomID, typ, "@alice:test", new(string), `{"name":"`+strings.Repeat("x", i)+`"}`))
					changes = append(changes, c)
				}
			}
			before := db.Statements()
			s.put(t, changes)
			return db.Statements() - before
		}
		if one, many := count(1), count(50); many > one || one > 5 { // BEGIN, memberships, rooms read and written, COMMIT
			t.Errorf("%d statements for a room, %d for fifty", one, many)
		}
	})
}
