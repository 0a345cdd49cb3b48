package syncapi

import (
	"context"

	"github.com/matrix-org/dendrite/common/eventlog"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/syncapi/storage"
)

func (a *application) takeRoom(ctx context.Context, s *source, record eventlog.Record) error {
	rec, lines, err := roomapi.DecodeOutput(record.Value)
	if err != nil {
		return err
	}
	if ok, err := s.inOrder(rec.Position.Seq, record); err != nil || !ok {
		return err
	}
	if err := a.room(ctx, s, rec, lines, record.Time.UnixMilli()); err != nil {
		return err
	}
	return a.following(ctx, s)
}

// room adds what a record of room.output does.
func (a *application) room(ctx context.Context, s *source, rec *roomapi.OutputRecord, lines [][]byte, at int64) error {
	if rec.RoomID == "" { // of something that is gone
		a.steps = append(a.steps, func() { a.v.skip(rec.Position) })
		return nil
	}
	bears := a.v.bears(rec, lines)
	if a.v.shared && !a.v.concerns(s, rec, bears) && !(bears && s.owned) {
		a.touch(rec, at)
		a.steps = append(a.steps, func() { a.passOver(rec, at) })
		return nil
	}
	rows := &storage.Batch{}
	if bears {
		rows = a.rowsOf(s, rec.Position.Seq)
	}
	if rec.Kind == roomapi.OutputPurged {
		delete(a.touched, rec.RoomID)
		rows.Purge = append(rows.Purge, storage.RoomSeq{RoomID: rec.RoomID, Seq: rec.Position.Seq})
		a.steps = append(a.steps, func() { a.purge(rec) })
		return nil
	}
	a.touch(rec, at)
	if rec.Kind == roomapi.OutputHistoryPurged {
		rows.Gone = append(rows.Gone, goneRows(rec))
		a.steps = append(a.steps, func() { a.purgeHistory(rec, at) })
		return nil
	}
	t, err := decodeRecord(rec, lines)
	if err != nil {
		return err
	}
	t.at = at
	if err := a.v.complete(ctx, t); err != nil {
		return err
	}
	members := a.memberships(t)
	rows.Memberships = append(rows.Memberships, members...)
	if t.inTimeline() {
		if rel, ok := relationOf(t.ev); ok {
			t.ev.rel = &rel
			rows.Relations = append(rows.Relations, rel)
		}
	}
	if rec.Redacts != "" {
		rows.Unrelate = append(rows.Unrelate, storage.RoomEvent{RoomID: rec.RoomID, EventID: rec.Redacts})
	}
	a.steps = append(a.steps, func() { a.applyRoom(t, members) })
	return nil
}

// touch notes where a room is after the batch.
func (a *application) touch(rec *roomapi.OutputRecord, at int64) {
	a.touched[rec.RoomID] = roomAfter(a.touched[rec.RoomID], rec, at)
}

// memberships are the changes of our users' memberships that a record makes.
func (a *application) memberships(t *told) []storage.Membership {
	var out []storage.Membership
	add := func(userID, membership string, by *event) *storage.Membership {
		m := storage.Membership{UserID: userID, RoomID: t.RoomID, Seq: t.Position.Seq, Membership: membership, TS: t.at}
		if by != nil {
			m.EventID, m.Sender = by.EventID(), by.Sender()
		}
		out = append(out, m)
		return &out[len(out)-1]
	}
	if t.Kind == roomapi.OutputOutOfRoom {
		if t.StateKey != nil && a.v.local(*t.StateKey) && t.Membership != "" {
			add(*t.StateKey, t.Membership, t.ev).Stripped = t.outside()
		}
		return out
	}
	for _, c := range t.changes {
		switch {
		case c.Type != typeMember || !a.v.local(c.StateKey.StateKey):
		case c.ev == nil && c.eventID != "":
			a.v.log.WithField("room", t.RoomID).WithField("event", c.eventID).Error("A member event is not to be had")
		case c.ev == nil:
			add(c.StateKey.StateKey, "leave", nil)
		case c.ev == t.ev && t.Membership == "join" && t.MembershipBefore == "join":
			// A change of profile is no change of membership.
		default:
			add(c.StateKey.StateKey, c.ev.Membership(), c.ev)
		}
	}
	return out
}

// local tells whether the user is ours.
func (v *view) local(userID string) bool {
	return len(userID) > len(v.server)+1 && userID[len(userID)-len(v.server):] == v.server && userID[len(userID)-len(v.server)-1] == ':'
}

// skip notes a record that shows nothing.
func (v *view) skip(pos roomapi.Position) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.progress[pos.Partition] = max(v.progress[pos.Partition], pos.Seq)
}

// applyRoom changes the room and its members in memory.
func (a *application) applyRoom(t *told, members []storage.Membership) {
	v := a.v
	v.mu.Lock()
	defer v.mu.Unlock()
	p, seq := t.Position.Partition, t.Position.Seq
	r, _ := v.roomLocked(t.RoomID)
	v.progress[p] = max(v.progress[p], seq)
	v.dirty[t.RoomID] = roomAfter(v.dirty[t.RoomID], t.OutputRecord, t.at)
	r.touch(t.OutputRecord, t.at)
	if t.Redacts != "" {
		grown, err := r.redact(t.Redacts, t.EventID, seq)
		if err != nil {
			v.log.WithError(err).WithField("room", t.RoomID).Error("Cannot redact an event in memory")
			grown -= r.forgetTail(seq - 1)
		}
		if grown != 0 {
			v.grownLocked(r, grown)
		}
	}
	if grown := r.changeState(t) + r.changeOlder(t); grown != 0 {
		v.grownLocked(r, grown)
	}
	if t.Kind == roomapi.OutputUnrejected && t.ev != nil && !t.live() {
		v.grownLocked(r, -r.forgetTail(seq-1)) // it stands somewhere among the others
	}
	entry := t.entry()
	switch {
	case t.large:
		v.grownLocked(r, -r.forgetTail(seq))
	case entry != nil:
		v.grownLocked(r, r.add(entry))
	}
	if entry != nil {
		for u := range r.active {
			a.woken[u] = struct{}{}
		}
	}
	if len(members) > 0 {
		v.move(p, seq, r.active)
	}
	for _, m := range members {
		u, ok := v.users[m.UserID]
		if !ok {
			continue
		}
		u.apply(func() {
			current, _ := v.roomLocked(m.RoomID) // later, where the user is being loaded
			v.changeMembership(u, current, m)
			u.moved[p] = max(u.moved[p], seq)
		})
		a.woken[u] = struct{}{}
	}
	v.dropIdleRoom(r)
}

// purge forgets all of a room up to the record.
func (a *application) purge(rec *roomapi.OutputRecord) {
	v, seq := a.v, rec.Position.Seq
	v.skip(rec.Position)
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.dirty, rec.RoomID)
	r, _ := v.roomLocked(rec.RoomID)
	if r.place != nil {
		v.order.Remove(r.place)
		r.place = nil
	}
	v.bytes -= r.forgetTail(seq)
	for _, u := range v.users {
		u.apply(func() { u.purge(r, seq) })
	}
	v.dropIdleRoom(r)
}
