package directoryapi

import (
	"context"
	"maps"
	"slices"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/directoryapi/storage"
)

// draft is what changes mean for rooms and memberships and is not written yet: a
// row that several of them change is written once, and all rows of a table by one
// statement.
type draft struct {
	members map[memberKey]api.UserRoom
	rooms   map[string][]*change // those that describe a room, in order
}

// memberKey names a row of memberships.
type memberKey struct{ userID, roomID string }

func newDraft() *draft {
	return &draft{members: map[memberKey]api.UserRoom{}, rooms: map[string][]*change{}}
}

func (d *draft) add(c *change) {
	for _, m := range c.members {
		d.members[memberKey{m.userID, m.room.RoomID}] = m.room
	}
	if c.describes {
		d.rooms[c.roomID] = append(d.rooms[c.roomID], c)
	}
}

// flush writes a draft, which is empty then.
func (s *Server) flush(ctx context.Context, tx *sqldb.Tx, d *draft) error {
	list := make([]storage.Membership, 0, len(d.members))
	for key, room := range d.members {
		list = append(list, storage.Membership{UserID: key.userID, UserRoom: room})
	}
	if err := s.db.PutMemberships(ctx, tx, list); err != nil {
		return err
	}
	if err := s.flushRooms(ctx, tx, d.rooms); err != nil {
		return err
	}
	clear(d.members)
	clear(d.rooms)
	return nil
}

// flushRooms writes what rooms look like. Where nothing but the number of members
// changes, the row is not read.
func (s *Server) flushRooms(ctx context.Context, tx *sqldb.Tx, described map[string][]*change) error {
	joined := map[string]int{}
	var patched []string
	for _, id := range slices.Sorted(maps.Keys(described)) {
		list := described[id]
		if slices.ContainsFunc(list, func(c *change) bool { return len(c.patches) > 0 }) {
			patched = append(patched, id)
		} else {
			joined[id] = list[len(list)-1].joined
		}
	}
	if err := s.db.SetJoined(ctx, tx, joined); err != nil || len(patched) == 0 {
		return err
	}
	known, err := s.db.RoomsTx(ctx, tx, patched)
	if err != nil {
		return err
	}
	rooms := make([]api.Room, 0, len(patched))
	for _, id := range patched {
		room := api.Room{RoomID: id, Federate: true}
		if i := slices.IndexFunc(known, func(r api.Room) bool { return r.RoomID == id }); i >= 0 {
			room = known[i]
		}
		for _, c := range described[id] {
			if closed := c.describe(&room); closed {
				if err := s.db.PutGuestRoom(ctx, tx, id, c.seq); err != nil {
					return err
				}
			}
		}
		rooms = append(rooms, room)
	}
	return s.db.PutRooms(ctx, tx, rooms)
}

// describe brings what a room looks like up to date, and tells whether guests may
// be in it who may not join it any more.
func (c *change) describe(room *api.Room) (closed bool) {
	room.JoinedCount = c.joined
	if len(c.patches) == 0 {
		return false
	}
	could := room.GuestCanJoin || c.rebuilt
	room.Version = c.version
	for _, p := range c.patches {
		p(room)
	}
	return could && !room.GuestCanJoin
}
