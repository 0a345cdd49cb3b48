package directoryapi

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// trimmed is a log that has dropped the beginning of a partition.
type trimmed struct {
	eventlog.Log
	partition int
	start     int64
}

func (l trimmed) Bounds(ctx context.Context, topic string, partition int) (start, end int64, err error) {
	start, end, err = l.Log.Bounds(ctx, topic, partition)
	if topic == roomapi.TopicOutput && partition == l.partition {
		start = l.start
	}
	return start, end, err
}

// TestRebuild: a directory that is new, or has fallen behind what the log
// still holds, shows the same as one that has read every record.
func TestRebuild(t *testing.T) { sqldbtest.Each(t, testRebuild) }

func testRebuild(t *testing.T) {
	const partitions, roomID, alice, bob = 2, "!r:test", "@alice:test", "@bob:test"
	dir := t.TempDir()
	log, err := eventlog.OpenEmbedded(t.Context(), filepath.Join(dir, "log.db"), eventlog.EmbeddedOptions{})
	if err != nil {
		t.Fatal(err)
	}
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	calls := rpc.NewServer()
	ctx, cancel := context.WithCancel(context.Background())
	open := func(name string) *sqldb.DB {
		db, err := sqldb.Open(ctx, sqldbtest.Options(t, filepath.Join(dir, name+".db")))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
		return db
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	key := gomatrixserverlib.SigningKey{ID: "ed25519:a", Private: ed25519.NewKeyFromSeed(make([]byte, 32))}
	rooms, err := roomserver.New(ctx, roomserver.Deps{ServerName: "test", Keys: []gomatrixserverlib.SigningKey{key}, Log: log, DB: open("rooms"),
		Partitions: partitions, Logger: logrus.NewEntry(logger), Metrics: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	rooms.Register(calls)
	running := make(chan error, 1)
	go func() { running <- rooms.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-running; err != nil {
			t.Error(err)
		}
	})
	n := 0
	submit := func(rec roomapi.InputRecord, lines ...[]byte) {
		t.Helper()
		n++
		rec.V, rec.RequestID, rec.TS, rec.RoomVersion, rec.Answer = 1, fmt.Sprint("r", n), 1_700_000_000_000, "11", -1
		value, err := rec.Encode(lines...)
		if err != nil {
			t.Fatal(err)
		}
		m := eventlog.Message{Topic: roomapi.TopicInput, Partition: eventlog.PartitionFor(rec.RoomID, partitions), Key: []byte(rec.RoomID), Value: value}
		if _, err := log.Append(ctx, m); err != nil {
			t.Fatal(err)
		}
		if err := rooms.Ready(ctx); err != nil {
			t.Fatal(err)
		}
	}
	sendTo := func(room, sender, typ string, stateKey *string, content string) {
		t.Helper()
		submit(roomapi.InputRecord{Origin: "test", RoomID: room, Kind: roomapi.KindNew,
			Events: []roomapi.InputEvent{{Proto: &roomapi.Proto{Type: typ, StateKey: stateKey, Sender: sender, Content: jsontext.Value(content)}}}})
	}
	send := func(sender, typ string, stateKey *string, content string) {
		t.Helper()
		sendTo(roomID, sender, typ, stateKey, content)
	}
	// beside is the ID of a room in the same partition.
	beside := func(server string) string {
		for i := 0; ; i++ {
			if id := fmt.Sprintf("!%d:%s", i, server); eventlog.PartitionFor(id, partitions) == eventlog.PartitionFor(roomID, partitions) {
				return id
			}
		}
	}
	far, gone := beside("remote"), beside("test")
	outside := func(user, membership string) {
		t.Helper()
		b := gomatrixserverlib.EventBuilder{RoomID: far, Sender: "@r:remote", Type: "m.room.member", StateKey: &user, Depth: 1,
			Content: jsontext.Value(`{"membership":"` + membership + `"}`), PrevEvents: []string{"$x"}, AuthEvents: []string{"$x"}}
		event, err := b.Build("11")
		if err != nil {
			t.Fatal(err)
		}
		submit(roomapi.InputRecord{Origin: "remote", RoomID: far, Kind: roomapi.KindOutOfRoom, Events: []roomapi.InputEvent{{EventID: event.EventID()}}}, event.JSON())
	}
	read := eventlog.Log(log)
	// look runs a directory on a database and returns what it shows.
	look := func(name string) (out [4]any) {
		t.Helper()
		inner, stop := context.WithCancel(ctx)
		s, err := New(inner, Deps{Config: config.Directory{}, ServerName: "test", Log: read, DB: open(name), Caller: calls, Partitions: partitions, Logger: logrus.NewEntry(logger)})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- s.Run(inner) }()
		heads, err := roomapi.QueryHeads.Call(ctx, calls, &roomapi.HeadsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		theirs, errTheirs := s.queryUserRooms(ctx, &api.UserRoomsRequest{UserID: bob, AtLeast: heads.Seqs})
		mine, errMine := s.queryUserRooms(ctx, &api.UserRoomsRequest{UserID: alice, AtLeast: heads.Seqs})
		room, errRoom := s.queryRooms(ctx, &api.RoomsRequest{RoomIDs: []string{roomID, gone}})
		note, errNote := s.queryAnnotation(ctx, &api.AnnotationRequest{RoomID: roomID, EventID: "$e", Sender: alice, Type: "m.reaction", Key: "+"})
		stop()
		if err := errors.Join(errMine, errTheirs, errRoom, errNote, <-done); err != nil {
			t.Fatal(err)
		}
		return [4]any{mine, theirs, room, note}
	}
	empty, self, other := "", alice, bob
	send(alice, "m.room.create", &empty, `{"room_version":"11"}`)
	send(alice, "m.room.member", &self, `{"membership":"join"}`)
	send(alice, "m.room.name", &empty, `{"name":"Name"}`)
	sendTo(gone, alice, "m.room.create", &empty, `{"room_version":"11"}`)
	sendTo(gone, alice, "m.room.member", &self, `{"membership":"join"}`)
	outside(alice, "invite")
	look("behind")
	submit(roomapi.InputRecord{Origin: "test", RoomID: gone, Kind: roomapi.KindPurge})
	outside(alice, "leave")
	outside(bob, "invite")
	send(alice, "m.room.join_rules", &empty, `{"join_rule":"public"}`)
	send(bob, "m.room.member", &other, `{"membership":"join"}`)
	send(alice, "m.reaction", nil, `{"m.relates_to":{"rel_type":"m.annotation","event_id":"$e","key":"+"}}`)
	send(alice, "m.room.topic", &empty, `{"topic":"Topic"}`)
	want := look("whole")
	if list := fmt.Sprintf("%+v %+v %+v", want[0], want[1], want[2]); strings.Contains(list, gone) || strings.Count(list, far) != 2 {
		t.Fatalf("one that has read every record: %s", list)
	}
	p := eventlog.PartitionFor(roomID, partitions)
	_, end, err := log.Bounds(ctx, roomapi.TopicOutput, p)
	if err != nil {
		t.Fatal(err)
	}
	read = trimmed{Log: log, partition: p, start: end - 1}
	for _, name := range []string{"behind", "new", "new"} {
		if got := look(name); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
