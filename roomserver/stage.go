package roomserver

import (
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// maxChanges bounds, in bytes, the changes of state that one output tells of:
// far below eventlog.MaxRecordBytes.
const maxChanges = 400_000

// newStaged makes what will be stored and published of an event.
func (w *work) newStaged(f *full) *staged {
	event := f.event
	st := &staged{work: w, event: &api.StoredEvent{Event: event, Device: f.input.Device, TxnID: f.input.TxnID, DelayID: f.input.DelayID}}
	if f.stored != nil {
		// Its JSON may have been redacted since it came as an outlier.
		st.event.Event, st.event.RedactedBy = f.stored.event.Event, f.stored.event.RedactedBy
		st.nid, st.outlier, st.placed = f.stored.nid, f.stored.st, true
	}
	st.output = api.OutputRecord{V: 1, Kind: api.OutputEvent, RoomID: w.roomID, RoomVersion: string(w.version), EventID: event.EventID(),
		Type: event.Type(), StateKey: event.StateKey(), Sender: event.Sender(), TS: event.OriginServerTS(), Origin: f.in.record.Origin,
		Local: event.SenderServer() == w.s.serverName, Device: f.input.Device, TxnID: f.input.TxnID, DelayID: f.input.DelayID}
	return st
}

// push stages.
func (w *work) push(st *staged) {
	st.n = len(w.layer.staged) + len(w.trial.staged)
	w.trial.staged = append(w.trial.staged, st)
	if st.event != nil {
		w.trial.byID[st.event.EventID()] = st
		if w.isGone(st.event.EventID()) {
			w.trial.gone[st.event.EventID()] = false
		}
	}
}

// describeBefore notes what readers want to know of the state before the event.
func (w *work) describeBefore(st *staged, b before) error {
	against, err := w.authState(b)
	if err != nil {
		return err
	}
	e, out := st.event, &st.output
	out.HistoryVisibility = string(gomatrixserverlib.HistoryVisibilityOf(against.StateEvent("m.room.history_visibility", "")))
	if e.Type() == "m.room.history_visibility" && e.StateKeyEquals("") {
		out.HistoryVisibilityBefore, out.HistoryVisibility = out.HistoryVisibility, string(gomatrixserverlib.HistoryVisibilityOf(e.Event))
	}
	if e.IsState() {
		if old := against.StateEvent(e.Type(), *e.StateKey()); old != nil {
			out.ReplacesState = old.EventID()
		}
	}
	e.HistoryVisibility, e.HistoryVisibilityBefore, e.ReplacesState = out.HistoryVisibility, out.HistoryVisibilityBefore, out.ReplacesState
	return w.err
}

// changeState stages an event that changes the room's state, and before it, if
// it changes more than one record can tell, outputs of their own.
func (w *work) changeState(st *staged, deltas []delta) error {
	bytes, own := 0, []delta{}
	for _, d := range deltas {
		bytes += d.bytes()
		if d.new == st.event.EventID() {
			own = append(own, d)
		}
	}
	if bytes > maxChanges {
		if err := w.stateOutputs(deltas, own); err != nil {
			return err
		}
		deltas = own
	}
	w.push(st)
	return w.setState(st, deltas)
}

func (d delta) bytes() int {
	return len(d.key.Type) + len(d.key.StateKey) + len(d.old) + len(d.new) + 100
}

// stateOutputs stages changes of the state, without those of own, in outputs of
// bounded size.
func (w *work) stateOutputs(deltas, own []delta) error {
	var part []delta
	bytes := 0
	flush := func() error {
		if len(part) == 0 {
			return nil
		}
		st := &staged{work: w, output: api.OutputRecord{V: 1, Kind: api.OutputState, RoomID: w.roomID, RoomVersion: string(w.version)}}
		w.push(st)
		err := w.setState(st, part)
		st.output.JoinedCount, st.output.InvitedCount = w.trial.row.Joined, w.trial.row.Invited
		part, bytes = nil, 0
		return err
	}
	for _, d := range deltas {
		if len(own) > 0 && d == own[0] {
			continue
		}
		if part, bytes = append(part, d), bytes+d.bytes(); bytes > maxChanges {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// setState changes the room's state; st tells of it.
func (w *work) setState(st *staged, deltas []delta) error {
	infos, err := w.describeAll(deltas)
	if err != nil || len(deltas) == 0 {
		return err
	}
	t := w.trial
	for _, d := range deltas {
		c := &change{key: d.key, id: d.new, by: st, event: infos[d.new].st, nid: infos[d.new].nid}
		t.state[d.key] = c
		t.changes = append(t.changes, c)
		told := api.StateChange{Type: d.key.Type, StateKey: d.key.StateKey, EventID: d.new, Replaced: d.old}
		if d.key.Type == "m.room.member" {
			w.count(st, d, infos[d.old].membership, infos[d.new].membership)
			told.Membership = infos[d.new].membership
		}
		st.output.Changes = append(st.output.Changes, told)
	}
	t.current = ref{at: st}
	return nil
}

// count notes a changed membership.
func (w *work) count(st *staged, d delta, before, after string) {
	if st.event != nil && d.new == st.event.EventID() {
		st.output.MembershipBefore, st.output.Membership = before, after
	}
	row := w.trial.row
	row.Joined += is(after, "join") - is(before, "join")
	row.Invited += is(after, "invite") - is(before, "invite")
	if gomatrixserverlib.ServerOf(d.key.StateKey) == w.s.serverName {
		row.LocalJoined += is(after, "join") - is(before, "join")
	}
}

func is(membership, as string) int {
	if membership == as {
		return 1
	}
	return 0
}

// describeAll returns what is needed of the events of changes: the numbers of
// the new ones, and memberships. In the plain case nothing has to be read.
func (w *work) describeAll(deltas []delta) (map[string]info, error) {
	out := make(map[string]info, 2)
	var unknown []string
	for _, d := range deltas {
		if st := w.stagedEvent(d.new); st != nil {
			out[d.new] = describe(st.event, st.flags, 0, st)
		} else if d.new != "" {
			unknown = append(unknown, d.new)
		}
		if d.old == "" || d.key.Type != "m.room.member" {
			continue
		}
		if e, ok := w.fetched[d.key]; ok && e.event != nil && e.event.EventID() == d.old {
			out[d.old] = describe(e.event, 0, e.nid, nil)
		} else if st := w.stagedEvent(d.old); st != nil {
			out[d.old] = describe(st.event, st.flags, 0, st)
		} else {
			unknown = append(unknown, d.old)
		}
	}
	if len(unknown) == 0 {
		return out, nil
	}
	found, err := w.describe(unknown)
	for id, i := range found {
		out[id] = i
	}
	return out, err
}
