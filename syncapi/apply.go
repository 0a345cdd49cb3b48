package syncapi

import (
	"bytes"
	"context"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/syncapi/storage"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// application is a batch of records on its way into the view: first the rows
// for the database, then the steps that change what is in memory.
type application struct {
	v     *view
	rows  storage.Batch
	steps []func()
	woken map[*user]struct{}
}

func newApplication(v *view) *application {
	return &application{v: v, woken: map[*user]struct{}{}}
}

// apply changes what is in memory.
func (a *application) apply() {
	for _, step := range a.steps {
		step()
	}
}

// wake wakes the requests of everybody whom the batch concerns.
func (a *application) wake() {
	for u := range a.woken {
		u.notify()
	}
}

// take decodes a record and, if it is the next of its partition, adds what it
// does. An undecodable record stops the consumer: nothing after it may be shown.
func (a *application) take(ctx context.Context, s *source, record eventlog.Record) error {
	var err error
	switch s.topic {
	case roomapi.TopicOutput:
		err = a.takeRoom(ctx, s, record)
	case userapi.TopicUserOutput:
		err = a.takeUser(ctx, s, record)
	case userapi.TopicEphemeral:
		err = a.takeEphemeral(s, record)
	}
	if err != nil {
		return fmt.Errorf("syncapi: %s/%d at offset %d: %w", s.topic, s.partition, record.Offset, err)
	}
	return nil
}

// inOrder tells whether a record with the Seq is the next one. Lower ones were
// applied before; higher ones wait for what is missing.
func (s *source) inOrder(seq int64, record eventlog.Record) (bool, error) {
	switch {
	case seq <= s.seq:
		return false, nil
	case seq > s.seq+1:
		if len(s.held) >= maxHeld {
			return false, fmt.Errorf("seq %d is missing", s.seq+1)
		}
		s.held[seq] = record
		return false, nil
	}
	s.seq = seq
	return true, nil
}

// following takes the records that waited for the last one.
func (a *application) following(ctx context.Context, s *source) error {
	next, ok := s.held[s.seq+1]
	if !ok {
		return nil
	}
	delete(s.held, s.seq+1)
	return a.take(ctx, s, next)
}

func (a *application) takeRoom(ctx context.Context, s *source, record eventlog.Record) error {
	rec, lines, err := roomapi.DecodeOutput(record.Value)
	if err != nil {
		return err
	}
	if rec.Position.Sub == 0 {
		if ok, err := s.inOrder(rec.Position.Seq, record); err != nil || !ok {
			return err
		}
	}
	if err := a.room(ctx, rec, lines); err != nil {
		return err
	}
	return a.following(ctx, s)
}

// room adds what a record of room.output does.
func (a *application) room(ctx context.Context, rec *roomapi.OutputRecord, lines [][]byte) error {
	if rec.Kind == roomapi.OutputPurged {
		a.rows.Purge = append(a.rows.Purge, rec.RoomID)
		a.steps = append(a.steps, func() { a.v.purge(rec.RoomID) })
		return nil
	}
	ev, err := decodeEvent(rec, lines)
	if err != nil {
		return err
	}
	if rec.SoftFailed {
		a.steps = append(a.steps, func() { a.v.skip(rec.Position) })
		return nil
	}
	if err := a.v.complete(ctx, rec, ev); err != nil {
		return err
	}
	members := a.memberships(rec, ev)
	a.rows.Memberships = append(a.rows.Memberships, members...)
	if ev.Event != nil && !ev.IsState() && rec.Kind != roomapi.OutputOutOfRoom {
		if rel, ok := relationOf(ev); ok {
			ev.rel = &rel
			a.rows.Relations = append(a.rows.Relations, rel)
		}
	}
	if rec.Redacts != "" {
		a.rows.Unrelate = append(a.rows.Unrelate, storage.RoomEvent{RoomID: rec.RoomID, EventID: rec.Redacts})
	}
	a.steps = append(a.steps, func() { a.applyRoom(rec, ev, members) })
	return nil
}

// decodeEvent reads a record's own event and those of its changes.
func decodeEvent(rec *roomapi.OutputRecord, lines [][]byte) (*event, error) {
	version := gomatrixserverlib.RoomVersion(rec.RoomVersion)
	own := rec.Kind == roomapi.OutputEvent || rec.Kind == roomapi.OutputBackfilled || rec.Kind == roomapi.OutputUnrejected || rec.Kind == roomapi.OutputOutOfRoom
	stored := &roomapi.StoredEvent{
		Position: rec.Position, ReplacesState: rec.ReplacesState, Device: rec.Device, TxnID: rec.TxnID,
		HistoryVisibility: rec.HistoryVisibility, SoftFailed: rec.SoftFailed,
	}
	ev := &event{StoredEvent: stored, limited: rec.Limited, hvBefore: rec.HistoryVisibilityBefore, memberBefore: rec.MembershipBefore}
	ev.hidden = rec.Kind != roomapi.OutputEvent
	if own && len(lines) > 0 && rec.EventID != "" {
		parsed, err := gomatrixserverlib.ParseStoredEvent(lines[0], version, rec.EventID)
		if err != nil {
			return nil, err
		}
		stored.Event = parsed
	} else if rec.Kind == roomapi.OutputEvent {
		return nil, fmt.Errorf("record %d holds no event", rec.Position.Seq)
	}
	for _, c := range rec.Changes {
		ch := change{StateKey: gomatrixserverlib.StateKey{Type: c.Type, StateKey: c.StateKey}, eventID: c.EventID, replaced: c.Replaced}
		switch {
		case c.EventID == "":
		case c.EventID == rec.EventID && stored.Event != nil:
			ch.ev = ev
		case (c.Line > 0 || !own) && c.Line < len(lines):
			parsed, err := gomatrixserverlib.ParseStoredEvent(lines[c.Line], version, c.EventID)
			if err != nil {
				return nil, err
			}
			ch.ev = fromStored(&roomapi.StoredEvent{Event: parsed, Position: rec.Position, ReplacesState: c.Replaced})
		}
		ev.changes = append(ev.changes, ch)
	}
	return ev, nil
}

// complete fetches events of changes that the record only names.
func (v *view) complete(ctx context.Context, rec *roomapi.OutputRecord, ev *event) error {
	var missing []string
	for _, c := range ev.changes {
		if c.ev == nil && c.eventID != "" {
			missing = append(missing, c.eventID)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	res, err := roomapi.QueryEvents.Call(ctx, v.caller, &roomapi.EventsRequest{RoomID: rec.RoomID, EventIDs: missing})
	if err != nil {
		return err
	}
	found := map[string]*roomapi.StoredEvent{}
	for _, e := range res.Events {
		found[e.EventID()] = e
	}
	for i := range ev.changes {
		if e, ok := found[ev.changes[i].eventID]; ok && ev.changes[i].ev == nil {
			ev.changes[i].ev = fromStored(e)
		}
	}
	return nil
}

// memberships are the changes of our users' memberships that a record makes.
func (a *application) memberships(rec *roomapi.OutputRecord, ev *event) []storage.Membership {
	var out []storage.Membership
	add := func(userID, membership string, by *event) {
		if !a.v.local(userID) {
			return
		}
		m := storage.Membership{UserID: userID, RoomID: rec.RoomID, Seq: rec.Position.Seq, Membership: membership}
		if by != nil && by.Event != nil {
			m.EventID, m.Sender = by.EventID(), by.Sender()
		}
		if rec.Kind == roomapi.OutputOutOfRoom {
			m.Stripped = string(rec.StrippedState)
		}
		out = append(out, m)
	}
	if rec.Kind == roomapi.OutputOutOfRoom && rec.StateKey != nil {
		add(*rec.StateKey, rec.Membership, ev)
		return out
	}
	for _, c := range ev.changes {
		switch {
		case c.Type != "m.room.member":
		case c.ev == nil && c.eventID != "":
			a.v.log.WithField("room", rec.RoomID).WithField("event", c.eventID).Error("A member event is not to be had")
		case c.ev == nil:
			add(c.StateKey.StateKey, "leave", nil)
		case c.ev == ev && rec.Membership == "join" && rec.MembershipBefore == "join":
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
func (a *application) applyRoom(rec *roomapi.OutputRecord, ev *event, members []storage.Membership) {
	v := a.v
	v.mu.Lock()
	defer v.mu.Unlock()
	p := rec.Position.Partition
	r, _ := v.roomLocked(rec.RoomID)
	if rec.Position.Sub != 0 {
		return // old events are in no tail
	}
	v.progress[p] = max(v.progress[p], rec.Position.Seq)
	v.dirty[rec.RoomID] = storage.Room{RoomID: rec.RoomID, Seq: rec.Position.Seq, Joined: rec.JoinedCount, Invited: rec.InvitedCount}
	r.touch(rec)
	if rec.Redacts != "" {
		if err := r.redact(rec.Redacts, rec.EventID); err != nil {
			v.log.WithError(err).WithField("room", rec.RoomID).Error("Cannot redact an event in memory")
			v.grownLocked(r, -r.forgetTail(rec.Position.Seq-1))
		}
	}
	if rec.Kind != roomapi.OutputOutOfRoom {
		v.grownLocked(r, r.add(ev))
	}
	for u := range r.active {
		a.woken[u] = struct{}{}
	}
	for _, m := range members {
		u, ok := v.users[m.UserID]
		if !ok {
			continue
		}
		u.apply(func() {
			current, _ := v.roomLocked(m.RoomID) // later, where the user is being loaded
			v.changeMembership(u, current, m)
		})
		a.woken[u] = struct{}{}
	}
	v.dropIdleRoom(r)
}

func (a *application) takeUser(ctx context.Context, s *source, record eventlog.Record) error {
	var c userapi.UserChange
	if err := json.Unmarshal(record.Value, &c); err != nil {
		return err
	}
	if c.Kind == userapi.ChangeResync {
		s.skipTo(c.Seq)
	}
	if ok, err := s.inOrder(c.Seq, record); err != nil || !ok {
		return err
	}
	a.user(&c)
	return a.following(ctx, s)
}

// user adds what a record of user.output does.
func (a *application) user(c *userapi.UserChange) {
	switch c.Kind {
	case userapi.ChangeAccountData:
		a.accountData(c, c.Type)
	case userapi.ChangePushRules:
		a.accountData(c, typePushRules)
	case userapi.ChangeReceipt:
		if c.Receipt != nil {
			a.receipt(c)
		}
	case userapi.ChangeForget:
		a.forget(c)
	}
}

func (a *application) accountData(c *userapi.UserChange, typ string) {
	a.rows.Markers = append(a.rows.Markers, storage.Marker{
		UserID: c.UserID, Kind: string(userapi.ChangeAccountData), RoomID: c.RoomID, Type: typ, Seq: c.Seq})
	content := c.Content
	if len(content) == 0 {
		content = jsontext.Value("{}")
	}
	a.withUser(c.UserID, func(u *user) { u.setAccount(c.RoomID, typ, c.Seq, content) })
}

// withUser changes a user who is in memory, and wakes him.
func (a *application) withUser(id string, f func(*user)) {
	a.steps = append(a.steps, func() {
		a.v.mu.Lock()
		defer a.v.mu.Unlock()
		if u, ok := a.v.users[id]; ok {
			u.apply(func() { f(u) })
			a.woken[u] = struct{}{}
		}
	})
}

func (a *application) receipt(c *userapi.UserChange) {
	row := storage.Receipt{RoomID: c.RoomID, UserID: c.UserID, Type: c.Receipt.Type, ThreadID: c.Receipt.ThreadID,
		EventID: c.Receipt.EventID, TS: c.Receipt.TS, Seq: c.Seq}
	a.rows.Receipts = append(a.rows.Receipts, row)
	a.steps = append(a.steps, func() {
		v := a.v
		v.mu.Lock()
		defer v.mu.Unlock()
		r, ok := v.rooms[c.RoomID]
		if !ok {
			return
		}
		r.putReceipt(row)
		for u := range r.active {
			if row.Type != receiptPrivate || u.id == c.UserID {
				a.woken[u] = struct{}{}
			}
		}
	})
}

func (a *application) forget(c *userapi.UserChange) {
	v := a.v
	applied := v.applied.Load().room(eventlog.PartitionFor(c.RoomID, len(v.progress)))
	// 0 stands for never.
	applied = max(applied, 1)
	a.rows.Markers = append(a.rows.Markers, storage.Marker{
		UserID: c.UserID, Kind: string(c.Kind), RoomID: c.RoomID, Type: strconv.FormatInt(applied, 10), Seq: c.Seq})
	a.withUser(c.UserID, func(u *user) { u.forget(c.RoomID, applied) })
}

func (a *application) takeEphemeral(s *source, record eventlog.Record) error {
	var e userapi.Ephemeral
	if err := json.Unmarshal(record.Value, &e); err != nil {
		return err
	}
	pos := record.Offset + 1
	if t := e.Typing; t != nil {
		a.steps = append(a.steps, func() { a.typing(t, s.partition, pos) })
	}
	if p := e.Presence; p != nil {
		a.steps = append(a.steps, func() { a.seen(p, s.partition, pos) })
	}
	return nil
}

func (a *application) typing(t *userapi.Typing, partition int, pos int64) {
	v := a.v
	v.mu.Lock()
	defer v.mu.Unlock()
	r, ok := v.rooms[t.RoomID]
	if !ok {
		return // nobody listens
	}
	r.mu.Lock()
	r.typing = typing{users: t.UserIDs, partition: partition, pos: pos}
	r.mu.Unlock()
	for u := range r.active {
		a.woken[u] = struct{}{}
	}
}

// seen notes a user's presence and wakes who shares a room with that user.
func (a *application) seen(p *userapi.Presence, partition int, pos int64) {
	v := a.v
	v.presence.put(p, partition, pos)
	v.mu.Lock()
	defer v.mu.Unlock()
	u, ok := v.users[p.UserID]
	if !ok {
		return
	}
	a.woken[u] = struct{}{}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, m := range u.rooms {
		if _, joined := m.room.active[u]; !joined {
			continue
		}
		for other := range m.room.active {
			a.woken[other] = struct{}{}
		}
	}
}

// relatesTo is the relation that an event's content states.
type relatesTo struct {
	RelType string `json:"rel_type"`
	EventID string `json:"event_id"`
}

// relationOf finds what an event relates to.
// spec: client-server-api §forming-relationships-between-events
func relationOf(ev *event) (storage.Relation, bool) {
	content := ev.Content()
	if ev.IsState() || !bytes.Contains(content, []byte(`"m.relates_to"`)) {
		return storage.Relation{}, false
	}
	raw, ok := member(content, "m.relates_to")
	if !ok || raw.Kind() != '{' {
		return storage.Relation{}, false
	}
	var to relatesTo
	if json.Unmarshal(raw, &to) != nil || to.RelType == "" || to.EventID == "" ||
		len(to.RelType) > gomatrixserverlib.MaxIDBytes || len(to.EventID) > gomatrixserverlib.MaxIDBytes {
		return storage.Relation{}, false // malformed relations are no relations
	}
	usable := true
	if to.RelType == relReplace && ev.Type() != "m.room.encrypted" {
		_, usable = member(content, "m.new_content")
	}
	return storage.Relation{
		RoomID: ev.RoomID(), Parent: to.EventID, RelType: to.RelType, EventID: ev.EventID(), Type: ev.Type(), Sender: ev.Sender(),
		TS: ev.OriginServerTS(), Seq: ev.Position.Seq, Sub: ev.Position.Sub, Usable: usable,
	}, true
}

const (
	relReplace   = "m.replace"
	relThread    = "m.thread"
	relReference = "m.reference"
)
