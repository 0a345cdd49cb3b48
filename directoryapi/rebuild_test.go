package directoryapi

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
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
func TestRebuild(t *testing.T) {
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
		db, err := sqldb.Open(ctx, sqldb.Options{URL: "file:" + filepath.Join(dir, name+".db")})
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
	send := func(sender, typ string, stateKey *string, content string) {
		t.Helper()
		n++
		rec := &roomapi.InputRecord{V: 1, RequestID: fmt.Sprint("r", n), Origin: "test", TS: 1_700_000_000_000, RoomID: roomID, Kind: roomapi.KindNew, RoomVersion: "11",
			Answer: -1, Events: []roomapi.InputEvent{{Proto: &roomapi.Proto{Type: typ, StateKey: stateKey, Sender: sender, Content: jsontext.Value(content)}}}}
		value, err := rec.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := log.Append(ctx, eventlog.Message{Topic: roomapi.TopicInput, Partition: eventlog.PartitionFor(roomID, partitions), Key: []byte(roomID), Value: value}); err != nil {
			t.Fatal(err)
		}
		if err := rooms.Ready(ctx); err != nil {
			t.Fatal(err)
		}
	}
	read := eventlog.Log(log)
	// look runs a directory on a database and returns what it shows.
	look := func(name string) (out [3]any) {
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
		mine, errMine := s.queryUserRooms(ctx, &api.UserRoomsRequest{UserID: alice, AtLeast: heads.Seqs})
		room, errRoom := s.queryRooms(ctx, &api.RoomsRequest{RoomIDs: []string{roomID}})
		note, errNote := s.queryAnnotation(ctx, &api.AnnotationRequest{RoomID: roomID, EventID: "$e", Sender: alice, Type: "m.reaction", Key: "+"})
		stop()
		if err := errors.Join(errMine, errRoom, errNote, <-done); err != nil {
			t.Fatal(err)
		}
		return [3]any{mine, room, note}
	}
	empty, self, other := "", alice, bob
	send(alice, "m.room.create", &empty, `{"room_version":"11"}`)
	send(alice, "m.room.member", &self, `{"membership":"join"}`)
	send(alice, "m.room.name", &empty, `{"name":"Name"}`)
	look("behind")
	send(alice, "m.room.join_rules", &empty, `{"join_rule":"public"}`)
	send(bob, "m.room.member", &other, `{"membership":"join"}`)
	send(alice, "m.reaction", nil, `{"m.relates_to":{"rel_type":"m.annotation","event_id":"$e","key":"+"}}`)
	send(alice, "m.room.topic", &empty, `{"topic":"Topic"}`)
	want := look("whole")
	p := eventlog.PartitionFor(roomID, partitions)
	_, end, err := log.Bounds(ctx, roomapi.TopicOutput, p)
	if err != nil {
		t.Fatal(err)
	}
	read = trimmed{Log: log, partition: p, start: end - 1}
	for _, name := range []string{"behind", "new", "new"} {
		if got := look(name); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v %+v %+v", name, got[0], got[1], got[2])
		}
	}
}
