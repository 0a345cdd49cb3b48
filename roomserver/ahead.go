package roomserver

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/roomserver/storage"
)

// asides are the rooms that are set aside, of the partitions that are owned, as
// committed.
type asides struct {
	mu    sync.Mutex
	rooms map[string]*asideRoom
	// wake is signalled when there may be something to begin with.
	wake    chan struct{}
	metrics *metrics
}

type asideRoom struct {
	partition int
	queue     []*waiting // replaced, never changed
	ahead     *ahead
}

// ahead is the handling of the first record that waits of a room, beside the
// partition's loop. What comes of it is a work whose room is the committed one.
// That is a short cut: whoever resumes the room without it does the same work.
type ahead struct {
	roomID    string
	partition int
	// Under asides.mu.
	state  aheadState
	cancel context.CancelFunc
	// done is closed when it is over; then these are set, unless it failed.
	done chan struct{}
	work *work
	head *input
}

type aheadState int

const (
	aheadWaits aheadState = iota // for its turn
	aheadBegun
	aheadOver // or not wanted
)

func newAsides(m *metrics) *asides {
	return &asides{rooms: map[string]*asideRoom{}, wake: make(chan struct{}, 1), metrics: m}
}

// of returns what waits of a room, for a batch to change.
func (a *asides) of(roomID string) aside {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.rooms[roomID]
	if r == nil {
		return aside{}
	}
	return aside{queue: slices.Clone(r.queue), ahead: r.ahead}
}

// set notes what waits of a room. kept is what is known already of its first
// record; nil if there is a new one.
func (a *asides) set(roomID string, partition int, queue []*waiting, kept *ahead) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if old := a.rooms[roomID]; old != nil && old.ahead != kept {
		old.ahead.stop()
	}
	if len(queue) == 0 {
		delete(a.rooms, roomID)
	} else {
		if kept == nil {
			kept = &ahead{roomID: roomID, partition: partition, done: make(chan struct{})}
		}
		a.rooms[roomID] = &asideRoom{partition: partition, queue: queue, ahead: kept}
	}
	a.changed()
}

// forget drops the rooms of a partition.
func (a *asides) forget(partition int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, r := range a.rooms {
		if r.partition == partition {
			r.ahead.stop()
			delete(a.rooms, id)
		}
	}
	a.changed()
}

// changed wakes who handles ahead, and counts. The caller holds mu.
func (a *asides) changed() {
	records := 0
	for _, r := range a.rooms {
		records += len(r.queue)
	}
	a.metrics.asideRooms.Set(float64(len(a.rooms)))
	a.metrics.asideRecords.Set(float64(records))
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// stop ends it. The caller holds asides.mu.
func (h *ahead) stop() {
	if h.cancel != nil {
		h.cancel()
	}
	h.state = aheadOver
}

// pending returns what has not begun.
func (a *asides) pending() (out []*ahead) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.rooms {
		if r.ahead.state == aheadWaits {
			out = append(out, r.ahead)
		}
	}
	return out
}

// begin says that it begins; false if it is not wanted any more, or has begun.
func (a *asides) begin(h *ahead, cancel context.CancelFunc) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if h.state != aheadWaits {
		return false
	}
	h.state, h.cancel = aheadBegun, cancel
	return true
}

// claim takes what has begun, for who resumes the room; what has not is not
// begun any more.
func (a *asides) claim(h *ahead) (begun bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	begun = h.state == aheadBegun
	if h.state == aheadWaits {
		h.state = aheadOver
	}
	return begun
}

// runAhead handles first records of rooms that are set aside until ctx is done.
func (s *Server) runAhead(ctx context.Context) error {
	var group errgroup.Group
	// The loop needs processors too.
	group.SetLimit(max(1, runtime.GOMAXPROCS(0)/2))
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-s.asides.wake:
		}
		for _, h := range s.asides.pending() {
			group.Go(func() error {
				s.handleAhead(ctx, h)
				return nil
			})
		}
	}
	return group.Wait()
}

// handleAhead handles the record, and then logs that the room is resumed.
func (s *Server) handleAhead(running context.Context, h *ahead) {
	ctx, cancel := context.WithCancel(running)
	defer cancel()
	if !s.asides.begin(h, cancel) {
		return
	}
	began := time.Now()
	log := s.logger.WithField("room_id", h.roomID)
	log.Info("Room set aside: a record takes long")
	head, err := s.tryAhead(ctx, h)
	for pause := publishPause; err != nil && ctx.Err() == nil; pause = min(2*pause, publishMaxPause) {
		log.WithError(err).Warn("A room that is set aside cannot be read; trying again")
		select {
		case <-ctx.Done():
		case <-time.After(pause):
			head, err = s.tryAhead(ctx, h)
		}
	}
	close(h.done)
	if err != nil || head == nil {
		return
	}
	s.metrics.asideSeconds.Observe(time.Since(began).Seconds())
	record := &api.InputRecord{V: 1, Answer: -1, Origin: s.serverName, TS: head.record.TS, RoomID: h.roomID,
		Kind: api.KindResume, Resumes: api.HashRecord(head.value), Events: []api.InputEvent{}}
	value, err := record.Encode()
	if err != nil {
		log.WithError(err).Error("Cannot resume a room")
		return
	}
	// Not ctx: that ends when the record is consumed.
	if s.append(running, []eventlog.Message{{Topic: api.TopicInput, Partition: h.partition, Key: []byte(h.roomID), Value: value}}) {
		log.WithField("seconds", time.Since(began).Seconds()).Info("Room resumed")
	}
}

// tryAhead handles the first record that waits and returns it; nil if there is
// none. What goes wrong with the room itself, the partition's loop will find too,
// and park it.
func (s *Server) tryAhead(ctx context.Context, h *ahead) (head *input, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.logger.WithField("room_id", h.roomID).Errorf("Handling ahead failed: %v\n%s", p, debug.Stack())
			err = nil
		} else if errors.Is(err, errBroken) {
			err = nil
		}
	}()
	var rows []*storage.Aside
	err = s.store.ReadOne(ctx, func(tx *sqldb.Tx) (err error) {
		rows, err = s.store.AsideOf(ctx, tx, h.roomID, 0, 1)
		return err
	})
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	if head, err = newInput(h.partition, rows[0].Record); err != nil {
		return nil, fmt.Errorf("%w: what waits: %w", errBroken, err)
	}
	if s.computing != nil {
		s.computing(ctx, h.roomID)
	}
	w := newWork(s, h.roomID, h.partition)
	w.inputs = []*input{head}
	if err := w.load(ctx); err != nil {
		return head, err
	}
	if err := w.input(ctx, head, 0); err != nil {
		return head, err
	}
	h.work, h.head = w, head
	return head, nil
}

// takeAhead makes the work that was done ahead this one, if there is any: it
// waits for what has begun.
func (w *work) takeAhead(ctx context.Context, head *input) bool {
	h := w.aside.ahead
	if h == nil || !w.s.asides.claim(h) {
		return false
	}
	select {
	case <-h.done:
	case <-ctx.Done():
		return false
	}
	// It is taken once: if the batch fails, what it was made from is here still,
	// and it itself is not what it was.
	done, made := h.work, h.head
	if h.work = nil; done == nil || !done.of(w) || api.HashRecord(made.value) != api.HashRecord(head.value) {
		return false
	}
	w.layer, w.version, w.seen, w.purged = done.layer, done.version, done.seen, done.purged
	w.fetched, w.found, w.infos, w.states = done.fetched, done.found, done.infos, done.states
	for _, st := range w.layer.staged {
		st.work = w
	}
	head.verdict, head.known, head.staged, head.room = made.verdict, made.known, made.staged, made.room
	return true
}

// of tells whether work was done on the room as another finds it.
func (w *work) of(other *work) bool {
	if w.room == nil || other.room == nil {
		return w.room == other.room
	}
	return w.room == other.room || w.row.NID == other.row.NID && w.room.latest() == other.room.latest()
}

func (r *room) latest() int64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.row.LatestSeq
}

// acquireAside reads what waits of the rooms of a partition.
func (s *Server) acquireAside(ctx context.Context, partition int) error {
	var rows []*storage.Aside
	err := s.store.ReadOne(ctx, func(tx *sqldb.Tx) (err error) {
		rows, err = s.store.AsideIn(ctx, tx, partition)
		return err
	})
	if err != nil {
		return fmt.Errorf("roomserver: what waits: %w", err)
	}
	s.asides.forget(partition)
	for len(rows) > 0 {
		id, queue := rows[0].RoomID, []*waiting(nil)
		for len(rows) > 0 && rows[0].RoomID == id {
			queue = append(queue, &waiting{n: rows[0].N, request: rows[0].RequestID, answers: rows[0].Answers, bytes: rows[0].Bytes})
			rows = rows[1:]
		}
		s.asides.set(id, partition, queue, nil)
	}
	return nil
}
