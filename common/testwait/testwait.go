package testwait

import (
	"testing"
	"time"
)

const (
	every = 2 * time.Millisecond
	// late is when a test gives up: far beyond what anything takes on a busy
	// machine, since a test that passes never waits for so long.
	late = 2 * time.Minute
)

// Until waits until f is true; the test ends when it does not come to be. what
// says what was waited for.
func Until(t testing.TB, what string, f func() bool) {
	t.Helper()
	tick, over := time.NewTicker(every), time.After(late)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-over:
			t.Fatal("not in time: " + what)
		}
	}
}
