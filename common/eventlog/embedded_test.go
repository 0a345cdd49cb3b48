package eventlog_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/eventlog/eventlogtest"
	"github.com/matrix-org/dendrite/common/sqldb"
)

func open(t testing.TB, path string, opts eventlog.EmbeddedOptions) *eventlog.Embedded {
	t.Helper()
	log, err := eventlog.OpenEmbedded(context.Background(), path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil && !errors.Is(err, eventlog.ErrClosed) {
			t.Error(err)
		}
	})
	return log
}

func TestEmbedded(t *testing.T) {
	for name, opts := range map[string]eventlog.EmbeddedOptions{
		"from memory": {TrimEvery: time.Millisecond}, "from disk": {TailBytes: 1, TrimEvery: time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			eventlogtest.Run(t, func(t *testing.T) (eventlog.Log, func() eventlog.Log) {
				path := filepath.Join(t.TempDir(), "log.db")
				return open(t, path, opts), func() eventlog.Log { return open(t, path, opts) }
			})
		})
	}
}

func TestInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	open(t, path, eventlog.EmbeddedOptions{})
	if _, err := eventlog.OpenEmbedded(t.Context(), path, eventlog.EmbeddedOptions{}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("a second opening says %v", err)
	}
}

func TestTrim(t *testing.T) {
	log := open(t, filepath.Join(t.TempDir(), "log.db"), eventlog.EmbeddedOptions{TrimEvery: time.Millisecond})
	for name, retention := range map[string]time.Duration{"short": 0, "long": time.Hour} {
		if _, err := log.EnsureTopic(t.Context(), eventlog.TopicSpec{Name: name, Partitions: 1, Retention: retention}); err != nil {
			t.Fatal(err)
		}
		for range 1200 {
			if _, err := log.Append(t.Context(), eventlog.Message{Topic: name, Value: []byte("x")}); err != nil {
				t.Fatal(err)
			}
		}
		if err := log.Trim(t.Context(), name, 0, 1100); err != nil {
			t.Fatal(err)
		}
	}
	deadline, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for start := int64(0); start != 1100; {
		var err error
		if start, _, err = log.Bounds(t.Context(), "short", 0); err != nil || start > 1100 {
			t.Fatal(start, err)
		}
		select {
		case <-tick.C:
		case <-deadline.Done():
			t.Fatalf("trimmed up to %d", start)
		}
	}
	if _, err := log.Read(t.Context(), "short", 0, 1099, 1); !errors.Is(err, eventlog.ErrOffsetOutOfRange) {
		t.Errorf("a trimmed record: %v", err)
	}
	if r, err := log.Read(t.Context(), "short", 0, 1100, 1); err != nil || r[0].Offset != 1100 {
		t.Error(r, err)
	}
	if start, _, err := log.Bounds(t.Context(), "long", 0); err != nil || start != 0 {
		t.Errorf("within retention, trimmed up to %d, %v", start, err)
	}
}

func TestCorruption(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	for what, damage := range map[string]string{
		"value": "UPDATE records SET value = CAST('y' AS BLOB) WHERE id = 1", "time": "UPDATE records SET time = time + 1 WHERE id = 1",
		"a record gone": "DELETE FROM records WHERE id = 1",
	} {
		t.Run(what, func(t *testing.T) {
			path := path + what
			spec := eventlog.TopicSpec{Name: "a", Partitions: 1}
			log := open(t, path, eventlog.EmbeddedOptions{})
			if _, err := log.EnsureTopic(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
			m := eventlog.Message{Topic: "a", Value: []byte("x")}
			if _, err := log.Append(t.Context(), m, m, m); err != nil {
				t.Fatal(err)
			}
			if err := log.Close(); err != nil {
				t.Fatal(err)
			}
			db, err := sqldb.Open(t.Context(), sqldb.Options{URL: "file:" + path})
			if err != nil {
				t.Fatal(err)
			}
			if err := db.Write(t.Context(), func(tx *sqldb.Tx) error { _, err := tx.Exec(t.Context(), damage); return err }); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			log = open(t, path, eventlog.EmbeddedOptions{})
			if _, err := log.EnsureTopic(t.Context(), spec); err != nil {
				t.Fatal(err)
			}
			if _, err := log.Read(t.Context(), "a", 0, 0, 1000); !errors.Is(err, eventlog.ErrCorrupt) {
				t.Fatalf("a damaged record reads as %v", err)
			}
		})
	}
}

// TestKill kills a process that appends, and looks for what it had acknowledged.
func TestKill(t *testing.T) {
	const variable = "DENDRITE_EVENTLOG_TEST_KILL"
	spec := eventlog.TopicSpec{Name: "a", Partitions: 4}
	if path := os.Getenv(variable); path != "" {
		log := open(t, path, eventlog.EmbeddedOptions{})
		if _, err := log.EnsureTopic(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		for p := range 4 {
			go func() {
				for {
					offsets, err := log.Append(context.Background(), eventlog.Message{Topic: "a", Partition: p, Value: []byte(strconv.Itoa(p))})
					if err != nil {
						return
					}
					mu.Lock()
					fmt.Println("acknowledged", p, offsets[0])
					mu.Unlock()
				}
			}()
		}
		select {} // until killed
	}
	path := filepath.Join(t.TempDir(), "log.db")
	var last [4]int64
	for range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), variable+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			var p, offset int64
			if _, err := fmt.Sscanf(lines.Text(), "acknowledged %d %d", &p, &offset); err != nil {
				continue // cut off by the kill
			}
			last[p] = max(last[p], offset)
			if n == 500 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // it was killed
	}
	log := open(t, path, eventlog.EmbeddedOptions{})
	if _, err := log.EnsureTopic(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	for p, offset := range last {
		for from := int64(0); from <= offset; {
			records, err := log.Read(t.Context(), "a", p, from, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range records {
				if r.Offset != from || string(r.Value) != strconv.Itoa(p) {
					t.Fatalf("partition %d, offset %d: %q", p, r.Offset, r.Value)
				}
				from++
			}
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 16, 256} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			log := open(b, filepath.Join(b.TempDir(), "log.db"), eventlog.EmbeddedOptions{})
			if _, err := log.EnsureTopic(b.Context(), eventlog.TopicSpec{Name: "a", Partitions: 16}); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			var wg sync.WaitGroup
			for w := range writers {
				wg.Add(1)
				go func() {
					defer wg.Done()
					for i := w; i < b.N; i += writers {
						if _, err := log.Append(context.Background(), eventlog.Message{Topic: "a", Partition: w % 16, Value: make([]byte, 700)}); err != nil {
							b.Error(err)
							return
						}
					}
				}()
			}
			wg.Wait()
		})
	}
}

// TestMixedOrder: a record of a Derived topic that is shown at once does not
// overtake an earlier one that waits for the fsync of its call's Durable record.
func TestMixedOrder(t *testing.T) {
	log := open(t, filepath.Join(t.TempDir(), "log.db"), eventlog.EmbeddedOptions{})
	for name, d := range map[string]eventlog.Durability{"durable": eventlog.Durable, "derived": eventlog.Derived} {
		if _, err := log.EnsureTopic(t.Context(), eventlog.TopicSpec{Name: name, Partitions: 1, Durability: d}); err != nil {
			t.Fatal(err)
		}
	}
	const writers, each = 8, 100
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for range each {
				messages := []eventlog.Message{{Topic: "derived", Value: []byte("x")}}
				if w%2 == 0 {
					messages = append(messages, eventlog.Message{Topic: "durable", Value: []byte("y")})
				}
				if _, err := log.Append(t.Context(), messages...); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for next := int64(0); next < writers*each; {
		records, err := log.Read(t.Context(), "derived", 0, next, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			if r.Offset != next {
				t.Fatalf("offset %d, want %d", r.Offset, next)
			}
			next++
		}
	}
	wg.Wait()
}

// TestReadsWhatIsDurable: a reader never sees behind the partition's end, where
// records may be committed and not synced yet.
func TestReadsWhatIsDurable(t *testing.T) {
	log := open(t, filepath.Join(t.TempDir(), "log.db"), eventlog.EmbeddedOptions{TailBytes: 1})
	if _, err := log.EnsureTopic(t.Context(), eventlog.TopicSpec{Name: "t", Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	const records = 400
	done := make(chan error, 1)
	go func() {
		for range records {
			if _, err := log.Append(context.Background(), eventlog.Message{Topic: "t", Value: []byte("x")}); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for end := int64(0); end < records; {
		read, err := log.Read(t.Context(), "t", 0, 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if _, end, err = log.Bounds(t.Context(), "t", 0); err != nil {
			t.Fatal(err)
		}
		if last := read[len(read)-1].Offset; last >= end {
			t.Fatalf("offset %d was read, the partition ends at %d", last, end)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
