package roomserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/roomserver/storage"
)

// owns tells whether what is in memory of a partition is what is committed.
func (s *Server) owns(partition int) bool { return s.consumer.Valid(partition) }

func (s *Server) partitionOf(roomID string) int {
	return eventlog.PartitionFor(roomID, s.input.Partitions)
}

// roomNow is loadRoom for who asks about a room: one of a partition that
// another instance owns is read each time anew.
func (s *Server) roomNow(ctx context.Context, id string) (*room, error) {
	if s.owns(s.partitionOf(id)) {
		return s.loadRoom(ctx, id)
	}
	row, err := s.readRoom(ctx, id)
	if err != nil || row == nil {
		return nil, err
	}
	return newRoom(row), nil
}

// loadRoom returns a room of a partition that is owned; nil if there is none.
func (s *Server) loadRoom(ctx context.Context, id string) (*room, error) {
	if r := s.rooms.get(id); r != nil {
		return r, nil
	}
	for {
		before := s.heads.generation()
		row, err := s.readRoom(ctx, id)
		if err != nil || row == nil {
			return nil, err
		}
		// A batch that was committed and applied meanwhile may have changed the
		// room, and would not have found it in the cache.
		if r, ok := s.addRoom(before, id, newRoom(row)); ok {
			return r, nil
		}
	}
}

func (s *Server) readRoom(ctx context.Context, id string) (row *storage.Room, err error) {
	err = s.store.ReadOne(ctx, func(tx *sqldb.Tx) (err error) {
		row, err = s.store.Room(ctx, tx, id)
		return err
	})
	return row, err
}

// addRoom puts a room into the cache if no batch was applied since it was read.
func (s *Server) addRoom(before int64, id string, r *room) (*room, bool) {
	s.heads.mu.RLock()
	defer s.heads.mu.RUnlock()
	if s.heads.applied != before {
		return nil, false
	}
	return s.rooms.add(id, r), true
}

// loadEntry reads an entry of a room's current state.
func (s *Server) loadEntry(ctx context.Context, r *room, key gomatrixserverlib.StateKey) (entry, error) {
	r.mu.RLock()
	row := r.row
	r.mu.RUnlock()
	asked := storage.Entry{RoomNID: row.NID, Type: key.Type, StateKey: key.StateKey, Seq: row.LatestSeq}
	var found map[storage.Entry]*storage.Event
	err := s.store.ReadOne(ctx, func(tx *sqldb.Tx) (err error) {
		found, err = s.store.StateEvents(ctx, tx, []storage.Entry{asked})
		return err
	})
	var e entry
	if err == nil {
		e, err = entryOf(found[asked])
	}
	if err != nil {
		return entry{}, fmt.Errorf("roomserver: state entry: %w", err)
	}
	r.learn(row.LatestSeq, map[gomatrixserverlib.StateKey]entry{key: e}, false)
	return e, nil
}

func (s *Server) loadFork(ctx context.Context, nid int64) (f *storage.Fork, err error) {
	err = s.store.Read(ctx, func(tx *sqldb.Tx) (err error) {
		f, err = s.store.Fork(ctx, tx, nid)
		return err
	})
	if err == nil && f == nil {
		err = fmt.Errorf("%w: fork %d is not stored", errBroken, nid)
	}
	return f, err
}

// loadRows returns the rows of events that are stored, in the order asked for.
func (s *Server) loadRows(ctx context.Context, ids []string) ([]*storage.Event, error) {
	var rows []*storage.Event
	err := s.store.ReadOne(ctx, func(tx *sqldb.Tx) (err error) {
		rows, err = s.store.EventsByID(ctx, tx, ids)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("roomserver: events: %w", err)
	}
	byID := make(map[string]*storage.Event, len(rows))
	for _, row := range rows {
		byID[row.EventID] = row
	}
	out := rows[:0]
	for _, id := range ids {
		if row := byID[id]; row != nil {
			out = append(out, row)
			delete(byID, id)
		}
	}
	return out, nil
}

// loadEvents returns the events that are stored, in the order asked for.
func (s *Server) loadEvents(ctx context.Context, ids []string) ([]*api.StoredEvent, error) {
	rows, err := s.loadRows(ctx, ids)
	if err != nil {
		return nil, err
	}
	out := make([]*api.StoredEvent, 0, len(rows))
	for _, row := range rows {
		e, err := stored(row)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

// stored makes an event of its row.
func stored(row *storage.Event) (*api.StoredEvent, error) {
	event, err := gomatrixserverlib.ParseStoredEvent(row.JSON, gomatrixserverlib.RoomVersion(row.Version), row.EventID)
	if err != nil {
		return nil, fmt.Errorf("roomserver: %w: stored event %s: %w", errBroken, row.EventID, err)
	}
	e := &api.StoredEvent{Event: event, RedactedBy: row.RedactedBy, Rejected: row.Flags&storage.Rejected != 0,
		SoftFailed: row.Flags&storage.SoftFailed != 0, Outlier: row.Flags&storage.Outlier != 0}
	if row.Output == nil {
		return e, nil
	}
	e.Position = api.Position{Partition: storage.Partition(row.NID), Seq: row.Seq, Sub: row.Sub}
	for _, m := range [...]struct {
		name  string
		value *string
	}{{`,"replaces_state":"`, &e.ReplacesState}, {`,"hv":"`, &e.HistoryVisibility}, {`,"hv_before":"`, &e.HistoryVisibilityBefore},
		{`,"device":"`, &e.Device}, {`,"txn_id":"`, &e.TxnID}, {`,"delay_id":"`, &e.DelayID}} {
		if *m.value, err = headerText(row.Output, m.name); err != nil {
			return nil, fmt.Errorf("roomserver: %w: stored event %s: %w", errBroken, row.EventID, err)
		}
	}
	return e, nil
}

// headerText reads a member of an encoded api.OutputRecord whose value is text:
// a page of history reads six of fifty headers, which is not worth decoding
// them. Within a text every quote stands behind a backslash, so what is found
// is the member, and its value ends at the next quote without one.
func headerText(header []byte, name string) (string, error) {
	at := bytes.Index(header, []byte(name))
	if at < 0 {
		return "", nil
	}
	text := header[at+len(name)-1:] // from its quote on
	for end := 1; end < len(text); end++ {
		switch text[end] {
		case '\\':
			end++
		case '"':
			if bytes.IndexByte(text[:end], '\\') < 0 {
				return string(text[1:end]), nil
			}
			out, err := jsontext.AppendUnquote(nil, text[:end+1])
			return string(out), err
		}
	}
	return "", errors.New("the header is cut off")
}
