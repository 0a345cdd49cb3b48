package roomserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// errConflict says that room.output holds something else than what comes of
// room.input: one of them is not the one that the other was made with. The
// partition stands still until an operator has restored what belongs together.
var errConflict = errors.New("room.output does not agree with room.input")

// adopted reads what a partition of room.output holds beyond the store, which
// has been cut back. Others have seen it, so what is consumed again has to come
// to the same (design rule 4).
type adopted struct {
	log         eventlog.Log
	partition   int
	start, next int64 // offsets
	records     []eventlog.Record
}

// adoptBytes bounds what is read at once.
const adoptBytes = 256 << 10

// adopt compares a batch with what room.output holds of it already.
func (s *Server) adopt(ctx context.Context, b *batch) error {
	for _, in := range b.inputs {
		for _, st := range in.staged {
			p, seq := st.output.Position.Partition, st.output.Position.Seq
			if !st.published() || seq > s.published[p] || s.adopted[p] == nil {
				continue
			}
			header, err := s.adopted[p].header(ctx, seq)
			if err != nil {
				return fmt.Errorf("roomserver: adopt: %w", err)
			}
			if same, err := agree(header, st.header); err != nil || !same {
				s.metrics.conflicts.Inc()
				return fmt.Errorf("roomserver: %w: at %d of partition %d", errors.Join(errConflict, err), seq, p)
			}
			st.header = header
		}
	}
	return nil
}

// agree tells whether a header of room.output says what ours does. It may be
// another version's: a newer one's, with members that this one does not know, or
// an older one's, without those that were added since.
func agree(logged, ours []byte) (bool, error) {
	if bytes.Equal(logged, ours) {
		return true, nil
	}
	theirs, _, err := api.DecodeOutput(logged)
	if err != nil {
		return false, err
	}
	own, _, err := api.DecodeOutput(ours)
	if err != nil {
		return false, err
	}
	theirs.ForgetMissing(own)
	a, err := theirs.Encode()
	if err != nil {
		return false, err
	}
	b, err := own.Encode()
	return bytes.Equal(a, b), err
}

// header returns that of the output with a Seq. These are asked for in
// ascending order, or again from below after a batch that failed.
func (a *adopted) header(ctx context.Context, seq int64) ([]byte, error) {
	for {
		if len(a.records) == 0 {
			var err error
			if a.records, err = a.log.Read(ctx, api.TopicOutput, a.partition, a.next, adoptBytes); err != nil {
				return nil, err
			}
		}
		header, _, _ := bytes.Cut(a.records[0].Value, []byte{'\n'})
		out, _, err := api.DecodeOutput(header)
		if err != nil {
			return nil, err
		}
		switch at := out.Position.Seq; {
		case at == seq:
			return header, nil
		case at < seq: // an append that was repeated gives a Seq twice
			a.records, a.next = a.records[1:], a.records[0].Offset+1
		case a.next == a.start:
			return nil, fmt.Errorf("%w: Seq %d of partition %d is not there", errConflict, seq, a.partition)
		default:
			a.records, a.next = nil, max(a.start, a.next-(at-seq))
		}
	}
}
