package roomserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/roomserver/storage"
)

// staged is what is about to be stored: an event with a place in the timeline,
// an event without one (an outlier or rejected), or a change of the state alone.
type staged struct {
	work *work
	// n counts what is staged of the room in this batch.
	n int
	// room is the row of the room that it is part of.
	room  *storage.Room
	event *api.StoredEvent // nil: none
	// output has no Kind if nothing is published.
	output api.OutputRecord
	flags  int64
	// sign says that it is ours and has no signature yet.
	sign bool
	nid  int64
	// placed says that the event was stored before, as an outlier, under nid or
	// that of outlier, which is part of the batch.
	placed  bool
	outlier *staged
	// header is the encoded output record's first line.
	header []byte
	// after is the state after the event, or of a rejected one before it.
	after ref
	// current says that it is the room's.
	current bool
	// fork is set if it is a state that the room has not been in.
	fork *fork
	// place is the event's in the timeline, if not at the end.
	place *place
	// gap are previous events of such an event that are not known.
	gap []string
	// purges are the events that a purge of history takes, in the order of its record;
	// ts is that of the record.
	purges []*found
	ts     int64
	// gone says that a record of the same batch has purged it again.
	gone bool
	// lone is the event of an output that is stored with it, and nowhere else.
	lone *gomatrixserverlib.Event
}

func (st *staged) published() bool { return st.output.Kind != "" }

// change is a changed entry of the current state; by is the staged output that
// tells of it.
type change struct {
	key   gomatrixserverlib.StateKey
	id    string  // "": there is no event any more
	event *staged // the event, if it is staged
	nid   int64   // the event's, if not
	by    *staged
}

// redaction strips an event that was stored before, or is staged.
type redaction struct {
	target *api.StoredEvent
	staged *staged // the target, if it is part of this batch
	nid    int64   // its event_nid, if it is not
	by     string
	event  *gomatrixserverlib.Event // what is left
}

// layer is what records have changed: of a batch, or of one record on trial.
type layer struct {
	row        *storage.Room
	current    ref // names the state of the room
	state      map[gomatrixserverlib.StateKey]*change
	staged     []*staged
	byID       map[string]*staged
	changes    []*change
	redactions []redaction
	early      [][2]string // redaction targets that are not known
	// gone are events that were purged; false stands for one that came again.
	gone map[string]bool
	// deleted are the stored ones among them.
	deleted []*found
	sets    []setPart
	writes  []write // what else is stored
	gaps    []gap
	// gapsKnown says that gaps are all that the room has, and gapsChanged that
	// they are to be stored.
	gapsKnown, gapsChanged bool
	levels                 *gomatrixserverlib.PowerLevels
	// effort is what the record on trial has taken so far.
	effort effort
}

// write is something to store when the room's events have their numbers.
type write func(ctx context.Context, tx *sqldb.Tx, store *storage.Store, roomNID int64) error

func newLayer(row *storage.Room, current ref, levels *gomatrixserverlib.PowerLevels) layer {
	copied := *row
	copied.Extremities = slices.Clone(row.Extremities)
	return layer{row: &copied, current: current, levels: levels, state: map[gomatrixserverlib.StateKey]*change{}, byID: map[string]*staged{}, gone: map[string]bool{}}
}

// work is a room while a batch of its records is handled: copies, which become
// the room when the batch is committed.
type work struct {
	s         *Server
	roomID    string
	partition int
	inputs    []*input
	room      *room // as committed; nil if it does not exist
	looked    bool  // prefetch has looked for the room
	layer           // what the batch has changed
	trial     *layer
	seen      map[string]*api.Verdict // requests of this batch
	aside     aside
	// purged are rooms (an ID can have several, one after the other) that the
	// batch has purged, with what had been staged of them.
	purged []layer
	// fetched are entries of the committed state, for as long as the work lasts
	// even if the room's cache forgets them.
	fetched map[gomatrixserverlib.StateKey]entry
	found   map[string]*found
	infos   map[string]info
	states  map[ref]state
	version gomatrixserverlib.RoomVersion
	err     error // of a load within Authorise
	spent   int   // the effort of the last record
	ctx     context.Context
}

func newWork(s *Server, roomID string, partition int) *work {
	w := &work{s: s, roomID: roomID, partition: partition, seen: map[string]*api.Verdict{}}
	w.forget()
	return w
}

// forget begins with a room that does not exist.
func (w *work) forget() {
	w.room, w.version = nil, ""
	w.layer = newLayer(&storage.Room{}, ref{}, nil)
	w.fetched, w.found = map[gomatrixserverlib.StateKey]entry{}, map[string]*found{}
	w.infos, w.states = map[string]info{}, map[ref]state{}
}

// load finds the room.
func (w *work) load(ctx context.Context) error {
	if !w.looked {
		var err error
		if w.room, err = w.s.loadRoom(ctx, w.roomID); err != nil {
			return err
		}
	}
	if w.room == nil {
		return nil
	}
	w.room.mu.RLock()
	defer w.room.mu.RUnlock()
	w.layer = newLayer(w.room.row, ref{seq: w.room.row.StateSeq}, w.room.levels)
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

// input handles one record: wholly, or not at all (design rule 8), and with no
// more effort than limit; 0 stands for any. An error is one of the database, or
// errHeavy: then nothing has been done.
func (w *work) input(ctx context.Context, in *input, limit int) error {
	in.verdict = &api.Verdict{V: 1, RequestID: in.record.RequestID, Status: api.StatusAccepted}
	if w.row.Parked != "" && in.record.Kind != api.KindPurge {
		in.refuse(&refusal{status: 503, code: "M_UNKNOWN", message: "This room is out of order"})
		return nil
	}
	w.ctx, w.err = ctx, nil
	trial := newLayer(w.row, w.current, w.levels)
	trial.effort.limit = limit
	trial.sets, trial.gaps, trial.gapsKnown = slices.Clone(w.sets), slices.Clone(w.gaps), w.gapsKnown
	w.trial = &trial
	err := w.kind(in)
	w.spent = trial.effort.spent
	if w.err != nil {
		return w.err // whatever came of it, it was decided without what could not be read
	}
	var refused *refusal
	switch {
	case errors.As(err, &refused):
		in.refuse(refused)
	case err != nil:
		in.verdict, w.trial = nil, nil
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
	case api.KindNew, api.KindImport:
		return w.new(in)
	case api.KindOutlier:
		return w.outliers(in)
	case api.KindJoin:
		return w.join(in)
	case api.KindBackfill:
		return w.backfill(in)
	case api.KindOutOfRoom:
		return w.outOfRoom(in)
	case api.KindPurge:
		return w.purge(in)
	case api.KindPurgeHistory:
		return w.purgeHistory(in)
	}
	return &refusal{status: 400, code: "M_UNRECOGNIZED", message: fmt.Sprintf("Records of kind %q are not taken", in.record.Kind)}
}

func (in *input) refuse(r *refusal) {
	in.staged, in.room = nil, nil
	in.verdict = &api.Verdict{V: 1, RequestID: in.record.RequestID, Status: api.StatusRefused,
		HTTPStatus: r.status, Code: r.code, Message: r.message, Rule: r.rule}
	if r.missing != nil {
		in.missing(r.missing)
	}
}

// missing says that events are needed first. The verdict is not kept: the same
// request may come again.
func (in *input) missing(ids []string) {
	in.verdict.EventIDs, in.verdict.Status = nil, api.StatusMissing
	in.verdict.Missing = append(in.verdict.Missing, ids...)
}

// keep makes the trial's effects part of the batch's.
func (w *work) keep(in *input) {
	t := w.trial
	*w.row, w.levels, w.current = *t.row, t.levels, t.current
	w.sets, w.gaps, w.gapsKnown, w.gapsChanged = t.sets, t.gaps, t.gapsKnown, w.gapsChanged || t.gapsChanged
	maps.Copy(w.state, t.state)
	maps.Copy(w.byID, t.byID)
	w.changes = append(w.changes, t.changes...)
	w.redactions = append(w.redactions, t.redactions...)
	w.early = append(w.early, t.early...)
	w.writes = append(w.writes, t.writes...)
	maps.Copy(w.gone, t.gone)
	w.deleted = append(w.deleted, t.deleted...)
	for _, st := range t.staged {
		st.room = w.row
	}
	w.layer.staged = append(w.layer.staged, t.staged...)
	in.staged, in.room = t.staged, w.row
	if in.verdict.EventIDs != nil && in.record.RequestID != "" {
		w.seen[in.record.RequestID] = in.verdict
	}
	if in.record.Kind == api.KindPurge {
		w.purged = append(w.purged, w.layer)
		w.forget()
	}
}

// park gives the room up for good: nothing of the batch is stored for it, and
// its writes are refused from now on.
func (w *work) park(why string) {
	row := &storage.Room{}
	if w.room != nil {
		w.room.mu.RLock()
		row = w.room.row
		w.room.mu.RUnlock()
	}
	w.layer, w.purged = newLayer(row, ref{seq: row.StateSeq}, nil), nil
	if row.NID != 0 {
		w.row.Parked = why
	}
	all := w.parkAside()
	for _, in := range w.inputs {
		if in.record.Kind != api.KindResume {
			all = append(all, in)
		}
	}
	for _, in := range all {
		in.known = false
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
			switch {
			case c.event != nil:
				return c.event.event
			case c.id == "":
				return nil
			}
			return w.event(c.id)
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
