package syncapi

import (
	"context"
	"fmt"
	"time"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/syncapi/storage"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

const (
	// rebuildRooms is how many rooms are listed at once, rebuildMembers and
	// rebuildEvents how many changes and events of one are read at once.
	rebuildRooms   = 500
	rebuildMembers = 5000
	rebuildEvents  = 1000
	// rebuildLook is the pause between looks whether another instance is done.
	rebuildLook = 50 * time.Millisecond
	// rebuildRows is how many rows are stored together, about.
	rebuildRows = 2000
)

// unbuilt stands in vectors for a partition whose view is being built anew: no
// vector covers it, so that requests wait or are told to come again.
const unbuilt = -1

// rebuildAll builds anew what the log does not reach back to any more. Nobody is
// in memory yet: requests have waited.
func (c *consumer) rebuildAll(ctx context.Context) error {
	at := c.view.applied.Load().clone()
	for _, s := range c.sources {
		for s.lost {
			if err := c.view.retry(ctx, "Cannot build the view anew", func() error { return c.rebuildOnce(ctx, s) }); err != nil {
				return err
			}
			if s.lost { // another instance does it
				pause(ctx, rebuildLook)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		s.finish()
		s.reached(at)
		if s.topic == roomapi.TopicOutput {
			c.view.skip(roomapi.Position{Partition: s.partition, Seq: s.seq})
		}
	}
	c.view.publish(at)
	return nil
}

// rebuildOnce goes on where another instance has built to meanwhile, or builds
// if that is this one's to do.
func (c *consumer) rebuildOnce(ctx context.Context, s *source) error {
	offsets, err := c.view.store.Offsets(ctx, s.topic)
	if err != nil {
		return err
	}
	s.lost = false
	at := storage.Offset{}
	for _, o := range offsets {
		if o.Partition == s.partition {
			at = o
		}
	}
	if err := c.place(ctx, s, at); err != nil || !s.lost {
		s.lost = s.lost || err != nil
		return err
	}
	fence, ok := c.fenceOf(s)
	if !ok {
		return nil
	}
	c.view.log.WithField("topic", s.topic).WithField("partition", s.partition).
		Warn("Records were dropped before they were read: building the view anew")
	if s.topic == userapi.TopicUserOutput {
		return c.rebuildUsers(ctx, s, fence)
	}
	return c.rebuild(ctx, s, fence)
}

// fenceOf is what makes transactions about a partition's rows fail once they
// are another instance's; false if they are so already.
func (c *consumer) fenceOf(s *source) (func(context.Context, *sqldb.Tx) error, bool) {
	if c.leases == nil {
		return nil, true
	}
	for _, l := range c.leases.Held() {
		if l.Partition == c.number(s) {
			return func(ctx context.Context, tx *sqldb.Tx) error {
				return c.leases.Commit(ctx, tx, l, l.TopicID, l.NextOffset)
			}, true
		}
	}
	return nil, false
}

// rebuild brings the view of a partition's rooms to where the room server is,
// without the records that say how it came there. It may be repeated.
func (c *consumer) rebuild(ctx context.Context, s *source, fence func(context.Context, *sqldb.Tx) error) error {
	heads, err := roomapi.Heads(ctx, c.view.caller, false)
	if err != nil {
		return err
	}
	b := &rebuilder{v: c.view, partition: s.partition, fence: fence}
	if s.partition < len(heads) {
		b.seq = heads[s.partition]
	}
	start, err := c.firstLeft(ctx, s)
	if err != nil {
		return err
	}
	if start.Seq > b.seq+1 {
		return fmt.Errorf("the room server is at seq %d, and the log begins with %d", b.seq, start.Seq)
	}
	for _, step := range []func(context.Context) error{b.clear, b.rooms, b.outOfRoom} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	b.rows.Offsets = []storage.Offset{{Topic: s.topic, Partition: s.partition, TopicID: s.topicID, Next: start.Offset, Seq: b.seq}}
	if err := b.flush(ctx); err != nil {
		return err
	}
	s.next, s.seq, s.lost = start.Offset, b.seq, false
	s.stored = s.next
	c.view.stored.reached(s.topic, s.partition, s.seq)
	c.view.startOver(s.partition, s.seq)
	return nil
}

// firstLeft is where a partition of room.output begins now; Seq 0 if it is empty.
func (c *consumer) firstLeft(ctx context.Context, s *source) (first struct{ Offset, Seq int64 }, err error) {
	start, end, err := c.log.Bounds(ctx, s.topic, s.partition)
	if err != nil {
		return first, err
	}
	first.Offset = start
	if start == end {
		return first, nil
	}
	var records []eventlog.Record
	if records, err = c.log.Read(ctx, s.topic, s.partition, start, 1); err != nil || len(records) == 0 {
		return first, err
	}
	rec, _, err := roomapi.DecodeOutput(records[0].Value)
	if err == nil {
		first.Seq = rec.Position.Seq
	}
	return first, err
}

// rebuilder makes the rows of a partition's rooms anew, as of a Seq.
type rebuilder struct {
	v         *view
	partition int
	seq       int64
	fence     func(context.Context, *sqldb.Tx) error // nil: there is no other instance
	rows      storage.Batch                          // not stored yet
}

// added stores the rows once they are many.
func (b *rebuilder) added(ctx context.Context) error {
	if len(b.rows.Rooms)+len(b.rows.Memberships)+len(b.rows.Relations) < rebuildRows {
		return nil
	}
	return b.flush(ctx)
}

func (b *rebuilder) flush(ctx context.Context) error {
	b.rows.Fence = b.fence
	err := b.v.store.Apply(ctx, &b.rows)
	b.rows = storage.Batch{}
	return err
}

// clear drops what the view has of the partition's rooms from room.output:
// among them may be some that were purged meanwhile.
func (b *rebuilder) clear(ctx context.Context) error {
	for after := ""; ; {
		ids, err := b.v.store.KnownRooms(ctx, after, rebuildRooms)
		if err != nil || len(ids) == 0 {
			return err
		}
		after = ids[len(ids)-1]
		for _, id := range ids {
			if b.v.partition(id) == b.partition {
				b.rows.Clear = append(b.rows.Clear, id)
			}
		}
		if err := b.flush(ctx); err != nil {
			return err
		}
	}
}

// rooms adds all rooms that the room server knows.
func (b *rebuilder) rooms(ctx context.Context) error {
	for after := ""; ; {
		page, err := roomapi.QueryRooms.Call(ctx, b.v.caller, &roomapi.RoomsRequest{Partition: b.partition, After: after, Limit: rebuildRooms})
		if err != nil {
			return err
		}
		for _, r := range page.Rooms {
			after = r.RoomID
			row := storage.Room{RoomID: r.RoomID, Seq: min(r.LatestSeq, b.seq), Joined: r.JoinedCount, Invited: r.InvitedCount}
			err := b.members(ctx, r.RoomID)
			if err == nil {
				err = b.events(ctx, &row)
			}
			b.rows.Rooms = append(b.rows.Rooms, row)
			if err != nil && !matrixerror.Is(err, "M_NOT_FOUND") { // purged; the record that says so follows
				return err
			}
		}
		if !page.More {
			return nil
		}
	}
}

// members adds the changes of our users' memberships of a room.
func (b *rebuilder) members(ctx context.Context, roomID string) error {
	req := &roomapi.MemberHistoryRequest{RoomID: roomID, Server: b.v.server, ToSeq: b.seq, Limit: rebuildMembers}
	var last roomapi.MemberChange
	for {
		page, err := roomapi.QueryMemberHistory.Call(ctx, b.v.caller, req)
		if err != nil {
			return err
		}
		for _, c := range page.Changes {
			same := last.UserID == c.UserID && last.Membership == "join" && c.Membership == "join"
			last = c
			if same {
				continue // a change of profile is no change of membership
			}
			b.rows.Memberships = append(b.rows.Memberships, storage.Membership{UserID: c.UserID, RoomID: roomID, Seq: c.Seq,
				Membership: c.Membership, EventID: c.EventID, Sender: c.Sender})
		}
		if err := b.added(ctx); err != nil || !page.More {
			return err
		}
		next := *req // the request may still be read
		next.AfterUser, next.AfterSeq = page.LastUser, page.LastSeq
		req = &next
	}
}

// events adds what the events of a room relate to, and finds when the last ones
// were sent: when they were logged is not known any more.
func (b *rebuilder) events(ctx context.Context, room *storage.Room) error {
	now := b.v.now().UnixMilli()
	upTo := roomapi.Position{Partition: b.partition, Seq: b.seq}
	for from := (roomapi.Position{}); ; {
		page, err := roomapi.QueryHistory.Call(ctx, b.v.caller, &roomapi.HistoryRequest{RoomID: room.RoomID, From: from, To: upTo, Limit: rebuildEvents})
		if err != nil {
			return err
		}
		for _, e := range page.Events {
			if e.Position.Sub >= 0 {
				room.Active = min(e.OriginServerTS(), now)
				if bumps(e.Type()) {
					room.Bumped = room.Active
				}
			}
			if rel, ok := relationOf(fromStored(e)); ok {
				b.rows.Relations = append(b.rows.Relations, rel)
			}
		}
		if err := b.added(ctx); err != nil || !page.More {
			return err
		}
		from = page.Next
	}
}

// outOfRoom adds the invites and knocks of rooms that we are not in.
func (b *rebuilder) outOfRoom(ctx context.Context) error {
	for after := int64(0); ; {
		page, err := roomapi.QueryOutOfRoom.Call(ctx, b.v.caller, &roomapi.OutOfRoomRequest{Partition: b.partition, AfterSeq: after, Limit: rebuildRooms})
		if err != nil {
			return err
		}
		for i := range page.Memberships {
			m := &page.Memberships[i]
			after = m.Seq
			event, err := m.Event()
			if err != nil {
				return fmt.Errorf("membership %s of %s: %w", m.EventID, m.RoomID, err)
			}
			pos := roomapi.Position{Partition: b.partition, Seq: m.Seq}
			t := &told{
				OutputRecord: &roomapi.OutputRecord{Kind: roomapi.OutputOutOfRoom, RoomID: m.RoomID, Position: pos, StateKey: &m.UserID,
					Membership: event.Membership(), StrippedState: m.StrippedState},
				ev: fromStored(&roomapi.StoredEvent{Event: event, Position: pos}),
				at: min(event.OriginServerTS(), b.v.now().UnixMilli()),
			}
			b.rows.Memberships = append(b.rows.Memberships, newApplication(b.v).memberships(t)...)
			b.rows.Rooms = append(b.rows.Rooms, storage.Room{RoomID: m.RoomID, Seq: min(m.Seq, b.seq)})
		}
		if err := b.added(ctx); err != nil || !page.More {
			return err
		}
	}
}
