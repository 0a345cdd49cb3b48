// Package roomserver gets this file in tests alone.
package roomserver

import (
	"os"
	"syscall"
)

// stopHere stops the process by SIGSTOP where the file that
// DENDRITE_TEST_STOP names exists; it removes the file first.
func stopHere() {
	if os.Remove(os.Getenv("DENDRITE_TEST_STOP")) == nil {
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	}
}
