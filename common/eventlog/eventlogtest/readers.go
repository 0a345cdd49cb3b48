package eventlogtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/matrix-org/dendrite/common/eventlog"
)

// readers: several readers of a partition, begun at different offsets and times,
// each see every record once and in order while others are appended.
func readers(t *testing.T, log eventlog.Log, _ func() eventlog.Log) {
	const records, before = 600, 100
	ensure(t, log, eventlog.TopicSpec{Name: "a", Partitions: 1})
	put := func(i int) {
		if _, err := log.Append(t.Context(), eventlog.Message{Topic: "a", Value: []byte(fmt.Sprint(i))}); err != nil {
			t.Error(err)
		}
	}
	for i := range before {
		put(i)
	}
	var wg sync.WaitGroup
	for _, from := range []int{0, 1, before - 1, before, 0} {
		wg.Go(func() {
			for next := from; next < records; {
				got, err := log.Read(t.Context(), "a", 0, int64(next), 50)
				if err != nil {
					t.Errorf("a reader at %d: %v", next, err)
					return
				}
				for _, r := range got {
					if r.Offset != int64(next) || string(r.Value) != fmt.Sprint(next) {
						t.Errorf("a reader at %d got %q at %d", next, r.Value, r.Offset)
						return
					}
					next++
				}
			}
		})
	}
	for i := before; i < records; i++ {
		put(i)
	}
	wg.Wait()
}

// calls: whatever others append, messages of one call to one partition ascend
// in the order given; and a call that is refused appends nothing.
func calls(t *testing.T, log eventlog.Log, _ func() eventlog.Log) {
	const writers, each, messages = 6, 30, 8
	ensure(t, log, eventlog.TopicSpec{Name: "a", Partitions: 2})
	ensure(t, log, eventlog.TopicSpec{Name: "b", Partitions: 1, Durability: eventlog.Derived})
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				var call []eventlog.Message
				for m := range messages {
					call = append(call, eventlog.Message{Topic: "a", Partition: m % 2}, eventlog.Message{Topic: "b"})
				}
				offsets, err := log.Append(t.Context(), call...)
				if err != nil {
					t.Error(err)
					return
				}
				last := map[string]int64{}
				for i, m := range call {
					at := fmt.Sprint(m.Topic, m.Partition)
					if before, ok := last[at]; ok && offsets[i] <= before {
						t.Errorf("%d follows %d in %s", offsets[i], before, at)
					}
					last[at] = offsets[i]
				}
			}
		})
	}
	wg.Wait()
	for _, wrong := range []eventlog.Message{{Topic: "c"}, {Topic: "b", Value: make([]byte, eventlog.MaxRecordBytes+1)}} {
		if _, err := log.Append(t.Context(), eventlog.Message{Topic: "b"}, wrong); err == nil {
			t.Error("a wrong message was taken")
		}
	}
	if _, end, err := log.Bounds(t.Context(), "b", 0); err != nil || end != writers*each*messages {
		t.Errorf("the end is %d, %v, want %d", end, err, writers*each*messages)
	}
}

// trim: what was read may go, but not before its time.
func trim(t *testing.T, log eventlog.Log, _ func() eventlog.Log) {
	for name, retention := range map[string]time.Duration{"short": 0, "long": time.Hour} {
		ensure(t, log, eventlog.TopicSpec{Name: name, Partitions: 1, Retention: retention})
		for range 10 {
			add(t, log, eventlog.Message{Topic: name, Value: []byte("x")})
		}
		for _, before := range []int64{5, 3} { // the second takes nothing back
			if err := log.Trim(t.Context(), name, 0, before); err != nil {
				t.Fatal(err)
			}
		}
	}
	startsAt(t, log, "short", 5)
	if _, err := log.Read(t.Context(), "short", 0, 4, 1); !errors.Is(err, eventlog.ErrOffsetOutOfRange) {
		t.Errorf("a trimmed record: %v", err)
	}
	if r, err := log.Read(t.Context(), "short", 0, 5, 1); err != nil || r[0].Offset != 5 {
		t.Error(r, err)
	}
	if start, _, err := log.Bounds(t.Context(), "long", 0); err != nil || start != 0 {
		t.Errorf("within retention, trimmed up to %d, %v", start, err)
	}
	if err := log.Trim(t.Context(), "short", 0, 1000); err != nil {
		t.Fatal(err)
	}
	startsAt(t, log, "short", 10)
	if at := add(t, log, eventlog.Message{Topic: "short", Value: []byte("y")})[0]; at != 10 {
		t.Errorf("after everything was trimmed, the next offset is %d", at)
	}
	if got := fmt.Sprint(all(t, log, "short", 0, 10)); got != "[=y]" {
		t.Error(got)
	}
}

// startsAt waits until a topic starts at an offset.
func startsAt(t *testing.T, log eventlog.Log, topic string, want int64) {
	t.Helper()
	tick, late := time.NewTicker(5*time.Millisecond), time.After(20*time.Second)
	defer tick.Stop()
	for {
		start, _, err := log.Bounds(t.Context(), topic, 0)
		if err != nil || start > want {
			t.Fatal(start, err)
		}
		if start == want {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s starts at %d, not %d", topic, start, want)
		}
	}
}

// cancelled: readers whose context ends go, the others stay.
func cancelled(t *testing.T, log eventlog.Log, _ func() eventlog.Log) {
	ensure(t, log, eventlog.TopicSpec{Name: "a", Partitions: 1})
	ctx, cancel := context.WithCancel(t.Context())
	gone, stay := make(chan error, 10), make(chan error, 10)
	for range 10 {
		go func() {
			_, err := log.Read(ctx, "a", 0, 0, 1)
			gone <- err
		}()
		go func() {
			_, err := log.Read(t.Context(), "a", 0, 0, 1)
			stay <- err
		}()
	}
	cancel()
	for range 10 {
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("a cancelled reader got %v", err)
		}
	}
	// A cancelled writer is told so, or its record is there.
	offsets, err := log.Append(ctx, eventlog.Message{Topic: "a", Value: []byte("x")})
	if err != nil && !errors.Is(err, context.Canceled) || err == nil && offsets[0] != 0 {
		t.Errorf("a cancelled writer got %v, %v", offsets, err)
	}
	add(t, log, eventlog.Message{Topic: "a", Value: []byte("y")})
	for range 10 {
		if err := <-stay; err != nil {
			t.Errorf("another reader got %v", err)
		}
	}
}

// many: partitions read together wait for the first of them, and one that has
// nothing holds up none.
func many(t *testing.T, log eventlog.Log, _ func() eventlog.Log) {
	ensure(t, log, eventlog.TopicSpec{Name: "a", Partitions: 3})
	from := map[int]int64{0: 0, 1: 0, 2: 0}
	for round := range 20 {
		p := round % 3
		type result struct {
			records map[int][]eventlog.Record
			err     error
		}
		got := make(chan result, 1)
		go func() {
			records, err := log.ReadMany(t.Context(), "a", from, 1000)
			got <- result{records, err}
		}()
		add(t, log, eventlog.Message{Topic: "a", Partition: p, Value: []byte(fmt.Sprint(round))})
		r := <-got
		if r.err != nil || len(r.records) != 1 || len(r.records[p]) != 1 || string(r.records[p][0].Value) != fmt.Sprint(round) {
			t.Fatalf("round %d got %v, %v", round, r.records, r.err)
		}
		from[p]++
	}
	if _, err := log.ReadMany(t.Context(), "a", map[int]int64{0: 0, 1: 1000}, 1000); !errors.Is(err, eventlog.ErrOffsetOutOfRange) {
		t.Errorf("one partition behind its end: %v", err)
	}
}

// large: records of the greatest size are taken, several at once, and come back
// as they were.
func large(t *testing.T, log eventlog.Log, _ func() eventlog.Log) {
	ensure(t, log, eventlog.TopicSpec{Name: "a", Partitions: 2})
	var call []eventlog.Message
	for i := range 12 {
		call = append(call, eventlog.Message{Topic: "a", Partition: i % 2, Key: bytes.Repeat([]byte("k"), 255),
			Value: bytes.Repeat([]byte{byte(i)}, eventlog.MaxRecordBytes)})
	}
	add(t, log, call...)
	for p := range 2 {
		for next := int64(0); next < 6; {
			records, err := log.Read(t.Context(), "a", p, next, 100)
			if err != nil || len(records) != 1 {
				t.Fatal(len(records), err)
			}
			want := call[int(next)*2+p]
			if !bytes.Equal(records[0].Value, want.Value) || !bytes.Equal(records[0].Key, want.Key) {
				t.Errorf("record %d of partition %d is another", next, p)
			}
			next++
		}
	}
}
