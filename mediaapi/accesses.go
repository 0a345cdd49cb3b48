package mediaapi

import (
	"context"
	"sync"
	"time"

	"github.com/matrix-org/dendrite/mediaapi/storage"
)

const (
	// accessGrain is how exactly it is known when media were last got: to write it
	// for each download would cost more than the download.
	accessGrain = 12 * time.Hour
	// accessEvery is how often it is written, and maxAccesses how much at most.
	accessEvery = 30 * time.Second
	maxAccesses = 5000
)

// accesses are media that were got and whose rows do not say so yet. To lose some
// makes media look unused for a little longer than they are.
type accesses struct {
	mu  sync.Mutex
	all map[storage.Ref]bool
}

func newAccesses() *accesses { return &accesses{all: map[storage.Ref]bool{}} }

// note notes that media were got.
func (a *accesses) note(m *storage.Media, now int64) {
	if now-m.AccessedTS < accessGrain.Milliseconds() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.all) < maxAccesses {
		a.all[m.Ref] = true
	}
}

func (a *accesses) take() (refs []storage.Ref) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for ref := range a.all {
		refs = append(refs, ref)
	}
	a.all = map[storage.Ref]bool{}
	return refs
}

// noteAccesses writes them down until ctx is done, and then once more.
func (s *Server) noteAccesses(ctx context.Context) {
	every := time.NewTicker(accessEvery)
	defer every.Stop()
	for stopped := false; !stopped; {
		select {
		case <-every.C:
		case <-ctx.Done():
			stopped = true
		}
		refs := s.accesses.take()
		if len(refs) == 0 {
			continue
		}
		if err := s.db.Touch(context.WithoutCancel(ctx), refs, s.now().UnixMilli()); err != nil {
			s.logger.WithError(err).Warn("When media were last got cannot be stored now")
		}
	}
}
