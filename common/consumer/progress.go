package consumer

import (
	"context"
	"slices"
	"sync"
	"time"
)

// lookEvery is how often the database is asked how far a view is while another
// instance may keep it.
const lookEvery = 20 * time.Millisecond

// Progress is how far a view is, as far as this instance knows: for who has to see
// what has happened before it was asked. It is safe for concurrent use.
type Progress struct {
	// look reads how far the database is; nil where nobody else makes the view.
	look    func(context.Context) (map[int]int64, error)
	mu      sync.Mutex
	seqs    []int64
	changed chan struct{} // closed and replaced with each step
}

// NewProgress begins with the positions that look gives, which reads how far the
// database is.
func NewProgress(ctx context.Context, partitions int, look func(context.Context) (map[int]int64, error)) (*Progress, error) {
	p := NewOwnProgress(partitions)
	p.look = look
	seqs, err := look(ctx)
	p.Advance(seqs)
	return p, err
}

// NewOwnProgress begins with nothing: of what no other instance is ahead in.
func NewOwnProgress(partitions int) *Progress {
	return &Progress{seqs: make([]int64, partitions), changed: make(chan struct{})}
}

// Advance notes positions and wakes who waits.
func (p *Progress) Advance(seqs map[int]int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	moved := false
	for partition, seq := range seqs {
		if partition >= 0 && partition < len(p.seqs) && p.seqs[partition] < seq {
			p.seqs[partition] = seq
			moved = true
		}
	}
	if moved {
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

// Seqs returns how far the view is in each partition.
func (p *Progress) Seqs() []int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.seqs)
}

// Reached tells whether the view is at least as far as wanted.
func (p *Progress) Reached(want []int64) bool {
	ok, _ := p.reached(want)
	return ok
}

// Await returns once the view is at least as far as wanted, or with ctx's error.
func (p *Progress) Await(ctx context.Context, want []int64) error {
	ok, changed := p.reached(want)
	if ok {
		return nil
	}
	var look <-chan time.Time
	if p.look != nil {
		ticker := time.NewTicker(lookEvery)
		defer ticker.Stop()
		look = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-look:
			seqs, err := p.look(ctx)
			if err != nil {
				return err
			}
			p.Advance(seqs)
		}
		if ok, changed = p.reached(want); ok {
			return nil
		}
	}
}

// reached tells whether the view is at least there, and if not gives what to wait
// for.
func (p *Progress) reached(want []int64) (bool, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, seq := range want {
		if i >= len(p.seqs) || p.seqs[i] < seq {
			return false, p.changed
		}
	}
	return true, nil
}
