package roomserver

import (
	"context"
	"fmt"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/storage"
)

// prefetch reads at once what the batch's rooms will need and is not in memory:
// their rows, then the entries that their events are authorised by. Room by room
// and entry by entry, each would be a round trip to the database.
func (s *Server) prefetch(ctx context.Context, b *batch) error {
	if err := s.prefetchRooms(ctx, b); err != nil {
		return fmt.Errorf("roomserver: rooms: %w", err)
	}
	if err := s.prefetchEntries(ctx, b); err != nil {
		return fmt.Errorf("roomserver: state entries: %w", err)
	}
	return nil
}

func (s *Server) prefetchRooms(ctx context.Context, b *batch) error {
	cold, ids := map[string]*work{}, []string(nil)
	for _, w := range b.works {
		if w.room = s.rooms.get(w.roomID); w.room == nil {
			cold[w.roomID] = w
			ids = append(ids, w.roomID)
		}
		w.looked = true
	}
	if len(ids) == 0 {
		return nil
	}
	var rows []*storage.Room
	before := s.heads.generation()
	err := s.store.ReadOne(ctx, func(tx *sqldb.Tx) (err error) {
		rows, err = s.store.Rooms(ctx, tx, ids)
		return err
	})
	for _, row := range rows {
		r, ok := s.addRoom(before, row.ID, newRoom(row))
		if !ok { // cannot be: batches are applied by who calls this
			r = newRoom(row)
		}
		cold[row.ID].room = r
	}
	return err
}

func (s *Server) prefetchEntries(ctx context.Context, b *batch) error {
	var asked []storage.Entry
	by := map[int64]*work{}
	for _, w := range b.works {
		if w.room == nil {
			continue
		}
		w.room.mu.RLock()
		row := w.room.row
		w.room.mu.RUnlock()
		by[row.NID] = w
		for key := range w.wanted(gomatrixserverlib.RoomVersion(row.Version)) {
			if e, known := w.room.get(key); known {
				w.fetched[key] = e
				continue
			}
			asked = append(asked, storage.Entry{RoomNID: row.NID, Type: key.Type, StateKey: key.StateKey, Seq: row.LatestSeq})
		}
	}
	if len(asked) == 0 {
		return nil
	}
	var found map[storage.Entry]*storage.Event
	err := s.store.ReadOne(ctx, func(tx *sqldb.Tx) (err error) {
		found, err = s.store.StateEvents(ctx, tx, asked)
		return err
	})
	if err != nil {
		return err
	}
	for _, k := range asked {
		w, key := by[k.RoomNID], gomatrixserverlib.StateKey{Type: k.Type, StateKey: k.StateKey}
		e, err := entryOf(found[k])
		if err != nil {
			continue // read again where it is an error of this room alone
		}
		w.fetched[key] = e
		w.room.learn(k.Seq, map[gomatrixserverlib.StateKey]entry{key: e}, false)
	}
	return nil
}

// entryOf makes an entry of its event's row; nil says that there is none.
func entryOf(row *storage.Event) (entry, error) {
	if row == nil {
		return entry{}, nil
	}
	event, err := stored(row)
	return entry{nid: row.NID, event: event}, err
}

// wanted are the entries that the work's new events will certainly need.
func (w *work) wanted(version gomatrixserverlib.RoomVersion) map[gomatrixserverlib.StateKey]bool {
	keys := map[gomatrixserverlib.StateKey]bool{}
	for _, in := range w.inputs {
		for i := range in.record.Events {
			e := &in.record.Events[i]
			for _, x := range e.Expect {
				keys[memberKey(x.UserID)] = true
			}
			p := e.Proto
			if p == nil {
				continue
			}
			auth, err := gomatrixserverlib.AuthKeys(version, p.Type, p.Sender, p.StateKey, p.Content)
			if err != nil {
				continue // refused later
			}
			for _, key := range auth {
				keys[key] = true
			}
			if p.StateKey != nil {
				keys[gomatrixserverlib.StateKey{Type: p.Type, StateKey: *p.StateKey}] = true
			}
			keys[gomatrixserverlib.StateKey{Type: "m.room.create"}] = true
			keys[gomatrixserverlib.StateKey{Type: "m.room.history_visibility"}] = true
		}
	}
	return keys
}
