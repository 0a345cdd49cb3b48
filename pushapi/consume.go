package pushapi

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/common/consumer"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/pushapi/storage"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

const typeMember = "m.room.member"

// maxSkip is how many records without news may go by before it is stored that they
// were judged: who takes up the partition judges them again.
const maxSkip = 1000

// judge judges a batch of room.output: what is to be told, and the offsets, in one
// transaction. A batch of which nobody is told is not stored by itself.
func (s *Server) judge(ctx context.Context, batch *consumer.Batch) error {
	if err := s.welcome(ctx); err != nil {
		return err
	}
	d := &draft{s: s, reached: map[int]int64{}}
	for i := range batch.Records {
		if err := d.take(ctx, &batch.Records[i]); err != nil {
			d.undo()
			return fmt.Errorf("pushapi: partition %d, offset %d: %w", batch.Records[i].Partition, batch.Records[i].Offset, err)
		}
	}
	if len(d.news)+len(d.gone) == 0 && !d.long() {
		batch.Skip()
		d.finish(false)
		return nil
	}
	err := s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := s.db.PutNews(ctx, tx, d.news); err != nil {
			return err
		}
		if err := s.db.PutMarks(ctx, tx, d.marks()); err != nil {
			return err
		}
		if err := s.db.DropGone(ctx, tx, d.gone); err != nil {
			return err
		}
		if err := s.db.PutPositions(ctx, tx, d.reached); err != nil {
			return err
		}
		return batch.Commit(ctx, tx)
	})
	if err != nil {
		d.undo()
		return fmt.Errorf("pushapi: news: %w", err)
	}
	d.finish(true)
	return nil
}

// draft is what a batch comes to.
type draft struct {
	s *Server
	// reached is the Seq judged of each partition.
	reached map[int]int64
	news    []storage.News
	owners  []string // of news, by place
	gone    []storage.Gone
	undone  []undo
}

// undo takes back that somebody has come to a room of a partition, or gone.
type undo struct {
	p *partition
	f func()
}

// undo takes memberships back that were noted, so that the batch can be judged again.
func (d *draft) undo() {
	for _, u := range slices.Backward(d.undone) {
		u.f()
	}
}

// long tells whether much has gone by that is not stored.
func (d *draft) long() bool {
	for number, seq := range d.reached {
		if seq > d.s.rooms.partitions[number].stored+maxSkip {
			return true
		}
	}
	return false
}

func (d *draft) finish(stored bool) {
	for number, seq := range d.reached {
		p := d.s.rooms.partitions[number]
		p.applied = seq
		if stored {
			p.stored = seq
		}
	}
	d.s.metrics.news.Add(float64(len(d.news)))
	if len(d.news) > 0 {
		d.s.hurry()
	}
}

// marks are one for each pusher that has news.
func (d *draft) marks() []storage.Mark {
	seen := map[string]struct{}{}
	var out []storage.Mark
	for i, n := range d.news {
		if _, twice := seen[n.PusherID]; twice {
			continue
		}
		seen[n.PusherID] = struct{}{}
		out = append(out, storage.Mark{PusherID: n.PusherID, UserID: d.owners[i], UserPartition: d.s.partitionOf(d.owners[i])})
	}
	return out
}

// take judges one record, unless it was judged before.
func (d *draft) take(ctx context.Context, r *consumer.Record) error {
	rec, lines, err := roomapi.DecodeOutput(r.Value)
	if err != nil {
		return err
	}
	p, seq := d.s.rooms.partitions[r.Partition], rec.Position.Seq
	if p == nil {
		return fmt.Errorf("the partition was not entered")
	}
	last := max(p.applied, d.reached[r.Partition])
	if seq <= last {
		return nil // published again after a crash
	}
	if seq > last+1 && last > 0 { // records are gone: who is where may have changed
		d.s.logger.WithField("partition", r.Partition).Warnf("room.output goes from %d to %d: nobody is told of what was between", last, seq)
		if err := d.anew(ctx, r.Partition, p, seq-1); err != nil {
			return err
		}
	}
	if fresh := d.s.now().Sub(r.Time) < d.s.config.Lifetime; fresh && tellable(rec) && len(lines) > 0 {
		if err := d.judge(ctx, p, rec, lines[0], r.Time); err != nil {
			return err
		}
	}
	if rec.RoomID != "" && (rec.Kind == roomapi.OutputPurged || rec.Kind == roomapi.OutputHistoryPurged) {
		g := storage.Gone{RoomID: rec.RoomID, Seq: seq}
		if rec.Kind == roomapi.OutputHistoryPurged {
			g.EventIDs = rec.PurgedIDs()
		}
		d.gone = append(d.gone, g)
	}
	d.move(p, rec)
	d.reached[r.Partition] = seq
	return nil
}

// anew asks who of all people is in a partition's rooms as of a Seq, or later, since
// what came before that is gone. There is nothing to take back then.
func (d *draft) anew(ctx context.Context, number int, p *partition, seq int64) error {
	now := &partition{rooms: map[string]map[string]struct{}{}}
	if err := d.s.askRooms(ctx, number, now, d.s.people.ids(), seq); err != nil {
		d.s.rooms.members.Add(-now.size())
		return err
	}
	d.s.rooms.members.Add(-p.size())
	p.rooms, d.reached[number] = now.rooms, seq
	d.undone = slices.DeleteFunc(d.undone, func(u undo) bool { return u.p == p })
	return nil
}

// tellable tells whether a record brings an event that users may be told of: one at
// the end of the timeline, or an invite.
func tellable(rec *roomapi.OutputRecord) bool {
	switch rec.Kind {
	case roomapi.OutputEvent, roomapi.OutputUnrejected:
		return !rec.SoftFailed && rec.Place == (roomapi.Position{})
	case roomapi.OutputOutOfRoom:
		return rec.Type == typeMember
	}
	return false
}

// move notes who came to the room, or went.
func (d *draft) move(p *partition, rec *roomapi.OutputRecord) {
	if rec.Kind == roomapi.OutputPurged {
		for userID := range maps.Clone(p.rooms[rec.RoomID]) {
			d.undone = append(d.undone, undo{p, d.s.rooms.part(p, rec.RoomID, userID)})
		}
		return
	}
	for i := range rec.Changes {
		c := &rec.Changes[i]
		if c.Type != typeMember {
			continue
		}
		if c.Membership == "join" && d.s.people.get(c.StateKey) != nil {
			d.undone = append(d.undone, undo{p, d.s.rooms.join(p, rec.RoomID, c.StateKey)})
		} else if c.Membership != "join" {
			d.undone = append(d.undone, undo{p, d.s.rooms.part(p, rec.RoomID, c.StateKey)})
		}
	}
}

// judge judges an event for all people in its room, and for who is invited by it.
func (d *draft) judge(ctx context.Context, p *partition, rec *roomapi.OutputRecord, line []byte, at time.Time) error {
	members := p.rooms[rec.RoomID]
	invited := d.invited(rec)
	if len(members) == 0 && invited == nil {
		return nil
	}
	ev, err := gomatrixserverlib.ParseStoredEvent(line, gomatrixserverlib.RoomVersion(rec.RoomVersion), rec.EventID)
	if err != nil {
		return err
	}
	if ev.Redacted() {
		return nil
	}
	j := d.s.newJudge(ev, rec)
	for userID := range members {
		person := d.s.people.get(userID)
		if person == nil { // has no pusher any more
			d.undone = append(d.undone, undo{p, d.s.rooms.part(p, rec.RoomID, userID)})
			continue
		}
		if err := d.judgeFor(ctx, j, person, rec, at, ""); err != nil {
			return err
		}
	}
	if invited == nil {
		return nil
	}
	if _, in := members[invited.id]; !in {
		event := ""
		if rec.Kind == roomapi.OutputOutOfRoom {
			event = string(line)
		}
		return d.judgeFor(ctx, j, invited, rec, at, event)
	}
	return nil
}

// invited returns the person whom a record's event invites; nil for nobody.
func (d *draft) invited(rec *roomapi.OutputRecord) *person {
	if rec.Type != typeMember || rec.StateKey == nil || rec.Kind != roomapi.OutputOutOfRoom && rec.Membership != "invite" {
		return nil
	}
	u := d.s.people.get(*rec.StateKey)
	// spec: client-server-api §invite-permission
	if u == nil || u.invites.Action(rec.Sender) != userapi.InviteAllowed {
		return nil
	}
	return u
}

// judgeFor judges an event for a person, and notes what its pushers are to be told.
func (d *draft) judgeFor(ctx context.Context, j *judge, u *person, rec *roomapi.OutputRecord, at time.Time, event string) error {
	if rec.Sender == u.id {
		return nil
	}
	if _, ignored := u.ignored[rec.Sender]; ignored {
		return nil
	}
	verdict, err := j.of(ctx, u)
	if err != nil || !verdict.Notify {
		return err
	}
	tweaks, err := json.Marshal(verdict.Tweaks, json.Deterministic(true))
	if err != nil {
		return err
	}
	for i := range u.pushers {
		d.news = append(d.news, storage.News{PusherID: u.pushers[i].ID, RoomID: rec.RoomID, EventID: rec.EventID, Partition: rec.Position.Partition,
			Seq: rec.Position.Seq, Tweaks: string(tweaks), Event: event, Version: rec.RoomVersion, LoggedTS: at.UnixMilli()})
		d.owners = append(d.owners, u.id)
	}
	return nil
}
