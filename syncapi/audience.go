package syncapi

import (
	"context"
	"sync"
	"time"
)

// audience is who waits for the view to go on. While nobody does, the log is read
// now and then: what came by then is one wake-up and one batch. An instance that has
// nobody to tell so costs little of each event (design, Scale).
type audience struct {
	mu      sync.Mutex
	waiting int
	came    chan struct{} // closed when somebody comes; nil while nobody looks
}

// enter is somebody who waits, until leave.
func (a *audience) enter() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting++
	if a.came != nil {
		close(a.came)
		a.came = nil
	}
}

func (a *audience) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting--
}

func (a *audience) empty() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.waiting == 0
}

// rest waits until somebody does, for d at most, or until ctx is done.
func (a *audience) rest(ctx context.Context, d time.Duration) {
	a.mu.Lock()
	if a.waiting > 0 {
		a.mu.Unlock()
		return
	}
	if a.came == nil {
		a.came = make(chan struct{})
	}
	came := a.came
	a.mu.Unlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-came:
	case <-timer.C:
	case <-ctx.Done():
	}
}
