package syncapi

import (
	"context"
	"slices"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json"

	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/syncapi/storage"
)

const (
	// maxNotices bounds the unread notifications kept of a room: counts do not
	// go beyond it.
	maxNotices = 1000
	// maxFold bounds the events that are looked at to find them.
	maxFold = 5000
	// foldPage is how many older events are asked for at once.
	foldPage = 500
	// checkpointEvery is after how many events looked at a checkpoint is stored.
	checkpointEvery = 200
	// mainThread is the thread ID of everything that is in no thread.
	mainThread = "main"
	// maxHops bounds how far relations are followed to a thread.
	// spec: client-server-api §threaded-read-receipts
	maxHops = 3
)

// unread is the fold of a room's events and a user's receipts into what is
// unread: it depends on nothing else, so it can be computed again at any time.
type unread struct {
	mu sync.Mutex
	// seq is the position up to which events have been looked at; 0: none.
	seq     int64
	notices []notice // ascending
	// places has where the events of receipts are; the zero Position for those
	// that have not been seen.
	places map[string]roomapi.Position
	// resumed tells that a checkpoint was looked for.
	resumed bool
	// checked is the Seq of the last purge of the room's events that the notices know of.
	checked int64
	// fresh counts events looked at since the last checkpoint.
	fresh int
}

// notice is an event that notifies the user.
type notice struct {
	ID        string `json:"e"`
	Seq       int64  `json:"s"`
	Sub       int64  `json:"b,omitempty"`
	Thread    string `json:"t"`
	Highlight bool   `json:"h,omitempty"`
	// TS is when a message was sent, by which it expires.
	TS int64 `json:"o,omitempty"`
	// Call is the ID of a call that it offers, until the user takes it or refuses.
	Call string `json:"c,omitempty"`
}

// tally is the number of notifications, and of highlights and missed calls among
// them.
type tally struct{ notifications, highlights, calls int }

// unreadOf returns the state of the fold of a room.
func (u *user) unreadOf(roomID string) *unread {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.counts[roomID] == nil {
		u.counts[roomID] = &unread{places: map[string]roomapi.Position{}}
	}
	return u.counts[roomID]
}

// appendUnread appends the unread counts of a joined room.
// spec: client-server-api §receiving-notifications
func (a *answer) appendUnread(ctx context.Context, body []byte, p *part) ([]byte, error) {
	threads, err := a.s.unread(ctx, a.u, p, a.ignored)
	if err != nil {
		return nil, err
	}
	total := threads[mainThread]
	if !a.filter.Threads() {
		total = sum(threads)
	}
	body = appendTally(appendKey(body, "unread_notifications"), total)
	delete(threads, mainThread)
	if !a.filter.Threads() || len(threads) == 0 {
		return body, nil
	}
	body = append(appendKey(body, "unread_thread_notifications"), '{')
	for id, t := range threads {
		body = appendTally(appendKey(body, id), t)
	}
	return append(body, '}'), nil
}

// sum is what is unread in all threads.
func sum(threads map[string]tally) (total tally) {
	for _, t := range threads {
		total.notifications += t.notifications
		total.highlights += t.highlights
		total.calls += t.calls
	}
	return total
}

func appendTally(body []byte, t tally) []byte {
	body = strconv.AppendInt(append(body, `{"highlight_count":`...), int64(t.highlights), 10)
	body = strconv.AppendInt(append(body, `,"notification_count":`...), int64(t.notifications), 10)
	return append(body, '}')
}

// unread counts what is unread at the part's upper end, by thread.
func (s *Server) unread(ctx context.Context, u *user, p *part, ignored map[string]struct{}) (map[string]tally, error) {
	fold := u.unreadOf(p.room.id)
	fold.mu.Lock()
	defer fold.mu.Unlock()
	marks, err := s.marks(ctx, fold, u, p.room)
	if err != nil {
		return nil, err
	}
	if fold.seq == 0 && !fold.resumed {
		rows, err := s.view.store.Unread(ctx, u.id, []string{p.room.id})
		if err != nil {
			return nil, err
		}
		fold.resumed = true
		if len(rows) > 0 {
			s.resume(fold, p.room, rows[0].Seq, rows[0].Counts)
		}
	}
	if err := s.dropGone(ctx, fold, p.room); err != nil {
		return nil, err
	}
	before, err := s.expiredBefore(ctx, p.room, p.room.id)
	if err != nil {
		return nil, err
	}
	if err := s.advance(ctx, fold, u, p, marks, ignored); err != nil {
		return nil, err
	}
	fold.notices = slices.DeleteFunc(fold.notices, func(n notice) bool { return marks.read(n) })
	out := map[string]tally{}
	for _, n := range fold.notices {
		if n.Seq > p.upper {
			break
		}
		if n.TS != 0 && n.TS < before {
			continue
		}
		t := out[n.Thread]
		t.notifications++
		if n.Highlight {
			t.highlights++
		}
		if n.Call != "" {
			t.calls++
		}
		out[n.Thread] = t
	}
	if fold.fresh >= checkpointEvery {
		s.view.checkpoint(u.id, p.room, fold)
	}
	return out, nil
}

// marks is up to where a user has read: whole rooms ("") and threads.
type marks map[string]roomapi.Position

// read tells whether a notice has been read.
func (m marks) read(n notice) bool {
	pos := roomapi.Position{Seq: n.Seq, Sub: n.Sub}
	for _, thread := range []string{"", n.Thread} {
		if mark, ok := m[thread]; ok && !mark.Less(roomapi.Position{Partition: mark.Partition, Seq: pos.Seq, Sub: pos.Sub}) {
			return true
		}
	}
	return false
}

// marks finds where the user's receipts are. Public and private ones count
// alike: the one further ahead does. A receipt for an event that was not seen
// yet waits for it.
func (s *Server) marks(ctx context.Context, fold *unread, u *user, r *room) (marks, error) {
	list := r.receiptsOf(u.id)
	if missing := fold.missing(r, list); len(missing) > 0 {
		res, err := roomapi.QueryEvents.Call(ctx, s.caller, &roomapi.EventsRequest{RoomID: r.id, EventIDs: missing})
		if err != nil {
			return nil, err
		}
		fold.place(missing, res.Events)
	}
	out := marks{}
	for _, rec := range list {
		if pos := fold.places[rec.EventID]; out[rec.ThreadID].Less(pos) {
			out[rec.ThreadID] = pos
		}
	}
	return out, nil
}

// missing returns the events of a user's receipts whose places have to be asked
// for, and forgets those of others. fold.mu is held.
func (fold *unread) missing(r *room, list []storage.Receipt) (missing []string) {
	current := make(map[string]struct{}, len(list))
	for _, rec := range list {
		current[rec.EventID] = struct{}{}
		if pos, ok := fold.places[rec.EventID]; ok && pos != (roomapi.Position{}) {
			continue
		}
		if at, ok := storage.ParsePlace(rec.Place, rec.EventID); ok {
			fold.places[rec.EventID] = roomapi.Position{Partition: r.partition, Seq: at.Seq, Sub: at.Sub}
		} else if pos, ok := r.position(rec.EventID); ok {
			fold.places[rec.EventID] = pos
		} else if _, asked := fold.places[rec.EventID]; !asked {
			missing = append(missing, rec.EventID)
		}
	}
	for id := range fold.places {
		if _, ok := current[id]; !ok {
			delete(fold.places, id)
		}
	}
	return missing
}

// place notes where events are that were missing; those not found wait to be
// seen. fold.mu is held.
func (fold *unread) place(missing []string, found []*roomapi.StoredEvent) {
	for _, id := range missing {
		fold.places[id] = roomapi.Position{}
	}
	for _, ev := range found {
		if !ev.Outlier {
			fold.places[ev.EventID()] = ev.Position
		}
	}
}

// position finds an event of the tail.
func (r *room) position(eventID string) (roomapi.Position, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for i := len(r.tail.events) - 1; i >= 0; i-- {
		if ev := r.tail.events[i]; !ev.hidden && ev.EventID() == eventID {
			return ev.Position, true
		}
	}
	for _, ev := range r.older.events {
		if ev.EventID() == eventID {
			return ev.Position, true
		}
	}
	return roomapi.Position{}, false
}

// resume takes the fold up from a checkpoint, unless events of the room were purged
// since. fold.mu is held.
func (s *Server) resume(fold *unread, r *room, seq int64, counts string) {
	purged := r.lastPurge()
	if seq < purged {
		return
	}
	var notices []notice
	if err := json.Unmarshal([]byte(counts), &notices); err != nil {
		s.log.WithError(err).Warn("A checkpoint of unread counts cannot be read; they are counted anew")
		return
	}
	fold.seq, fold.notices, fold.checked = seq, notices, purged
}

// checkpoint has the fold's state stored with the next flush.
func (v *view) checkpoint(userID string, r *room, fold *unread) {
	counts, err := json.Marshal(fold.notices)
	if err != nil {
		v.log.WithError(err).Warn("Unread counts cannot be encoded")
		return
	}
	fold.fresh = 0
	v.mu.Lock()
	defer v.mu.Unlock()
	v.unread = append(v.unread, storage.Unread{UserID: userID, RoomID: r.id, Seq: fold.seq, Counts: string(counts)})
}

// advance looks at the events up to the part's upper end that were not looked
// at yet. Nothing before the user joined counts, and nothing before a receipt
// for the whole room.
func (s *Server) advance(ctx context.Context, fold *unread, u *user, p *part, m marks, ignored map[string]struct{}) error {
	if fold.seq >= p.upper {
		return nil
	}
	lower := max(fold.seq, m[""].Seq, joinedSince(p.changes, p.upper))
	events, whole := p.room.window(lower, p.upper)
	if !whole {
		older, err := s.olderThan(ctx, p.room, events, lower, p.upper)
		if err != nil {
			return err
		}
		events = append(older, events...)
	}
	judge := s.judge(u, p.room)
	for _, ev := range events {
		if ev.hidden || ev.Position.Sub < 0 { // what was fetched of the past is no news
			continue
		}
		if ev.Type() == "m.room.redaction" {
			if err := s.unnotice(ctx, fold, p.room.id, ev.Redacts()); err != nil {
				return err
			}
		}
		if ev.Sender() == u.id {
			fold.answered(ev)
		}
		if ev.Sender() == u.id || ev.RedactedBy != "" {
			continue
		}
		if _, ok := ignored[ev.Sender()]; ok {
			continue
		}
		notify, highlight, err := judge(ctx, ev)
		if err != nil {
			return err
		}
		if !notify {
			continue
		}
		thread, err := s.threadOf(ctx, p.room, ev)
		if err != nil {
			return err
		}
		n := notice{ID: ev.EventID(), Seq: ev.Position.Seq, Sub: ev.Position.Sub, Thread: thread, Highlight: highlight, Call: callOffered(ev)}
		if !ev.IsState() {
			n.TS = ev.OriginServerTS()
		}
		fold.notices = append(fold.notices, n)
	}
	if over := len(fold.notices) - maxNotices; over > 0 {
		fold.notices = slices.Delete(fold.notices, 0, over)
	}
	fold.fresh += len(events)
	fold.seq = p.upper
	return nil
}

// unnotice drops the notice of an event that a redaction has reached: the fold
// is the same whether it saw the event before or after that.
func (s *Server) unnotice(ctx context.Context, fold *unread, roomID, eventID string) error {
	i := slices.IndexFunc(fold.notices, func(n notice) bool { return n.ID == eventID })
	if i < 0 {
		return nil
	}
	found := map[string]*event{eventID: nil}
	if err := s.fetch(ctx, roomID, found); err != nil {
		return err
	}
	if ev := found[eventID]; ev != nil && ev.RedactedBy != "" {
		fold.notices = slices.Delete(fold.notices, i, i+1)
	}
	return nil
}

// joinedSince is the Seq of the change by which the user joined last.
func joinedSince(changes []storage.Membership, upTo int64) int64 {
	var since int64
	for i, c := range changes {
		if c.Seq <= upTo && c.Membership == "join" && (i == 0 || changes[i-1].Membership != "join") {
			since = c.Seq
		}
	}
	return since
}

// olderThan reads the events in (lower, upper] that come before those of the
// tail, oldest first; the last maxFold of them.
func (s *Server) olderThan(ctx context.Context, r *room, tail []*event, lower, upper int64) ([]*event, error) {
	from := roomapi.Position{Partition: r.partition, Seq: upper}
	if len(tail) > 0 {
		from = before(tail[0].Position)
	}
	out, from, all, err := s.olderUpTo(ctx, r, from, lower, olderAhead)
	if err != nil {
		return nil, err
	}
	if n := slices.IndexFunc(out, func(ev *event) bool { return ev.Position.Seq <= lower }); n >= 0 {
		out, all = out[:n], true
	}
	out = slices.Clone(out)
	for !all && len(out) < maxFold {
		res, err := roomapi.QueryHistory.Call(ctx, s.caller, &roomapi.HistoryRequest{
			RoomID: r.id, From: from, To: roomapi.Position{Partition: r.partition, Seq: lower}, Backwards: true, Limit: foldPage})
		if err != nil {
			return nil, err
		}
		out = append(out, fromAllStored(res.Events)...)
		if !res.More {
			break
		}
		from = res.Next
	}
	slices.Reverse(out)
	return out, nil
}

// threadOf finds the thread that an event is in, following its relations.
func (s *Server) threadOf(ctx context.Context, r *room, ev *event) (string, error) {
	rel, ok := relationOf(ev)
	for range maxHops {
		if !ok {
			return mainThread, nil
		}
		if rel.RelType == relThread {
			return rel.Parent, nil
		}
		if err := s.view.awaitRows(ctx, ofRoom(r.partition)); err != nil {
			return "", err
		}
		rows, err := s.view.store.ParentsOf(ctx, r.id, []string{rel.Parent})
		if err != nil {
			return "", err
		}
		if ok = len(rows) > 0; ok {
			rel = rows[0]
		}
	}
	if ok && rel.RelType == relThread {
		return rel.Parent, nil
	}
	return mainThread, nil
}
