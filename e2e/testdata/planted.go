// Package planted is in the binaries of some tests alone. What it changes it does
// only where the environment says so.
package planted

import (
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
)

var (
	bug   = os.Getenv("DENDRITE_TEST_BUG")
	stop  = os.Getenv("DENDRITE_TEST_STOP")
	loses = os.Getenv("DENDRITE_TEST_LOSE_ANSWERS") != ""
	calls atomic.Int64
)

// On tells whether this is the bug that DENDRITE_TEST_BUG names.
func On(name string) bool { return name == bug }

// If is what a bug has here, and nothing without it.
func If[T any](name string, has T) (none T) {
	if On(name) {
		return has
	}
	return none
}

// StopAt stops the process by SIGSTOP in a place, where the file exists that
// DENDRITE_TEST_STOP and the place's name make; it removes the file first. The
// signal is sent to the thread: sent to the process another thread may take it,
// and this one would go on until that one has its turn.
func StopAt(place string) {
	if stop != "" && os.Remove(stop+"."+place) == nil {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		_ = syscall.Tgkill(os.Getpid(), syscall.Gettid(), syscall.SIGSTOP)
	}
}

// Lost tells each time anew whether an answer is to be lost on its way, as
// DENDRITE_TEST_LOSE_ANSWERS asks for.
func Lost() bool { return loses && calls.Add(1)%7 == 0 }
