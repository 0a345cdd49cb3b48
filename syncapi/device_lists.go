package syncapi

import (
	"context"
	"maps"
	"math"
	"slices"
	"sync"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
)

const (
	// maxListed is how many changes of users' keys are kept of a partition at
	// least, once they are there; what came before is in the database.
	maxListed = 1024
	// maxListedRooms bounds the rooms that are kept with one.
	maxListedRooms = 1000
	// maxWaking bounds the changes whose users' rooms have yet to be found.
	maxWaking = 1024
	// maxMembers bounds the users who are looked at because rooms are shared or
	// not shared any more.
	maxMembers = 10_000
)

// lists are the latest changes of users' keys, by partition of user.output.
type lists struct {
	mu    sync.Mutex
	parts []listedPart
	// waking has changes of which whoever shares a room has to hear.
	waking chan *listed
}

// listedPart holds all changes of a partition behind from, ascending.
type listedPart struct {
	from    int64
	changes []*listed
}

// listed is a change of a user's keys.
type listed struct {
	user   string
	viewer string // whom it concerns alone; "" for everybody who shares a room
	seq    int64

	mu    sync.Mutex
	found bool
	rooms map[string]struct{} // that the user was joined to then, or a little later
}

func newLists(partitions int) *lists {
	return &lists{parts: make([]listedPart, partitions), waking: make(chan *listed, maxWaking)}
}

// begin notes that nothing up to a Seq is in memory.
func (d *lists) begin(partition int, seq int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.parts[partition] = listedPart{from: seq}
}

func (d *lists) put(partition int, l *listed) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := &d.parts[partition]
	if len(p.changes) >= 2*maxListed {
		p.from = p.changes[maxListed-1].seq
		p.changes = append(make([]*listed, 0, 2*maxListed), p.changes[maxListed:]...)
	}
	p.changes = append(p.changes, l)
}

// since returns the changes between two vectors. If not all of them are in memory,
// whole is false.
func (d *lists) since(since, cut *vector) (out []*listed, whole bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.parts {
		p := &d.parts[i]
		if since.user(i) < p.from {
			return nil, false
		}
		for n := len(p.changes) - 1; n >= 0 && p.changes[n].seq > since.user(i); n-- {
			if p.changes[n].seq <= cut.user(i) {
				out = append(out, p.changes[n])
			}
		}
	}
	return out, true
}

// roomsOf returns the rooms that the user of a change is joined to: asked once,
// however many want to know.
func (v *view) roomsOf(ctx context.Context, l *listed) (map[string]struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.found {
		return l.rooms, nil
	}
	if err := v.awaitRows(ctx, ofRooms); err != nil {
		return nil, err
	}
	ids, err := v.store.JoinedRooms(ctx, l.user)
	if err != nil {
		return nil, err
	}
	rooms := make(map[string]struct{}, len(ids))
	for _, id := range ids {
		rooms[id] = struct{}{}
	}
	if l.found = len(rooms) <= maxListedRooms; l.found {
		l.rooms = rooms
	}
	return rooms, nil
}

// ofRooms chooses the positions of rooms from a vector.
func ofRooms(all *vector) *vector { return &vector{rooms: all.rooms} }

// wakeListed wakes whoever shares a room with users whose keys changed, until ctx
// is done. What cannot be found out now is told with the next answer.
func (v *view) wakeListed(ctx context.Context) {
	for {
		var l *listed
		select {
		case <-ctx.Done():
			return
		case l = <-v.lists.waking:
		}
		woken := map[*user]struct{}{}
		concerned := l.viewer
		if concerned == "" {
			concerned = l.user
			rooms, err := v.roomsOf(ctx, l)
			if err != nil && ctx.Err() == nil {
				v.log.WithError(err).Warn("It cannot be found out now who shares a room with a user whose keys changed")
			}
			v.mu.Lock()
			for id := range rooms {
				if r, ok := v.rooms[id]; ok {
					maps.Copy(woken, r.active)
				}
			}
			v.mu.Unlock()
		}
		v.mu.Lock()
		if u, ok := v.users[concerned]; ok {
			woken[u] = struct{}{}
		}
		v.mu.Unlock()
		for u := range woken {
			u.notify()
		}
	}
}

// wakeLater has those woken whom the batch's changes of keys concern.
func (a *application) wakeLater() {
	for _, l := range a.listed {
		select {
		case a.v.lists.waking <- l:
		default: // they hear of it with their next answer
		}
	}
}

// sharing is about whose keys a user has to know, between two vectors.
type sharing struct {
	s          *Server
	u          *user
	since, cut *vector
	changed    map[string]struct{}
	left       map[string]struct{}
	rooms      []string // that the user is joined to at the cut
}

// deviceLists finds whose keys a user's client has to ask for anew, and whose it
// need not follow any more. Where nothing happened it costs nothing.
// spec: client-server-api §tracking-the-device-list-for-a-user
func (s *Server) deviceLists(ctx context.Context, u *user, since, cut *vector) (changed, left []string, err error) {
	w := &sharing{s: s, u: u, since: since, cut: cut, changed: map[string]struct{}{}, left: map[string]struct{}{}}
	list, whole := s.view.lists.since(since, cut)
	u.mu.Lock()
	moved := u.movedSince(since)
	if len(list) > 0 || !whole || moved {
		w.rooms = u.joinedAt(cut)
	}
	u.mu.Unlock()
	if whole {
		err = w.lately(ctx, list)
	} else {
		err = w.before(ctx)
	}
	if err == nil && moved {
		err = w.moved(ctx)
	}
	if err != nil {
		return nil, nil, err
	}
	for id := range w.left { // the rooms of a change may be those of before
		delete(w.changed, id)
	}
	return slices.Sorted(maps.Keys(w.changed)), slices.Sorted(maps.Keys(w.left)), nil
}

// movedSince tells whether somebody may have come to or gone from a room of the
// user, or the user. u.mu is held.
func (u *user) movedSince(since *vector) bool {
	if len(since.rooms) != len(u.moved) {
		return true // a token of another partitioning
	}
	for p, seq := range u.moved {
		if seq > since.rooms[p] {
			return true
		}
	}
	return false
}

// joinedAt returns the rooms that the user is joined to. u.mu is held.
func (u *user) joinedAt(cut *vector) (out []string) {
	for id, m := range u.rooms {
		if m.at(cut.room(m.room.partition)).Membership == "join" {
			out = append(out, id)
		}
	}
	return out
}

// lately takes changes of keys that are in memory.
func (w *sharing) lately(ctx context.Context, list []*listed) error {
	for _, l := range list {
		if l.viewer != "" && l.viewer != w.u.id {
			continue
		}
		if _, known := w.changed[l.user]; known {
			continue
		}
		if l.viewer == w.u.id || l.user == w.u.id {
			w.changed[l.user] = struct{}{}
			continue
		}
		rooms, err := w.s.view.roomsOf(ctx, l)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(w.rooms, func(id string) bool { _, ok := rooms[id]; return ok }) {
			w.changed[l.user] = struct{}{}
		}
	}
	return nil
}

// before takes changes of keys that are in the database.
func (w *sharing) before(ctx context.Context) error {
	v := w.s.view
	if err := v.awaitRows(ctx, func(all *vector) *vector { return all }); err != nil {
		return err
	}
	lowest := int64(math.MaxInt64)
	for p := range v.shape.users {
		lowest = min(lowest, w.since.user(p))
	}
	list, err := v.store.DeviceLists(ctx, lowest, w.u.id, w.rooms)
	if err != nil {
		return err
	}
	for _, l := range list {
		told := l.UserID // by whose change it was told
		if l.Viewer != "" {
			told = l.Viewer
		}
		if p := eventlog.PartitionFor(told, len(v.shape.users)); l.Seq > w.since.user(p) && l.Seq <= w.cut.user(p) {
			w.changed[l.UserID] = struct{}{}
		}
	}
	return nil
}

// moved takes what follows from memberships: of the user, and of others in the
// user's rooms.
func (w *sharing) moved(ctx context.Context) error {
	fresh, gone, all, lowest := w.ownRooms()
	v := w.s.view
	if err := v.awaitRows(ctx, ofRooms); err != nil {
		return err
	}
	came, went := map[string]struct{}{}, map[string]struct{}{}
	changes, err := v.store.MemberChanges(ctx, all, lowest, maxMembers)
	if err != nil {
		return err
	}
	for _, c := range changes {
		p := v.partition(c.RoomID)
		switch {
		case c.Seq <= w.since.of(c.RoomID, p, len(v.shape.rooms)) || c.Seq > w.cut.room(p):
		case c.Joined:
			came[c.UserID] = struct{}{}
		default:
			went[c.UserID] = struct{}{}
		}
	}
	for _, one := range []struct {
		rooms []string
		to    map[string]struct{}
	}{{fresh, came}, {gone, went}} {
		if len(one.rooms) == 0 {
			continue
		}
		members, err := v.store.Neighbours(ctx, one.rooms, maxMembers)
		if err != nil {
			return err
		}
		for _, id := range members {
			one.to[id] = struct{}{}
		}
	}
	return w.meet(ctx, came, went)
}

// ownRooms returns the rooms that the user came to and those that the user went
// from, and with those all in which others may have come or gone, behind a Seq.
func (w *sharing) ownRooms() (fresh, gone, all []string, lowest int64) {
	lowest = math.MaxInt64
	w.u.mu.Lock()
	defer w.u.mu.Unlock()
	partitions := len(w.cut.rooms)
	for id, m := range w.u.rooms {
		p := m.room.partition
		since, cut := w.since.of(id, p, partitions), w.cut.room(p)
		before, now := m.at(since).Membership == "join", m.at(cut).Membership == "join"
		switch {
		case now && !m.stayed(since, cut):
			fresh = append(fresh, id)
		case before && !now:
			gone = append(gone, id)
		case !now || w.u.moved[p] <= since:
			continue
		}
		all = append(all, id)
		lowest = min(lowest, since)
	}
	return fresh, gone, all, lowest
}

// meet decides who of those that came to, or went from, rooms shares one now.
func (w *sharing) meet(ctx context.Context, came, went map[string]struct{}) error {
	delete(came, w.u.id)
	delete(went, w.u.id)
	everybody := maps.Clone(came)
	maps.Copy(everybody, went)
	if len(everybody) == 0 {
		return nil
	}
	list, err := w.s.view.store.Among(ctx, slices.Collect(maps.Keys(everybody)), w.rooms)
	if err != nil {
		return err
	}
	share := map[string]struct{}{}
	for _, id := range list {
		share[id] = struct{}{}
		if _, ok := came[id]; ok {
			w.changed[id] = struct{}{}
		}
	}
	for id := range everybody {
		if _, ok := share[id]; !ok {
			w.left[id] = struct{}{}
		}
	}
	return nil
}

// appendDeviceLists appends whose keys changed since the token, and tells whether
// anybody's did.
func (a *answer) appendDeviceLists(ctx context.Context, body []byte) ([]byte, bool, error) {
	if a.since == nil {
		return body, false, nil
	}
	changed, left, err := a.s.deviceLists(ctx, a.u, a.since, a.cut)
	if err != nil || len(changed)+len(left) == 0 {
		return body, false, err
	}
	body = append(appendKey(body, "device_lists"), `{"changed":[`...)
	for _, id := range changed {
		body = appendString(comma(body), id)
	}
	body = append(body, `],"left":[`...)
	for _, id := range left {
		body = appendString(comma(body), id)
	}
	return append(body, `]}`...), true, nil
}

// keysChanges answers GET /keys/changes.
// spec: client-server-api §get_matrixclientv3keyschanges
func (s *Server) keysChanges(r *httpapi.Request) (any, error) {
	var at [2]*vector
	for i, name := range []string{"from", "to"} {
		text := r.QueryString(name)
		if text == "" {
			return nil, matrixerror.MissingParam("%s is missing", name)
		}
		var err error
		if at[i], err = parseVector(text, s.view.shape); err != nil {
			return nil, err
		}
		if err := s.catchUp(r.Context(), at[i]); err != nil {
			return nil, err
		}
	}
	u, err := s.view.user(r.Context(), r.Device.UserID)
	if err != nil {
		return nil, err
	}
	defer s.view.release(u)
	to := at[1]
	if len(to.rooms) != len(s.view.shape.rooms) { // of another partitioning: what is now will do
		to = s.view.applied.Load()
	}
	changed, left, err := s.deviceLists(r.Context(), u, at[0], to)
	if err != nil {
		return nil, err
	}
	return map[string][]string{"changed": orEmpty(changed), "left": orEmpty(left)}, nil
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// move notes that somebody came to or went from a room of users, or that one of
// them did. v.mu is held.
func (v *view) move(partition int, seq int64, users map[*user]struct{}) {
	for u := range users {
		u.apply(func() { u.moved[partition] = max(u.moved[partition], seq) })
	}
}
