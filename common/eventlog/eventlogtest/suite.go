package eventlogtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/matrix-org/dendrite/common/eventlog"
)

// Run runs the suite. Each test calls open for a fresh, empty log; calling the
// function that it returns besides opens the same log again after Close. What may
// be trimmed has to go within some seconds.
func Run(t *testing.T, open func(t *testing.T) (eventlog.Log, func() eventlog.Log)) {
	for name, test := range map[string]func(*testing.T, eventlog.Log, func() eventlog.Log){
		"order": order, "concurrent": concurrent, "waiting": waiting, "bounds": bounds,
		"too large": tooLarge, "unknown": unknown, "reopen": reopen, "ephemeral": ephemeral, "max bytes": maxBytes,
		"readers": readers, "calls": calls, "trim": trim, "cancelled": cancelled, "many": many, "large": large,
	} {
		t.Run(name, func(t *testing.T) {
			log, again := open(t)
			test(t, log, again)
		})
	}
}

func ensure(t *testing.T, log eventlog.Log, spec eventlog.TopicSpec) eventlog.TopicInfo {
	t.Helper()
	info, err := log.EnsureTopic(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func add(t *testing.T, log eventlog.Log, messages ...eventlog.Message) []int64 {
	t.Helper()
	offsets, err := log.Append(t.Context(), messages...)
	if err != nil {
		t.Fatal(err)
	}
	return offsets
}

// all reads a partition from an offset up to its end.
func all(t *testing.T, log eventlog.Log, topic string, partition int, from int64) (values []string) {
	t.Helper()
	_, end, err := log.Bounds(t.Context(), topic, partition)
	if err != nil {
		t.Fatal(err)
	}
	for from < end {
		records, err := log.Read(t.Context(), topic, partition, from, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			if r.Offset != from {
				t.Fatalf("offset %d, want %d", r.Offset, from)
			}
			values = append(values, string(r.Key)+"="+string(r.Value))
			from++
		}
	}
	return values
}

func order(t *testing.T, log eventlog.Log, _ func() eventlog.Log) {
	ensure(t, log, eventlog.TopicSpec{Name: "a", Partitions: 3})
	ensure(t, log, eventlog.TopicSpec{Name: "b", Partitions: 1, Durability: eventlog.Derived})
	offsets := add(t, log,
		eventlog.Message{Topic: "a", Partition: 1, Key: []byte("k"), Value: []byte("0")},
		eventlog.Message{Topic: "b", Value: []byte("0")},
		eventlog.Message{Topic: "a", Partition: 1, Value: []byte("1")},
		eventlog.Message{Topic: "a", Partition: 2, Value: []byte("0")})
	if fmt.Sprint(offsets) != "[0 0 1 0]" {
		t.Fatalf("offsets %v", offsets)
	}
	if got := fmt.Sprint(all(t, log, "a", 1, 0)); got != "[k=0 =1]" {
		t.Fatal(got)
	}
	if got := fmt.Sprint(all(t, log, "a", 0, 0), all(t, log, "b", 0, 0)); got != "[] [=0]" {
		t.Fatal(got)
	}
	if add(t, log, eventlog.Message{Topic: "a", Partition: 1, Value: []byte("2")})[0] != 2 {
		t.Fatal("the next call does not go on")
	}
}

func concurrent(t *testing.T, log eventlog.Log, _ func() eventlog.Log) {
	const writers, each = 8, 200
	ensure(t, log, eventlog.TopicSpec{Name: "a", Partitions: 2})
	var wg sync.WaitGroup
	for w := range writers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range each {
				v := []byte(fmt.Sprintf("%d-%d", w, i))
				offsets, err := log.Append(t.Context(), eventlog.Message{Topic: "a", Partition: w % 2, Value: v})
				if err != nil {
					t.Error(err)
					return
				}
				records, err := log.Read(t.Context(), "a", w%2, offsets[0], 1)
				if err != nil || string(records[0].Value) != string(v) {
					t.Errorf("own record %d: %v %v", offsets[0], records, err)
				}
			}
		}()
	}
	wg.Wait()
	for p := range 2 {
		next := map[byte]int{}
		values := all(t, log, "a", p, 0)
		if len(values) != writers/2*each {
			t.Fatalf("%d records", len(values))
		}
		for _, v := range values {
			if want := fmt.Sprintf("=%c-%d", v[1], next[v[1]]); v != want {
				t.Fatalf("%s, want %s: a writer's records are out of order", v, want)
			}
			next[v[1]]++
		}
	}
}

func waiting(t *testing.T, log eventlog.Log, _ func() eventlog.Log) {
	ensure(t, log, eventlog.TopicSpec{Name: "a", Partitions: 1})
	type result struct {
		records []eventlog.Record
		err     error
	}
	got := make(chan result, 2)
	for range 2 {
		go func() {
			records, err := log.Read(t.Context(), "a", 0, 0, 1000)
			got <- result{records, err}
		}()
	}
	add(t, log, eventlog.Message{Topic: "a", Value: []byte("x")})
	for range 2 {
		if r := <-got; r.err != nil || len(r.records) != 1 {
			t.Fatalf("a waiting reader got %v", r)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := log.Read(ctx, "a", 0, 1, 1000); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a reader whose time is up got %v", err)
	}
}

func bounds(t *testing.T, log eventlog.Log, _ func() eventlog.Log) {
	ensure(t, log, eventlog.TopicSpec{Name: "a", Partitions: 1})
	if _, err := log.Read(t.Context(), "a", 0, 1, 1000); !errors.Is(err, eventlog.ErrOffsetOutOfRange) {
		t.Fatalf("behind the end: %v", err)
	}
	add(t, log, eventlog.Message{Topic: "a", Value: []byte("x")}, eventlog.Message{Topic: "a", Value: []byte("y")})
	start, end, err := log.Bounds(t.Context(), "a", 0)
	if err != nil || start != 0 || end != 2 {
		t.Fatal(start, end, err)
	}
}

func maxBytes(t *testing.T, log eventlog.Log, _ func() eventlog.Log) {
	ensure(t, log, eventlog.TopicSpec{Name: "a", Partitions: 1})
	for range 10 {
		add(t, log, eventlog.Message{Topic: "a", Value: make([]byte, 1000)})
	}
	for max, want := range map[int]int{0: 1, 999: 1, 2500: 2, 100000: 10} {
		if records, err := log.Read(t.Context(), "a", 0, 0, max); err != nil || len(records) != want {
			t.Errorf("within %d bytes: %d records, %v, want %d", max, len(records), err, want)
		}
	}
}

func tooLarge(t *testing.T, log eventlog.Log, _ func() eventlog.Log) {
	ensure(t, log, eventlog.TopicSpec{Name: "a", Partitions: 1})
	_, err := log.Append(t.Context(), eventlog.Message{Topic: "a", Value: make([]byte, eventlog.MaxRecordBytes+1)})
	if !errors.Is(err, eventlog.ErrTooLarge) {
		t.Fatal(err)
	}
	add(t, log, eventlog.Message{Topic: "a", Value: make([]byte, eventlog.MaxRecordBytes)})
}

func unknown(t *testing.T, log eventlog.Log, _ func() eventlog.Log) {
	ensure(t, log, eventlog.TopicSpec{Name: "a", Partitions: 1})
	for _, m := range []eventlog.Message{{Topic: "b"}, {Topic: "a", Partition: 1}, {Topic: "a", Partition: -1}} {
		if _, err := log.Append(t.Context(), m); !errors.Is(err, eventlog.ErrUnknownTopic) {
			t.Errorf("append to %v: %v", m, err)
		}
	}
	if _, err := log.EnsureTopic(t.Context(), eventlog.TopicSpec{Name: "a", Partitions: 2}); err == nil {
		t.Error("a topic of one partition was taken for one of two")
	}
}

func reopen(t *testing.T, log eventlog.Log, again func() eventlog.Log) {
	spec := eventlog.TopicSpec{Name: "a", Partitions: 2}
	derived := eventlog.TopicSpec{Name: "d", Partitions: 1, Durability: eventlog.Derived}
	id, other := ensure(t, log, spec).ID, ensure(t, log, derived).ID
	if id == other {
		t.Error("two topics have one identity")
	}
	add(t, log, eventlog.Message{Topic: "a", Partition: 1, Key: []byte("k"), Value: []byte("v")}, eventlog.Message{Topic: "d", Value: []byte("w")})
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := log.Append(t.Context(), eventlog.Message{Topic: "a"}); !errors.Is(err, eventlog.ErrClosed) {
		t.Errorf("append after Close: %v", err)
	}
	log = again()
	if ensure(t, log, spec).ID != id || ensure(t, log, derived).ID != other {
		t.Error("a topic's identity changed")
	}
	if got := fmt.Sprint(all(t, log, "a", 1, 0), all(t, log, "d", 0, 0)); got != "[k=v] [=w]" {
		t.Error(got)
	}
	if add(t, log, eventlog.Message{Topic: "a", Partition: 1})[0] != 1 {
		t.Error("offsets do not go on after a reopening")
	}
}

func ephemeral(t *testing.T, log eventlog.Log, again func() eventlog.Log) {
	spec := eventlog.TopicSpec{Name: "e", Partitions: 1, Durability: eventlog.Ephemeral, MaxBytes: 100 << 10}
	id := ensure(t, log, spec).ID
	for range 1000 {
		add(t, log, eventlog.Message{Topic: "e", Value: make([]byte, 1000)})
	}
	start, end, err := log.Bounds(t.Context(), "e", 0)
	if err != nil || end-start < 1 || end < 1000 {
		t.Fatal(start, end, err)
	}
	if got := all(t, log, "e", 0, start); int64(len(got)) != end-start {
		t.Errorf("%d records, want %d", len(got), end-start)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if ensure(t, again(), spec).ID == "" || id == "" {
		t.Error("a topic without identity")
	}
}
