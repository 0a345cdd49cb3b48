package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/matrix-org/dendrite/common/eventlog"
)

// ErrAhead says that a view has applied positions that neither its topic nor the
// store of the topic's writer knows: both were put back to an earlier copy, and
// will give the same positions to something else. The view has to be built anew.
var ErrAhead = errors.New("consumer: the view has applied what is not there any more")

// CheckAhead fails with ErrAhead if a view has applied more of some partition
// than both the last position that the writer has committed and that of the
// topic's last record, which seqOf reads.
func CheckAhead(ctx context.Context, log eventlog.Log, topic string, applied, heads []int64, seqOf func(value []byte) (int64, error)) error {
	for p, seq := range applied {
		if p < len(heads) && seq <= heads[p] {
			continue
		}
		last, err := lastSeq(ctx, log, topic, p, seqOf)
		if err != nil {
			return fmt.Errorf("consumer: the end of %s/%d: %w", topic, p, err)
		}
		if seq > last {
			return fmt.Errorf("%w: %s/%d up to %d, the topic goes to %d", ErrAhead, topic, p, seq, last)
		}
	}
	return nil
}

func lastSeq(ctx context.Context, log eventlog.Log, topic string, partition int, seqOf func([]byte) (int64, error)) (int64, error) {
	start, end, err := log.Bounds(ctx, topic, partition)
	if err != nil || start == end {
		return 0, err
	}
	records, err := log.Read(ctx, topic, partition, end-1, 1)
	if err != nil {
		return 0, err
	}
	return seqOf(records[0].Value)
}
