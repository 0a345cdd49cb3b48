package roomserver

import (
	"errors"
	"slices"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// backfill puts old events, newest first, right before the gap that they fill
// (or a part of it). Nothing of the room's state changes.
// spec: server-server-api §backfilling-and-retrieving-missing-events
func (w *work) backfill(in *input) error {
	if err := w.findVersion(in.record); err != nil {
		return err
	}
	if len(in.lines) < len(in.record.Events) {
		return errTooFewLines
	}
	given, err := w.given(in)
	if err != nil {
		return err
	}
	at, err := w.gapOf(in.record.Events)
	if err != nil {
		return err
	}
	if at < 0 {
		return &refusal{status: 400, code: "M_UNKNOWN", message: "These events fill no gap"}
	}
	p := w.trial.gaps[at].place
	p.sub -= int64(len(in.record.Events))
	var placed []*staged
	ids := make([]string, len(in.record.Events))
	in.verdict.Events = make([]api.EventVerdict, len(in.record.Events))
	for i, e := range slices.Backward(in.record.Events) {
		f, err := w.parse(in, &in.record.Events[i], in.lines[i])
		if err != nil {
			return err
		}
		st, v, err := w.old(f, given, p)
		if err != nil {
			return err
		}
		if st != nil {
			placed = append(placed, st)
			p.sub++
		}
		in.verdict.Events[i], ids[i] = v, e.EventID
	}
	in.done(ids)
	return w.moveGap(at, placed)
}

// place is a place in the timeline: at a Seq, or that of a staged output.
type place struct {
	of       *staged
	seq, sub int64
}

func (p place) position(partition int) api.Position {
	if p.of != nil {
		p.seq = p.of.event.Position.Seq
	}
	return api.Position{Partition: partition, Seq: p.seq, Sub: p.sub}
}

// gap is where history is missing: right before a place.
type gap struct {
	place
	missing []string
}

// loadGaps makes the room's gaps known to the record on trial.
func (w *work) loadGaps() error {
	if w.trial.gapsKnown || w.room == nil {
		return nil
	}
	err := w.s.store.ReadOne(w.ctx, func(tx *sqldb.Tx) error {
		rows, err := w.s.store.Gaps(w.ctx, tx, w.row.NID)
		for _, g := range rows {
			w.trial.gaps = append(w.trial.gaps, gap{place{seq: g.Seq, sub: g.Sub}, g.Missing})
		}
		return err
	})
	w.trial.gapsKnown = err == nil
	return err
}

// gapOf returns the index of the gap that lacks one of the events; -1 if none does.
func (w *work) gapOf(events []api.InputEvent) (int, error) {
	if err := w.loadGaps(); err != nil {
		return 0, err
	}
	return slices.IndexFunc(w.trial.gaps, func(g gap) bool {
		return slices.ContainsFunc(events, func(e api.InputEvent) bool { return slices.Contains(g.missing, e.EventID) })
	}), nil
}

// addGap notes that events before a new one are missing.
func (w *work) addGap(st *staged, missing []string) error {
	if len(missing) == 0 {
		return nil
	}
	if err := w.loadGaps(); err != nil {
		return err
	}
	st.output.Limited = true
	w.setGaps(append(w.trial.gaps, gap{place{of: st}, missing}))
	return nil
}

// old takes an event that is older than a gap. An error says that events are
// missing: of a stretch of history nothing is taken then.
func (w *work) old(f *full, given state, p place) (*staged, api.EventVerdict, error) {
	v, done, err := w.repeated(f)
	if done || err != nil {
		return nil, v, err
	}
	missing, err := w.references(f, given != nil)
	if err == nil && len(missing) > 0 {
		err = &refusal{code: "M_UNKNOWN", message: "Events are missing", missing: missing}
	}
	if err != nil {
		return nil, v, err
	}
	unknown := w.unplaced(f)
	b := before{whole: given}
	if len(unknown) == 0 {
		if b, err = w.stateBefore(f.prevs, f.event.PrevEventIDs(), nil); err != nil {
			return nil, v, err
		}
	}
	refused, err := w.checkAuth(f)
	if err == nil && refused == nil {
		refused, err = w.check(f.event, b)
	}
	if err != nil {
		return nil, v, err
	}
	if refused != nil {
		v, err = w.reject(f, b, refused)
		return nil, v, err
	}
	st := w.newStaged(f)
	st.output.Kind, st.place, st.gap = api.OutputBackfilled, &p, unknown
	st.output.JoinedCount, st.output.InvitedCount = w.trial.row.Joined, w.trial.row.Invited
	if err := errors.Join(w.describeBefore(st, b), w.setAfterOwn(st, b)); err != nil {
		return nil, v, err
	}
	w.push(st)
	return st, api.EventVerdict{EventID: f.event.EventID(), Status: api.StatusAccepted}, w.redactEarly(st)
}

// unplaced returns the previous events whose state is not known.
func (w *work) unplaced(f *full) (ids []string) {
	for _, id := range f.event.PrevEventIDs() {
		if p := f.prevs[id]; p == nil || !p.placed() {
			ids = append(ids, id)
		}
	}
	return ids
}

// moveGap puts what is still missing before the oldest event of what has been
// placed, so that history ends there.
func (w *work) moveGap(at int, placed []*staged) error {
	missing := slices.Clone(w.trial.gaps[at].missing)
	for _, st := range placed {
		missing = append(missing, st.gap...)
	}
	known, err := w.find(missing...)
	if err != nil {
		return err
	}
	missing = slices.DeleteFunc(missing, func(id string) bool { return known[id] != nil && known[id].placed() })
	slices.Sort(missing)
	g := gap{w.trial.gaps[at].place, slices.Compact(missing)}
	if len(placed) > 0 {
		g.place = *placed[0].place
	}
	gaps := slices.Delete(w.trial.gaps, at, at+1)
	if len(g.missing) > 0 {
		gaps = append(gaps, g)
	}
	w.setGaps(gaps)
	return nil
}

func (w *work) setGaps(gaps []gap) {
	w.trial.gaps, w.trial.gapsChanged, w.trial.row.Gaps = gaps, true, len(gaps)
}
