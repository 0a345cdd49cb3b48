package roomserver

import (
	"context"
	"fmt"
	"math"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/roomserver/storage"
)

const (
	// maxHistory bounds the events of one answer.
	maxHistory = 1000
	// maxHidden bounds the events that are read and not shown for one answer.
	maxHidden = 2000
)

func (s *Server) queryHistory(ctx context.Context, req *api.HistoryRequest) (*api.HistoryResponse, error) {
	_, row, err := s.known(ctx, req.RoomID)
	if err != nil {
		return nil, err
	}
	v, err := s.viewer(ctx, req.RoomID, req.Viewer)
	if err != nil {
		return nil, err
	}
	limit := min(max(req.Limit, 1), maxHistory)
	out := &api.HistoryResponse{Next: req.From, More: true}
	gap, err := s.gapIn(ctx, row, req)
	if err != nil {
		return nil, fmt.Errorf("roomserver: gaps: %w", err)
	}
	if gap != nil {
		bounded := *req
		bounded.To = api.Position{Partition: row.Partition, Seq: gap.Seq, Sub: gap.Sub - 1}
		req = &bounded
	}
	for read := 0; out.More && len(out.Events) < limit && read < limit+maxHidden; {
		want := limit - len(out.Events)
		events, more, err := s.timeline(ctx, row, req, out.Next, want)
		if err != nil {
			return nil, fmt.Errorf("roomserver: history: %w", err)
		}
		out.More = more
		read += want
		for _, e := range events {
			if v.sees(e) {
				out.Events = append(out.Events, e)
			}
			out.Next = e.Position
			if req.Backwards {
				out.Next.Sub-- // From is inclusive
			}
		}
	}
	if gap != nil && !out.More {
		out.Gap = gap.Missing
	}
	return out, nil
}

// gapIn returns the gap at which a way into the past ends; nil if there is none.
func (s *Server) gapIn(ctx context.Context, row *storage.Room, req *api.HistoryRequest) (gap *storage.Gap, err error) {
	if row.Gaps == 0 || !req.Backwards {
		return nil, nil
	}
	from := req.From
	if from.Seq == 0 {
		from.Seq = math.MaxInt64
	}
	err = s.store.ReadOne(ctx, func(tx *sqldb.Tx) (err error) {
		gap, err = s.store.GapBefore(ctx, tx, row.NID, from.Seq, from.Sub)
		return err
	})
	if gap != nil && (api.Position{Seq: gap.Seq, Sub: gap.Sub}).Less(req.To) {
		gap = nil // farther than the way goes
	}
	return gap, err
}

// timeline reads a stretch of the timeline from a position, and tells whether
// there is more of it.
func (s *Server) timeline(ctx context.Context, row *storage.Room, req *api.HistoryRequest, from api.Position, limit int) (events []*api.StoredEvent, more bool, err error) {
	q := storage.Range{RoomNID: row.NID, Backwards: req.Backwards, Limit: limit + 1}
	if req.Backwards {
		q.AfterSeq, q.AfterSub, q.ToSeq, q.ToSub = req.To.Seq, req.To.Sub, from.Seq, from.Sub
	} else {
		q.AfterSeq, q.AfterSub, q.ToSeq, q.ToSub = from.Seq, from.Sub, req.To.Seq, req.To.Sub
	}
	if q.ToSeq == 0 {
		q.ToSeq = math.MaxInt64
	}
	var nids []int64
	err = s.store.ReadOne(ctx, func(tx *sqldb.Tx) (err error) {
		nids, err = s.store.Timeline(ctx, tx, q)
		return err
	})
	if err != nil {
		return nil, false, err
	}
	more = len(nids) > limit
	nids = nids[:min(len(nids), limit)]
	found, err := s.timelineEvents(ctx, row.Partition, nids)
	if err != nil {
		return nil, false, err
	}
	events = make([]*api.StoredEvent, 0, len(nids))
	for _, nid := range nids {
		if e := found[nid]; e != nil { // else purged right now
			events = append(events, e)
		}
	}
	return events, more, nil
}

// timelineEvents returns events of timelines, from memory as far as that goes.
func (s *Server) timelineEvents(ctx context.Context, partition int, nids []int64) (map[int64]*api.StoredEvent, error) {
	out := make(map[int64]*api.StoredEvent, len(nids))
	unknown, changes, owned := nids, int64(0), s.owns(partition)
	if owned {
		unknown, changes = s.timelines.get(nids, out)
	}
	if len(unknown) == 0 {
		return out, nil
	}
	var rows []*storage.Event
	err := s.store.ReadOne(ctx, func(tx *sqldb.Tx) (err error) {
		rows, err = s.store.EventsByNID(ctx, tx, unknown)
		return err
	})
	if err != nil {
		return nil, err
	}
	read := make(map[int64]*api.StoredEvent, len(rows))
	for _, row := range rows {
		e, err := stored(row)
		if err != nil {
			return nil, err
		}
		read[row.NID], out[row.NID] = e, e
	}
	if owned {
		s.timelines.add(read, changes)
	}
	return out, nil
}

// viewer decides which events of a room a user may see. It is shared: it does
// not change.
type viewer struct {
	userID string
	// history is what the user's membership was, oldest first.
	history []membershipFrom
}

type membershipFrom struct {
	seq        int64
	membership string
}

// viewer reads the history of a user's membership. No user is nil, who sees all.
func (s *Server) viewer(ctx context.Context, roomID, userID string) (*viewer, error) {
	if userID == "" {
		return nil, nil
	}
	r, row, err := s.known(ctx, roomID)
	if err != nil {
		return nil, err
	}
	r.mu.RLock()
	v := r.viewers[userID]
	r.mu.RUnlock()
	if v != nil {
		return v, nil
	}
	v = &viewer{userID: userID}
	err = s.store.Read(ctx, func(tx *sqldb.Tx) error {
		changes, err := s.store.StateEntryHistory(ctx, tx, row.NID, "m.room.member", userID)
		if err != nil {
			return err
		}
		memberships, err := s.membershipsOf(ctx, tx, changes)
		if err != nil {
			return err
		}
		for _, c := range changes {
			v.history = append(v.history, membershipFrom{c.FromSeq, memberships[c.EventNID]})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("roomserver: memberships of a viewer: %w", err)
	}
	r.remember(row, v)
	return v, nil
}

// sees tells whether the user may see an event.
// spec: client-server-api §server-behaviour-5 (history visibility)
func (v *viewer) sees(e *api.StoredEvent) bool {
	if v == nil {
		return true
	}
	if e.Rejected || e.SoftFailed || e.Outlier {
		return false
	}
	view := gomatrixserverlib.UserView{Event: e.Event, UserID: v.userID, Visibility: visibilityBefore(e)}
	for _, h := range v.history {
		if h.seq < e.Position.Seq {
			view.Membership = h.membership
		} else if h.membership == "join" {
			view.JoinedSince = true
		}
	}
	return gomatrixserverlib.VisibleToUser(view)
}

// visibilityBefore is the history visibility in the state before an event.
func visibilityBefore(e *api.StoredEvent) gomatrixserverlib.HistoryVisibility {
	if e.HistoryVisibilityBefore != "" {
		return gomatrixserverlib.HistoryVisibility(e.HistoryVisibilityBefore)
	}
	return gomatrixserverlib.HistoryVisibility(e.HistoryVisibility)
}
