package searchapi

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/matrix-org/dendrite/common/consumer"
	"github.com/matrix-org/dendrite/common/sqldb"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// acquire finds how far a partition is indexed.
func (s *Server) acquire(ctx context.Context, partition int) error {
	seqs, err := s.db.Positions(ctx)
	if err != nil {
		return fmt.Errorf("searchapi: positions: %w", err)
	}
	s.applied[partition] = seqs[partition]
	s.progress.Advance(seqs)
	s.stir()
	return nil
}

// index indexes a batch of room.output: its effects and the offsets in one
// transaction.
func (s *Server) index(ctx context.Context, batch *consumer.Batch) error {
	s.gather(ctx)
	d := newDraft(s.partition)
	seqs := map[int]int64{}
	for i := range batch.Records {
		if err := s.take(ctx, &batch.Records[i], d, seqs); err != nil {
			return fmt.Errorf("searchapi: partition %d, offset %d: %w", batch.Records[i].Partition, batch.Records[i].Offset, err)
		}
	}
	if err := s.lookBack(ctx, d); err != nil {
		return err
	}
	err := s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := s.db.PutPositions(ctx, tx, seqs); err != nil { // first, so that others wait
			return err
		}
		for _, step := range d.steps {
			if err := step.write(ctx, tx, s.db); err != nil {
				return err
			}
		}
		return batch.Commit(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("searchapi: %w", err)
	}
	maps.Copy(s.applied, seqs)
	s.committed = s.now()
	s.progress.Advance(seqs)
	s.metrics.indexed.Add(float64(d.indexed))
	s.metrics.removed.Add(float64(d.removed))
	if d.removed > 0 || d.edits > 0 {
		s.stir() // there may be texts to read, or events to remove
	}
	return nil
}

// gather is the pause before a batch that comes right after another: what comes
// meanwhile is one batch more, not many.
func (s *Server) gather(ctx context.Context) {
	wait := s.consumer.Stretch(s.linger, lingerMost) - s.now().Sub(s.committed)
	if wait <= 0 || s.waiting.Load() > 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.hurry:
	case <-ctx.Done():
	}
}

// take adds a record to a draft, unless it was indexed before.
func (s *Server) take(ctx context.Context, r *consumer.Record, d *draft, seqs map[int]int64) error {
	rec, lines, err := roomapi.DecodeOutput(r.Value)
	if err != nil {
		return err
	}
	seq := rec.Position.Seq
	last := max(s.applied[r.Partition], seqs[r.Partition])
	if seq > last+1 {
		s.logger.WithField("partition", r.Partition).Warnf("room.output goes from %d to %d: reading the history", last, seq)
		if err := s.begin(ctx, r.Partition); err != nil {
			return err
		}
		d.forget(r.Partition)
		last = s.applied[r.Partition]
		if seq > last+1 {
			return fmt.Errorf("the record has position %d, the room server has come to %d", seq, last)
		}
	}
	seqs[r.Partition] = max(last, seq)
	if seq <= last {
		return nil // published again after a crash, or part of the history
	}
	return d.take(rec, lines)
}

// lookBack reads the texts that are the newest again once edits are redacted. What
// cannot be read now is read later.
func (s *Server) lookBack(ctx context.Context, d *draft) error {
	for _, step := range d.steps {
		if len(step.changes.Gone) == 0 {
			continue
		}
		list, err := s.db.Reverted(ctx, slices.Sorted(maps.Keys(step.changes.Gone)))
		if err != nil {
			return fmt.Errorf("searchapi: edits: %w", err)
		}
		texts, err := s.texts(ctx, list)
		if err != nil {
			s.logger.WithError(err).Warn("The text of an event whose edit is redacted cannot be read yet")
			continue
		}
		maps.Copy(step.changes.Texts, texts)
	}
	return nil
}
