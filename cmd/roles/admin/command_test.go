package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// said runs dendrite-admin as a shell does.
func said(t *testing.T, arguments ...string) (out, diagnostics string, err error) {
	t.Helper()
	var o, d bytes.Buffer
	err = Main(t.Context(), arguments, &o, &d)
	return o.String(), d.String(), err
}

// TestHelp: every command tells what it does and takes.
func TestHelp(t *testing.T) {
	_, list, err := said(t)
	if !errors.Is(err, flag.ErrHelp) {
		t.Fatalf("without a command: %v", err)
	}
	for _, c := range commands() {
		if !strings.Contains(list, c.name) {
			t.Errorf("%s is not in the list", c.name)
		}
		_, help, err := said(t, append(strings.Fields(c.name), "--help")...)
		if !errors.Is(err, flag.ErrHelp) || !strings.Contains(help, c.about) || !strings.Contains(help, "FILE") {
			t.Errorf("%s --help: %v\n%s", c.name, err, help)
		}
	}
	for _, wrong := range [][]string{{"no-such"}, {"log"}, {"move"}, {"repartition", "--from", "x"}, {"move", "--config", "x"}, {"rebuild"}, {"status", "more"}} {
		if _, _, err := said(t, wrong...); err == nil || errors.Is(err, flag.ErrHelp) {
			t.Errorf("%v: %v", wrong, err)
		}
	}
}

// TestCommands: from the command line, as docs/admin.md tells.
func TestCommands(t *testing.T) {
	h := newHome(t)
	l := h.live()
	there := []string{"--data", h.config.Global.DataDir, "--server-name", "localhost"}
	t.Setenv("DENDRITE_EVENT_LOG_PARTITIONS", "4")
	out, _, err := said(t, append([]string{"status", "--json"}, there...)...)
	var report struct {
		Places   []struct{ Consumer, Topic string }
		Findings []any
	}
	if err != nil || json.Unmarshal([]byte(out), &report) != nil || len(report.Places) < 12 {
		t.Fatalf("status --json: %v\n%s", err, out)
	}
	if out, _, err = said(t, append([]string{"log", "reset"}, there...)...); err != nil || !strings.Contains(out, "nothing is wrong") {
		t.Fatalf("log reset: %v\n%s", err, out)
	}
	h.mustStart()
	if out, _, err = said(t, append([]string{"status"}, there...)...); err != nil || !strings.Contains(out, "room.input") {
		t.Fatalf("status beside a server: %v\n%s", err, out)
	}
	if _, _, err = said(t, append([]string{"rebuild", "directory"}, there...)...); err == nil {
		t.Fatal("a view is emptied beside a server")
	}
	h.stop()

	target := h.sibling()
	files := [2]string{}
	for n, c := range []*home{h, target} {
		files[n] = filepath.Join(t.TempDir(), "config.yaml")
		text := fmt.Sprintf("global:\n  server_name: localhost\n  data_dir: %q\nevent_log:\n  partitions: 4\n", c.config.Global.DataDir)
		if err := os.WriteFile(files[n], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, _, err = said(t, "move", "--from", files[0], "--to", files[1]); err != nil || !strings.Contains(out, "Moved.") {
		t.Fatalf("move: %v\n%s", err, out)
	}
	if err := h.start(); !errors.Is(err, sqldb.ErrMarked) {
		t.Fatalf("the old place starts: %v", err)
	}
	if _, _, err = said(t, "reopen", "--config", files[1]); err != nil {
		t.Fatal(err) // there is nothing to reopen, and no harm in it
	}
	if out, _, err = said(t, "reopen", "--config", files[0]); err != nil || !strings.Contains(out, "was moved to") {
		t.Fatalf("reopen: %v\n%s", err, out)
	}
	h.mustStart()
	h.send(l.alice, l.room, "reopened", "here again")
}
