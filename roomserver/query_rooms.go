package roomserver

import (
	"context"
	"fmt"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/roomserver/storage"
)

// Bounds of pages.
const (
	maxListedRooms   = 1000
	maxMemberChanges = 5000
	maxOutOfRoom     = 1000
)

func (s *Server) queryRooms(ctx context.Context, req *api.RoomsRequest) (*api.RoomsResponse, error) {
	limit := min(max(req.Limit, 1), maxListedRooms)
	var rows []*storage.Room
	if err := s.store.Read(ctx, func(tx *sqldb.Tx) (err error) {
		if req.RoomIDs != nil {
			limit = maxListedRooms
			rows, err = s.store.RoomsOf(ctx, tx, req.RoomIDs[:min(len(req.RoomIDs), limit)])
			return err
		}
		rows, err = s.store.RoomsAfter(ctx, tx, req.Partition, req.After, limit+1)
		return err
	}); err != nil {
		return nil, fmt.Errorf("roomserver: rooms: %w", err)
	}
	out := &api.RoomsResponse{More: len(rows) > limit}
	for _, r := range rows[:min(len(rows), limit)] {
		out.Rooms = append(out.Rooms, api.ListedRoom{RoomID: r.ID, Version: r.Version, LatestSeq: r.LatestSeq, JoinedCount: r.Joined, InvitedCount: r.Invited})
	}
	return out, nil
}

func (s *Server) queryMemberHistory(ctx context.Context, req *api.MemberHistoryRequest) (*api.MemberHistoryResponse, error) {
	_, row, err := s.known(ctx, req.RoomID)
	if err != nil {
		return nil, err
	}
	limit := min(max(req.Limit, 1), maxMemberChanges)
	out := &api.MemberHistoryResponse{}
	err = s.store.Read(ctx, func(tx *sqldb.Tx) error {
		changes, err := s.store.MemberChanges(ctx, tx, row.NID, req.AfterUser, req.AfterSeq, req.ToSeq, limit)
		if err != nil || len(changes) == 0 {
			return err
		}
		last := changes[len(changes)-1]
		out.LastUser, out.LastSeq, out.More = last.StateKey, last.FromSeq, len(changes) == limit
		out.Changes, err = s.memberChanges(ctx, tx, changes, req.Server)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("roomserver: history of members: %w", err)
	}
	return out, nil
}

// memberChanges reads the events of those of the changes that are of the
// server's users.
func (s *Server) memberChanges(ctx context.Context, tx *sqldb.Tx, changes []storage.StateChange, server string) ([]api.MemberChange, error) {
	var nids []int64
	for _, c := range changes {
		if gomatrixserverlib.ServerOf(c.StateKey) == server {
			nids = append(nids, c.EventNID)
		}
	}
	rows, err := s.store.EventsByNID(ctx, tx, nids)
	if err != nil {
		return nil, err
	}
	events := map[int64]*api.StoredEvent{}
	for _, row := range rows {
		if events[row.NID], err = stored(row); err != nil {
			return nil, err
		}
	}
	out := make([]api.MemberChange, 0, len(nids))
	for _, c := range changes {
		if gomatrixserverlib.ServerOf(c.StateKey) != server {
			continue
		}
		m := api.MemberChange{UserID: c.StateKey, Membership: "leave", Seq: c.FromSeq}
		if e := events[c.EventNID]; e != nil {
			m.Membership, m.EventID, m.Sender = e.Membership(), e.EventID(), e.Sender()
		}
		out = append(out, m)
	}
	return out, nil
}

func (s *Server) queryOutOfRoom(ctx context.Context, req *api.OutOfRoomRequest) (*api.OutOfRoomResponse, error) {
	limit := min(max(req.Limit, 1), maxOutOfRoom)
	var rows []*storage.OutOfRoom
	if err := s.store.Read(ctx, func(tx *sqldb.Tx) (err error) {
		rows, err = s.store.OutOfRooms(ctx, tx, req.Partition, req.AfterSeq, limit+1)
		return err
	}); err != nil {
		return nil, fmt.Errorf("roomserver: memberships of rooms of others: %w", err)
	}
	out := &api.OutOfRoomResponse{More: len(rows) > limit}
	for _, r := range rows[:min(len(rows), limit)] {
		out.Memberships = append(out.Memberships, api.OutOfRoomMembership{RoomID: r.RoomID, Version: r.Version, UserID: r.UserID, EventID: r.EventID,
			Seq: r.OutputNID - storage.EventNID(req.Partition, 0), JSON: r.JSON, StrippedState: r.Stripped})
	}
	return out, nil
}
