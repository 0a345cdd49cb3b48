package userapi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/lease"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
	"github.com/matrix-org/dendrite/userapi/storage"
)

const (
	// publishBatch bounds the rows published at once.
	publishBatch = 500
	// keepRows is how many rows of each partition are kept, and keepFor how
	// long: well over the second in which the log makes them safe.
	keepRows = 1000
	keepFor  = 10 * time.Minute
	// dropEvery is the time between deletions of old rows.
	dropEvery = time.Minute
	// publishRetry is the time after which a failed batch is tried again, and
	// pollEvery that between looks for what other instances wrote, of which they
	// tell: a hint may be lost.
	publishRetry = time.Second
	pollEvery    = 500 * time.Millisecond
	// leaveTimeout bounds the handing over of partitions at the end.
	leaveTimeout = 5 * time.Second
)

// publisher publishes the partitions of which this instance has the lease.
type publisher struct {
	s *Server
	// done has the last Seq published of each partition taken up, under the
	// epoch in which it was.
	done map[int]published
}

type published struct {
	epoch, seq int64
	// whole is set while no resync is under way.
	whole bool
}

// publish publishes the outbox, in order, until ctx is done. What it has the
// lease of is nobody else's to publish; a batch that was under way when a lease
// was lost unnoticed may stand twice, and readers drop the second.
func (s *Server) publish(ctx context.Context) error {
	p := &publisher{s: s, done: map[int]published{}}
	drop := time.NewTicker(dropEvery)
	defer drop.Stop()
	poll := time.NewTicker(s.pollEvery)
	defer poll.Stop()
	for {
		changed := s.leases.Changed()
		if err := p.all(ctx); err != nil && ctx.Err() == nil {
			s.logger.WithError(err).Warn("Changes cannot be published now")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-s.wake:
		case <-poll.C:
		case <-drop.C:
			if err := errors.Join(p.drop(ctx), p.trim(ctx), s.sweep(ctx)); err != nil && ctx.Err() == nil {
				s.logger.WithError(err).Warn("Old rows and records cannot be deleted")
			}
		}
	}
}

// all publishes what is missing in each partition, and gives back those that
// other instances should have. One that fails does not keep the others waiting.
func (p *publisher) all(ctx context.Context) error {
	held := p.s.leases.Held()
	for range min(p.s.leases.Surplus(), len(held)) {
		last := held[len(held)-1]
		held = held[:len(held)-1]
		delete(p.done, last.Partition)
		if err := p.s.leases.Release(ctx, last); err != nil {
			return err
		}
	}
	heads, err := p.s.db.Heads(ctx)
	if err != nil {
		return err
	}
	var failed error
	for _, l := range held {
		if err := p.one(ctx, l, heads[l.Partition]); err != nil {
			delete(p.done, l.Partition) // to be looked at again
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// one publishes what is missing in a partition.
func (p *publisher) one(ctx context.Context, l lease.Lease, head int64) error {
	state, known := p.done[l.Partition]
	if !known || state.epoch != l.Epoch {
		seq, err := p.s.lastPublished(ctx, l.Partition)
		if err != nil {
			return err
		}
		state = published{epoch: l.Epoch, seq: seq}
		if seq > head {
			if head, err = p.resync(ctx, l, &state, "the topic is ahead of the database"); err != nil {
				return err
			}
		}
		if err := p.s.recall(ctx, l.Partition); err != nil {
			return err
		}
		p.done[l.Partition] = state
		p.s.published.Advance(map[int]int64{l.Partition: state.seq})
	}
	for p.s.leases.Valid(l.Partition) {
		if state.seq >= head {
			if state.whole {
				return nil
			}
			more, err := p.resyncMore(ctx, l)
			if err != nil {
				return err
			}
			state.whole = !more
			p.done[l.Partition] = state
			if head, err = p.s.db.Head(ctx, l.Partition); err != nil {
				return err
			}
			continue
		}
		rows, err := p.s.db.Outbox(ctx, l.Partition, state.seq, publishBatch)
		if err != nil {
			return err
		}
		if len(rows) == 0 || rows[0].Seq != state.seq+1 && !rows[0].Resync() {
			if head, err = p.resync(ctx, l, &state, "the topic lacks changes that are no longer kept"); err != nil {
				return err
			}
			p.done[l.Partition] = state
			continue
		}
		messages := make([]eventlog.Message, len(rows))
		for i, r := range rows {
			messages[i] = eventlog.Message{Topic: api.TopicUserOutput, Partition: l.Partition, Key: []byte(r.UserID), Value: []byte(r.Value)}
		}
		if _, err := p.s.log.Append(ctx, messages...); err != nil {
			// Some may be there all the same; readers drop what they know.
			return fmt.Errorf("userapi: publishing: %w", err)
		}
		state.seq = rows[len(rows)-1].Seq
		state.whole = state.whole && !slices.ContainsFunc(rows, func(r storage.OutboxRow) bool { return r.Resync() })
		p.done[l.Partition] = state
		p.s.published.Advance(map[int]int64{l.Partition: state.seq})
	}
	return nil
}

// resync makes good a topic that was lost or cut, or a database that was
// restored from an older copy: the current rows are published anew, behind a
// change that tells readers of it. It returns the new head.
// spec: design rules 2, 4 and 10
func (p *publisher) resync(ctx context.Context, l lease.Lease, state *published, why string) (head int64, err error) {
	p.s.logger.WithField("partition", l.Partition).WithField("published", state.seq).
		Error("user.output is resynchronised: " + why + "; all current rows are published anew")
	err = p.fenced(ctx, l, func(tx *sqldb.Tx) (err error) {
		head, err = p.s.db.StartResync(ctx, tx, l.Partition, state.seq)
		return err
	})
	if err == nil {
		state.seq, state.whole = head-1, false
	}
	return head, err
}

// resyncMore takes a resync one step further, if there is one.
func (p *publisher) resyncMore(ctx context.Context, l lease.Lease) (more bool, err error) {
	if active, err := p.s.db.Resyncing(ctx, l.Partition); err != nil || !active {
		return false, err
	}
	err = p.fenced(ctx, l, func(tx *sqldb.Tx) (err error) {
		more, err = p.s.db.Resync(ctx, tx, l.Partition)
		return err
	})
	return more, err
}

// fenced runs f in a transaction, if the lease is still ours in it.
func (p *publisher) fenced(ctx context.Context, l lease.Lease, f func(*sqldb.Tx) error) error {
	err := p.s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := p.s.leases.Commit(ctx, tx, l, l.TopicID, l.NextOffset); err != nil {
			return err
		}
		return f(tx)
	})
	if errors.Is(err, lease.ErrFenced) {
		p.s.leases.Drop(l)
	}
	return err
}

// drop deletes rows that were published long ago.
func (p *publisher) drop(ctx context.Context) error {
	before := p.s.now().Add(-keepFor).UnixMilli()
	for _, l := range p.s.leases.Held() {
		state, ok := p.done[l.Partition]
		if !ok || state.epoch != l.Epoch {
			continue
		}
		err := p.fenced(ctx, l, func(tx *sqldb.Tx) error {
			return p.s.db.DropOutbox(ctx, tx, l.Partition, state.seq-keepRows, before)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// trim lets the log drop old changes: readers that fall behind by more than the
// topic's retention ask for a resync. What lastPublished reads stays.
// spec: design rules 14 and 15
func (p *publisher) trim(ctx context.Context) error {
	for _, l := range p.s.leases.Held() {
		_, end, err := p.s.log.Bounds(ctx, api.TopicUserOutput, l.Partition)
		if err == nil {
			err = p.s.log.Trim(ctx, api.TopicUserOutput, l.Partition, end-lastRecords)
		}
		if err != nil {
			return fmt.Errorf("userapi: trimming %s: %w", api.TopicUserOutput, err)
		}
	}
	return nil
}

// resync answers api.Resync. Whoever has the lease of the partition finds it
// among the rows to be published, and goes on with it.
func (s *Server) resync(ctx context.Context, r *api.ResyncRequest) (res *api.WriteResponse, err error) {
	if r.Partition < 0 || r.Partition >= s.output.Partitions {
		return nil, matrixerror.NotFound("%s has no partition %d", api.TopicUserOutput, r.Partition)
	}
	s.logger.WithField("partition", r.Partition).Warn("A reader of user.output lacks changes; all current rows are published anew")
	err = s.write(ctx, func(tx *sqldb.Tx) (err error) {
		res, err = s.db.RequestResync(ctx, tx, r.Partition)
		return err
	})
	return res, err
}

// lastRecords is how many records at its end tell how far a partition of
// user.output is published.
const lastRecords = 2 * publishBatch

// lastPublished reads from the topic up to where it is published: the highest
// Seq near its end, behind which an owner that lost its lease unnoticed may have
// appended lower ones.
func (s *Server) lastPublished(ctx context.Context, partition int) (int64, error) {
	start, end, err := s.log.Bounds(ctx, api.TopicUserOutput, partition)
	if err != nil {
		return 0, fmt.Errorf("userapi: %s: %w", api.TopicUserOutput, err)
	}
	highest := int64(0)
	for next := max(start, end-lastRecords); next < end; {
		records, err := s.log.Read(ctx, api.TopicUserOutput, partition, next, 1<<20)
		if err != nil {
			return 0, fmt.Errorf("userapi: %s: %w", api.TopicUserOutput, err)
		}
		for _, r := range records {
			var c api.UserChange
			if err := json.Unmarshal(r.Value, &c); err != nil {
				return 0, fmt.Errorf("userapi: record %d of partition %d of %s: %w", r.Offset, partition, api.TopicUserOutput, err)
			}
			highest = max(highest, c.Seq)
			next = r.Offset + 1
		}
	}
	return highest, nil
}
