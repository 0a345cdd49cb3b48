package roles

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	// probeBytes is what has to be written for a disk to have room: some
	// commits of the log and of each store.
	probeBytes = 256 << 10
	// probeEvery is how long what was found out is taken for true, so that
	// whoever asks often costs little.
	probeEvery = 3 * time.Second
)

// diskProbe finds out whether a folder's disk takes anything: an idle server
// writes nothing and would not notice that it could not. Its methods are safe
// for concurrent use.
type diskProbe struct {
	path string // of a file that nobody else writes
	now  func() time.Time

	mu      sync.Mutex
	at      time.Time // of the last look
	outcome error
}

// newDiskProbe makes the probe of a process that keeps its log or a store in the
// folder, which it may share with other processes.
func newDiskProbe(dir string) *diskProbe {
	return &diskProbe{path: filepath.Join(dir, fmt.Sprintf("probe-%d.tmp", os.Getpid())), now: time.Now}
}

// check returns why nothing can be written; it may be a little old.
func (p *diskProbe) check() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := p.now(); p.at.IsZero() || now.Sub(p.at) >= probeEvery || now.Before(p.at) {
		p.at, p.outcome = now, writeProbe(p.path)
	}
	return p.outcome
}

// writeProbe writes a file that reaches the disk, and removes it. The file is a
// new one each time: one that is overwritten has its room already.
func writeProbe(path string) (err error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("disk: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	_, err = f.WriteAt(make([]byte, probeBytes), 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close(), os.Remove(path)); err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	return nil
}
