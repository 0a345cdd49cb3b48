package roomserver

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/roomserver/storage"
)

// A record that takes too much effort sets its room aside (design rule 13): it
// and the room's further records wait in a table, and the partition goes on.
// Meanwhile the first of them is handled ahead (ahead.go), from the committed
// room, which does not change as long as it is aside. When that is done the room
// is resumed by a record on room.input, and what waits is applied in its place:
// so it is the log that says when, and no clock. What is too much is counted,
// never timed, in what does not depend on batches or caches, so that a replay
// sets aside the same rooms at the same records.

// limits say what a room may take of its partition. They are constants of the
// version, not options: another value would make something else of the same log.
type limits struct {
	// effort is the most that one record may take: the events that state
	// resolution looks at, and so on (spend). It is about 0.2 s.
	effort int
	// records and bytes bound what waits of a room.
	records int
	bytes   int64
	// batch is the most records handled together; 0 stands for the consumer's own.
	batch int
}

var defaultLimits = limits{effort: 10_000, records: 1000, bytes: 8 << 20}

// entriesPerEffort is how many entries of a state cost as much as one event:
// of these only the IDs are read.
const entriesPerEffort = 4

// errHeavy says that a record takes more effort than it may.
var errHeavy = errors.New("the record takes too long")

// effort is what a record on trial has taken.
type effort struct {
	limit, spent int // a limit of 0 is none
	states       map[ref]bool
}

// spend accounts for events that are looked at.
func (w *work) spend(events int) error {
	e := &w.trial.effort
	if e.spent += events; e.limit > 0 && e.spent > e.limit {
		return errHeavy
	}
	return nil
}

// mayRead tells by the size of the room, before a whole state is read, if that
// is too much by itself.
func (w *work) mayRead(r ref) error {
	e, row := &w.trial.effort, w.trial.row
	if e.limit > 0 && !e.states[r] && (row.Joined+row.Invited)/entriesPerEffort > e.limit {
		return errHeavy
	}
	return nil
}

// spendOn accounts for a whole state, once a record: whether it is in memory
// already depends on the batch, and does not count.
func (w *work) spendOn(r ref, s state) error {
	e := &w.trial.effort
	if e.states[r] {
		return nil
	}
	if e.states == nil {
		e.states = map[ref]bool{}
	}
	e.states[r] = true
	return w.spend(len(s) / entriesPerEffort)
}

// waiting is a record that waits. It is shared: to change it, copy it.
type waiting struct {
	n       int64 // in the table
	request string
	answers []int
	bytes   int64
	in      *input // if it is not stored yet
}

// aside is what waits of a room, as a batch leaves it; nothing if the room is
// not set aside.
type aside struct {
	queue []*waiting
	// dropped says up to where rows go, and changed that there is something to store.
	dropped int64
	changed bool
	// answered are stored records that somebody else waits for now.
	answered map[int64][]int
	// ahead is the first record, handled already, if that was committed.
	ahead *ahead
}

// take handles a record, or lets it wait.
func (w *work) take(ctx context.Context, in *input) error {
	if in.record.Kind == api.KindResume {
		return w.resume(ctx, in)
	}
	if v := w.seen[in.record.RequestID]; v != nil {
		in.verdict, in.known = v, true
		return nil
	}
	if len(w.aside.queue) > 0 {
		if in.record.Kind != api.KindPurge || w.inUse(in) {
			w.wait(in)
			return nil
		}
		if err := w.abandon(ctx, in); err != nil {
			return err
		}
	}
	err := w.input(ctx, in, w.s.limits.effort)
	if errors.Is(err, errHeavy) {
		w.wait(in)
		return nil
	}
	return err
}

// wait puts a record behind what waits. A request that waits already is not put
// there again: its verdict goes to who asks now, too.
func (w *work) wait(in *input) {
	var bytes int64
	for i, q := range w.aside.queue {
		if q.request != "" && q.request == in.record.RequestID {
			w.alsoAnswer(i, in.record.Answer)
			return
		}
		bytes += q.bytes
	}
	size := int64(len(in.value))
	if n := len(w.aside.queue); n > 0 && (n >= w.s.limits.records || bytes+size > w.s.limits.bytes) {
		in.verdict = &api.Verdict{V: 1, RequestID: in.record.RequestID}
		in.refuse(&refusal{status: 503, code: "M_UNKNOWN", message: "This room is busy and too much is waiting for it already"})
		return
	}
	next := int64(1)
	if n := len(w.aside.queue); n > 0 {
		next = w.aside.queue[n-1].n + 1
	}
	w.aside.queue = append(w.aside.queue, &waiting{n: next, request: in.record.RequestID, answers: in.answers, bytes: size, in: in})
	w.aside.changed = true
}

func (w *work) alsoAnswer(i, partition int) {
	q := *w.aside.queue[i]
	if partition < 0 || slices.Contains(q.answers, partition) {
		return
	}
	q.answers = append(slices.Clone(q.answers), partition)
	w.aside.queue[i], w.aside.changed = &q, true
	if q.in != nil {
		return
	}
	if w.aside.answered == nil {
		w.aside.answered = map[int64][]int{}
	}
	w.aside.answered[q.n] = q.answers
}

// drop ends the waiting of the first n.
func (a *aside) drop(n int) {
	for _, q := range a.queue[:n] {
		if q.in == nil {
			a.dropped = q.n
		}
	}
	a.queue, a.changed, a.ahead = a.queue[n:], true, nil
}

// waited returns what waits, to be handled.
func (w *work) waited(ctx context.Context) ([]*input, error) {
	var rows []*storage.Aside
	err := w.s.store.ReadOne(ctx, func(tx *sqldb.Tx) (err error) {
		rows, err = w.s.store.AsideOf(ctx, tx, w.roomID, w.aside.dropped, len(w.aside.queue))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("what waits: %w", err)
	}
	values := make(map[int64][]byte, len(rows))
	for _, row := range rows {
		values[row.N] = row.Record
	}
	out := make([]*input, 0, len(w.aside.queue))
	for _, q := range w.aside.queue {
		value := values[q.n]
		if q.in != nil {
			value = q.in.value
		}
		in, err := newInput(w.partition, value)
		if err != nil {
			return nil, fmt.Errorf("%w: what waits: %w", errBroken, err)
		}
		in.answers = q.answers
		out = append(out, in)
	}
	return out, nil
}

// resume applies what waits, if the first is the record that in names: it with
// any effort, the others with no more together than one may have. If that is not
// enough, what is left waits on.
func (w *work) resume(ctx context.Context, in *input) error {
	if len(w.aside.queue) == 0 {
		return nil
	}
	all, err := w.waited(ctx)
	if err != nil || api.HashRecord(all[0].value) != in.record.Resumes {
		return err
	}
	in.resumed = all
	if done := w.takeAhead(ctx, all[0]); !done {
		if err := w.input(ctx, all[0], 0); err != nil {
			return err
		}
	}
	left := w.s.limits.effort
	for i, next := range all[1:] {
		err := errHeavy
		if left > 0 {
			err = w.input(ctx, next, left)
			left -= w.spent
		}
		if errors.Is(err, errHeavy) {
			w.aside.drop(i + 1)
			return nil
		}
		if err != nil {
			return err
		}
	}
	w.aside.drop(len(all))
	return nil
}

// abandon refuses what waits, as the room is being purged.
func (w *work) abandon(ctx context.Context, in *input) error {
	all, err := w.waited(ctx)
	if err != nil {
		return err
	}
	for _, each := range all {
		each.verdict = &api.Verdict{V: 1, RequestID: each.record.RequestID}
		each.refuse(&refusal{status: 404, code: "M_NOT_FOUND", message: "Unknown room"})
	}
	in.resumed = all
	w.aside.drop(len(all))
	return nil
}

// parkAside says what of the records that waited is refused with a room that is
// parked: what was about to be applied. Others of this batch are refused too,
// and what waited before it is refused when the room is resumed.
func (w *work) parkAside() (refused []*input) {
	for _, in := range w.inputs {
		refused = append(refused, in.resumed...)
	}
	w.aside = w.s.asides.of(w.roomID)
	if len(refused) > 0 {
		w.aside.drop(len(w.aside.queue))
	}
	return refused
}

// writeAside stores what a batch has changed of what waits.
func (w *work) writeAside(ctx context.Context, tx *sqldb.Tx) error {
	a, store := &w.aside, w.s.store
	if !a.changed {
		return nil
	}
	if a.dropped > 0 {
		if err := store.DropAside(ctx, tx, w.roomID, a.dropped); err != nil {
			return err
		}
	}
	for n, partitions := range a.answered {
		if err := store.AnswerAside(ctx, tx, w.roomID, n, partitions); err != nil {
			return err
		}
	}
	for _, q := range a.queue {
		if q.in == nil {
			continue
		}
		row := &storage.Aside{RoomID: w.roomID, N: q.n, Partition: w.partition, RequestID: q.request, Answers: q.answers, Record: q.in.value}
		if err := store.PutAside(ctx, tx, row); err != nil {
			return err
		}
	}
	return nil
}

// applyAside makes what was committed what waits.
func (w *work) applyAside() {
	if !w.aside.changed {
		return
	}
	queue := make([]*waiting, len(w.aside.queue))
	for i, q := range w.aside.queue {
		stored := *q
		stored.in = nil
		queue[i] = &stored
	}
	w.s.asides.set(w.roomID, w.partition, queue, w.aside.ahead)
}
