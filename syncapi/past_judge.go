package syncapi

import (
	"context"

	"github.com/matrix-org/dendrite/common/pushrules"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// maxCounted is up to how many members a room has now for those to be counted that
// it had then: rules ask whether there are two.
const maxCounted = 200

// pastCount is how many members a room had, as of the event looked at last.
type pastCount struct {
	known    bool
	joined   int64
	doubtful bool // it may have changed without an event
}

// read looks for events that notified the user, until it has enough of them, or has
// looked at very many.
func (p *past) read(ctx context.Context, limit int, highlights bool) ([]notification, error) {
	out := []notification{}
	for range maxLooked {
		st, ev, err := p.next(ctx)
		if err != nil || ev == nil {
			return out, err
		}
		n, err := p.judge(ctx, st, ev, highlights)
		if err != nil {
			return nil, err
		}
		if ev.Type() == typeMember { // before it there were others
			st.count.known = false
		}
		if n == nil {
			continue
		}
		if out = append(out, *n); len(out) == limit {
			break
		}
	}
	return out, nil
}

// judge tells how an event notified the user; nil when it did not.
func (p *past) judge(ctx context.Context, st *pastStream, ev *event, highlights bool) (*notification, error) {
	if _, ignored := p.ignored[ev.Sender()]; ignored || ev.Sender() == p.u.id || ev.RedactedBy != "" {
		return nil, nil
	}
	if gone, err := p.isExpired(ctx, st, ev); gone || err != nil {
		return nil, err
	}
	verdict, err := p.rulesAt(ev.OriginServerTS()).Judge(ctx, pushrules.NewSubject(ev), p.around(st, ev))
	if err != nil || !verdict.Notify || highlights && !verdict.Highlight {
		return nil, err
	}
	n := &notification{ev: ev, stream: st, actions: verdict.Actions}
	n.read, err = p.isRead(ctx, st, ev)
	return n, err
}

// isExpired tells whether an event is not shown any more.
func (p *past) isExpired(ctx context.Context, st *pastStream, ev *event) (bool, error) {
	if st.expired == nil {
		before, err := p.s.expiredBefore(ctx, st.room, st.room.id)
		if err != nil {
			return false, err
		}
		st.expired = &before
	}
	return expired(ev, *st.expired), nil
}

// rulesAt are the rules that the user had at a time.
func (p *past) rulesAt(ts int64) *pushrules.Ruleset {
	i := 0
	for i < len(p.rules) && ts >= p.rules[i].UntilTS {
		i++
	}
	if p.judged[i] == nil {
		if i == len(p.rules) {
			p.judged[i] = p.u.ruleset()
		} else {
			p.judged[i] = pushrules.Compile(p.rules[i].Content)
		}
	}
	return p.judged[i]
}

// around is what rules ask of the room, as it was right after an event.
func (p *past) around(st *pastStream, ev *event) *pushrules.Surroundings {
	then := func(ctx context.Context, keys ...gomatrixserverlib.StateKey) (stateMap, error) {
		res, err := roomapi.QueryState.Call(ctx, p.s.caller, &roomapi.StateRequest{RoomID: st.room.id, AtSeq: ev.Position.Seq, Keys: keys})
		if err != nil {
			return nil, err
		}
		return stateFrom(res.Events), nil
	}
	return &pushrules.Surroundings{
		Members: func(ctx context.Context) (int64, error) { return p.members(ctx, st, ev) },
		DisplayName: func(ctx context.Context) (string, error) {
			state, err := then(ctx, gomatrixserverlib.StateKey{Type: typeMember, StateKey: p.u.id})
			return state.displayName(p.u.id), err
		},
		MayNotify: func(ctx context.Context, sender, key string) (bool, error) {
			state, err := then(ctx, powerKeys()...)
			return err == nil && state.mayNotify(sender, key), err
		},
		Subscription: func(ctx context.Context, root string) (pushrules.Subscription, error) {
			return p.subscription(ctx, threadKey{st.room.id, root}, ev.OriginServerTS())
		},
	}
}

// subscription is what the user had to do with a thread at a time.
func (p *past) subscription(ctx context.Context, thread threadKey, ts int64) (pushrules.Subscription, error) {
	if p.threads == nil {
		list, err := p.s.askThreads(ctx, &userapi.ThreadSubscriptionsRequest{UserID: p.u.id})
		if err != nil {
			return 0, err
		}
		p.threads = map[threadKey][]userapi.ThreadChange{}
		for i := range list {
			t := &list[i]
			p.threads[threadKey{t.RoomID, t.ThreadID}] = t.Past
		}
	}
	is := pushrules.NoSubscriptions
	for key, changes := range p.threads {
		for _, c := range changes {
			switch {
			case c.TS > ts:
			case key == thread && c.Subscribed:
				is = pushrules.Subscribed
			case key == thread || is == pushrules.NoSubscriptions:
				is = pushrules.Unsubscribed
			}
		}
	}
	return is, nil
}

// members is how many members a room had right after an event. They are counted
// again where somebody may have come or gone since the event before.
func (p *past) members(ctx context.Context, st *pastStream, ev *event) (int64, error) {
	if st.count.known {
		return st.count.joined, nil
	}
	st.room.mu.RLock()
	joined := int64(st.room.joined)
	st.room.mu.RUnlock()
	if joined > maxCounted {
		return joined, nil
	}
	res, err := roomapi.QueryState.Call(ctx, p.s.caller, &roomapi.StateRequest{RoomID: st.room.id, AtSeq: ev.Position.Seq, Types: []string{typeMember}})
	if err != nil {
		return 0, err
	}
	joined = 0
	for _, m := range res.Events {
		if m.Membership() == "join" {
			joined++
		}
	}
	st.count = pastCount{known: !st.count.doubtful, joined: joined, doubtful: st.count.doubtful}
	return joined, nil
}

// isRead tells whether the user has read an event, by the receipts there are now.
// An invite is read once something has become of it.
func (p *past) isRead(ctx context.Context, st *pastStream, ev *event) (bool, error) {
	if st.invite != "" && st.over {
		return true, nil
	}
	thread, err := p.s.threadOf(ctx, st.room, ev)
	if err != nil {
		return false, err
	}
	if err := p.s.view.loadReceipts(ctx, []*room{st.room}); err != nil { // unless they are there
		return false, err
	}
	fold := p.u.unreadOf(st.room.id)
	fold.mu.Lock()
	defer fold.mu.Unlock()
	read, err := p.s.marks(ctx, fold, p.u, st.room)
	return read.read(notice{Seq: ev.Position.Seq, Sub: ev.Position.Sub, Thread: thread}), err
}
