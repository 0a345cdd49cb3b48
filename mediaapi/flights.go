package mediaapi

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/singleflight"

	"github.com/matrix-org/dendrite/common/matrixerror"
)

// flights do once what many may ask for at one time, such as a thumbnail. Whoever
// asked first may go: the work goes on for the others, until the server stops.
type flights struct {
	group  singleflight.Group
	logger *logrus.Entry
	// base is done when the server stops.
	base context.Context
	stop context.CancelFunc

	mu      sync.Mutex
	stopped bool
	running sync.WaitGroup // grows only while stopped is not set
}

func newFlights(logger *logrus.Entry) *flights {
	f := &flights{logger: logger}
	f.base, f.stop = context.WithCancel(context.Background())
	return f
}

// do waits for the work with a key, which it begins if nobody has. A panic in it,
// over something that a stranger made, is an error like another.
func (f *flights) do(ctx context.Context, key string, most time.Duration, work func(context.Context) (any, error)) (any, error) {
	flight := f.group.DoChan(key, func() (value any, err error) {
		if !f.begin() {
			return nil, matrixerror.Unavailable(retryLater, "The server is about to stop")
		}
		defer f.running.Done()
		defer func() {
			if p := recover(); p != nil {
				f.logger.WithField("stack", string(debug.Stack())).Errorf("Panic in %s: %v", key, p)
				err = fmt.Errorf("mediaapi: panic: %v", p)
			}
		}()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), most)
		defer cancel()
		defer context.AfterFunc(f.base, cancel)()
		return work(ctx)
	})
	select {
	case result := <-flight:
		return result.Val, result.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (f *flights) begin() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.stopped {
		f.running.Add(1)
	}
	return !f.stopped
}

// end breaks off what goes on and waits until it has ended.
func (f *flights) end() {
	f.mu.Lock()
	f.stopped = true
	f.mu.Unlock()
	f.stop()
	f.running.Wait()
}
