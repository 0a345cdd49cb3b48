package roles

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestDiskProbe: what cannot be written is found out, and again that it can; in
// between the last answer holds. It leaves nothing behind.
func TestDiskProbe(t *testing.T) {
	now := time.Unix(1e9, 0)
	dir := filepath.Join(t.TempDir(), "data")
	p := newDiskProbe(dir)
	p.now = func() time.Time { return now }
	if err := p.check(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a folder: %v", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := p.check(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("asked again at once: %v", err)
	}
	now = now.Add(probeEvery)
	// What an earlier process left when it was killed is no hindrance.
	if err := os.WriteFile(p.path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.check(); err != nil {
		t.Errorf("with a folder: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if now = now.Add(-time.Hour); p.check() == nil { // the clock was set back
		t.Error("the folder is gone, and nothing was found out")
	}
}
