package eventlog

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// appendCall is one call of Append on its way through the two loops.
type appendCall struct {
	messages []Message
	targets  []target
	offsets  []int64
	durable  bool // some topic is Durable
	derived  bool // some topic is Derived
	now      time.Time
	err      error
	done     chan struct{}
}

// target is where a message goes.
type target struct {
	topic     *topic
	partition *partition
}

// Bounds of what is committed at once.
const (
	maxBatchCalls = 1024
	maxBatchBytes = 8 << 20
)

// Append implements Log.
func (l *Embedded) Append(ctx context.Context, messages ...Message) ([]int64, error) {
	if len(messages) == 0 {
		return nil, nil
	}
	call := &appendCall{messages: messages, done: make(chan struct{})}
	ephemeral := 0
	for _, m := range messages {
		if len(m.Value) > MaxRecordBytes {
			return nil, fmt.Errorf("%w: %d bytes for %s", ErrTooLarge, len(m.Value), m.Topic)
		}
		t, p, err := l.partition(m.Topic, m.Partition)
		if err != nil {
			return nil, err
		}
		call.targets = append(call.targets, target{t, p})
		switch t.durability {
		case Ephemeral:
			ephemeral++
		case Durable:
			call.durable = true
		case Derived:
			call.derived = true
		}
	}
	call.offsets = make([]int64, len(messages))
	if ephemeral == len(messages) {
		call.showEphemeral(time.Now())
		return call.offsets, nil
	}
	if err := l.Failed(); err != nil {
		return nil, err
	}
	if err := l.submit(ctx, call); err != nil {
		return nil, err
	}
	// From here on the records may be appended, so the caller waits for the
	// outcome whatever becomes of ctx: it comes within a disk's time.
	<-call.done
	return call.offsets, call.err
}

// submit hands a call to the commit loop. The read lock keeps Close from
// stopping that before it has taken the call.
func (l *Embedded) submit(ctx context.Context, call *appendCall) error {
	l.closing.RLock()
	defer l.closing.RUnlock()
	if l.closed.Load() {
		return ErrClosed
	}
	select {
	case l.appends <- call:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// showEphemeral appends the call's messages to Ephemeral topics.
func (c *appendCall) showEphemeral(now time.Time) {
	for i, m := range c.messages {
		t, p := c.targets[i].topic, c.targets[i].partition
		if t.durability != Ephemeral {
			continue
		}
		t.mu.Lock()
		c.offsets[i] = p.end
		t.show(p, Record{Offset: p.end, Time: now, Key: m.Key, Value: m.Value})
		t.wake.All()
		t.mu.Unlock()
	}
}

// commitLoop commits what has come, again and again.
func (l *Embedded) commitLoop() {
	defer l.stopped.Done()
	defer close(l.committed)
	for {
		var batch []*appendCall
		select {
		case call := <-l.appends:
			batch = l.collect(call)
		case <-l.stop: // after Close nothing more is submitted
			select {
			case call := <-l.appends:
				batch = l.collect(call)
			default:
				return
			}
		}
		if err := l.commit(batch); err != nil {
			for _, call := range batch {
				call.err = fmt.Errorf("%w: %w", ErrUnavailable, err)
				close(call.done)
			}
			continue
		}
		l.committed <- batch
	}
}

// collect takes what waits beside the first call. There is no timer: while a
// batch is committed and another one synced, the next gathers by itself.
func (l *Embedded) collect(first *appendCall) []*appendCall {
	batch, bytes := []*appendCall{first}, 0
	for len(batch) < maxBatchCalls && bytes < maxBatchBytes {
		select {
		case call := <-l.appends:
			batch = append(batch, call)
			for _, m := range call.messages {
				bytes += len(m.Value)
			}
		default:
			return batch
		}
	}
	return batch
}

// syncEvery bounds how long Derived records stay unsynced.
const syncEvery = time.Second

// syncLoop shows what was committed: Derived records at once, those of Durable
// topics after an fsync that began after their commit.
func (l *Embedded) syncLoop() {
	defer l.stopped.Done()
	ticker := time.NewTicker(syncEvery)
	defer ticker.Stop()
	unsynced := false
	for {
		select {
		case batch, more := <-l.committed:
			if !more {
				if unsynced {
					l.sync()
				}
				return
			}
			waiting := showDerived(nil, batch)
			for again := len(waiting) > 0; again; { // what has been committed meanwhile shares the fsync
				select {
				case batch := <-l.committed: // nil when closed: the next turn sees that
					waiting = showDerived(waiting, batch)
					again = batch != nil
				default:
					again = false
				}
			}
			unsynced = true
			if len(waiting) > 0 {
				unsynced = l.showDurable(waiting)
			}
		case <-ticker.C:
			if unsynced {
				unsynced = l.sync() != nil
			}
		}
	}
}

// showDerived shows the records of calls that wait for no fsync, and adds the
// others to those that do. A call waits also behind one that does and has
// records for the same partition, so that none is shown out of order.
func showDerived(waiting, batch []*appendCall) []*appendCall {
	behind := map[*partition]bool{} // only Derived records can be overtaken
	mark := func(call *appendCall) {
		for i := range call.targets {
			behind[call.targets[i].partition] = true
		}
	}
	for _, call := range waiting {
		if call.derived {
			mark(call)
		}
	}
	for _, call := range batch {
		overtakes := len(behind) > 0 && slices.ContainsFunc(call.targets, func(t target) bool { return behind[t.partition] })
		if !call.durable && !overtakes {
			call.show()
			continue
		}
		waiting = append(waiting, call)
		if call.derived {
			mark(call)
		}
	}
	return waiting
}

// showDurable syncs and then shows and acknowledges the calls. It returns
// whether they are still not synced.
func (l *Embedded) showDurable(calls []*appendCall) bool {
	err := l.sync()
	for _, call := range calls {
		if err != nil {
			call.err = fmt.Errorf("%w: %w", ErrUnavailable, err)
			close(call.done)
			continue
		}
		call.show()
	}
	return err != nil
}

// show makes a call's records visible and acknowledges it.
func (c *appendCall) show() {
	for i, m := range c.messages {
		t, p := c.targets[i].topic, c.targets[i].partition
		if t.durability == Ephemeral {
			continue
		}
		t.mu.Lock()
		t.show(p, Record{Offset: c.offsets[i], Time: c.now, Key: m.Key, Value: m.Value})
		t.wake.All()
		t.mu.Unlock()
	}
	c.showEphemeral(c.now)
	close(c.done)
}

// sync makes everything committed durable. After a failed fsync the kernel may
// have dropped what it could not write, so the log takes nothing more until it
// is opened again and reads what is really there.
func (l *Embedded) sync() error {
	if why := l.failed.Load(); why != nil {
		return *why
	}
	if err := l.wal.Sync(); err != nil {
		l.failed.CompareAndSwap(nil, &err)
		return err
	}
	return nil
}
