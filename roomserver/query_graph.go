package roomserver

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/roomserver/storage"
)

const (
	// maxMissingEvents bounds the answer to one question for missing events.
	maxMissingEvents = 100
	// maxAuthChain bounds the events of an auth chain.
	maxAuthChain = 200_000
)

// queryMissingEvents walks back from the latest events to the earliest.
// spec: server-server-api §backfilling-and-retrieving-missing-events
func (s *Server) queryMissingEvents(ctx context.Context, req *api.MissingEventsRequest) (*api.MissingEventsResponse, error) {
	if _, _, err := s.known(ctx, req.RoomID); err != nil {
		return nil, err
	}
	limit := min(max(req.Limit, 1), maxMissingEvents)
	seen := map[string]bool{}
	for _, id := range slices.Concat(req.Earliest, req.Latest) {
		seen[id] = true
	}
	out := &api.MissingEventsResponse{}
	for next, first := req.Latest, true; len(next) > 0 && len(out.Events) < limit; first = false {
		events, err := s.loadEvents(ctx, next)
		if err != nil {
			return nil, err
		}
		next = nil
		for _, e := range events {
			if e.RoomID() != req.RoomID || e.Rejected || e.Outlier || e.Depth() < req.MinDepth {
				continue
			}
			if !first && len(out.Events) < limit {
				out.Events = append(out.Events, e)
			}
			for _, id := range e.PrevEventIDs() {
				if !seen[id] {
					seen[id] = true
					next = append(next, id)
				}
			}
		}
	}
	slices.SortStableFunc(out.Events, func(a, b *api.StoredEvent) int {
		switch {
		case a.Position.Less(b.Position):
			return -1
		case b.Position.Less(a.Position):
			return 1
		}
		return 0
	})
	return out, nil
}

// queryAuthChain follows auth_events.
func (s *Server) queryAuthChain(ctx context.Context, req *api.AuthChainRequest) (*api.AuthChainResponse, error) {
	out := &api.AuthChainResponse{}
	seen := map[string]bool{}
	for _, id := range req.EventIDs {
		seen[id] = true
	}
	for next, first := req.EventIDs, true; len(next) > 0; first = false {
		if len(seen) > maxAuthChain {
			return nil, matrixerror.New(500, "M_TOO_LARGE", "The auth chain has more than %d events", maxAuthChain)
		}
		var found []string
		for chunk := range slices.Chunk(next, eventsPerRead) {
			events, err := s.loadEvents(ctx, chunk)
			if err != nil {
				return nil, err
			}
			for _, e := range events {
				if e.RoomID() != req.RoomID {
					continue
				}
				if !first {
					out.Events = append(out.Events, e)
				}
				for _, id := range e.AuthEventIDs() {
					if !seen[id] {
						seen[id] = true
						found = append(found, id)
					}
				}
			}
		}
		next = found
	}
	return out, nil
}

// queryServerMaySee decides which events a server may see.
// spec: server-server-api §retrieving-events, client-server-api §room-history-visibility
func (s *Server) queryServerMaySee(ctx context.Context, req *api.ServerMaySeeRequest) (*api.ServerMaySeeResponse, error) {
	if len(req.EventIDs) > maxEventsPerQuery {
		return nil, matrixerror.InvalidParam("At most %d events at once", maxEventsPerQuery)
	}
	_, row, err := s.known(ctx, req.RoomID)
	if err != nil {
		return nil, err
	}
	rows, err := s.loadRows(ctx, req.EventIDs)
	if err != nil {
		return nil, err
	}
	history, err := s.serverHistory(ctx, row, req.Server)
	if err != nil {
		return nil, fmt.Errorf("roomserver: memberships of a server: %w", err)
	}
	out := &api.ServerMaySeeResponse{}
	for _, e := range rows {
		if e.RoomNID != row.NID || e.Flags&(storage.Rejected|storage.Outlier) != 0 {
			continue
		}
		event, err := stored(e)
		if err != nil {
			return nil, err
		}
		view := history.view(event, e)
		view.Server = req.Server
		if gomatrixserverlib.VisibleToServer(view) {
			out.Visible = append(out.Visible, event.EventID())
		}
	}
	return out, nil
}

// serverHistory is what the memberships of a server's users were, by user,
// oldest first.
type serverHistory map[string][]membershipFrom

func (s *Server) serverHistory(ctx context.Context, row *storage.Room, server string) (serverHistory, error) {
	out := serverHistory{}
	return out, s.store.Read(ctx, func(tx *sqldb.Tx) error {
		changes, err := s.store.MembersOf(ctx, tx, row.NID, server)
		if err != nil {
			return err
		}
		for chunk := range slices.Chunk(changes, eventsPerRead) {
			memberships, err := s.membershipsOf(ctx, tx, chunk)
			if err != nil {
				return err
			}
			for _, c := range chunk {
				user := strings.Clone(c.StateKey)
				out[user] = append(out[user], membershipFrom{c.FromSeq, memberships[c.EventNID]})
			}
		}
		return nil
	})
}

// membershipsOf reads the memberships that changes set, by event_nid.
func (s *Server) membershipsOf(ctx context.Context, tx *sqldb.Tx, changes []storage.StateChange) (map[int64]string, error) {
	nids := make([]int64, 0, len(changes))
	for _, c := range changes {
		nids = append(nids, c.EventNID)
	}
	rows, err := s.store.EventsByNID(ctx, tx, nids)
	if err != nil {
		return nil, err
	}
	out := make(map[int64]string, len(rows))
	for _, row := range rows {
		e, err := stored(row)
		if err != nil {
			return nil, err
		}
		out[row.NID] = strings.Clone(e.Membership())
	}
	return out, nil
}

// view is what decides whether the server may see an event. On a fork, the
// memberships are those of the state that the room was in at the fork's base.
func (h serverHistory) view(e *api.StoredEvent, row *storage.Event) gomatrixserverlib.ServerView {
	v := gomatrixserverlib.ServerView{Event: e.Event, Visibility: visibilityBefore(e)}
	at := e.Position.Seq
	if row.StateSeq != 0 {
		at = row.StateSeq + 1
	}
	for _, history := range h {
		last := ""
		for _, m := range history {
			if m.seq < at {
				last = m.membership
			} else if m.membership == "join" {
				v.JoinedSince = true
			}
		}
		v.Joined = v.Joined || last == "join"
		v.Invited = v.Invited || last == "invite"
	}
	return v
}
