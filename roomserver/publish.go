package roomserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/roomserver/storage"
)

// Pauses while the log does not take what is committed.
const (
	publishPause    = 100 * time.Millisecond
	publishMaxPause = 10 * time.Second
)

// publish appends a committed batch to room.output, and then the verdicts to
// room.answers. It goes on until the log has taken both: what is committed is
// published, now or (after a crash) when the partition is acquired again.
func (s *Server) publish(ctx context.Context, b *batch) {
	var outputs, answers []eventlog.Message
	for _, in := range b.inputs {
		s.metrics.events.WithLabelValues(string(in.verdict.Status)).Inc()
		for _, st := range in.staged {
			if !st.published() {
				continue
			}
			p, seq := st.output.Position.Partition, st.output.Position.Seq
			if seq <= s.published[p] {
				continue // a replay: it stands there already
			}
			outputs = append(outputs, eventlog.Message{Topic: api.TopicOutput, Partition: p, Key: []byte(in.record.RoomID), Value: st.value()})
			s.published[p] = seq
		}
		answers = append(answers, s.answersTo(in)...)
	}
	for _, messages := range [][]eventlog.Message{outputs, answers} {
		if !s.append(ctx, messages) {
			return
		}
	}
}

// answersTo are the messages that tell the verdict to who waits for it.
func (s *Server) answersTo(in *input) (out []eventlog.Message) {
	for _, p := range in.answers {
		if p < 0 || p >= api.AnswerPartitions {
			continue
		}
		value, err := in.verdict.Encode()
		if err != nil {
			s.logger.WithError(err).Error("Cannot encode a verdict")
			return nil
		}
		out = append(out, eventlog.Message{Topic: api.TopicAnswers, Partition: p, Value: value})
	}
	return out
}

// append appends until it succeeds; false when the log has been closed or the
// server stops: what is missing is published at the next start.
func (s *Server) append(ctx context.Context, messages []eventlog.Message) bool {
	for pause := publishPause; len(messages) > 0; pause = min(2*pause, publishMaxPause) {
		_, err := s.log.Append(ctx, messages...)
		if err == nil {
			return true
		}
		if errors.Is(err, eventlog.ErrClosed) {
			return false
		}
		s.logger.WithError(err).Error("Cannot publish; trying again")
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
	}
	return true
}

func (st *staged) value() []byte {
	switch {
	case st.event != nil:
		return outputValue(st.header, st.event.JSON())
	case st.lone != nil:
		return outputValue(st.header, st.lone.JSON())
	}
	return st.header
}

// outputValue is a record of room.output: the header line and the event.
func outputValue(header, event []byte) []byte {
	value := make([]byte, 0, len(header)+1+len(event))
	value = append(value, header...)
	value = append(value, '\n')
	return append(value, event...)
}

// republishBatch bounds what is read at once.
const republishBatch = 200

// republish compares a partition's end in room.output with the table, and
// publishes what is missing (design rule 4). If the log is ahead, the store was
// cut back: see adopt.
func (s *Server) republish(ctx context.Context, partition int) error {
	s.adopted[partition] = nil
	start, end, err := s.log.Bounds(ctx, api.TopicOutput, partition)
	if err != nil {
		return err
	}
	head := s.heads.get().Seqs[partition]
	if err := s.store.ReadOne(ctx, func(tx *sqldb.Tx) (err error) {
		s.published[partition], err = s.store.FirstSeq(ctx, tx, partition)
		return err
	}); err != nil {
		return fmt.Errorf("roomserver: first seq: %w", err)
	}
	if end > start {
		records, err := s.log.Read(ctx, api.TopicOutput, partition, end-1, 1)
		if err != nil {
			return err
		}
		last, _, err := api.DecodeOutput(records[0].Value)
		if err != nil {
			return err
		}
		s.published[partition] = last.Position.Seq
		if last.Position.Seq > head {
			s.logger.WithField("partition", partition).Warnf("room.output is ahead of the store by %d: adopting", last.Position.Seq-head)
			s.adopted[partition] = &adopted{log: s.log, partition: partition, start: start, next: max(start, end-(last.Position.Seq-head))}
		}
	}
	for s.published[partition] < head {
		if err := s.republishSome(ctx, partition); err != nil {
			return fmt.Errorf("roomserver: publish what is missing: %w", err)
		}
	}
	return nil
}

func (s *Server) republishSome(ctx context.Context, partition int) error {
	var rows []storage.Output
	head := s.heads.get().Seqs[partition]
	err := s.store.ReadOne(ctx, func(tx *sqldb.Tx) (err error) {
		rows, err = s.store.Outputs(ctx, tx, partition, s.published[partition], republishBatch)
		return err
	})
	if err != nil {
		return err
	}
	next := min(s.published[partition]+republishBatch, head)
	var messages []eventlog.Message
	for seq := s.published[partition] + 1; seq <= next; seq++ {
		value, err := republished(&rows, partition, seq)
		if err != nil {
			return err
		}
		messages = append(messages, eventlog.Message{Topic: api.TopicOutput, Partition: partition, Value: value})
	}
	if _, err := s.log.Append(ctx, messages...); err != nil {
		return err
	}
	s.published[partition] = next
	return nil
}

// republished takes an output from rows. What is not there has been purged.
func republished(rows *[]storage.Output, partition int, seq int64) ([]byte, error) {
	if len(*rows) == 0 || (*rows)[0].Seq != seq {
		gone := api.OutputRecord{V: 1, Kind: api.OutputPurged, Position: api.Position{Partition: partition, Seq: seq}}
		return gone.Encode()
	}
	row := (*rows)[0]
	*rows = (*rows)[1:]
	if row.JSON == nil {
		return row.Header, nil
	}
	return outputValue(row.Header, row.JSON), nil
}
