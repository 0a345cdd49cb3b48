package eventlog

import (
	"context"
	"fmt"
)

// Exclusive is implemented by logs that only one process can have open. Its
// consumers share their partitions with nobody.
type Exclusive interface{ Exclusive() bool }

// IsExclusive tells whether only one process can have a log open.
func IsExclusive(log Log) bool {
	e, ok := log.(Exclusive)
	return ok && e.Exclusive()
}

// OffsetReporter is implemented by logs whose own tools show how far consumers
// are. It is for people only: consumers go on from what they have stored.
type OffsetReporter interface {
	// ReportOffset tells which offset of a partition a group reads next.
	ReportOffset(ctx context.Context, group, topic string, partition int, next int64) error
}

// Read implements Log.
func (l *Embedded) Read(ctx context.Context, name string, number int, from int64, maxBytes int) ([]Record, error) {
	for {
		t, p, err := l.partition(name, number)
		if err != nil {
			return nil, err
		}
		t.mu.Lock()
		records, wake, err := l.look(t, p, from, maxBytes)
		end := p.end
		t.mu.Unlock()
		switch {
		case err != nil:
			return nil, fmt.Errorf("%w: %s/%d at %d", err, name, number, from)
		case records != nil:
			return records, nil
		case wake == nil:
			return l.readStored(ctx, name, p.number, stretch{from, end}, maxBytes)
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// look returns records from memory, or a channel to wait on, or neither when
// they have to be read from the store. The topic is locked.
func (l *Embedded) look(t *topic, p *partition, from int64, maxBytes int) ([]Record, chan struct{}, error) {
	if from < p.start || from > p.end {
		return nil, nil, ErrOffsetOutOfRange
	}
	if from == p.end {
		return nil, t.wake.Channel(), nil
	}
	records, _ := p.fromTail(from, maxBytes)
	return records, nil, nil
}

// ReadMany implements Log.
func (l *Embedded) ReadMany(ctx context.Context, name string, from map[int]int64, maxBytes int) (map[int][]Record, error) {
	for {
		out, wake, err := l.lookMany(ctx, name, from, maxBytes)
		if err != nil || len(out) > 0 {
			return out, err
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (l *Embedded) lookMany(ctx context.Context, name string, from map[int]int64, maxBytes int) (map[int][]Record, chan struct{}, error) {
	out := map[int][]Record{}
	var wake chan struct{}
	stored := map[int]stretch{}
	for number, offset := range from {
		t, p, err := l.partition(name, number)
		if err != nil {
			return nil, nil, err
		}
		t.mu.Lock()
		records, w, err := l.look(t, p, offset, maxBytes)
		end := p.end
		t.mu.Unlock()
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("%w: %s/%d at %d", err, name, number, offset)
		case records != nil:
			out[number] = records
		case w == nil:
			stored[number] = stretch{offset, end}
		case wake == nil:
			// The first channel taken: it is closed by anything that any
			// partition gets after its look.
			wake = w
		}
	}
	for number, part := range stored {
		_, p, err := l.partition(name, number)
		if err != nil {
			return nil, nil, err
		}
		if out[number], err = l.readStored(ctx, name, p.number, part, maxBytes); err != nil {
			return nil, nil, err
		}
	}
	if len(from) == 0 {
		wake = make(chan struct{}) // nothing to wait for but ctx
	}
	return out, wake, nil
}
