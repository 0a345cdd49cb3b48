package syncapi

import (
	"context"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/eventlog"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/syncapi/storage"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// application is a batch of records on its way into the view: first the rows
// for the database, then the steps that change what is in memory.
type application struct {
	v *view
	// rows are those that this instance writes, by source; urgent tells that
	// there are any, touched are the positions of rooms after the batch.
	rows    map[*source]*storage.Batch
	urgent  bool
	touched map[string]storage.Room
	steps   []func()
	woken   map[*user]struct{}
	// listed are changes of users' keys, see device_lists.go.
	listed []*listed
}

func newApplication(v *view) *application {
	return &application{v: v, woken: map[*user]struct{}{}, rows: map[*source]*storage.Batch{}, touched: map[string]storage.Room{}}
}

// rowsOf is where the rows of a record go: nowhere if another instance writes
// them, for which readers wait then.
func (a *application) rowsOf(s *source, seq int64) *storage.Batch {
	if !s.owned {
		a.v.mu.Lock()
		a.v.need(s, seq)
		a.v.mu.Unlock()
		return &storage.Batch{}
	}
	if seq <= s.written {
		return &storage.Batch{} // others were ahead; this may be undone there
	}
	a.urgent = true
	if a.rows[s] == nil {
		a.rows[s] = &storage.Batch{}
	}
	return a.rows[s]
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
	a.wakeLater()
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
	if err := a.user(ctx, s, &c); err != nil {
		return err
	}
	return a.following(ctx, s)
}

// user adds what a record of user.output does.
func (a *application) user(ctx context.Context, s *source, c *userapi.UserChange) error {
	switch c.Kind {
	case userapi.ChangeAccountData:
		a.accountData(s, c, c.Type)
	case userapi.ChangePushRules:
		a.accountData(s, c, userapi.TypePushRules)
	case userapi.ChangeReceipt:
		if c.Receipt != nil {
			a.receipt(s, c)
		}
	case userapi.ChangeThread:
		return a.thread(c)
	case userapi.ChangeForget:
		return a.forget(ctx, s, c)
	case userapi.ChangeDeviceKeys:
		a.deviceKeys(c)
	case userapi.ChangeToDevice:
		a.toDevice(c)
	case userapi.ChangeDeviceList, userapi.ChangeSignatures:
		a.deviceList(s, c)
	case userapi.ChangeResynced:
		s.resynced = true
	}
	return nil
}

func (a *application) accountData(s *source, c *userapi.UserChange, typ string) {
	rows := a.rowsOf(s, c.Seq)
	rows.Markers = append(rows.Markers, storage.Marker{
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

func (a *application) receipt(s *source, c *userapi.UserChange) {
	row := storage.Receipt{RoomID: c.RoomID, UserID: c.UserID, Type: c.Receipt.Type, ThreadID: c.Receipt.ThreadID,
		EventID: c.Receipt.EventID, TS: c.Receipt.TS, Seq: c.Seq}
	rows := a.rowsOf(s, c.Seq)
	rows.Receipts = append(rows.Receipts, row)
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

// forget hides a room from a user from the member event on that the user had
// then, or where that is not known (yet) from where the view is now.
func (a *application) forget(ctx context.Context, s *source, c *userapi.UserChange) error {
	v := a.v
	var at int64
	err := v.retry(ctx, "Cannot look up a membership", func() (err error) {
		at, err = v.store.MembershipSeq(ctx, c.UserID, c.RoomID, c.EventID)
		return err
	})
	if err != nil {
		return err
	}
	for _, rows := range a.rows { // not stored yet
		for _, m := range rows.Memberships {
			if m.UserID == c.UserID && m.RoomID == c.RoomID && m.EventID == c.EventID {
				at = m.Seq
			}
		}
	}
	if at == 0 && c.Again {
		if at, err = a.v.whenLeft(ctx, c); err != nil || at == 0 {
			return err // nothing of that time is shown
		}
	}
	if at == 0 {
		// 0 stands for never.
		at = max(v.applied.Load().room(v.partition(c.RoomID)), 1)
	}
	rows := a.rowsOf(s, c.Seq)
	rows.Markers = append(rows.Markers, storage.Marker{
		UserID: c.UserID, Kind: string(c.Kind), RoomID: c.RoomID, Type: strconv.FormatInt(at, 10), Seq: c.Seq})
	a.withUser(c.UserID, func(u *user) { u.forget(c.RoomID, at) })
	return nil
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
	now := typing{users: t.UserIDs, partition: partition, pos: pos}
	r, ok := v.rooms[t.RoomID]
	if !ok { // nobody listens here
		v.typedElsewhere(t.RoomID, now)
		return
	}
	r.mu.Lock()
	r.typing = now
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
