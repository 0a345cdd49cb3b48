package roomserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/roomserver/storage"
)

// staged is an event that is about to be stored.
type staged struct {
	work   *work
	event  *api.StoredEvent
	output api.OutputRecord
	flags  int64
	// sign says that it is ours and has no signature yet.
	sign bool
	nid  int64
	// header is the encoded output record's first line.
	header []byte
	// forks are entries of the state after the event that differ from the room's.
	forks []fork
}

type fork struct {
	key gomatrixserverlib.StateKey
	nid int64
}

// change is a changed entry of the current state; by is the event of whose
// record the change is part.
type change struct {
	key   gomatrixserverlib.StateKey
	event *staged // nil: removed, or (with entry) an event stored before
	entry entry
	by    *staged
}

// redaction strips an event that was stored before, or is staged.
type redaction struct {
	target *api.StoredEvent
	staged *staged // the target, if it is part of this batch
	by     string
	event  *gomatrixserverlib.Event // what is left
}

// layer is what records have changed: of a batch, or of one record on trial.
type layer struct {
	row        storage.Room
	state      map[gomatrixserverlib.StateKey]*change
	staged     []*staged
	changes    []*change
	redactions []redaction
	early      [][2]string // redaction targets that are not known
	levels     *gomatrixserverlib.PowerLevels
}

// work is a room while a batch of its records is handled: copies, which become
// the room when the batch is committed.
type work struct {
	s         *Server
	roomID    string
	partition int
	inputs    []*input
	room      *room // as committed; nil if it does not exist
	layer           // what the batch has changed
	trial     *layer
	seen      map[string]*api.Verdict // requests of this batch
	byID      map[string]*staged
	// fetched are entries of the committed state, for as long as the work lasts
	// even if the room's cache forgets them.
	fetched map[gomatrixserverlib.StateKey]entry
	version gomatrixserverlib.RoomVersion
	err     error // of a load within Authorise
	ctx     context.Context
}

func newWork(s *Server, roomID string, partition int) *work {
	return &work{s: s, roomID: roomID, partition: partition, seen: map[string]*api.Verdict{}, byID: map[string]*staged{},
		fetched: map[gomatrixserverlib.StateKey]entry{}, layer: layer{state: map[gomatrixserverlib.StateKey]*change{}}}
}

// load finds the room.
func (w *work) load(ctx context.Context) error {
	var err error
	if w.room, err = w.s.loadRoom(ctx, w.roomID); err != nil || w.room == nil {
		return err
	}
	w.room.mu.RLock()
	defer w.room.mu.RUnlock()
	w.row = *w.room.row
	w.row.Extremities = slices.Clone(w.row.Extremities)
	w.levels = w.room.levels
	w.version = gomatrixserverlib.RoomVersion(w.row.Version)
	return nil
}

// refusal says why a record is refused: it has no effect.
type refusal struct {
	status        int
	code, message string
	rule          string
	missing       []string
}

func (r *refusal) Error() string { return r.code + ": " + r.message }

// input handles one record: wholly, or not at all (design rule 8). An error is
// one of the database.
func (w *work) input(ctx context.Context, in *input) error {
	if v := w.seen[in.record.RequestID]; v != nil {
		in.verdict, in.known = v, true
		return nil
	}
	in.verdict = &api.Verdict{V: 1, RequestID: in.record.RequestID, Status: api.StatusAccepted}
	if w.row.Parked != "" {
		in.refuse(&refusal{status: 503, code: "M_UNKNOWN", message: "This room is out of order"})
		return nil
	}
	w.ctx, w.err = ctx, nil
	w.trial = &layer{row: w.row, state: map[gomatrixserverlib.StateKey]*change{}, levels: w.levels}
	w.trial.row.Extremities = slices.Clone(w.row.Extremities)
	err := w.kind(in)
	if w.err != nil {
		return w.err // whatever came of it, it was decided without what could not be read
	}
	var refused *refusal
	switch {
	case errors.As(err, &refused):
		in.refuse(refused)
	case err != nil:
		return err
	default:
		w.keep(in)
	}
	w.trial = nil
	return nil
}

// kind handles a record by its kind.
func (w *work) kind(in *input) error {
	switch in.record.Kind {
	case api.KindNew:
		return w.new(in)
	}
	return &refusal{status: 400, code: "M_UNRECOGNIZED", message: fmt.Sprintf("Records of kind %q are not taken", in.record.Kind)}
}

func (in *input) refuse(r *refusal) {
	in.staged = nil
	in.verdict = &api.Verdict{V: 1, RequestID: in.record.RequestID, Status: api.StatusRefused,
		HTTPStatus: r.status, Code: r.code, Message: r.message, Rule: r.rule}
	if r.missing != nil {
		in.verdict.Status, in.verdict.Missing = api.StatusMissing, r.missing
	}
}

// keep makes the trial's effects part of the batch's.
func (w *work) keep(in *input) {
	t := w.trial
	w.row, w.levels = t.row, t.levels
	maps.Copy(w.state, t.state)
	w.changes = append(w.changes, t.changes...)
	w.redactions = append(w.redactions, t.redactions...)
	w.early = append(w.early, t.early...)
	w.layer.staged = append(w.layer.staged, t.staged...)
	for _, st := range t.staged {
		w.byID[st.event.EventID()] = st
	}
	in.staged = t.staged
	w.seen[in.record.RequestID] = in.verdict
}

// park gives the room up for good: nothing of the batch is stored for it, and
// its writes are refused from now on.
func (w *work) park(why string) {
	w.layer = layer{row: w.row, state: map[gomatrixserverlib.StateKey]*change{}}
	if w.room != nil {
		w.room.mu.RLock()
		w.row = *w.room.row
		w.room.mu.RUnlock()
		w.row.Parked = why
	} else {
		w.row = storage.Room{}
	}
	for _, in := range w.inputs {
		in.known = false
		in.verdict = &api.Verdict{V: 1, RequestID: in.record.RequestID}
		in.refuse(&refusal{status: 503, code: "M_UNKNOWN", message: "This room is out of order"})
	}
}

// entry returns an entry of the state as the record on trial finds it.
func (w *work) entry(key gomatrixserverlib.StateKey) *api.StoredEvent {
	for _, l := range []*layer{w.trial, &w.layer} {
		if l == nil {
			continue
		}
		if c, ok := l.state[key]; ok {
			if c.event != nil {
				return c.event.event
			}
			return c.entry.event
		}
	}
	return w.committed(key).event
}

// committed returns an entry of the room's state before the batch.
func (w *work) committed(key gomatrixserverlib.StateKey) entry {
	if w.room == nil {
		return entry{}
	}
	if e, ok := w.fetched[key]; ok {
		return e
	}
	e, known := w.room.get(key)
	if !known {
		var err error
		if e, err = w.s.loadEntry(w.ctx, w.room, key); err != nil {
			w.err = errors.Join(w.err, err)
			return entry{}
		}
	}
	w.fetched[key] = e
	return e
}

// StateEvent implements gomatrixserverlib.AuthState.
func (w *work) StateEvent(typ, stateKey string) *gomatrixserverlib.Event {
	if e := w.entry(gomatrixserverlib.StateKey{Type: typ, StateKey: stateKey}); e != nil {
		return e.Event
	}
	return nil
}

// PowerLevels implements gomatrixserverlib.PowerLevelState.
func (w *work) PowerLevels() *gomatrixserverlib.PowerLevels {
	event := w.StateEvent("m.room.power_levels", "")
	if l := w.trial.levels; l != nil && l.Event() == event {
		return l
	}
	levels, err := gomatrixserverlib.NewPowerLevels(w.version, w.StateEvent("m.room.create", ""), event)
	if err != nil {
		return nil // Authorise parses them again and says what is wrong
	}
	w.trial.levels = levels
	return levels
}
