package directoryapi

import (
	"context"
	"slices"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/directoryapi/storage"
	roomserver "github.com/matrix-org/dendrite/roomserver/api"
)

const (
	// rebuildRooms is how many rooms are listed at once, rebuildEvents how many
	// events of one are read at once.
	rebuildRooms  = 500
	rebuildEvents = 1000
)

// rebuild brings the view of a partition's rooms to where the room server is,
// without the records that say how it came there. It may be repeated.
func (s *Server) rebuild(ctx context.Context, partition int) error {
	heads, err := roomserver.Heads(ctx, s.caller, false)
	if err != nil {
		return err
	}
	var seq int64
	if partition < len(heads) {
		seq = heads[partition]
	}
	stored, err := s.db.Positions(ctx)
	if err != nil {
		return err
	}
	if seq >= stored[partition] { // else what the room server lacks may come again
		if err := s.dropPurged(ctx, partition); err != nil {
			return err
		}
	}
	for after := ""; ; {
		page, err := roomserver.QueryRooms.Call(ctx, s.caller, &roomserver.RoomsRequest{Partition: partition, After: after, Limit: rebuildRooms})
		if err != nil {
			return err
		}
		for i := range page.Rooms {
			after = page.Rooms[i].RoomID
			if err := s.rebuildRoom(ctx, &page.Rooms[i], seq); err != nil {
				return err
			}
		}
		if !page.More {
			break
		}
	}
	if err := s.rebuildOutOfRoom(ctx, partition); err != nil {
		return err
	}
	if err := s.db.Write(ctx, func(tx *sqldb.Tx) error { return s.db.ResetPosition(ctx, tx, partition, seq) }); err != nil {
		return err
	}
	s.applied[partition] = seq
	s.progress.Advance(map[int]int64{partition: seq})
	return nil
}

// dropPurged forgets the rooms that the room server does not know any more.
// Invites of rooms of others go with them, and come back.
func (s *Server) dropPurged(ctx context.Context, partition int) error {
	for after := ""; ; {
		ids, err := s.db.KnownRooms(ctx, after, rebuildRooms)
		if err != nil || len(ids) == 0 {
			return err
		}
		after = ids[len(ids)-1]
		ids = slices.DeleteFunc(ids, func(id string) bool { return eventlog.PartitionFor(id, s.partitions) != partition })
		res, err := roomserver.QueryRooms.Call(ctx, s.caller, &roomserver.RoomsRequest{RoomIDs: ids})
		if err != nil {
			return err
		}
		for _, r := range res.Rooms {
			ids = slices.DeleteFunc(ids, func(id string) bool { return id == r.RoomID })
		}
		err = s.db.Write(ctx, func(tx *sqldb.Tx) error {
			for _, id := range ids {
				if err := s.db.PurgeRoom(ctx, tx, id); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}

// rebuildOutOfRoom notes the invites and knocks of rooms that nobody of ours is in.
func (s *Server) rebuildOutOfRoom(ctx context.Context, partition int) error {
	for after := int64(0); ; {
		page, err := roomserver.QueryOutOfRoom.Call(ctx, s.caller, &roomserver.OutOfRoomRequest{Partition: partition, AfterSeq: after, Limit: rebuildRooms})
		if err != nil {
			return err
		}
		d := newDraft()
		for i := range page.Memberships {
			m := &page.Memberships[i]
			after = m.Seq
			event, err := m.Event()
			if err != nil {
				return err
			}
			d.members[memberKey{m.UserID, m.RoomID}] = api.UserRoom{RoomID: m.RoomID, Membership: event.Membership(), EventID: m.EventID}
		}
		err = s.db.Write(ctx, func(tx *sqldb.Tx) error { return s.flush(ctx, tx, d) })
		if err != nil || !page.More {
			return err
		}
	}
}

// rebuildRoom makes a room's part of the view anew, as of a Seq.
func (s *Server) rebuildRoom(ctx context.Context, listed *roomserver.ListedRoom, seq int64) error {
	state, err := roomserver.QueryState.Call(ctx, s.caller, &roomserver.StateRequest{RoomID: listed.RoomID, AtSeq: max(seq, 1)})
	if err != nil {
		return err
	}
	if len(state.Events) == 0 {
		return nil // it began later
	}
	c := change{seq: seq, rebuilt: true, roomID: listed.RoomID, version: listed.Version, describes: true, joined: listed.JoinedCount}
	for _, e := range state.Events {
		if s.watches(e.Type(), *e.StateKey()) {
			c.set(e.Type(), *e.StateKey(), e.Event)
		}
	}
	annotations, err := s.annotations(ctx, listed.RoomID, roomserver.Position{Partition: state.At.Partition, Seq: seq})
	if err != nil {
		return err
	}
	return s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := s.db.ClearRoom(ctx, tx, listed.RoomID); err != nil {
			return err
		}
		for i := range annotations {
			if err := s.db.PutAnnotation(ctx, tx, &annotations[i]); err != nil {
				return err
			}
		}
		d := newDraft()
		d.add(&c)
		return s.flush(ctx, tx, d)
	})
}

// annotations are those that users of ours have sent in a room, oldest first.
func (s *Server) annotations(ctx context.Context, roomID string, upTo roomserver.Position) ([]storage.Annotation, error) {
	var out []storage.Annotation
	for from := (roomserver.Position{}); ; {
		page, err := roomserver.QueryHistory.Call(ctx, s.caller, &roomserver.HistoryRequest{RoomID: roomID, From: from, To: upTo, Limit: rebuildEvents})
		if err != nil {
			return nil, err
		}
		for _, e := range page.Events {
			if e.IsState() || !s.local(e.Sender()) {
				continue
			}
			if rel, ok := api.ParseAnnotation(e.Content()); ok {
				out = append(out, storage.Annotation{RoomID: roomID, Parent: rel.EventID, Sender: e.Sender(), Type: e.Type(), Key: rel.Key, EventID: e.EventID()})
			}
		}
		if !page.More {
			return out, nil
		}
		from = page.Next
	}
}
