package kafka

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
)

// Bounds of a fetch. fetchWait is how long a broker waits for the first record;
// a partition that comes to be followed waits that long at most for its turn.
const (
	fetchWait      = 250 * time.Millisecond
	fetchBytes     = 16 << 20
	fetchPartition = 1 << 20
)

// fetchers are the brokers' fetchers, and connections for who is behind.
type fetchers struct {
	log      *Log
	followed atomic.Int64 // active tails

	mu     sync.Mutex
	tails  map[int32]*fetcher
	behind map[int32]*conn
}

func newFetchers(l *Log) *fetchers {
	return &fetchers{log: l, tails: map[int32]*fetcher{}, behind: map[int32]*conn{}}
}

// fetcher follows the ends of the partitions in use that a broker leads.
type fetcher struct {
	log  *Log
	conn *conn
	wake chan struct{} // there are new tails, or readers that wait

	mu  sync.Mutex
	new []*tail
	// The rest is the loop's alone.
	all     map[*tail]bool
	session session
	pace    pace
}

func (f *fetchers) follow(leader int32, t *tail) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := f.tails[leader]
	if at == nil {
		at = &fetcher{log: f.log, conn: newConn(f.log, leader), wake: make(chan struct{}, 1), all: map[*tail]bool{}}
		if !f.log.spawn(at.run) {
			return
		}
		f.tails[leader] = at
	}
	at.mu.Lock()
	at.new = append(at.new, t)
	at.mu.Unlock()
	at.nudge()
}

// wanted tells that a reader waits for a tail to grow.
func (f *fetchers) wanted() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, at := range f.tails {
		at.nudge()
	}
}

func (f *fetcher) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// connBehind is the connection to a broker for reads past the tails.
func (f *fetchers) connBehind(id int32) *conn {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.behind[id]
	if c == nil {
		c = newConn(f.log, id)
		f.behind[id] = c
	}
	return c
}

func (f *fetchers) close() {
	f.mu.Lock()
	var all []*conn
	for _, at := range f.tails {
		all = append(all, at.conn)
	}
	for _, c := range f.behind {
		all = append(all, c)
	}
	f.mu.Unlock()
	for _, c := range all {
		c.drop(nil)
	}
}

// limit is what each tail may hold.
func (f *fetchers) limit() int64 { return f.log.o.TailBytes / max(f.followed.Load(), 1) }

// run fetches while a reader waits. What comes while all are at work stays with
// the broker, and is fetched at once when one of them is back.
func (f *fetcher) run() {
	defer f.conn.drop(nil)
	for f.log.ctx.Err() == nil {
		from, wanted := f.offsets()
		if wanted {
			f.fetch(from)
			f.pace.wait(f.log.ctx, f.log.o.Gather)
			continue
		}
		var idle <-chan time.Time // to look for tails that are not used any more
		if len(from) > 0 {
			idle = time.After(fetchWait)
		}
		select {
		case <-f.wake:
		case <-idle:
		case <-f.log.ctx.Done():
		}
	}
}

// offsets are where to go on, without the tails that are not used any more, and
// whether anybody waits there.
func (f *fetcher) offsets() (from map[*tail]int64, wanted bool) {
	f.mu.Lock()
	for _, t := range f.new {
		f.all[t] = true
	}
	f.new = nil
	f.mu.Unlock()
	now, limit := time.Now(), f.log.fetchers.limit()
	from = make(map[*tail]int64, len(f.all))
	for t := range f.all {
		t.p.topic.mu.Lock()
		if t.active && t.waiting == 0 && now.Sub(t.used) > f.log.o.IdleAfter {
			t.reset()
		}
		if t.active {
			t.shrink(limit) // there may be more tails than when it last grew
			from[t] = t.next
			wanted = wanted || t.waiting > 0
		} else {
			delete(f.all, t)
		}
		t.p.topic.mu.Unlock()
	}
	return from, wanted
}

// fetchRequest asks outside of fetch sessions, unless one is set (session.go).
func fetchRequest(wait time.Duration) *sarama.FetchRequest {
	return &sarama.FetchRequest{Version: 11, MaxWaitTime: int32(wait.Milliseconds()), MinBytes: 1, MaxBytes: fetchBytes, SessionEpoch: -1}
}

func (f *fetcher) fetch(from map[*tail]int64) {
	request, whole := f.session.request(from)
	broker, err := f.conn.get()
	var answer *sarama.FetchResponse
	if err == nil {
		answer, err = broker.Fetch(request)
	}
	var damaged sarama.PacketDecodingError
	f.log.metrics.answered(answer, err)
	if err != nil {
		f.conn.drop(broker)
		f.log.suspect()
		f.session = session{}
	} else if !f.session.answered(answer, from) {
		if !whole {
			return // asked again for all
		}
		err = sarama.KError(answer.ErrorCode)
	}
	grown := map[*topic]bool{}
	for t, offset := range from {
		switch {
		case errors.As(err, &damaged):
			f.leave(t, true) // its readers find out whose it is
		case err != nil:
			f.leave(t, false)
		default:
			block := answer.GetBlock(t.p.topic.name, t.p.number)
			if block == nil && !whole {
				continue // nothing new
			}
			if f.answered(t, offset, block) {
				grown[t.p.topic] = true
			}
		}
	}
	for topic := range grown { // once, for all that came together
		topic.mu.Lock()
		topic.wake.All()
		topic.mu.Unlock()
	}
	if len(grown) > 0 {
		f.pace.did(f.log.o.Gather, time.Now())
	}
}

// answered adds what came of a partition, and tells whether there was any.
func (f *fetcher) answered(t *tail, from int64, block *sarama.FetchResponseBlock) bool {
	switch {
	case block == nil:
		f.leave(t, false)
	case errors.Is(block.Err, sarama.ErrNoError):
		if len(block.RecordsSet) == 0 {
			return false
		}
		c := newChunk(block.RecordsSet, from)
		f.log.metrics.fetched.Add(float64(len(c.records)))
		t.p.topic.mu.Lock()
		defer t.p.topic.mu.Unlock()
		if t.active && t.next == from {
			t.failures = 0
			t.add(c, f.log.fetchers.limit())
			return true
		}
	default:
		f.leave(t, !transient(block.Err))
	}
	return false
}

// leave gives a tail away: to be followed at another broker, or, if what it
// wants is not there, to be begun anew by whoever reads.
func (f *fetcher) leave(t *tail, end bool) {
	delete(f.all, t)
	t.p.topic.mu.Lock()
	defer t.p.topic.mu.Unlock()
	if end {
		t.reset()
		t.p.topic.wake.All()
	}
	if t.active {
		t.failures++
		f.log.router.find(t, t.failures)
	}
}
