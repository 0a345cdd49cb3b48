package syncapi

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/pushrules"
	"github.com/matrix-org/dendrite/syncapi/storage"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// user is a user of ours who was heard of lately: memberships and changes of
// account data, complete once loaded.
type user struct {
	id        string
	partition int // of user.output

	// pins counts requests that use it; guarded by view.mu, as is used.
	pins int
	used time.Time

	// ready is closed once the user is loaded, or has failed to.
	ready chan struct{}
	err   error

	mu     sync.Mutex
	loaded bool
	// pending holds what was applied while the user was being loaded.
	pending []func()
	rooms   map[string]*membership
	account map[accountKey]accountMark
	// devices are what is known of the user's devices, see devices.go; all up to
	// devicesSeq is in it.
	devices    map[string]device
	devicesSeq int64
	// moved has for each partition of room.output the last Seq by which somebody
	// came to or went from a room of the user, or the user, or may have.
	moved []int64
	// accountSeq is the highest Seq in account.
	accountSeq int64
	ignored    map[string]struct{}
	invites    userapi.InviteRules // which invites are not shown
	rules      jsontext.Value      // content of m.push_rules
	compiled   *pushrules.Ruleset  // of rules; nil: not yet
	counts     map[string]*unread  // by room
	// direct are the rooms that m.direct names; tags are those of rooms. What is in
	// them is replaced, not changed.
	direct map[string]struct{}
	// threads is what the user has said of threads; nil: it was not needed yet.
	// loadingThreads is held by who asks for it, before mu.
	threads        *subscriptions
	loadingThreads sync.Mutex
	tags           map[string]map[string]struct{}
	wake           chan struct{}
}

// membership is a user's membership of a room through time.
type membership struct {
	room *room
	// changes are ascending; the last maxChanges of them.
	changes []storage.Membership
	// forgotten is how far the room's partition had been applied when the user
	// forgot the room; 0: never.
	forgotten int64
}

// maxChanges bounds how much of a membership's past is kept in memory.
const maxChanges = 64

type accountKey struct{ roomID, typ string }

// accountMark is the last change of a piece of account data. content is nil
// when it has to be asked for.
type accountMark struct {
	seq     int64
	content jsontext.Value
}

// at returns the last change up to seq; the zero Membership when there is none.
func (m *membership) at(seq int64) storage.Membership {
	for i := len(m.changes) - 1; i >= 0; i-- {
		if m.changes[i].Seq <= seq {
			return m.changes[i]
		}
	}
	return storage.Membership{}
}

// isForgotten tells whether the user has forgotten the room and not entered it
// again since, up to the Seq given.
func (m *membership) isForgotten(upTo int64) bool {
	if m.forgotten == 0 {
		return false
	}
	for _, c := range m.changes {
		if c.Seq > m.forgotten && c.Seq <= upTo && c.Membership != "leave" && c.Membership != "ban" {
			return false
		}
	}
	return true
}

// stayed tells whether the user was joined all the time in (since, upTo].
func (m *membership) stayed(since, upTo int64) bool {
	if m.at(since).Membership != "join" {
		return false
	}
	for _, c := range m.changes {
		if c.Seq > since && c.Seq <= upTo && c.Membership != "join" {
			return false
		}
	}
	return true
}

// put adds a change, unless it is known.
func (m *membership) put(c storage.Membership) {
	i, found := slices.BinarySearchFunc(m.changes, c.Seq, func(a storage.Membership, seq int64) int { return int(a.Seq - seq) })
	if found {
		return
	}
	// A new slice: readers may hold the old one.
	fresh := make([]storage.Membership, 0, len(m.changes)+1)
	fresh = append(append(append(fresh, m.changes[:i]...), c), m.changes[i:]...)
	if len(fresh) > maxChanges {
		fresh = fresh[len(fresh)-maxChanges:]
	}
	m.changes = fresh
}

// waiting returns a channel that is closed at the next wake.
func (u *user) waiting() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.wake == nil {
		u.wake = make(chan struct{})
	}
	return u.wake
}

// notify wakes all requests that wait for the user.
func (u *user) notify() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.wake != nil {
		close(u.wake)
		u.wake = nil
	}
}

// apply changes the user, now or once it is loaded.
func (u *user) apply(f func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.loaded {
		u.pending = append(u.pending, f)
		return
	}
	f()
}

// setAccount notes a change of account data. Called through apply.
func (u *user) setAccount(roomID, typ string, seq int64, content jsontext.Value) {
	key := accountKey{roomID, typ}
	if u.account[key].seq >= seq {
		return
	}
	u.account[key] = accountMark{seq: seq, content: content}
	u.accountSeq = max(u.accountSeq, seq)
	if roomID != "" {
		if typ == typeTags {
			u.tags[roomID] = parseTags(content)
		}
		return
	}
	switch typ {
	case userapi.TypeIgnoredUsers:
		u.ignored = userapi.IgnoredUsers(content)
	case typeInvites:
		u.invites.SetPermission(content)
	case typeInviteFilter:
		u.invites.SetFilter(content)
	case userapi.TypePushRules:
		u.rules, u.compiled = content, nil
	case typeDirect:
		u.direct = parseDirect(content)
	}
}

const (
	typeInvites      = userapi.TypeInvitePermission
	typeInviteFilter = userapi.TypeInviteFilter
	typeDirect       = "m.direct"
	typeTags         = "m.tag"
)

// parseDirect reads which rooms m.direct names.
// spec: client-server-api §direct-messaging
func parseDirect(content jsontext.Value) map[string]struct{} {
	out := map[string]struct{}{}
	var users map[string]jsontext.Value
	if len(content) == 0 || json.Unmarshal(content, &users) != nil {
		return out
	}
	for _, list := range users {
		var rooms []string
		if json.Unmarshal(list, &rooms) != nil {
			continue
		}
		for _, id := range rooms {
			out[id] = struct{}{}
		}
	}
	return out
}

// parseTags reads the names of a room's tags.
// spec: client-server-api §room-tagging
func parseTags(content jsontext.Value) map[string]struct{} {
	var list struct {
		Tags map[string]jsontext.Value `json:"tags"`
	}
	out := map[string]struct{}{}
	if len(content) == 0 || json.Unmarshal(content, &list) != nil {
		return out
	}
	for name := range list.Tags {
		out[name] = struct{}{}
	}
	return out
}

// user returns a user in memory, loading it where needed. The caller releases it.
func (v *view) user(ctx context.Context, id string) (*user, error) {
	v.mu.Lock()
	u, ok := v.users[id]
	if !ok {
		u = &user{
			id: id, partition: eventlog.PartitionFor(id, len(v.shape.users)),
			ready: make(chan struct{}), rooms: map[string]*membership{},
			account: map[accountKey]accountMark{}, counts: map[string]*unread{},
			moved: make([]int64, len(v.shape.rooms)),
			tags:  map[string]map[string]struct{}{},
		}
		v.users[id] = u
	}
	u.pins++
	v.mu.Unlock()
	if !ok {
		// Others may wait for this user: it is loaded even if this client goes away.
		u.err = v.loadUser(context.WithoutCancel(ctx), u)
		if u.err != nil {
			v.dropUser(u)
		}
		close(u.ready)
	}
	select {
	case <-u.ready:
	case <-ctx.Done():
		v.release(u)
		return nil, ctx.Err()
	}
	if u.err != nil {
		v.release(u)
		return nil, u.err
	}
	return u, nil
}

// release ends a caller's use of a user.
func (v *view) release(u *user) {
	v.mu.Lock()
	defer v.mu.Unlock()
	u.pins--
	u.used = v.now()
	if u.pins == 0 && len(v.users) > v.maxUsers {
		v.evictUsers()
	}
}

// evictUsers drops the least recently used of a few idle users. v.mu is held.
func (v *view) evictUsers() {
	var oldest *user
	tried := 0
	for _, u := range v.users { // map order is random: a sample
		if u.pins > 0 {
			continue
		}
		if oldest == nil || u.used.Before(oldest.used) {
			oldest = u
		}
		if tried++; tried == 16 {
			break
		}
	}
	if oldest != nil {
		v.dropLocked(oldest)
	}
}

func (v *view) dropUser(u *user) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.dropLocked(u)
}

// dropLocked forgets a user. v.mu is held.
func (v *view) dropLocked(u *user) {
	if v.users[u.id] == u {
		delete(v.users, u.id)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, m := range u.rooms {
		delete(m.room.active, u)
		v.dropIdleRoom(m.room)
	}
}

// loadUser fills a user from the database and the user-api.
func (v *view) loadUser(ctx context.Context, u *user) error {
	ctx, cancel := context.WithTimeout(ctx, v.loadTimeout)
	defer cancel()
	if err := v.awaitRows(ctx, ofUser(u.partition)); err != nil {
		return err
	}
	rows, err := v.store.Memberships(ctx, u.id)
	if err != nil {
		return err
	}
	markers, err := v.store.Markers(ctx, u.id)
	if err != nil {
		return err
	}
	data, err := userapi.QueryAccountData.Call(ctx, v.caller, &userapi.AccountDataRequest{
		UserID: u.id, Types: []string{userapi.TypeIgnoredUsers, typeInvites, typeInviteFilter, userapi.TypePushRules, typeDirect, typeTags}})
	if err != nil {
		return err
	}
	devices, devicesSeq, err := v.loadDevices(ctx, u)
	if err != nil {
		return err
	}
	var ids []string
	for i := range rows {
		if i == 0 || rows[i].RoomID != rows[i-1].RoomID {
			ids = append(ids, rows[i].RoomID)
		}
	}
	rooms, err := v.stubs(ctx, ids)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range rows {
		v.changeMembership(u, rooms[rows[i].RoomID], rows[i])
	}
	u.takeMarkers(markers)
	u.takeAccount(data.Data)
	u.devices, u.devicesSeq = devices, devicesSeq
	copy(u.moved, v.progress)
	u.loaded = true
	for _, f := range u.pending {
		f()
	}
	u.pending = nil
	v.unpinRooms(rooms)
	return nil
}

// takeMarkers takes up which account data changed when, and which rooms are
// forgotten. u.mu is held.
func (u *user) takeMarkers(markers []storage.Marker) {
	for _, m := range markers {
		if m.Kind == string(userapi.ChangeForget) {
			if applied, err := strconv.ParseInt(m.Type, 10, 64); err == nil {
				u.forget(m.RoomID, applied)
			}
			continue
		}
		u.account[accountKey{m.RoomID, m.Type}] = accountMark{seq: m.Seq}
		u.accountSeq = max(u.accountSeq, m.Seq)
	}
}

// takeAccount takes up what account data, by room and type, decides here. u.mu is
// held.
func (u *user) takeAccount(data map[string]map[string]jsontext.Value) {
	global := data[""]
	u.ignored = userapi.IgnoredUsers(global[userapi.TypeIgnoredUsers])
	u.invites.SetPermission(global[typeInvites])
	u.invites.SetFilter(global[typeInviteFilter])
	u.rules = global[userapi.TypePushRules]
	u.direct = parseDirect(global[typeDirect])
	for id, types := range data {
		if tags, ok := types[typeTags]; ok && id != "" {
			u.tags[id] = parseTags(tags)
		}
	}
}

// changeMembership notes a change of u's membership. v.mu and u.mu are held.
func (v *view) changeMembership(u *user, r *room, c storage.Membership) {
	m := u.rooms[r.id]
	if m == nil {
		m = &membership{room: r}
		u.rooms[r.id] = m
	}
	m.room = r
	m.put(c)
	if m.changes[len(m.changes)-1].Membership == "join" {
		r.active[u] = struct{}{}
	} else {
		delete(r.active, u)
	}
}

// purge forgets the user's part in a room up to a Seq. v.mu and u.mu are held.
func (u *user) purge(r *room, seq int64) {
	delete(u.counts, r.id)
	m := u.rooms[r.id]
	if m == nil {
		return
	}
	m.changes = slices.DeleteFunc(slices.Clone(m.changes), func(c storage.Membership) bool { return c.Seq <= seq })
	if len(m.changes) == 0 {
		delete(u.rooms, r.id)
		delete(r.active, u)
	}
}

// forget hides a room from a user until it is entered again.
func (u *user) forget(roomID string, applied int64) {
	if m := u.rooms[roomID]; m != nil {
		m.forgotten = max(m.forgotten, applied)
	}
}
