package roomserver

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/roomserver/storage"
)

func (s *Server) queryState(ctx context.Context, req *api.StateRequest) (*api.StateResponse, error) {
	r, row, err := s.known(ctx, req.RoomID)
	if err != nil {
		return nil, err
	}
	if req.IfJoined != "" {
		if joined, err := s.joined(ctx, r, row, req.IfJoined); err != nil || !joined {
			return &api.StateResponse{}, err
		}
	}
	out := &api.StateResponse{Joined: req.IfJoined != "", RoomVersion: gomatrixserverlib.RoomVersion(row.Version), At: api.Position{Partition: row.Partition}}
	var entries map[gomatrixserverlib.StateKey]entry
	if id := req.AfterEvent + req.BeforeEvent; id != "" {
		entries, out.At.Seq, err = s.stateOfEvent(ctx, r, row, id, req)
	} else {
		if out.At.Seq = req.AtSeq; out.At.Seq == 0 {
			out.At.Seq = row.LatestSeq
		}
		entries, err = s.stateOfSeq(ctx, r, row, out.At.Seq, req)
	}
	if err != nil {
		return nil, fmt.Errorf("roomserver: state: %w", err)
	}
	for key, e := range entries {
		if e.event == nil || !wants(req, key) {
			continue
		}
		if req.IDsOnly {
			out.IDs = append(out.IDs, api.StateEntry{StateKey: key, EventID: e.event.EventID()})
		} else {
			out.Events = append(out.Events, e.event)
		}
	}
	if req.Client != nil && !req.IDsOnly {
		if err := s.render(ctx, req, out); err != nil {
			return nil, fmt.Errorf("roomserver: state for a client: %w", err)
		}
	}
	return out, nil
}

// joined tells whether a user is joined to a room as it is at row.
func (s *Server) joined(ctx context.Context, r *room, row *storage.Room, userID string) (bool, error) {
	key := memberKey(userID)
	entries, err := s.currentState(ctx, r, row, &api.StateRequest{Keys: []gomatrixserverlib.StateKey{key}})
	if err != nil {
		return false, fmt.Errorf("roomserver: membership: %w", err)
	}
	e := entries[key].event
	return e != nil && e.Membership() == "join", nil
}

// render makes of the events of an answer what a client gets.
func (s *Server) render(ctx context.Context, req *api.StateRequest, out *api.StateResponse) error {
	var redactions map[string]*api.StoredEvent
	if ids := api.RedactedBy(out.Events); ids != nil {
		events, err := s.loadEvents(ctx, ids)
		if err != nil {
			return err
		}
		redactions = make(map[string]*api.StoredEvent, len(events))
		for _, e := range events {
			if e.RoomID() == req.RoomID {
				redactions[e.EventID()] = e
			}
		}
	}
	out.Rendered, out.Events = req.Client.Render(out.Events, redactions), nil
	return nil
}

// wants tells whether a request asks for an entry.
func wants(req *api.StateRequest, key gomatrixserverlib.StateKey) bool {
	switch {
	case req.Keys != nil:
		return slices.Contains(req.Keys, key)
	case req.WithoutMembers && key.Type == "m.room.member":
		return slices.Contains(req.Members, key.StateKey)
	}
	return req.Types == nil || slices.Contains(req.Types, key.Type)
}

func (s *Server) stateOfSeq(ctx context.Context, r *room, row *storage.Room, seq int64, req *api.StateRequest) (map[gomatrixserverlib.StateKey]entry, error) {
	if seq >= row.LatestSeq {
		return s.currentState(ctx, r, row, req)
	}
	return s.stateAt(ctx, row.NID, seq, req)
}

// stateOfEvent returns the state after an event, or before it, and the Seq at
// which the room had the one after it: 0 for a fork's.
func (s *Server) stateOfEvent(ctx context.Context, r *room, row *storage.Room, id string, req *api.StateRequest) (out map[gomatrixserverlib.StateKey]entry, seq int64, err error) {
	events, err := s.loadRows(ctx, []string{id})
	if err != nil {
		return nil, 0, err
	}
	if len(events) == 0 || events[0].RoomNID != row.NID || events[0].Flags&storage.Outlier != 0 {
		return nil, 0, matrixerror.NotFound("Unknown event")
	}
	e := events[0]
	if seq = e.StateSeq; seq == 0 && e.Fork == 0 {
		seq = e.Seq
	}
	if e.Fork != 0 {
		out, err = s.stateOfFork(ctx, row, e.Fork, req)
	} else {
		out, err = s.stateOfSeq(ctx, r, row, seq, req)
	}
	if err == nil && req.BeforeEvent != "" {
		err = s.undo(ctx, out, e, req)
	}
	return out, seq, err
}

// stateOfFork reads the state of a fork.
func (s *Server) stateOfFork(ctx context.Context, row *storage.Room, fork int64, req *api.StateRequest) (map[gomatrixserverlib.StateKey]entry, error) {
	whole, err := s.forkState(ctx, fork, func(seq int64) (state, error) { return s.stateIDs(ctx, row.NID, seq) })
	if err != nil {
		return nil, err
	}
	var ids []string
	for key, id := range whole {
		if wants(req, key) {
			ids = append(ids, id)
		}
	}
	out := make(map[gomatrixserverlib.StateKey]entry, len(ids))
	for chunk := range slices.Chunk(ids, eventsPerRead) {
		events, err := s.loadEvents(ctx, chunk)
		if err != nil {
			return nil, err
		}
		for _, e := range events {
			out[e.Key()] = entry{event: e}
		}
	}
	return out, nil
}

// undo makes the state after an event the one before it. Of a rejected event
// that is what is stored.
func (s *Server) undo(ctx context.Context, after map[gomatrixserverlib.StateKey]entry, row *storage.Event, req *api.StateRequest) error {
	e, err := stored(row)
	if err != nil || !e.IsState() || e.Rejected || !wants(req, e.Key()) {
		return err
	}
	delete(after, e.Key())
	if e.ReplacesState == "" {
		return nil
	}
	old, err := s.loadEvents(ctx, []string{e.ReplacesState})
	if err == nil && len(old) == 1 {
		after[e.Key()] = entry{event: old[0]}
	}
	return err
}

// currentState answers from memory as far as that goes. The room as it was
// when row was read is what is asked for: if it has changed, the table of
// changes still knows.
func (s *Server) currentState(ctx context.Context, r *room, row *storage.Room, req *api.StateRequest) (map[gomatrixserverlib.StateKey]entry, error) {
	if out, ok := r.cached(row, req); ok {
		return out, nil
	}
	entries, err := s.stateAt(ctx, row.NID, row.LatestSeq, req)
	if err != nil {
		return nil, err
	}
	for _, key := range req.Keys {
		if _, ok := entries[key]; !ok {
			entries[key] = entry{} // it is known now that there is none
		}
	}
	r.learn(row.LatestSeq, entries, req.Keys == nil && req.Types == nil && !req.WithoutMembers)
	return entries, nil
}

// cached returns what a request asks for, if all of it is in memory and the
// room is still at row.
func (r *room) cached(row *storage.Room, req *api.StateRequest) (map[gomatrixserverlib.StateKey]entry, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.row != row || req.Keys == nil && !r.full {
		return nil, false
	}
	if req.Keys == nil {
		if req.Types == nil && !req.WithoutMembers {
			return maps.Clone(r.state), true
		}
		out := map[gomatrixserverlib.StateKey]entry{}
		for key, e := range r.state {
			if wants(req, key) {
				out[key] = e
			}
		}
		return out, true
	}
	out := make(map[gomatrixserverlib.StateKey]entry, len(req.Keys))
	for _, key := range req.Keys {
		e, ok := r.state[key]
		if !ok && !r.full {
			return nil, false
		}
		out[key] = e
	}
	return out, true
}

// eventsPerRead bounds the events read by one statement.
const eventsPerRead = 5000

// stateAt reads state from the table of changes, no more of it than was asked for.
func (s *Server) stateAt(ctx context.Context, roomNID, seq int64, req *api.StateRequest) (map[gomatrixserverlib.StateKey]entry, error) {
	var out map[gomatrixserverlib.StateKey]entry
	err := s.store.Read(ctx, func(tx *sqldb.Tx) error {
		rows, err := s.stateRows(ctx, tx, roomNID, seq, req)
		if err != nil {
			return err
		}
		out, err = s.withEvents(ctx, tx, rows)
		return err
	})
	return out, err
}

func (s *Server) stateRows(ctx context.Context, tx *sqldb.Tx, roomNID, seq int64, req *api.StateRequest) ([]storage.StateChange, error) {
	keys := req.Keys
	var rows []storage.StateChange
	var err error
	switch {
	case req.Keys != nil:
	case req.WithoutMembers:
		for _, id := range req.Members {
			keys = append(keys, memberKey(id))
		}
		rows, err = s.store.StateWithoutMembersAt(ctx, tx, roomNID, seq)
	case req.Types != nil:
		return s.store.StateOfTypesAt(ctx, tx, roomNID, seq, req.Types)
	default:
		return s.store.StateAt(ctx, tx, roomNID, seq)
	}
	for _, key := range keys {
		if err != nil {
			return nil, err
		}
		var c storage.StateChange
		if c, err = s.store.StateEntryAt(ctx, tx, roomNID, seq, key.Type, key.StateKey); err == nil && c.EventNID != 0 {
			rows = append(rows, c)
		}
	}
	return rows, err
}

// withEvents reads the events of entries.
func (s *Server) withEvents(ctx context.Context, tx *sqldb.Tx, rows []storage.StateChange) (map[gomatrixserverlib.StateKey]entry, error) {
	out := make(map[gomatrixserverlib.StateKey]entry, len(rows))
	for chunk := range slices.Chunk(rows, eventsPerRead) {
		nids := make([]int64, len(chunk))
		for i, c := range chunk {
			nids[i] = c.EventNID
		}
		found, err := s.store.EventsByNID(ctx, tx, nids)
		if err != nil {
			return nil, err
		}
		for _, row := range found {
			e, err := stored(row)
			if err != nil {
				return nil, err
			}
			out[e.Key()] = entry{nid: row.NID, event: e}
		}
	}
	return out, nil
}

func (s *Server) queryStateChanges(ctx context.Context, req *api.StateChangesRequest) (*api.StateChangesResponse, error) {
	_, row, err := s.known(ctx, req.RoomID)
	if err != nil {
		return nil, err
	}
	out := &api.StateChangesResponse{}
	if req.FromSeq >= min(row.LatestSeq, req.ToSeq) {
		return out, nil
	}
	err = s.store.Read(ctx, func(tx *sqldb.Tx) error {
		changes, err := s.store.StateChangesIn(ctx, tx, row.NID, req.FromSeq, req.ToSeq)
		if err != nil {
			return err
		}
		last := map[gomatrixserverlib.StateKey]storage.StateChange{}
		for _, c := range changes {
			last[gomatrixserverlib.StateKey{Type: c.Type, StateKey: c.StateKey}] = c
		}
		rows := changes[:0]
		for key, c := range last {
			if c.EventNID == 0 {
				out.Removed = append(out.Removed, key)
			} else {
				rows = append(rows, c)
			}
		}
		entries, err := s.withEvents(ctx, tx, rows)
		for _, e := range entries {
			out.Events = append(out.Events, e.event)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("roomserver: state changes: %w", err)
	}
	return out, nil
}
