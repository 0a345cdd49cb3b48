package roomserver

import (
	"errors"
	"slices"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/roomserver/storage"
)

// full is an event of a record that its writer has completed: hashes and
// signatures are verified.
type full struct {
	in    *input
	input *api.InputEvent
	event *gomatrixserverlib.Event
	// stored is the event as it is stored already, as an outlier.
	stored *found
	auth   map[string]*found
	prevs  map[string]*found
}

// ours tells whether events are refused to their writer where another server's
// would be rejected or soft-failed.
func (w *work) ours(in *input) bool {
	return in.record.Origin == w.s.serverName && in.record.Kind != api.KindImport
}

// parse reads a full event of the record.
func (w *work) parse(in *input, e *api.InputEvent, line []byte) (*full, error) {
	event, err := gomatrixserverlib.ParseStoredEvent(line, w.version, e.EventID)
	if err != nil || event.RoomID() != w.roomID {
		return nil, &refusal{status: 400, code: "M_BAD_JSON", message: "The event is not what the record says"}
	}
	return &full{in: in, input: e, event: event}, nil
}

// receive takes an event for the end of the timeline. given is the state before
// it, where that is not known here.
// spec: server-server-api §checks-performed-on-receipt-of-a-pdu
func (w *work) receive(f *full, given state) (api.EventVerdict, error) {
	if v, done, err := w.repeated(f); done || err != nil {
		return v, err
	}
	missing, err := w.references(f, given != nil)
	if err != nil || len(missing) > 0 {
		f.in.missing(missing)
		return api.EventVerdict{EventID: f.event.EventID(), Status: api.StatusMissing}, err
	}
	b, err := w.stateBefore(f.prevs, f.event.PrevEventIDs(), given)
	if err != nil {
		return api.EventVerdict{}, err
	}
	refused, err := w.checkBoth(f, b)
	if err != nil {
		return api.EventVerdict{}, err
	}
	if refused != nil {
		return w.reject(f, b, refused)
	}
	if f.in.record.Kind == api.KindImport {
		if f.input.SoftFailed {
			return w.softFail(f, b, &gomatrixserverlib.AuthError{Reason: "it was soft-failed before"})
		}
	} else if !w.isCurrent(b) {
		if refused, err = w.check(f.event, before{ref: w.trial.current, named: true}); err != nil {
			return api.EventVerdict{}, err
		}
		if refused != nil {
			return w.softFail(f, b, refused)
		}
	}
	return api.EventVerdict{EventID: f.event.EventID(), Status: api.StatusAccepted}, w.accept(f, b)
}

// repeated answers for an event that is known already.
func (w *work) repeated(f *full) (v api.EventVerdict, done bool, err error) {
	id := f.event.EventID()
	known, err := w.find(id)
	if err != nil || known[id] == nil {
		return v, false, err
	}
	flags := known[id].flags()
	switch {
	case flags&storage.Rejected != 0:
		return api.EventVerdict{EventID: id, Status: api.StatusRejected}, true, nil
	case flags&storage.SoftFailed != 0:
		return api.EventVerdict{EventID: id, Status: api.StatusSoftFailed}, true, nil
	case flags&storage.Outlier != 0:
		f.stored = known[id]
		return v, false, nil
	}
	return api.EventVerdict{EventID: id, Status: api.StatusAccepted}, true, nil
}

// references finds what the event refers to, or says what is missing. Previous
// events need to have a state, unless the state before is given.
func (w *work) references(f *full, given bool) (missing []string, err error) {
	if f.auth, err = w.find(f.event.AuthEventIDs()...); err != nil {
		return nil, err
	}
	for _, id := range f.event.AuthEventIDs() {
		if f.auth[id] == nil {
			missing = append(missing, id)
		}
	}
	if f.prevs, err = w.find(f.event.PrevEventIDs()...); err != nil {
		return nil, err
	}
	for _, id := range f.event.PrevEventIDs() {
		if (f.prevs[id] == nil || !f.prevs[id].placed()) && !given {
			missing = append(missing, id)
		}
	}
	return missing, nil
}

// checkBoth authorises an event by its auth events and by the state before it.
func (w *work) checkBoth(f *full, b before) (*gomatrixserverlib.AuthError, error) {
	if f.event.Type() == "m.room.create" && len(w.trial.row.Extremities) > 0 {
		return &gomatrixserverlib.AuthError{Rule: "1", Reason: "the room has been created already"}, nil
	}
	refused, err := w.checkAuth(f)
	if err == nil && refused == nil {
		refused, err = w.check(f.event, b)
	}
	return refused, err
}

// checkAuth authorises an event by its auth events.
func (w *work) checkAuth(f *full) (*gomatrixserverlib.AuthError, error) {
	auth := make([]*gomatrixserverlib.Event, 0, len(f.auth)+1)
	for _, a := range f.auth {
		auth = append(auth, a.event.Event)
	}
	err := gomatrixserverlib.CheckAuthEvents(f.event, auth, func(id string) bool { return f.auth[id].flags()&storage.Rejected != 0 })
	if err == nil && w.version.Rules().RoomIDFromCreate && f.event.Type() != "m.room.create" {
		var create map[string]*found
		id := "$" + w.roomID[1:]
		if create, err = w.find(id); err != nil {
			return nil, err
		}
		if create[id] == nil || create[id].flags()&storage.Rejected != 0 {
			return &gomatrixserverlib.AuthError{Rule: "2", Reason: "the room has no m.room.create"}, nil
		}
		auth = append(auth, create[id].event.Event)
	}
	if err == nil {
		err = gomatrixserverlib.Authorise(f.event, gomatrixserverlib.NewStateEvents(auth...))
	}
	return asRefused(err)
}

// check authorises an event against a state.
func (w *work) check(e *gomatrixserverlib.Event, b before) (*gomatrixserverlib.AuthError, error) {
	against, err := w.authState(b)
	if err != nil {
		return nil, err
	}
	refused, err := asRefused(gomatrixserverlib.Authorise(e, against))
	return refused, errors.Join(err, w.err)
}

func asRefused(err error) (*gomatrixserverlib.AuthError, error) {
	var refused *gomatrixserverlib.AuthError
	if errors.As(err, &refused) {
		return refused, nil
	}
	return nil, err
}

// reject stores an event that the rules do not allow, for those that refer to
// it. Its writer is refused an event of ours instead.
func (w *work) reject(f *full, b before, refused *gomatrixserverlib.AuthError) (api.EventVerdict, error) {
	if w.ours(f.in) {
		return api.EventVerdict{}, &refusal{status: 403, code: "M_FORBIDDEN", message: refused.Reason, rule: refused.Rule}
	}
	st := w.newStaged(f)
	st.output, st.flags = api.OutputRecord{}, storage.Rejected
	if err := w.setAfter(st, b, nil); err != nil {
		return api.EventVerdict{}, err
	}
	w.push(st)
	return api.EventVerdict{EventID: f.event.EventID(), Status: api.StatusRejected, Rule: refused.Rule, Reason: refused.Reason}, nil
}

// softFail stores an event that the room as it is now does not allow: it is no
// forward extremity, and no client sees it.
// spec: server-server-api §soft-failure
func (w *work) softFail(f *full, b before, refused *gomatrixserverlib.AuthError) (api.EventVerdict, error) {
	if w.ours(f.in) {
		return api.EventVerdict{}, &refusal{status: 403, code: "M_FORBIDDEN", message: refused.Reason, rule: refused.Rule}
	}
	st := w.newStaged(f)
	st.flags, st.output.SoftFailed = storage.SoftFailed, true
	if err := w.describeBefore(st, b); err != nil {
		return api.EventVerdict{}, err
	}
	if err := w.setAfterOwn(st, b); err != nil {
		return api.EventVerdict{}, err
	}
	st.output.JoinedCount, st.output.InvitedCount = w.trial.row.Joined, w.trial.row.Invited
	w.push(st)
	return api.EventVerdict{EventID: f.event.EventID(), Status: api.StatusSoftFailed, Rule: refused.Rule, Reason: refused.Reason}, nil
}

// setAfterOwn notes the state after an event that does not change the room's.
func (w *work) setAfterOwn(st *staged, b before) error {
	whole, err := w.wholeState(b)
	if err != nil {
		return err
	}
	return w.setAfter(st, b, ownDelta(st.event.Event, whole))
}

// ownDelta is what an event changes in the state before it.
func ownDelta(e *gomatrixserverlib.Event, whole state) []delta {
	if !e.IsState() || whole[e.Key()] == e.EventID() {
		return nil
	}
	return []delta{{e.Key(), whole[e.Key()], e.EventID()}}
}

// accept adds an event to the end of the timeline.
func (w *work) accept(f *full, b before) error {
	st := w.newStaged(f)
	st.sign = f.input.Proto != nil
	if err := w.describeBefore(st, b); err != nil {
		return err
	}
	if f.event.Type() == "m.room.redaction" && f.event.Redacts() != "" {
		if err := w.redact(st); err != nil {
			return err
		}
	}
	if !st.sign { // what ours follow is known
		if err := w.addGap(st, w.unplaced(f)); err != nil {
			return err
		}
	}
	others := without(w.trial.row.Extremities, f.event.PrevEventIDs())
	if w.isCurrent(b) && len(others) == 0 {
		w.append(st)
	} else if err := w.merge(st, b, others); err != nil {
		return err
	}
	t := w.trial
	st.output.JoinedCount, st.output.InvitedCount = t.row.Joined, t.row.Invited
	t.row.Depth = max(t.row.Depth, f.event.Depth())
	t.row.Extremities = append(others, f.event.EventID())
	return w.redactEarly(st)
}

func without(list, drop []string) []string {
	out := make([]string, 0, len(list)+1)
	for _, id := range list {
		if !slices.Contains(drop, id) {
			out = append(out, id)
		}
	}
	return out
}

// append is the plain case: the event follows all that there is, so the state
// before it is the room's, and the state after it becomes the room's.
func (w *work) append(st *staged) {
	w.push(st)
	if st.event.IsState() {
		old := ""
		if e := w.entry(st.event.Key()); e != nil {
			old = e.EventID()
		}
		w.setState(st, []delta{{st.event.Key(), old, st.event.EventID()}})
	}
	st.after, st.current = w.trial.current, true
}

// merge makes the event another forward extremity, beside others: the room's
// state is what the states after all of them resolve to.
func (w *work) merge(st *staged, b before, others []string) error {
	if !st.event.IsState() && w.isCurrent(b) {
		if same, err := w.allCurrent(others); same || err != nil {
			w.push(st)
			st.after, st.current = w.trial.current, true
			return err
		}
	}
	whole, err := w.wholeState(b)
	if err != nil {
		return err
	}
	own := ownDelta(st.event.Event, whole)
	after := whole
	if own != nil {
		after = apply(whole, own)
	}
	current, err := w.stateOf(w.trial.current)
	if err != nil {
		return err
	}
	// The event itself may be asked for while resolving.
	w.trial.byID[st.event.EventID()] = st
	resolved, err := w.resolveWith(after, b, own == nil, others)
	if err != nil {
		return err
	}
	if err := w.changeState(st, diffStates(current, resolved)); err != nil {
		return err
	}
	if len(diffStates(resolved, after)) == 0 {
		st.after, st.current = w.trial.current, true
		return nil
	}
	return w.setAfter(st, b, own)
}

// allCurrent tells whether the states after events are all the room's, so that
// there is nothing to resolve: messages that crossed.
func (w *work) allCurrent(ids []string) (bool, error) {
	known, err := w.find(ids...)
	if err != nil {
		return false, err
	}
	for _, id := range ids {
		r, err := w.after(known[id])
		if err != nil || r != w.trial.current {
			return false, err
		}
	}
	return true, nil
}

// resolveWith resolves the state after a new event with those after the other
// forward extremities.
func (w *work) resolveWith(after state, b before, unchanged bool, others []string) (state, error) {
	sets, refs := []state{after}, []ref{}
	if b.named && unchanged {
		refs = append(refs, b.ref)
	}
	known, err := w.find(others...)
	if err != nil {
		return nil, err
	}
	for _, id := range others {
		r, err := w.after(known[id])
		if err != nil {
			return nil, err
		}
		if slices.Contains(refs, r) {
			continue
		}
		refs = append(refs, r)
		set, err := w.stateOf(r)
		if err != nil {
			return nil, err
		}
		sets = append(sets, set)
	}
	return w.resolve(sets)
}

// setAfter notes that the state after an event is the one before it with what
// the event changes, as a fork if nothing else has it.
func (w *work) setAfter(st *staged, b before, own []delta) error {
	if b.named && own == nil {
		st.after = b.ref
		return nil
	}
	f := &fork{base: b.ref, delta: own}
	var err error
	if f.depth, err = w.forkDepth(b); err != nil {
		return err
	}
	if !b.named || f.depth > maxForkDepth {
		// Relative to the room's state, by which it is short in most cases.
		current, err := w.stateOf(w.trial.current)
		if err != nil {
			return err
		}
		whole, err := w.wholeState(b)
		if err != nil {
			return err
		}
		*f = fork{base: w.trial.current, delta: diffStates(current, apply(whole, own))}
	}
	st.fork, st.after = f, ref{forked: st}
	f.infos, err = w.describeAll(f.delta)
	return err
}

// forkDepth is the length of the chain of a fork of b.
func (w *work) forkDepth(b before) (int64, error) {
	switch {
	case b.named && b.ref.forked != nil:
		return b.ref.forked.fork.depth + 1, nil
	case b.named && b.ref.fork != 0:
		f, err := w.s.loadFork(w.ctx, b.ref.fork)
		if err != nil {
			return 0, err
		}
		return f.Depth + 1, nil
	}
	return 0, nil
}
