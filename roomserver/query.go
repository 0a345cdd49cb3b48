package roomserver

import (
	"context"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/roomserver/storage"
)

// Register serves the component's methods.
func (s *Server) Register(srv *rpc.Server) {
	api.QueryRoom.Serve(srv, s.queryRoom)
	api.QueryRooms.Serve(srv, s.queryRooms)
	api.QueryMemberHistory.Serve(srv, s.queryMemberHistory)
	api.QueryOutOfRoom.Serve(srv, s.queryOutOfRoom)
	api.QueryState.Serve(srv, s.queryState)
	api.QueryStateChanges.Serve(srv, s.queryStateChanges)
	api.QueryEvents.Serve(srv, s.queryEvents)
	api.QueryBatch.Serve(srv, s.queryBatch)
	api.QueryHistory.Serve(srv, s.queryHistory)
	api.QueryMemberships.Serve(srv, s.queryMemberships)
	api.QueryRestrictedJoin.Serve(srv, s.queryRestrictedJoin)
	api.QueryVerdict.Serve(srv, s.queryVerdict)
	api.QueryHeads.Serve(srv, s.queryHeads)
	api.QueryTimestampToEvent.Serve(srv, s.queryTimestampToEvent)
	api.QueryOwners.Serve(srv, s.queryOwners)
	api.QueryPurgeable.Serve(srv, s.queryPurgeable)
	api.QueryRetention.Serve(srv, s.queryRetention)
	api.QueryPrepare.Serve(srv, s.queryPrepare)
	api.QueryMissingEvents.Serve(srv, s.queryMissingEvents)
	api.QueryAuthChain.Serve(srv, s.queryAuthChain)
	api.QueryServerMaySee.Serve(srv, s.queryServerMaySee)
}

// maxEventsPerQuery bounds the events that one query names.
const maxEventsPerQuery = 10_000

// known returns a room, or 404.
func (s *Server) known(ctx context.Context, id string) (*room, *storage.Room, error) {
	r, err := s.roomNow(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	if r == nil {
		return nil, nil, matrixerror.NotFound("Unknown room")
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.row.LatestSeq == 0 { // outliers alone: a join is going on
		return nil, nil, matrixerror.NotFound("Unknown room")
	}
	return r, r.row, nil
}

func (s *Server) queryRoom(ctx context.Context, req *api.RoomRequest) (*api.RoomResponse, error) {
	_, row, err := s.known(ctx, req.RoomID)
	if err != nil {
		return nil, err
	}
	return &api.RoomResponse{
		Version: gomatrixserverlib.RoomVersion(row.Version), Partition: row.Partition,
		Latest:             api.Position{Partition: row.Partition, Seq: row.LatestSeq},
		ForwardExtremities: row.Extremities, Depth: row.Depth, JoinedCount: row.Joined, InvitedCount: row.Invited,
		LocalJoined: row.LocalJoined > 0,
	}, nil
}

func (s *Server) queryOwners(ctx context.Context, _ *api.OwnersRequest) (*api.OwnersResponse, error) {
	owners, err := s.consumer.Owners(ctx)
	if err != nil {
		return nil, fmt.Errorf("roomserver: %w", err)
	}
	out := &api.OwnersResponse{Addresses: make([]string, s.input.Partitions)}
	for p, owner := range owners {
		out.Addresses[p] = owner.Address
	}
	return out, nil
}

func (s *Server) queryHeads(ctx context.Context, req *api.HeadsRequest) (*api.HeadsResponse, error) {
	if req.Settled {
		if err := s.Ready(ctx); err != nil {
			return nil, err
		}
	}
	for p := range s.input.Partitions {
		if !s.owns(p) && (req.RoomID == "" || p == eventlog.PartitionFor(req.RoomID, s.input.Partitions)) {
			positions, err := s.readPositions(ctx)
			return &api.HeadsResponse{Seqs: positions.Seqs}, err
		}
	}
	return &api.HeadsResponse{Seqs: s.heads.get().Seqs}, nil
}

func (s *Server) queryVerdict(ctx context.Context, req *api.VerdictRequest) (*api.VerdictResponse, error) {
	known, err := s.verdicts(ctx, []string{req.RequestID})
	if err != nil {
		return nil, err
	}
	r, ok := known[req.RequestID]
	if !ok {
		return &api.VerdictResponse{}, nil
	}
	v, err := api.DecodeVerdict(r.Verdict)
	return &api.VerdictResponse{Verdict: v}, err
}

func (s *Server) queryEvents(ctx context.Context, req *api.EventsRequest) (*api.EventsResponse, error) {
	if len(req.EventIDs) > maxEventsPerQuery {
		return nil, matrixerror.InvalidParam("At most %d events at once", maxEventsPerQuery)
	}
	events, err := s.loadEvents(ctx, req.EventIDs)
	if err != nil {
		return nil, err
	}
	views := map[string]*viewer{}
	out := events[:0]
	for _, e := range events {
		if req.RoomID != "" && e.RoomID() != req.RoomID {
			continue
		}
		if req.Viewer != "" {
			v := views[e.RoomID()]
			if v == nil {
				if v, err = s.viewer(ctx, e.RoomID(), req.Viewer); err != nil {
					return nil, err
				}
				views[e.RoomID()] = v
			}
			if !v.sees(e) {
				continue
			}
		}
		out = append(out, e)
	}
	return &api.EventsResponse{Events: out}, nil
}

// queryMemberships answers from the current state.
func (s *Server) queryMemberships(ctx context.Context, req *api.MembershipsRequest) (*api.MembershipsResponse, error) {
	state := &api.StateRequest{RoomID: req.RoomID}
	if req.UserIDs == nil {
		state.Types = []string{"m.room.member"}
	} else {
		state.Keys = make([]gomatrixserverlib.StateKey, 0, len(req.UserIDs))
		for _, id := range req.UserIDs {
			state.Keys = append(state.Keys, memberKey(id))
		}
	}
	found, err := s.queryState(ctx, state)
	if err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, m := range req.Membership {
		wanted[m] = true
	}
	events := found.Events // a slice of this answer's own
	if len(wanted) > 0 {
		events = slices.DeleteFunc(events, func(e *api.StoredEvent) bool { return !wanted[e.Membership()] })
	}
	if req.Limit > 0 && len(events) > req.Limit {
		slices.SortFunc(events, func(x, y *api.StoredEvent) int { return x.Position.Compare(y.Position) })
		events = events[:req.Limit]
	}
	out := &api.MembershipsResponse{Members: make([]api.Member, 0, len(events))}
	for _, e := range events {
		m := api.Member{UserID: *e.StateKey(), Membership: e.Membership(), EventID: e.EventID(), Position: e.Position}
		m.DisplayName, m.AvatarURL = profileOf(e)
		out.Members = append(out.Members, m)
	}
	return out, nil
}

// profileOf reads a member event's display name and avatar; what is not a
// string counts as none.
func profileOf(e *api.StoredEvent) (name, avatar string) {
	var content struct {
		DisplayName any `json:"displayname"`
		AvatarURL   any `json:"avatar_url"`
	}
	if err := json.Unmarshal(e.Content(), &content); err != nil {
		return "", ""
	}
	name, _ = content.DisplayName.(string)
	avatar, _ = content.AvatarURL.(string)
	return name, avatar
}

func (s *Server) queryTimestampToEvent(ctx context.Context, req *api.TimestampToEventRequest) (*api.TimestampToEventResponse, error) {
	_, row, err := s.known(ctx, req.RoomID)
	if err != nil {
		return nil, err
	}
	v, err := s.viewer(ctx, req.RoomID, req.Viewer)
	if err != nil {
		return nil, err
	}
	// What the viewer may not see is passed over, within a bound.
	from := storage.At(req.TS, req.Backwards)
	for range maxHidden {
		var e *storage.Event
		err := s.store.ReadOne(ctx, func(tx *sqldb.Tx) (err error) {
			e, err = s.store.ClosestEvent(ctx, tx, row.NID, from, req.Backwards)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("roomserver: closest event: %w", err)
		}
		if e == nil {
			break
		}
		event, err := stored(e)
		if err != nil {
			return nil, err
		}
		if v.sees(event) && (event.IsState() || event.OriginServerTS() >= req.ExpiredBefore) {
			return &api.TimestampToEventResponse{Event: event}, nil
		}
		from = storage.Moment{TS: e.TS, Seq: e.Seq, Sub: e.Sub}
	}
	return nil, matrixerror.NotFound("No event found")
}
