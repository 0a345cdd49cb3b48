package directoryapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/matrix-org/dendrite/common/consumer"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/directoryapi/storage"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomserver "github.com/matrix-org/dendrite/roomserver/api"
)

// change is what one output record means to the view.
type change struct {
	partition int
	seq       int64
	roomID    string
	version   string
	purged    bool
	// describes tells that the record says how many members the room has, and
	// patches what else of it changes.
	describes bool
	joined    int
	// rebuilt tells that the patches are all that is known of the room.
	rebuilt bool
	patches []patch
	members []memberChange
	// annotation is what a local user has sent, gone what was redacted or purged.
	annotation *storage.Annotation
	gone       []string
}

// idle tells that the view stays as it is.
func (c *change) idle() bool {
	return !c.purged && !c.describes && len(c.members) == 0 && c.annotation == nil && len(c.gone) == 0
}

// memberChange is a local user's new membership; "" for none any more.
type memberChange struct {
	userID string
	room   api.UserRoom
}

// apply brings the view up to date with a batch: its effects and the offsets in
// one transaction.
func (s *Server) apply(ctx context.Context, batch *consumer.Batch) error {
	changes := make([]change, 0, len(batch.Records))
	for i := range batch.Records {
		c, err := s.read(ctx, batch.Records[i].Value)
		if err != nil {
			return fmt.Errorf("directoryapi: partition %d, offset %d: %w", batch.Records[i].Partition, batch.Records[i].Offset, err)
		}
		c.partition = batch.Records[i].Partition
		changes = append(changes, c)
	}
	if s.skippable(changes) {
		batch.Skip()
		s.progress.Advance(s.applied)
		if !s.sole {
			select {
			case <-s.skipped: // what was to be told before is less
			default:
			}
			s.skipped <- maps.Clone(s.applied)
		}
		return nil
	}
	seqs, err := s.commit(ctx, batch, changes)
	var missing *gap
	if errors.As(err, &missing) {
		s.logger.WithError(err).Warn("The view cannot go on from here: building it anew")
		if err = s.rebuild(ctx, missing.partition); err == nil {
			seqs, err = s.commit(ctx, batch, changes)
		}
	}
	if err != nil {
		return fmt.Errorf("directoryapi: %w", err)
	}
	for partition, seq := range seqs {
		s.applied[partition] = seq
	}
	s.committed = s.now()
	s.progress.Advance(seqs)
	return nil
}

// commit stores the effects of changes and the offsets of their batch; it returns
// the positions after them.
func (s *Server) commit(ctx context.Context, batch *consumer.Batch, changes []change) (seqs map[int]int64, err error) {
	err = s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if seqs, err = s.write(ctx, tx, changes); err != nil {
			return err
		}
		return batch.Commit(ctx, tx)
	})
	return seqs, err
}

// gap says that records are missing that the view has not seen: a topic may
// begin behind them, where it was made anew.
type gap struct {
	partition int
	last, seq int64
}

// Error implements error.
func (g *gap) Error() string {
	return fmt.Sprintf("partition %d goes from seq %d to %d: records are missing", g.partition, g.last, g.seq)
}

// maxSkip is how long batches that mean nothing to the view may go by before
// its positions are stored all the same: each commit is an fsync.
const maxSkip = time.Second

// skippable tells whether no change of a batch means anything to the view and
// each follows the one before; it notes them as applied then.
func (s *Server) skippable(changes []change) bool {
	if s.now().Sub(s.committed) > maxSkip {
		return false
	}
	next := maps.Clone(s.applied)
	for i := range changes {
		c := &changes[i]
		last, known := next[c.partition]
		if !known || !c.idle() || c.seq > last+1 {
			return false
		}
		next[c.partition] = max(last, c.seq)
	}
	s.applied = next
	return true
}

// write stores the effects of changes that the view has not seen, and returns
// the positions after them.
func (s *Server) write(ctx context.Context, tx *sqldb.Tx, changes []change) (map[int]int64, error) {
	seqs, err := s.db.PositionsTx(ctx, tx)
	if err != nil {
		return nil, err
	}
	for partition, seq := range s.applied {
		seqs[partition] = max(seqs[partition], seq)
	}
	moved, d := map[int]int64{}, newDraft()
	for i := range changes {
		c := &changes[i]
		last := seqs[c.partition]
		if c.seq <= last {
			continue // seen before: published again after a crash
		}
		if c.seq != last+1 {
			return nil, &gap{c.partition, last, c.seq}
		}
		if err := s.writeChange(ctx, tx, c, d); err != nil {
			return nil, err
		}
		seqs[c.partition] = c.seq
		moved[c.partition] = c.seq
	}
	if err := s.flush(ctx, tx, d); err != nil {
		return nil, err
	}
	if err := s.db.PutPositionsTx(ctx, tx, moved); err != nil {
		return nil, err
	}
	return seqs, nil
}

// writeChange writes a change, or adds to a draft what can wait.
func (s *Server) writeChange(ctx context.Context, tx *sqldb.Tx, c *change, d *draft) error {
	if c.purged {
		if err := s.flush(ctx, tx, d); err != nil {
			return err
		}
		return s.db.PurgeRoom(ctx, tx, c.roomID)
	}
	if c.annotation != nil {
		if err := s.db.PutAnnotation(ctx, tx, c.annotation); err != nil {
			return err
		}
	}
	if len(c.gone) > 0 {
		if err := s.db.DropAnnotations(ctx, tx, c.roomID, c.gone); err != nil {
			return err
		}
	}
	d.add(c)
	return nil
}

// read decodes a record as far as the view is concerned: most are messages and
// mean nothing to it.
func (s *Server) read(ctx context.Context, value []byte) (change, error) {
	rec, lines, err := roomserver.DecodeOutput(value)
	if err != nil {
		return change{}, err
	}
	c := change{seq: rec.Position.Seq, roomID: rec.RoomID, version: rec.RoomVersion, joined: rec.JoinedCount}
	switch rec.Kind {
	case roomserver.OutputPurged:
		c.purged = rec.RoomID != ""
		return c, nil
	case roomserver.OutputHistoryPurged:
		c.gone = rec.PurgedIDs()
		return c, nil
	case roomserver.OutputOutOfRoom:
		return c, s.readOutOfRoom(rec, lines, &c)
	}
	if rec.Redacts != "" {
		c.gone = []string{rec.Redacts}
	}
	if c.annotation, err = annotationOf(rec, lines); err != nil {
		return c, err
	}
	c.describes = len(rec.Changes) > 0
	wanted := s.wanted(rec.Changes, &c)
	events, err := s.changedEvents(ctx, rec, wanted, lines)
	if err != nil {
		return c, err
	}
	for _, ch := range wanted {
		event := events[ch.EventID]
		if ch.EventID != "" && event == nil {
			continue // purged since; the record that says so follows
		}
		c.set(ch.Type, ch.StateKey, event)
	}
	return c, nil
}

// watches tells whether an entry of the state means anything to the view.
func (s *Server) watches(typ, stateKey string) bool {
	_, watched := watchedTypes(typ, stateKey)
	return watched || typ == "m.room.member" && s.local(stateKey)
}

// wanted are the changes that the view has to see the events of. Memberships are
// noted at once, where the changes tell them: those of before v0.2.0 do not.
func (s *Server) wanted(changes []roomserver.StateChange, c *change) (out []roomserver.StateChange) {
	for _, ch := range changes {
		switch {
		case !s.watches(ch.Type, ch.StateKey):
		case ch.Type == "m.room.member" && ch.Membership != "":
			c.members = append(c.members, memberChange{userID: ch.StateKey,
				room: api.UserRoom{RoomID: c.roomID, EventID: ch.EventID, Membership: ch.Membership}})
		default:
			out = append(out, ch)
		}
	}
	return out
}

// set notes what is now at an entry that the view watches; nil for nothing.
func (c *change) set(typ, stateKey string, event *gomatrixserverlib.Event) {
	if p, watched := watchedTypes(typ, stateKey); watched {
		c.patches = append(c.patches, p(event))
		return
	}
	m := memberChange{userID: stateKey, room: api.UserRoom{RoomID: c.roomID}}
	if event != nil {
		m.room.EventID, m.room.Membership = event.EventID(), event.Membership()
	}
	c.members = append(c.members, m)
}

// readOutOfRoom reads an invite, a knock or a retraction of a room that nobody
// of ours is in.
func (s *Server) readOutOfRoom(rec *roomserver.OutputRecord, lines [][]byte, c *change) error {
	if rec.StateKey == nil || rec.Type != "m.room.member" || !s.local(*rec.StateKey) || len(lines) == 0 {
		return nil
	}
	event, err := gomatrixserverlib.ParseStoredEvent(lines[0], gomatrixserverlib.RoomVersion(rec.RoomVersion), rec.EventID)
	if err != nil {
		return err
	}
	c.members = append(c.members, memberChange{
		userID: *rec.StateKey,
		room:   api.UserRoom{RoomID: rec.RoomID, Membership: event.Membership(), EventID: rec.EventID},
	})
	return nil
}

// changedEvents are the events of changes: those that the record holds, and
// from the room server those that it only names.
func (s *Server) changedEvents(ctx context.Context, rec *roomserver.OutputRecord, changes []roomserver.StateChange, lines [][]byte) (map[string]*gomatrixserverlib.Event, error) {
	out := map[string]*gomatrixserverlib.Event{}
	var missing []string
	for _, ch := range changes {
		switch {
		case ch.EventID == "":
		case ch.Line > 0 && ch.Line < len(lines), ch.EventID == rec.EventID && len(lines) > 0:
			event, err := gomatrixserverlib.ParseStoredEvent(lines[ch.Line], gomatrixserverlib.RoomVersion(rec.RoomVersion), ch.EventID)
			if err != nil {
				return nil, err
			}
			out[ch.EventID] = event
		default:
			missing = append(missing, ch.EventID)
		}
	}
	if len(missing) == 0 {
		return out, nil
	}
	res, err := roomserver.QueryEvents.Call(ctx, s.caller, &roomserver.EventsRequest{RoomID: rec.RoomID, EventIDs: missing})
	if err != nil {
		return nil, err
	}
	for _, e := range res.Events {
		out[e.EventID()] = e.Event
	}
	return out, nil
}

// local tells whether a user is this server's.
func (s *Server) local(userID string) bool {
	_, server, ok := strings.Cut(userID, ":")
	return ok && server == s.serverName
}

// annotationOf reads an annotation that a local user has sent; nil for all
// other events, most of which are told from it without being parsed.
func annotationOf(rec *roomserver.OutputRecord, lines [][]byte) (*storage.Annotation, error) {
	if !rec.Local || rec.SoftFailed || rec.StateKey != nil || rec.Kind != roomserver.OutputEvent ||
		len(lines) == 0 || !bytes.Contains(lines[0], []byte("m.annotation")) {
		return nil, nil
	}
	event, err := gomatrixserverlib.ParseStoredEvent(lines[0], gomatrixserverlib.RoomVersion(rec.RoomVersion), rec.EventID)
	if err != nil {
		return nil, err
	}
	rel, ok := api.ParseAnnotation(event.Content())
	if !ok {
		return nil, nil
	}
	return &storage.Annotation{
		RoomID: rec.RoomID, Parent: rel.EventID, Sender: rec.Sender, Type: rec.Type, Key: rel.Key, EventID: rec.EventID,
	}, nil
}
