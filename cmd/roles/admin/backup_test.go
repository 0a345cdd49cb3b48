package admin

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/matrix-org/dendrite/common/consumer"
	"github.com/matrix-org/dendrite/common/eventlog"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// save copies the files of a stopped installation.
func (h *home) save() string {
	h.Helper()
	to := h.TempDir()
	copyFiles(h.TB, h.config.Global.DataDir, to, "")
	return to
}

// restore puts files back to what they were.
func (h *home) restore(saved string, names ...string) {
	h.Helper()
	for _, name := range names {
		old, err := filepath.Glob(filepath.Join(h.config.Global.DataDir, name+"*"))
		if err != nil {
			h.Fatal(err)
		}
		for _, file := range old {
			if err := os.Remove(file); err != nil {
				h.Fatal(err)
			}
		}
		copyFiles(h.TB, saved, h.config.Global.DataDir, name)
	}
}

func copyFiles(t testing.TB, from, to, prefix string) {
	t.Helper()
	files, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.IsDir() || !strings.HasPrefix(f.Name(), prefix) {
			continue
		}
		data, err := os.ReadFile(filepath.Join(from, f.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, f.Name()), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// past is an installation with a backup, and what has happened since.
type past struct {
	*home
	*lived
	saved string
	// before and after are the room's events by the backup, and by now; token is
	// bob's from the backup, and late what came for him since.
	before, after, late []string
	token               string
}

// newPast lives, makes a backup and lives on.
func newPast(t *testing.T) *past {
	h := newHome(t)
	p := &past{home: h, lived: h.live()}
	h.mustStart()
	p.token = h.sync(p.bob, "")["next_batch"].(string)
	p.before = h.history(p.bob, p.room)
	h.stop()
	p.saved = h.save()
	h.mustStart()
	for _, txn := range []string{"late1", "late2"} {
		p.late = append(p.late, h.send(p.alice, p.room, txn, "after the backup"))
	}
	// The directory notes what it has read when it means something to it.
	p.late = append(p.late, h.call(p.alice, "PUT", "/rooms/"+url.PathEscape(p.room)+"/state/m.room.topic", object{"topic": "late"})["event_id"].(string))
	p.note("after the backup")
	h.call(p.alice, "PUT", "/directory/room/"+url.PathEscape("#late:localhost"), object{"room_id": p.room})
	h.sync(p.bob, "")
	p.after = h.history(p.bob, p.room)
	h.stop()
	return p
}

// copy is the same past in a folder of its own.
func (p *past) copy(t *testing.T) *past {
	h := newHome(t)
	h.config.Global.PrivateKey = p.config.Global.PrivateKey
	copyFiles(t, p.config.Global.DataDir, h.config.Global.DataDir, "")
	o := *p
	o.home = h
	return &o
}

// note changes bob's account data.
func (p *past) note(text string) {
	p.Helper()
	p.call(p.bob, "PUT", "/user/"+url.PathEscape(p.bob.id)+"/account_data/org.example.note", object{"note": text})
}

// noteArrives fails unless a token brings the note, perhaps after an older one.
func (p *past) noteArrives(token, want string) {
	p.Helper()
	var got any
	for got != want {
		answer := p.sync(p.bob, token)
		if answer["next_batch"] == token {
			p.Fatalf("bob's note is %v, want %s", got, want)
		}
		token = answer["next_batch"].(string)
		for _, e := range list(dig(answer, "account_data", "events")) {
			if dig(e, "type") == "org.example.note" {
				got = dig(e, "content", "note")
			}
		}
	}
}

// complete fails unless the room is as if nothing had been restored, and goes on.
func (p *past) complete() {
	p.Helper()
	p.sync(p.bob, "")
	if got := p.history(p.bob, p.room); !slices.Equal(got, p.after) {
		p.Fatalf("the room has %v, had %v", got, p.after)
	}
	if got := timeline(p.sync(p.bob, p.token), p.room); !slices.Equal(got, p.late) {
		p.Fatalf("the token of the backup gives %v, want %v", got, p.late)
	}
	if again := p.send(p.alice, p.room, "late2", "after the backup"); again != p.late[1] {
		p.Fatalf("a retried transaction gives %s, was %s", again, p.late[1])
	}
	p.finds(p.bob, "backup", p.late[1], p.late[0])
	p.finds(p.bob, "message", p.missed[2], p.missed[1], p.missed[0])
	p.goesOn()
}

// goesOn fails unless what is sent arrives.
func (p *past) goesOn() {
	p.Helper()
	since := p.sync(p.bob, "")["next_batch"].(string)
	new := p.send(p.alice, p.room, "after all", "it goes on")
	if got := timeline(p.sync(p.bob, since), p.room); !slices.Equal(got, []string{new}) {
		p.Fatalf("what is new gives %v, want %s", got, new)
	}
}

// refuses fails unless the servers stop because of what is wrong, and status
// says what to do.
func (p *past) refuses(why error, finding string) {
	p.Helper()
	if err := p.start(); !errors.Is(err, why) {
		p.Fatalf("the servers start, or stop because of %v, want %v", err, why)
	}
	text := p.status()
	if !strings.Contains(text, finding) {
		p.Fatalf("status does not say %q:\n%s", finding, text)
	}
}

func (p *past) status() string {
	p.Helper()
	var out bytes.Buffer
	if err := p.open(func(i *Installation) error {
		r, err := Status(p.Context(), i)
		if err != nil {
			return err
		}
		return r.Text(&out)
	}); err != nil {
		p.Fatal(err)
	}
	return out.String()
}

// admin runs a command's work.
func (p *past) admin(f func(i *Installation, out *bytes.Buffer) error) string {
	p.Helper()
	var out bytes.Buffer
	if err := p.open(func(i *Installation) error { return f(i, &out) }); err != nil {
		p.Fatal(err)
	}
	return out.String()
}

// TestRestored: each store, and the log, put back to an earlier copy beside the
// others as they are. The rows of the table in docs/backup.md.
func TestRestored(t *testing.T) {
	template := newPast(t)
	t.Run("room server", func(t *testing.T) {
		p := template.copy(t)
		p.restore(p.saved, "roomserver.db")
		if text := p.status(); !strings.Contains(text, "they are made again from room.input") {
			t.Fatal(text)
		}
		p.mustStart()
		p.complete()
	})
	t.Run("sync", func(t *testing.T) {
		p := template.copy(t)
		p.restore(p.saved, "syncapi.db")
		p.mustStart()
		p.complete()
	})
	t.Run("directory", func(t *testing.T) {
		p := template.copy(t)
		p.restore(p.saved, "directoryapi.db")
		p.mustStart()
		p.complete()
		if status, _ := p.try(p.bob, "GET", "/directory/room/"+url.PathEscape("#late:localhost"), object{}); status != http.StatusNotFound {
			t.Fatalf("an alias that the backup lacks: %d", status)
		}
		p.call(p.bob, "GET", "/directory/room/"+url.PathEscape(p.alias), object{})
	})
	t.Run("search", func(t *testing.T) {
		p := template.copy(t)
		p.restore(p.saved, "searchapi.db")
		p.mustStart()
		p.complete()
	})
	t.Run("users", func(t *testing.T) {
		p := template.copy(t)
		p.restore(p.saved, "userapi.db")
		if text := p.status(); !strings.Contains(text, "what is current is published anew") {
			t.Fatal(text)
		}
		p.mustStart()
		p.complete()
		p.noteArrives(p.token, "\u00fc")
		since := p.sync(p.bob, "")["next_batch"].(string)
		p.note("again")
		p.noteArrives(since, "again")
	})
	t.Run("log", func(t *testing.T) { testLogRestored(template.copy(t)) })
	t.Run("log lost", func(t *testing.T) { testLogLost(template.copy(t)) })
	t.Run("log lost after other partitions", testLogLostRepartitioned)
	t.Run("room server and log", func(t *testing.T) { testPastRestored(template.copy(t)) })
	t.Run("users and log", func(t *testing.T) { testPastUsersRestored(template.copy(t)) })
	t.Run("room server, records dropped", func(t *testing.T) { testRecordsDropped(template.copy(t)) })
}

// testLogRestored: the log alone is older. The stores have all that was in it.
func testLogRestored(p *past) {
	p.restore(p.saved, "log.db")
	p.refuses(consumer.ErrTopicShorter, "the topic ends before what was read of it")
	shown := p.admin(func(i *Installation, out *bytes.Buffer) error {
		return ResetPlaces(p.Context(), i, Reset{Partition: -1, To: "end"}, out)
	})
	if !strings.Contains(shown, "nothing is lost: what was read is in the room server's store") || !strings.Contains(shown, "say --yes") {
		p.Fatal(shown)
	}
	p.refuses(consumer.ErrTopicShorter, "log reset")
	p.admin(func(i *Installation, out *bytes.Buffer) error {
		return ResetPlaces(p.Context(), i, Reset{Partition: -1, To: "end", Yes: true}, out)
	})
	p.mustStart()
	p.complete()
	p.noteArrives(p.token, "after the backup")
}

// testLogLost: there is another log, with nothing in it.
func testLogLost(p *past) {
	p.restore(p.TempDir(), "log.db")
	if err := p.start(); err == nil || !strings.Contains(err.Error(), "is not the one that") {
		p.Fatalf("the servers start on another log: %v", err)
	}
	p.admin(func(i *Installation, out *bytes.Buffer) error {
		return ResetPlaces(p.Context(), i, Reset{Partition: -1, To: "start", Yes: true}, out)
	})
	p.mustStart()
	p.complete()
	p.noteArrives(p.token, "after the backup")
}

// testPastRestored: the room server's store and the log are older, so that
// positions are given again that the views know as something else.
func testPastRestored(p *past) {
	p.restore(p.saved, "log.db", "roomserver.db")
	p.refuses(consumer.ErrAhead, "dendrite-admin rebuild directory")
	if text := p.status(); !strings.Contains(text, "dendrite-admin rebuild sync") {
		p.Fatal(text)
	}
	for _, view := range append(readers(), searchConsumer) {
		p.admin(func(i *Installation, out *bytes.Buffer) error { return Rebuild(p.Context(), i, view, out) })
	}
	p.mustStart()
	p.sync(p.bob, "")
	if got := p.history(p.bob, p.room); !slices.Equal(got, p.before) {
		p.Fatalf("the room has %v, in the backup it had %v", got, p.before)
	}
	p.finds(p.bob, "message", p.missed[2], p.missed[1], p.missed[0])
	p.finds(p.bob, "backup")
	p.goesOn()
	if got := timeline(p.sync(p.bob, p.token), p.room); len(got) != 1 {
		p.Fatalf("the token of the backup gives %v", got)
	}
}

// testLogLostRepartitioned: what is published again is only what belongs to the
// partitions that there are, and views of nothing know how to go on, or say that
// they do not.
func testLogLostRepartitioned(t *testing.T) {
	old := newHome(t)
	l := old.live()
	h := old.sibling()
	h.config.EventLog.Partitions = 3
	if err := old.repartitionTo(t.Context(), h, io.Discard); err != nil {
		t.Fatal(err)
	}
	p := &past{home: h, lived: l}
	h.mustStart()
	sent := h.send(l.alice, l.room, "sent", "in another partition")
	token := h.sync(l.bob, "")["next_batch"].(string)
	all := h.history(l.bob, l.room)
	h.stop()
	p.restore(t.TempDir(), "log.db")
	p.admin(func(i *Installation, out *bytes.Buffer) error {
		return ResetPlaces(t.Context(), i, Reset{Partition: -1, To: "start", Yes: true}, out)
	})
	p.admin(func(i *Installation, out *bytes.Buffer) error { return Rebuild(t.Context(), i, directoryConsumer, out) })
	h.mustStart()
	if a := h.call(l.bob, "GET", "/publicRooms", object{}); len(list(a["chunk"])) != 1 || dig(list(a["chunk"])[0], "topic") != "moving" {
		t.Fatalf("public rooms, rebuilt: %v", a)
	}
	if got := h.history(l.bob, l.room); !slices.Equal(got, all) {
		t.Fatalf("the room has %v, had %v", got, all)
	}
	if got := timeline(h.sync(l.bob, l.since), l.room); !slices.Equal(got, append(slices.Clone(l.missed), sent)) {
		t.Fatalf("an old token gives %v", got)
	}
	new := h.send(l.alice, l.room, "new", "it goes on")
	if got := timeline(h.sync(l.bob, token), l.room); !slices.Equal(got, []string{new}) {
		t.Fatalf("what is new gives %v, want %s", got, new)
	}
	h.stop()
	p.admin(func(i *Installation, out *bytes.Buffer) error { return Rebuild(t.Context(), i, syncConsumer, out) })
	h.mustStart()
	p.sync(l.bob, "")
	if got := timeline(h.sync(l.bob, l.since), l.room); !slices.Equal(got, append(slices.Clone(l.missed), sent, new)) {
		t.Fatalf("an old token gives, with the view rebuilt, %v", got)
	}
}

// testPastUsersRestored: the user-api's store and the log are older.
func testPastUsersRestored(p *past) {
	p.restore(p.saved, "log.db", "userapi.db")
	p.refuses(consumer.ErrTopicShorter, "sync has applied")
	p.admin(func(i *Installation, out *bytes.Buffer) error {
		return ResetPlaces(p.Context(), i, Reset{Partition: -1, To: "end", Yes: true}, out)
	})
	p.refuses(consumer.ErrAhead, "dendrite-admin rebuild sync")
	p.admin(func(i *Installation, out *bytes.Buffer) error { return Rebuild(p.Context(), i, syncConsumer, out) })
	p.mustStart()
	p.complete()
	since := p.sync(p.bob, "")["next_batch"].(string)
	p.note("anew")
	p.noteArrives(since, "anew")
}

// dropped is a log that has dropped the beginning of room.input.
type dropped struct{ eventlog.Log }

func (l dropped) Bounds(ctx context.Context, topic string, partition int) (start, end int64, err error) {
	start, end, err = l.Log.Bounds(ctx, topic, partition)
	if topic == roomapi.TopicInput {
		start = end
	}
	return start, end, err
}

// testRecordsDropped: the room server's store is older than what the log holds.
func testRecordsDropped(p *past) {
	p.restore(p.saved, "roomserver.db")
	at := eventlog.PartitionFor(p.room, p.config.EventLog.Partitions)
	text := p.admin(func(i *Installation, out *bytes.Buffer) error {
		i.Log = dropped{i.Log}
		r, err := Status(p.Context(), i)
		if err != nil {
			return err
		}
		if err := r.Text(out); err != nil {
			return err
		}
		return ResetPlaces(p.Context(), i, Reset{Consumer: "rooms", Partition: at, To: "start"}, out)
	})
	for _, want := range []string{"rooms: records were dropped before they were read", "restore a newer copy of the room server's store", "3 records that the log dropped are never handled"} {
		if !strings.Contains(text, want) {
			p.Fatalf("%q is not in\n%s", want, text)
		}
	}
}
