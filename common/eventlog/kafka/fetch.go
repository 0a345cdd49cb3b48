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
	wake chan struct{}

	mu  sync.Mutex
	new []*tail
	// all is the loop's alone.
	all map[*tail]bool
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
	select {
	case at.wake <- struct{}{}:
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

func (f *fetcher) run() {
	defer f.conn.drop(nil)
	for f.log.ctx.Err() == nil {
		from := f.offsets()
		if len(from) > 0 {
			f.fetch(from)
			continue
		}
		select {
		case <-f.wake:
		case <-f.log.ctx.Done():
		}
	}
}

// offsets are where to go on, without the tails that are not used any more.
func (f *fetcher) offsets() map[*tail]int64 {
	f.mu.Lock()
	for _, t := range f.new {
		f.all[t] = true
	}
	f.new = nil
	f.mu.Unlock()
	now, limit := time.Now(), f.log.fetchers.limit()
	from := make(map[*tail]int64, len(f.all))
	for t := range f.all {
		t.p.topic.mu.Lock()
		if t.active && t.waiting == 0 && now.Sub(t.used) > f.log.o.IdleAfter {
			t.reset()
		}
		if t.active {
			t.shrink(limit) // there may be more tails than when it last grew
			from[t] = t.next
		} else {
			delete(f.all, t)
		}
		t.p.topic.mu.Unlock()
	}
	return from
}

// fetchRequest asks outside of fetch sessions.
func fetchRequest(wait time.Duration) *sarama.FetchRequest {
	return &sarama.FetchRequest{Version: 11, MaxWaitTime: int32(wait.Milliseconds()), MinBytes: 1, MaxBytes: fetchBytes, SessionEpoch: -1}
}

func (f *fetcher) fetch(from map[*tail]int64) {
	request := fetchRequest(fetchWait)
	for t, offset := range from {
		request.AddBlock(t.p.topic.name, t.p.number, offset, fetchPartition, -1)
	}
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
	}
	for t, offset := range from {
		switch {
		case errors.As(err, &damaged):
			f.leave(t, true) // its readers find out whose it is
		case err != nil:
			f.leave(t, false)
		default:
			f.answered(t, offset, answer.GetBlock(t.p.topic.name, t.p.number))
		}
	}
}

func (f *fetcher) answered(t *tail, from int64, block *sarama.FetchResponseBlock) {
	topic := t.p.topic
	switch {
	case block == nil:
		f.leave(t, false)
	case errors.Is(block.Err, sarama.ErrNoError):
		if len(block.RecordsSet) == 0 {
			return
		}
		c := newChunk(block.RecordsSet, from)
		topic.mu.Lock()
		if t.active && t.next == from {
			t.failures = 0
			t.add(c, f.log.fetchers.limit())
			topic.wake.All()
		}
		topic.mu.Unlock()
		f.log.metrics.fetched.Add(float64(len(c.records)))
	default:
		f.leave(t, !transient(block.Err))
	}
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
