package roomserver

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

var remoteKey = gomatrixserverlib.SigningKey{ID: "ed25519:r", Private: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))}

func testRing(server string, id gomatrixserverlib.KeyID) ([]byte, bool) {
	key := remoteKey
	if server == testServer {
		key = testKey
	}
	return key.Public(), id == key.ID
}

func (r *rig) importer() Appender {
	return func(_ context.Context, record *api.InputRecord, lines ...[]byte) (*api.Verdict, error) {
		v := r.submit(record, lines...)
		if v.Status != api.StatusAccepted {
			return v, fmt.Errorf("%+v", v)
		}
		return v, nil
	}
}

// archived is a room with forks, redactions and what was rejected and soft-failed.
func archived(t *testing.T, version gomatrixserverlib.RoomVersion) (*world, []byte) {
	r := rand.New(rand.NewPCG(3, 4))
	w := newWorld(t, version)
	w.g.sign = true
	w.own(proto(alice, "m.room.power_levels", key(""), fmt.Sprintf(`{"users":{%s%q:90}}`, creator(version), carol)))
	for _, user := range []string{carol, dave, erin} {
		e := w.g.build(w.g.extremities, user, "m.room.member", &user, `{"membership":"join"}`)
		w.g.add(e)
		w.receive(e)
	}
	for range 40 {
		e := w.g.random(r)
		w.g.add(e)
		w.receive(e)
	}
	bad := w.post(w.g.room, message(alice, "secret"))
	redaction := proto(alice, "m.room.redaction", nil, `{}`)
	redaction.Proto.Redacts = bad.EventIDs[0]
	w.post(w.g.room, redaction)
	var out bytes.Buffer
	if _, err := w.s.Export(t.Context(), w.g.room, &out); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), `"secret"`) {
		t.Fatal("what was redacted is exported")
	}
	return w, out.Bytes()
}

func TestExportImport(t *testing.T) { sqldbtest.Each(t, testExportImport) }

func testExportImport(t *testing.T) {
	for _, version := range []gomatrixserverlib.RoomVersion{"2", "10", "12"} {
		w, file := archived(t, version)
		r := newRig(t)
		for range 2 { // a second time changes nothing
			room, n, err := Import(t.Context(), bytes.NewReader(file), testRing, r.importer())
			if err != nil || room != w.g.room || n < 40 {
				t.Fatalf("%s, %d events, %v", room, n, err)
			}
		}
		if again := export(r, w.g.room); !slices.Equal(again, file) {
			t.Fatalf("exported again it differs:\n%s\nwas\n%s", again, file)
		}
		sameRoom(t, w.rig, r, w.g.room)
	}
}

func export(r *rig, room string) []byte {
	var out bytes.Buffer
	if _, err := r.s.Export(r.Context(), room, &out); err != nil {
		r.Fatal(err)
	}
	return out.Bytes()
}

func sameRoom(t *testing.T, a, b *rig, room string) {
	t.Helper()
	var states []state
	var rooms []string
	for _, r := range []*rig{a, b} {
		got, err := r.s.queryState(t.Context(), &api.StateRequest{RoomID: room, IDsOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		s := state{}
		for _, e := range got.IDs {
			s[e.StateKey] = e.EventID
		}
		states = append(states, s)
		info, err := r.s.queryRoom(t.Context(), &api.RoomRequest{RoomID: room})
		if err != nil {
			t.Fatal(err)
		}
		rooms = append(rooms, fmt.Sprint(info.Version, info.ForwardExtremities, info.Depth, info.JoinedCount, info.InvitedCount, info.LocalJoined))
	}
	if d := diffStates(states[0], states[1]); len(d) > 0 || rooms[0] != rooms[1] {
		t.Fatalf("%s and %s: %+v", rooms[0], rooms[1], d)
	}
}

// TestExportAfterJoin: a room of which only a part is here.
func TestExportAfterJoin(t *testing.T) { sqldbtest.Each(t, testExportAfterJoin) }

func testExportAfterJoin(t *testing.T) {
	w := newWorld(t, "12")
	w.g.sign = true
	for i := range 10 {
		w.own(proto(alice, "m.room.topic", key(""), fmt.Sprintf(`{"topic":"%d"}`, i)))
	}
	g := &guest{newRigOf(t, "remote"), w, w.g.room}
	join := g.member(carol, "join")
	if v := g.join(join, g.sendState(join.EventID(), -1)); v.Status != api.StatusAccepted {
		t.Fatalf("%+v", v)
	}
	file := export(g.rig, g.room)
	r := newRigOf(t, "remote")
	if _, _, err := Import(t.Context(), bytes.NewReader(file), testRing, r.importer()); err != nil {
		t.Fatal(err)
	}
	sameRoom(t, g.rig, r, g.room)
}

func TestImportRefuses(t *testing.T) { sqldbtest.Each(t, testImportRefuses) }

func testImportRefuses(t *testing.T) {
	_, file := archived(t, "10")
	lines := bytes.Split(file, []byte("\n"))
	change := func(i int, f func(string) string) []byte {
		out := slices.Clone(lines)
		out[i] = []byte(f(string(out[i])))
		return bytes.Join(out, []byte("\n"))
	}
	for name, bad := range map[string][]byte{
		"nothing":             nil,
		"another format":      []byte("{}\n"),
		"half of it":          file[:len(file)/2],
		"without its end":     bytes.Join(lines[:len(lines)-2], []byte("\n")),
		"an unknown version":  change(0, func(s string) string { return strings.Replace(s, `"10"`, `"x"`, 1) }),
		"changed content":     change(4, func(s string) string { return strings.Replace(s, `"join"`, `"invite"`, 1) }),
		"a changed signature": change(4, func(s string) string { return strings.Replace(s, `"ed25519:a":"`, `"ed25519:a":"AAAA`, 1) }),
		"an unsigned event":   change(4, func(s string) string { return strings.Replace(s, `"ed25519:a"`, `"ed25519:b"`, 1) }),
		"another room":        change(0, func(s string) string { return strings.Replace(s, `"room_id":"!`, `"room_id":"!x`, 1) }),
		"another ID":          change(3, func(s string) string { return strings.Replace(s, `"event_id":"$`, `"event_id":"$x`, 1) }),
		"an event left out":   bytes.Join(slices.Concat(lines[:3], lines[5:]), []byte("\n")),
		"an unknown end":      change(len(lines)-2, func(s string) string { return strings.Replace(s, `"sha256":"`, `"sha256":"0`, 1) }),
	} {
		if bytes.Equal(bad, file) {
			t.Fatalf("%s: nothing was changed", name)
		}
		r := newRig(t)
		if _, _, err := Import(t.Context(), bytes.NewReader(bad), testRing, r.importer()); err == nil {
			t.Errorf("%s is imported", name)
		}
	}
}
