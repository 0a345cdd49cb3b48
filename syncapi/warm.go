package syncapi

import (
	"context"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// smallRoom is up to how many members all of a room's state is brought into
// memory for a client that loads members lazily: with it who the room is named
// after is known, too.
const smallRoom = 100

// warm brings what rooms are shown with into memory, as far as it is not there
// and the client knows nothing of them: what would be asked of one room after the
// other is asked of many at once. What is not kept of it, because too much has
// happened meanwhile or is kept already, is asked again where it is needed.
func (a *answer) warm(ctx context.Context, parts []*part) error {
	var fresh []*part
	for _, p := range parts {
		if p.fresh && p.now.Membership == "join" {
			fresh = append(fresh, p)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	if err := a.resumeFolds(ctx, fresh); err != nil {
		return err
	}
	for _, needed := range []func(*questions, *part){a.askRoom, a.askDetails} {
		q := &questions{s: a.s, at: map[string]*inquiry{}}
		for _, p := range fresh {
			needed(q, p)
		}
		if err := q.ask(ctx); err != nil {
			return err
		}
	}
	return nil
}

// resumeFolds takes up the counts of what is unread from their checkpoints.
func (a *answer) resumeFolds(ctx context.Context, parts []*part) error {
	folds, byID := map[string]*unread{}, map[string]*room{}
	var ids []string
	for _, p := range parts {
		fold := a.u.unreadOf(p.room.id)
		fold.mu.Lock()
		if fold.seq == 0 && !fold.resumed {
			folds[p.room.id], byID[p.room.id] = fold, p.room
			ids = append(ids, p.room.id)
		}
		fold.mu.Unlock()
	}
	if len(ids) == 0 {
		return nil
	}
	rows, err := a.s.view.store.Unread(ctx, a.u.id, ids)
	if err != nil {
		return err
	}
	found := map[string]int{}
	for i := range rows {
		found[rows[i].RoomID] = i + 1
	}
	for id, fold := range folds {
		fold.mu.Lock()
		if i := found[id]; i > 0 && fold.seq == 0 {
			a.s.resume(fold, byID[id], rows[i-1].Seq, rows[i-1].Counts)
		}
		fold.resumed = true
		fold.mu.Unlock()
	}
	return nil
}

// askRoom asks for a room's state and for what comes before its tail.
func (a *answer) askRoom(q *questions, p *part) {
	r := p.room
	window, whole := r.window(p.lower, p.upper)
	begun := whole || len(window) > 0 && isCreate(window[0])
	if !begun || p.lower > 0 {
		r.mu.RLock()
		small := r.counted > 0 && r.joined+r.invited <= smallRoom
		r.mu.RUnlock()
		if without := a.filter.Lazy() && !small; !r.knowsState(p.upper, without) {
			q.state(r, &roomapi.StateRequest{RoomID: r.id, WithoutMembers: without})
		}
	} else {
		a.askPolicy(q, r)
	}
	a.askOlder(q, p, window, begun)
}

// askOlder asks for what comes before a room's tail, of which window is the part
// that is looked at and begun tells that nothing lacks.
func (a *answer) askOlder(q *questions, p *part, window []*event, begun bool) {
	r := p.room
	if begun || slices.ContainsFunc(window, func(ev *event) bool { return ev.limited }) {
		return
	}
	want := a.limitOf(p) + 1
	if fold := a.u.unreadOf(r.id); fold.reached() < p.upper {
		want = max(want, olderAhead)
	}
	o, ok := r.olderKept()
	if want -= len(window) + len(o.events); ok && want > 0 && !o.complete && !o.full {
		q.older(r, o, want)
	}
}

// reached is up to where events have been looked at.
func (fold *unread) reached() int64 {
	fold.mu.Lock()
	defer fold.mu.Unlock()
	return fold.seq
}

// askDetails asks for what a room's timeline and the user's receipts refer to.
func (a *answer) askDetails(q *questions, p *part) {
	r := p.room
	events := r.recent(p.upper, a.limitOf(p))
	if ids := referred(r, events); len(ids) > 0 {
		q.events(r, ids, func(found []*roomapi.StoredEvent) {
			if a.looked == nil {
				a.looked = map[string][]*event{}
			}
			a.looked[r.id] = fromAllStored(found)
		})
	}
	a.askRead(q, p)
	if !a.filter.Lazy() || r.knowsState(p.upper, false) {
		return
	}
	members := map[gomatrixserverlib.StateKey]struct{}{{Type: typeMember, StateKey: a.u.id}: {}}
	for _, ev := range events {
		members[gomatrixserverlib.StateKey{Type: typeMember, StateKey: ev.Sender()}] = struct{}{}
	}
	req := &roomapi.StateRequest{RoomID: r.id}
	for key := range members {
		req.Keys = append(req.Keys, key)
	}
	if _, known := r.knownState(p.upper, req); !known {
		q.state(r, req)
	}
}

// askRead asks where the events of the user's receipts are.
func (a *answer) askRead(q *questions, p *part) {
	r, fold := p.room, a.u.unreadOf(p.room.id)
	fold.mu.Lock()
	missing := fold.missing(r, r.receiptsOf(a.u.id))
	fold.mu.Unlock()
	if len(missing) > 0 {
		q.events(r, missing, func(found []*roomapi.StoredEvent) {
			fold.mu.Lock()
			defer fold.mu.Unlock()
			fold.place(missing, found)
		})
	}
}

// recent returns the last events up to a Seq that are in memory, newest first.
func (r *room) recent(upTo int64, most int) (out []*event) {
	r.mu.RLock()
	tail, older := r.tail.events, r.older.events
	r.mu.RUnlock()
	for i := len(tail) - 1; i >= 0 && len(out) < most; i-- {
		if ev := tail[i]; !ev.hidden && ev.Position.Seq <= upTo {
			out = append(out, ev)
		}
	}
	for i := 0; i < len(older) && len(out) < most; i++ {
		if older[i].Position.Seq <= upTo {
			out = append(out, older[i])
		}
	}
	return out
}

// referred are the events that others take their unsigned data from and that are
// not in memory.
func referred(r *room, events []*event) (ids []string) {
	var want map[string]*event
	for _, ev := range events {
		for _, id := range []string{ev.ReplacesState, ev.RedactedBy} {
			if id == "" {
				continue
			}
			if want == nil {
				want = map[string]*event{}
			}
			want[id] = nil
		}
	}
	if want == nil {
		return nil
	}
	r.find(want)
	for id, ev := range want {
		if ev == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// questions are those to the room server about many rooms, by who is to be asked.
type questions struct {
	s    *Server
	at   map[string]*inquiry
	full []*inquiry
	mu   sync.Mutex // of what is done with answers
}

// inquiry is asked at once. It says for each question what is done with the answer.
type inquiry struct {
	req       roomapi.BatchRequest
	states    []func(*roomapi.StateResponse)
	histories []func(*roomapi.HistoryResponse)
	events    []func(*roomapi.EventsResponse)
}

// of returns the batch that questions about a room belong to.
func (q *questions) of(r *room) *inquiry {
	place := rpc.Place(context.Background(), q.s.caller, roomapi.Service, r.id)
	b := q.at[place]
	if b != nil && b.req.Len() >= roomapi.MaxBatch {
		q.full, b = append(q.full, b), nil
	}
	if b == nil {
		b = &inquiry{}
		q.at[place] = b
	}
	return b
}

func (q *questions) state(r *room, req *roomapi.StateRequest) {
	b, asked := q.of(r), q.s.view.seen(r.partition)
	b.req.States = append(b.req.States, req)
	b.states = append(b.states, func(res *roomapi.StateResponse) {
		q.s.view.keepState(r, asked, req, res.At.Seq, stateFrom(res.Events))
	})
}

func (q *questions) older(r *room, o older, want int) {
	b := q.of(r)
	b.req.Histories = append(b.req.Histories, r.olderRequest(o, want))
	b.histories = append(b.histories, func(res *roomapi.HistoryResponse) { q.s.view.keepOlder(r, o, res) })
}

func (q *questions) events(r *room, ids []string, found func([]*roomapi.StoredEvent)) {
	b := q.of(r)
	b.req.Events = append(b.req.Events, &roomapi.EventsRequest{RoomID: r.id, EventIDs: ids})
	b.events = append(b.events, func(res *roomapi.EventsResponse) { found(res.Events) })
}

// ask asks all, each instance beside the others.
func (q *questions) ask(ctx context.Context) error {
	group, limited := errgroup.WithContext(ctx)
	for _, b := range q.at {
		group.Go(func() error { return q.askOne(limited, b) })
	}
	for _, b := range q.full {
		group.Go(func() error { return q.askOne(limited, b) })
	}
	return group.Wait()
}

// askOne asks a batch. One that fails is asked again, one by one, by who needs
// the answers: a room server of the version before knows no batches.
func (q *questions) askOne(ctx context.Context, b *inquiry) error {
	res, err := roomapi.QueryBatch.Call(ctx, q.s.caller, &b.req)
	if err != nil {
		q.s.log.WithError(err).Debug("Cannot ask about many rooms at once")
		return ctx.Err()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	each(res.States, b.states)
	each(res.Histories, b.histories)
	each(res.Events, b.events)
	return nil
}

// each hands the answers to those who wait for them.
func each[T any](answers []*T, do []func(*T)) {
	for i, res := range answers[:min(len(answers), len(do))] {
		if res != nil {
			do[i](res)
		}
	}
}
