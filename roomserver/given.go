package roomserver

import (
	"context"
	"fmt"
	"slices"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/roomserver/storage"
)

// given returns the state that a record gives; nil if it gives none.
func (w *work) given(in *input) (state, error) {
	ids := in.record.State
	if set := in.record.StateSet; set != "" {
		var err error
		if ids, err = w.stateSet(set); err != nil {
			return nil, err
		}
		if api.HashStateSet(ids) != set {
			return nil, &refusal{code: "M_UNKNOWN", message: "The state set is not complete", missing: []string{}}
		}
		w.addSet(setPart{id: set, used: true})
	}
	if ids == nil {
		return nil, nil
	}
	if err := w.spend(len(ids)); err != nil {
		return nil, err
	}
	infos, err := w.describe(ids)
	if err != nil {
		return nil, err
	}
	out := make(state, len(ids))
	var missing []string
	for _, id := range ids {
		i, ok := infos[id]
		switch {
		case !ok:
			missing = append(missing, id)
		case !i.isState || out[i.key] != "" && out[i.key] != id:
			return nil, &refusal{status: 400, code: "M_BAD_STATE", message: fmt.Sprintf("%s does not belong to a state", id)}
		case !i.rejected:
			out[i.key] = id
		}
	}
	if missing != nil {
		return nil, &refusal{code: "M_UNKNOWN", message: "Events of the state are not known", missing: missing}
	}
	return out, nil
}

// stateSet returns the events of a set, those of this batch included.
func (w *work) stateSet(set string) ([]string, error) {
	var ids []string
	if w.room != nil {
		err := w.s.store.ReadOne(w.ctx, func(tx *sqldb.Tx) (err error) {
			ids, err = w.s.store.StateSet(w.ctx, tx, w.row.NID, set)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("state set: %w", err)
		}
	}
	for _, part := range w.trial.sets {
		switch {
		case part.id != set:
		case part.used:
			ids = nil
		default:
			ids = append(ids, part.events...)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// setPart is a part of a state set, or says that the set has been used up.
type setPart struct {
	id     string
	events []string
	ts     int64
	used   bool
}

func (w *work) addSet(part setPart) {
	w.trial.sets = append(w.trial.sets, part)
	w.trial.writes = append(w.trial.writes, func(ctx context.Context, tx *sqldb.Tx, store *storage.Store, roomNID int64) error {
		if part.used {
			return store.ForgetStateSet(ctx, tx, roomNID, part.id)
		}
		return store.AddToStateSet(ctx, tx, roomNID, part.id, part.ts, part.events)
	})
}

// outliers stores events that others refer to, oldest first.
func (w *work) outliers(in *input) error {
	if err := w.findVersion(in.record); err != nil {
		return err
	}
	ids, lines := []string{}, in.lines
	for i := range in.record.Events {
		if len(lines) == 0 {
			return errTooFewLines
		}
		f, err := w.parse(in, &in.record.Events[i], lines[0])
		if err != nil {
			return err
		}
		v, err := w.outlier(f)
		if err != nil {
			return err
		}
		in.verdict.Events = append(in.verdict.Events, v)
		ids, lines = append(ids, v.EventID), lines[1:]
	}
	if set := in.record.StateSet; set != "" && len(in.record.State) > 0 {
		w.addSet(setPart{id: set, events: in.record.State, ts: in.record.TS})
	}
	in.done(ids)
	return nil
}

// outlier takes an event that has no place in the timeline.
func (w *work) outlier(f *full) (api.EventVerdict, error) {
	if v, done, err := w.repeated(f); done || err != nil {
		return v, err
	}
	v := api.EventVerdict{EventID: f.event.EventID(), Status: api.StatusAccepted}
	if f.stored != nil {
		return v, nil
	}
	missing, err := w.references(f, true)
	if err != nil || len(missing) > 0 {
		f.in.missing(missing)
		v.Status = api.StatusMissing
		return v, err
	}
	refused, err := w.checkAuth(f)
	if err != nil {
		return v, err
	}
	st := w.newStaged(f)
	st.output, st.flags = api.OutputRecord{}, storage.Outlier
	if refused != nil {
		st.flags |= storage.Rejected
		v.Status, v.Rule, v.Reason = api.StatusRejected, refused.Rule, refused.Reason
	}
	w.push(st)
	return v, w.redactEarly(st)
}

// join commits a join whose state before is given.
func (w *work) join(in *input) error {
	if err := w.findVersion(in.record); err != nil {
		return err
	}
	given, err := w.given(in)
	if err != nil {
		return err
	}
	if len(in.record.Events) != 1 || len(in.lines) == 0 || given == nil {
		return &refusal{status: 400, code: "M_BAD_JSON", message: "A join is one event and the state before it"}
	}
	e := &in.record.Events[0]
	if err := w.expect(e.Expect); err != nil {
		return err
	}
	if w.trial.row.LocalJoined > 0 {
		err = w.newFull(in, e, in.lines[0], given)
	} else {
		err = w.enter(in, e, in.lines[0], given)
	}
	if err != nil {
		return err
	}
	in.done([]string{e.EventID})
	return nil
}

// enter makes the given state the room's, whatever it was when we left, and
// adds the join to it.
func (w *work) enter(in *input, e *api.InputEvent, line []byte, given state) error {
	f, err := w.parse(in, e, line)
	if err != nil {
		return err
	}
	v, done, err := w.repeated(f)
	if done || err != nil {
		in.verdict.Events = append(in.verdict.Events, v)
		return err
	}
	missing, err := w.references(f, true)
	if err != nil || len(missing) > 0 {
		in.missing(missing)
		return err
	}
	refused, err := w.checkAuth(f)
	if err == nil && refused == nil {
		refused, err = w.check(f.event, before{whole: given})
	}
	if err != nil {
		return err
	}
	if refused != nil {
		return &refusal{status: 403, code: "M_FORBIDDEN", message: refused.Reason, rule: refused.Rule}
	}
	current, err := w.stateOf(w.trial.current)
	if err != nil {
		return err
	}
	if err := w.stateOutputs(diffStates(current, given), nil); err != nil {
		return err
	}
	w.trial.row.Extremities = nil // the timeline goes on behind a gap
	if err := w.accept(f, before{ref: w.trial.current, named: true}); err != nil {
		return err
	}
	in.verdict.Events = append(in.verdict.Events, api.EventVerdict{EventID: e.EventID, Status: api.StatusAccepted})
	return nil
}

// outOfRoom takes an invite, a knock or its end, of a user of ours and a room
// that none of ours is in.
func (w *work) outOfRoom(in *input) error {
	version := gomatrixserverlib.RoomVersion(in.record.RoomVersion)
	if version.Rules() == nil {
		return &refusal{status: 400, code: "M_INCOMPATIBLE_ROOM_VERSION", message: "This server does not know that room version"}
	}
	if len(in.record.Events) != 1 || len(in.lines) == 0 {
		return errTooFewLines
	}
	if w.trial.row.LocalJoined > 0 {
		return w.new(in) // an event like others
	}
	id := in.record.Events[0].EventID
	event, err := gomatrixserverlib.ParseStoredEvent(in.lines[0], version, id)
	if err != nil || event.RoomID() != w.roomID || event.Type() != "m.room.member" || !event.IsState() ||
		gomatrixserverlib.ServerOf(*event.StateKey()) != w.s.serverName {
		return &refusal{status: 400, code: "M_BAD_JSON", message: "The event is not what the record says"}
	}
	st := &staged{work: w, lone: event, output: api.OutputRecord{V: 1, Kind: api.OutputOutOfRoom, RoomID: w.roomID,
		RoomVersion: string(version), EventID: id, Type: event.Type(), StateKey: event.StateKey(), Sender: event.Sender(),
		TS: event.OriginServerTS(), Origin: in.record.Origin, Local: event.SenderServer() == w.s.serverName,
		Membership: event.Membership(), StrippedState: in.record.StrippedState}}
	w.push(st)
	row := &storage.OutOfRoom{RoomID: w.roomID, UserID: *event.StateKey(), Version: string(version), EventID: id,
		JSON: event.JSON(), Stripped: []byte{}}
	if event.Membership() == "invite" || event.Membership() == "knock" {
		row.Stripped = append(row.Stripped, in.record.StrippedState...)
	}
	w.trial.writes = append(w.trial.writes, func(ctx context.Context, tx *sqldb.Tx, store *storage.Store, _ int64) error {
		row.OutputNID = st.nid
		return store.PutOutOfRoom(ctx, tx, row)
	})
	in.done([]string{id})
	return nil
}
