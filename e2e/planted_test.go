package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// planted are bugs, each a change of one place in the server.
var planted = map[string]struct{ file, old, new string }{
	"retries are not recognised": {"../roomserver/consume.go",
		"if r, ok := known[in.record.RequestID]; ok &&", "if r, ok := known[in.record.RequestID]; false && ok &&"},
	"history passes over some events": {"../roomserver/storage/events.go",
		"AND flags = 0 AND seq > 0 ORDER BY seq ", "AND flags = 0 AND seq > 0 AND seq % 50 <> 49 ORDER BY seq "},
	"a sync tells again what came right before its token": {"../syncapi/room.go",
		"slices.BinarySearchFunc(r.tail.events, since, seq)", "slices.BinarySearchFunc(r.tail.events, since-1, seq)"},
}

// TestPlanted: the checker finds bugs that were planted on purpose.
func TestPlanted(t *testing.T) {
	for name, bug := range planted {
		t.Run(name, func(t *testing.T) {
			spoiled := filepath.Join(t.TempDir(), "dendrite")
			if err := build(spoiled, "-overlay", overlay(t, bug.file, bug.old, bug.new)); err != nil {
				t.Fatal(err)
			}
			// The bug may make the test's own steps fail, which is as good.
			s := newServer(t)
			s.binary = spoiled
			s.start()
			probe := &findings{T: t}
			faults := underLoad(probe, s, 8*time.Second, func(ctx context.Context) { killAgain(ctx, s) })
			if len(faults)+len(probe.errors) == 0 {
				t.Error("nobody noticed")
			}
			found := append(probe.errors, faultsText(faults)...)
			for _, f := range found[:min(3, len(found))] {
				t.Log("found:", f)
			}
		})
	}
}

// findings is a test whose errors are what was looked for.
type findings struct {
	*testing.T
	mu     sync.Mutex
	errors []string
}

func (f *findings) Error(args ...any) { f.add(fmt.Sprint(args...)) }

func (f *findings) Errorf(format string, args ...any) { f.add(fmt.Sprintf(format, args...)) }

func (f *findings) add(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errors = append(f.errors, text)
}

func faultsText(faults []error) (out []string) {
	for _, f := range faults {
		out = append(out, f.Error())
	}
	return out
}

func killAgain(ctx context.Context, s *server) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(700 * time.Millisecond):
			s.kill(syscall.SIGKILL)
			s.start()
		}
	}
}

func overlay(t *testing.T, file, old, new string) string {
	t.Helper()
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), old); n != 1 {
		t.Fatalf("%s holds what is to be spoiled %d times: the bug has to be planted anew", file, n)
	}
	return overlayOf(t, map[string]string{file: strings.Replace(string(source), old, new, 1)})
}

// overlayOf makes an argument for -overlay: the text of each file that is built
// differently.
func overlayOf(t *testing.T, texts map[string]string) string {
	t.Helper()
	dir, replace := t.TempDir(), map[string]string{}
	for file, text := range texts {
		path, err := filepath.Abs(file)
		if err != nil {
			t.Fatal(err)
		}
		replace[path] = filepath.Join(dir, fmt.Sprint(len(replace), ".go"))
		if err := os.WriteFile(replace[path], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(object{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return list
}
