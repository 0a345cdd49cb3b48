package roomserver

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/matrix-org/dendrite/common/consumer"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/roomserver/storage"
)

// input is a record of a batch and what becomes of it.
type input struct {
	partition int
	record    *api.InputRecord
	lines     [][]byte // of full events, in the order of record.Events
	value     []byte   // the record as it was logged
	answers   []int    // partitions of room.answers that wait for the verdict
	// verdict is set by the time that the batch is stored, unless the record
	// waits or resumes others; known says that it was given before, so that
	// there is nothing to store.
	verdict *api.Verdict
	known   bool
	staged  []*staged
	room    *storage.Room
	// resumed are records that waited, and that this one ended the waiting of:
	// they come in its place in the order of the log.
	resumed []*input
}

func newInput(partition int, value []byte) (*input, error) {
	record, lines, err := api.DecodeInput(value)
	if err != nil {
		return nil, err
	}
	return &input{partition: partition, record: record, lines: lines, value: value, answers: []int{record.Answer}}, nil
}

// batch is what is consumed together.
type batch struct {
	inputs []*input
	works  []*work // in the order of their rooms' first records
}

// consume handles a batch of room.input: its rooms in parallel, each room's
// records in order; then one transaction, then what others may know.
func (s *Server) consume(ctx context.Context, records *consumer.Batch) error {
	s.metrics.batch.Observe(float64(len(records.Records)))
	b, err := s.decode(ctx, records)
	if err != nil {
		return err
	}
	if err := s.prefetch(ctx, b); err != nil {
		return err
	}
	if err := parallel(ctx, len(b.works), func(ctx context.Context, i int) error { return s.work(ctx, b.works[i]) }); err != nil {
		return err
	}
	b.inOrder()
	positions := s.heads.get()
	b.number(positions)
	if err := s.finish(ctx, b); err != nil {
		return err
	}
	if err := s.adopt(ctx, b); err != nil {
		return err
	}
	if err := s.write(ctx, b, positions, records); err != nil {
		return err
	}
	s.apply(b, positions)
	s.publish(ctx, b)
	s.progress.advance(records.Records)
	return nil
}

// worthwhile is how many rooms, or events, are worth a goroutine: to wake a thread
// for it is not free either.
const worthwhile = 3

// parallel calls f for each of n things, on as many goroutines as are worthwhile.
func parallel(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	workers := min(runtime.GOMAXPROCS(0), n/worthwhile)
	if workers <= 1 {
		for i := range n {
			if err := f(ctx, i); err != nil {
				return err
			}
		}
		return nil
	}
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range workers {
		group.Go(func() error {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := f(ctx, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// decode reads the records, finds those that were accepted before, and sorts
// the others by room.
func (s *Server) decode(ctx context.Context, records *consumer.Batch) (*batch, error) {
	b := &batch{}
	ids := make([]string, 0, len(records.Records))
	for i := range records.Records {
		r := &records.Records[i]
		in, err := newInput(r.Partition, r.Value)
		if err != nil {
			// Nobody can be told: the writer's name is in what cannot be read.
			s.metrics.unwanted.Inc()
			s.logger.WithError(err).WithField("partition", r.Partition).WithField("offset", r.Offset).Error("Undecodable record of room.input")
			continue
		}
		b.inputs = append(b.inputs, in)
		ids = append(ids, in.record.RequestID)
	}
	known, err := s.verdicts(ctx, ids)
	if err != nil {
		return nil, err
	}
	works := map[string]*work{}
	for _, in := range b.inputs {
		if r, ok := known[in.record.RequestID]; ok && in.record.TS-r.TS <= s.config.TransactionLifetime.Milliseconds() {
			if in.verdict, err = api.DecodeVerdict(r.Verdict); err != nil {
				return nil, err
			}
			in.known = true
			continue
		}
		w := works[in.record.RoomID]
		if w == nil {
			w = newWork(s, in.record.RoomID, in.partition)
			works[in.record.RoomID] = w
			b.works = append(b.works, w)
		}
		w.inputs = append(w.inputs, in)
	}
	return b, nil
}

func (s *Server) verdicts(ctx context.Context, ids []string) (map[string]storage.Request, error) {
	out := map[string]storage.Request{}
	err := s.store.ReadOne(ctx, func(tx *sqldb.Tx) error {
		found, err := s.store.Requests(ctx, tx, ids)
		for _, r := range found {
			out[r.ID] = r
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("roomserver: verdicts: %w", err)
	}
	return out, nil
}

// errBroken says that what is stored of a room does not fit together.
var errBroken = errors.New("the room's data is not consistent")

// work handles a room's records. An error is one of the database: the batch is
// tried again. A panic, and data that is broken, park the room and never others
// (design rule 14).
func (s *Server) work(ctx context.Context, w *work) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.park(w, fmt.Sprintf("%v\n%s", p, debug.Stack()))
			err = nil
		} else if errors.Is(err, errBroken) {
			s.park(w, err.Error())
			err = nil
		}
	}()
	w.aside = s.asides.of(w.roomID)
	if err := w.load(ctx); err != nil {
		return fmt.Errorf("roomserver: load %s: %w", w.roomID, err)
	}
	for _, in := range w.inputs {
		if err := w.take(ctx, in); err != nil {
			return fmt.Errorf("roomserver: %s: %w", w.roomID, err)
		}
	}
	return nil
}

func (s *Server) park(w *work, why string) {
	s.metrics.parked.Inc()
	s.logger.WithField("room_id", w.roomID).Errorf("Room parked: %s", why)
	w.park(why)
}

// inOrder puts what has waited where it takes effect, and leaves out what waits.
func (b *batch) inOrder() {
	out := make([]*input, 0, len(b.inputs))
	for _, in := range b.inputs {
		for _, each := range in.resumed {
			if each.verdict != nil {
				out = append(out, each)
			}
		}
		if in.verdict != nil {
			out = append(out, in)
		}
	}
	b.inputs = out
}

// number gives everything staged its number, and what is published its
// position, in the order of the log.
func (b *batch) number(positions storage.Positions) {
	for _, in := range b.inputs {
		for _, st := range in.staged {
			p := in.partition
			if !st.published() {
				positions.Others[p]++
				st.nid = storage.OtherNID(p, positions.Others[p])
			} else {
				positions.Seqs[p]++
				st.publishAt(api.Position{Partition: p, Seq: positions.Seqs[p]})
			}
			if st.room.NID == 0 && st.event != nil { // the room's first event names it
				st.room.NID = st.nid
			}
		}
		if in.room != nil {
			in.verdict.Position = api.Position{Partition: in.partition, Seq: in.room.LatestSeq}
		}
	}
}

// publishAt gives an output its position, and its event its place.
func (st *staged) publishAt(at api.Position) {
	st.output.Position, st.room.LatestSeq = at, at.Seq
	if len(st.output.Changes) > 0 {
		st.room.StateSeq = at.Seq
	}
	for i, f := range st.purges {
		st.output.Purged[i].Seq, st.output.Purged[i].Sub = f.event.Position.Seq, f.event.Position.Sub
	}
	switch {
	case st.event == nil:
		st.nid = storage.EventNID(at.Partition, at.Seq)
		return
	case st.placed && st.outlier != nil:
		st.nid = st.outlier.nid
	case !st.placed:
		st.nid = storage.EventNID(at.Partition, at.Seq)
	}
	st.event.Position = at
	if st.place != nil {
		st.event.Position = st.place.position(at.Partition)
		st.output.Place = st.event.Position
	}
}
