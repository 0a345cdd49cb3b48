package consumer

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/eventlog"
)

// retryHeads is the pause after the writer did not answer.
const retryHeads = time.Second

// View tells whether what a reader makes of a topic is up to date. All fields are
// needed.
type View struct {
	// Name is the reader's, for errors.
	Name     string
	Log      eventlog.Log
	Topic    string
	Progress *Progress
	// Heads asks the topic's writer how far it has come: with settled, after all that
	// it had yet to handle when it was asked.
	Heads func(ctx context.Context, settled bool) ([]int64, error)
	// SeqOf reads the position in a record of the topic.
	SeqOf func(value []byte) (int64, error)
	// Await waits until the view is so far, or ctx is done.
	Await  func(ctx context.Context, want []int64) error
	Logger *logrus.Entry

	checked atomic.Bool // Ready has succeeded
}

// Ready waits until the view holds all that was there when it was called. It fails
// with ErrAhead if the view is of a past that is not there any more: if the store of
// the writer and the log were put back to an earlier copy, and the view was not.
func (v *View) Ready(ctx context.Context) error {
	if v.checked.Load() {
		return nil
	}
	heads, err := v.heads(ctx, true)
	if err != nil {
		return err
	}
	if err := CheckAhead(ctx, v.Log, v.Topic, v.Progress.Seqs(), heads, v.SeqOf); err != nil {
		return fmt.Errorf("%s: %w", v.Name, err)
	}
	if err := v.CaughtUp(ctx); err != nil {
		return err
	}
	v.checked.Store(true)
	return nil
}

// CaughtUp waits until the view holds all that the writer had committed when it was
// asked, or ctx is done.
func (v *View) CaughtUp(ctx context.Context) error {
	want, err := v.heads(ctx, false)
	if err != nil {
		return err
	}
	if err := v.Await(ctx, want); err != nil {
		return fmt.Errorf("%s: the view is behind: %w", v.Name, err)
	}
	return nil
}

// heads asks the writer how far it has come until it answers, or ctx is done.
func (v *View) heads(ctx context.Context, settled bool) ([]int64, error) {
	for {
		heads, err := v.Heads(ctx, settled)
		if err == nil {
			return heads, nil
		}
		v.Logger.WithError(err).Warn("The writer of " + v.Topic + " does not say how far it has come")
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s: heads: %w", v.Name, err)
		case <-time.After(retryHeads):
		}
	}
}
