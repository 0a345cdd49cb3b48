package syncapi

import (
	"context"
	"slices"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/property"
	"github.com/matrix-org/dendrite/syncapi/api"
)

// callID is the ID of the call that an event of a call is about.
func callID(ev *event) string { return property.TextOf(ev.Content(), "call_id") }

// callOffered is the ID of the call that an event offers; "" when it does not.
func callOffered(ev *event) string {
	if ev.Type() != "m.call.invite" {
		return ""
	}
	return callID(ev)
}

// answered notes that the user took or refused a call: it is not missed.
// spec: client-server-api §voice-over-ip
func (fold *unread) answered(ev *event) {
	if ev.Type() != "m.call.answer" && ev.Type() != "m.call.reject" {
		return
	}
	id := callID(ev)
	for i := range fold.notices {
		if id != "" && fold.notices[i].Call == id {
			fold.notices[i].Call = ""
		}
	}
}

// queryUnread counts what is unread in all of a user's rooms, by the fold that
// syncs are answered from.
func (s *Server) queryUnread(ctx context.Context, r *api.UnreadRequest) (*api.UnreadResponse, error) {
	want := newVector(len(s.view.shape.rooms), len(s.view.shape.users), 0, s.view.shape.ephID)
	if r.Position.Partition < len(want.rooms) && r.EventID != "" {
		want.rooms[r.Position.Partition] = r.Position.Seq
	}
	want.users[eventlog.PartitionFor(r.UserID, len(want.users))] = r.UserSeq
	if err := s.catchUpTo(ctx, want); err != nil {
		return nil, err
	}
	u, err := s.view.user(ctx, r.UserID)
	if err != nil {
		return nil, err
	}
	defer s.view.release(u)
	res := &api.UnreadResponse{}
	_, err = s.limited(ctx, func(ctx context.Context) ([]byte, error) { return nil, s.countUnread(ctx, u, r, res) })
	return res, err
}

func (s *Server) countUnread(ctx context.Context, u *user, r *api.UnreadRequest, res *api.UnreadResponse) error {
	a := newAnswer(s, &syncRequest{filter: s.lazily}, u, "")
	if err := a.collect(ctx); err != nil {
		return err
	}
	joined := slices.DeleteFunc(a.parts, func(p *part) bool { return p.now.Membership != "join" })
	for chunk := range slices.Chunk(joined, chunkRooms) {
		if err := a.warmCounts(ctx, chunk); err != nil {
			return err
		}
		for _, p := range chunk {
			threads, err := s.unread(ctx, u, p, a.ignored)
			if matrixerror.Is(err, "M_NOT_FOUND") {
				continue // purged; the record that says so is on its way
			}
			if err != nil {
				return err
			}
			total := sum(threads)
			res.Notifications += total.notifications
			res.Highlights += total.highlights
			res.MissedCalls += total.calls
			res.Rooms += min(total.notifications, 1)
			if p.room.id == r.RoomID && r.EventID != "" {
				if res.Read, err = s.isRead(ctx, u, p, r); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// warmCounts brings what the counts of rooms need into memory, as warm does for
// all that is shown of them.
func (a *answer) warmCounts(ctx context.Context, parts []*part) error {
	if err := a.resumeFolds(ctx, parts); err != nil {
		return err
	}
	q := &questions{s: a.s, at: map[string]*inquiry{}}
	for _, p := range parts {
		lower := max(p.lower, a.u.unreadOf(p.room.id).reached())
		if lower < p.upper {
			window, whole := p.room.window(lower, p.upper)
			a.askOlder(q, p, window, whole)
		}
		a.askRead(q, p)
		a.askPolicy(q, p.room)
	}
	return q.ask(ctx)
}

// isRead tells whether one of the user's receipts is at an event or behind it, and
// it is not among what is unread, as one of another thread may be.
func (s *Server) isRead(ctx context.Context, u *user, p *part, r *api.UnreadRequest) (bool, error) {
	fold := u.unreadOf(p.room.id)
	fold.mu.Lock()
	defer fold.mu.Unlock()
	if slices.ContainsFunc(fold.notices, func(n notice) bool { return n.ID == r.EventID }) {
		return false, nil
	}
	read, err := s.marks(ctx, fold, u, p.room)
	for _, mark := range read {
		if !mark.Less(r.Position) {
			return true, err
		}
	}
	return false, err
}
