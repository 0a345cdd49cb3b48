package storage

import (
	"context"
	"fmt"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/directoryapi/api"
)

func open(t *testing.T) *Database {
	t.Helper()
	d, err := New(t.Context(), sqldbtest.Open(t, filepath.Join(t.TempDir(), "directory.db")))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func put(t *testing.T, d *Database, rooms ...api.Room) {
	t.Helper()
	err := d.Write(t.Context(), func(tx *sqldb.Tx) error { return d.PutRooms(t.Context(), tx, rooms) })
	if err != nil {
		t.Fatal(err)
	}
}

func TestAliases(t *testing.T) { sqldbtest.Each(t, testAliases) }

func testAliases(t *testing.T) {
	d, ctx := open(t), t.Context()
	put(t, d, api.Room{RoomID: "!real:a"})
	steps := []struct {
		name       string
		alias      Alias
		now, stale int64
		wantRoom   string
	}{
		{"new", Alias{"#x:a", "!real:a", "@u:a"}, 1000, 0, "!real:a"},
		{"again", Alias{"#x:a", "!real:a", "@u:a"}, 1001, 0, "!real:a"},
		{"taken", Alias{"#x:a", "!other:a", "@v:a"}, 5000, 4000, "!real:a"},
		{"reserved", Alias{"#y:a", "!never:a", "@u:a"}, 1000, 0, "!never:a"},
		{"still reserved", Alias{"#y:a", "!other:a", "@v:a"}, 1500, 900, "!never:a"},
		{"taken over", Alias{"#y:a", "!other:a", "@v:a"}, 5000, 4000, "!other:a"},
	}
	for _, s := range steps {
		is, err := d.PutAlias(ctx, s.alias, s.now, s.stale)
		if err != nil || is.RoomID != s.wantRoom {
			t.Fatalf("%s: %+v, %v", s.name, is, err)
		}
	}
	if was, err := d.DeleteAlias(ctx, "#x:a", "!other:a"); was || err != nil {
		t.Errorf("deleted another room's alias: %v, %v", was, err)
	}
	if err := d.SetPublished(ctx, "!real:a", true); err != nil {
		t.Fatal(err)
	}
	for range 2 { // idempotent
		if err := d.MoveRoom(ctx, "!real:a", "!new:a"); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := d.Aliases(ctx, "!new:a"); err != nil || !reflect.DeepEqual(list, []string{"#x:a"}) {
		t.Errorf("moved: %v, %v", list, err)
	}
	for room, want := range map[string]bool{"!real:a": false, "!new:a": true, "!other:a": false} {
		if is, err := d.Published(ctx, room); err != nil || is != want {
			t.Errorf("published %s: %v, %v", room, is, err)
		}
	}
	if was, err := d.DeleteAlias(ctx, "#x:a", ""); !was || err != nil {
		t.Errorf("delete: %v, %v", was, err)
	}
	if _, ok, err := d.Alias(ctx, "#x:a"); ok || err != nil {
		t.Errorf("after delete: %v, %v", ok, err)
	}
}

func TestPublicRoomsPages(t *testing.T) { sqldbtest.Each(t, testPublicRoomsPages) }

func testPublicRoomsPages(t *testing.T) {
	d, ctx := open(t), t.Context()
	var want []string
	for i := range 10 {
		id := fmt.Sprintf("!r%d:a", i)
		put(t, d, api.Room{RoomID: id, Name: fmt.Sprintf("Room %d", i), JoinedCount: 10 - i/2}) // ties in pairs
		if err := d.SetPublished(ctx, id, true); err != nil {
			t.Fatal(err)
		}
		want = append(want, id)
	}
	put(t, d, api.Room{RoomID: "!hidden:a", JoinedCount: 100}, api.Room{RoomID: "!empty:a"})
	if err := d.SetPublished(ctx, "!empty:a", true); err != nil {
		t.Fatal(err)
	}
	var got []string
	q := PublicQuery{Limit: 3}
	for {
		rooms, more, total, err := d.PublicRooms(ctx, q)
		if err != nil || total != 10 {
			t.Fatal(total, err)
		}
		for _, r := range rooms {
			got = append(got, r.RoomID)
		}
		if !more {
			break
		}
		last := rooms[len(rooms)-1]
		q.After = &Place{last.JoinedCount, last.RoomID}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("forwards: %v", got)
	}
	rooms, more, _, err := d.PublicRooms(ctx, PublicQuery{Limit: 3, Before: &Place{8, "!r5:a"}})
	if err != nil || !more || len(rooms) != 3 || rooms[0].RoomID != "!r2:a" || rooms[2].RoomID != "!r4:a" {
		t.Errorf("backwards: %v %v %v", rooms, more, err)
	}
}

func TestPublicRoomsFilter(t *testing.T) { sqldbtest.Each(t, testPublicRoomsFilter) }

func testPublicRoomsFilter(t *testing.T) {
	d, ctx := open(t), t.Context()
	rooms := []api.Room{
		{RoomID: "!1:a", Name: "Ärger 100%", JoinedCount: 1},
		{RoomID: "!2:a", Topic: "under_score", Type: "m.space", JoinedCount: 1},
		{RoomID: "!3:a", CanonicalAlias: "#Cheese:a", Type: "org.x", JoinedCount: 1},
		{RoomID: "!4:a", Name: "nul\x00 byte", JoinedCount: 1},
	}
	put(t, d, rooms...)
	for _, r := range rooms {
		if err := d.SetPublished(ctx, r.RoomID, true); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name  string
		query PublicQuery
		want  []string
	}{
		{"all", PublicQuery{}, []string{"!1:a", "!2:a", "!3:a", "!4:a"}},
		{"name", PublicQuery{Search: "ärger"}, []string{"!1:a"}},
		{"percent is no wildcard", PublicQuery{Search: "0%"}, []string{"!1:a"}},
		{"underscore is no wildcard", PublicQuery{Search: "_"}, []string{"!2:a"}},
		{"alias", PublicQuery{Search: "cheese"}, []string{"!3:a"}},
		{"nothing", PublicQuery{Search: "!"}, nil},
		{"spaces", PublicQuery{Types: []string{"m.space"}}, []string{"!2:a"}},
		{"untyped", PublicQuery{Types: []string{""}}, []string{"!1:a", "!4:a"}},
		{"both", PublicQuery{Types: []string{"", "m.space"}, Search: "under"}, []string{"!2:a"}},
		{"no types", PublicQuery{Types: []string{}}, nil},
		{"nul", PublicQuery{Search: "\x00"}, []string{"!4:a"}},
	}
	for _, tt := range tests {
		tt.query.Limit = 10
		got, _, total, err := d.PublicRooms(ctx, tt.query)
		var ids []string
		for _, r := range got {
			ids = append(ids, r.RoomID)
		}
		if err != nil || !reflect.DeepEqual(ids, tt.want) || total != len(tt.want) {
			t.Errorf("%s: %v (%d), %v", tt.name, ids, total, err)
		}
	}
}

func TestRoomRoundTrip(t *testing.T) { sqldbtest.Each(t, testRoomRoundTrip) }

func testRoomRoundTrip(t *testing.T) {
	d, ctx := open(t), t.Context()
	room := api.Room{
		RoomID: "!r:a", Version: "12", Type: "m.space", Name: "N", Topic: "T", CanonicalAlias: "#a:a", AvatarURL: "mxc://a/b",
		JoinRule: "knock", Encryption: "m.x", Replaced: "!n:a", WorldReadable: true, GuestCanJoin: true, Federate: true, JoinedCount: 7,
	}
	put(t, d, room)
	got, err := d.Rooms(ctx, []string{"!r:a", "!unknown:a"})
	if err != nil || len(got) != 1 || got[0] != room {
		t.Errorf("got %+v, %v", got, err)
	}
	err = d.Write(ctx, func(tx *sqldb.Tx) error {
		user := Membership{"@u:a", api.UserRoom{RoomID: "!r:a", Membership: "join", EventID: "$1"}}
		if err := d.PutMemberships(ctx, tx, []Membership{user}); err != nil {
			return err
		}
		if err := d.PutPosition(ctx, tx, 3, 9); err != nil {
			return err
		}
		return d.SetJoined(ctx, tx, map[string]int{"!r:a": 8})
	})
	if err != nil {
		t.Fatal(err)
	}
	if list, err := d.UserRooms(ctx, "@u:a"); err != nil || len(list) != 1 || list[0].EventID != "$1" {
		t.Errorf("user's rooms: %v, %v", list, err)
	}
	if seqs, err := d.Positions(ctx); err != nil || seqs[3] != 9 {
		t.Errorf("positions: %v, %v", seqs, err)
	}
	if err := d.Write(ctx, func(tx *sqldb.Tx) error { return d.PurgeRoom(ctx, tx, "!r:a") }); err != nil {
		t.Fatal(err)
	}
	if list, err := d.UserRooms(ctx, "@u:a"); err != nil || len(list) != 0 {
		t.Errorf("after purge: %v, %v", list, err)
	}
}

func TestUpgrades(t *testing.T) { sqldbtest.Each(t, testUpgrades) }

func testUpgrades(t *testing.T) {
	d, ctx := open(t), t.Context()
	up := api.Upgrade{RoomID: "!o:a", UserID: "@u:a", Version: "12", Creators: []string{"@v:a"}, EventID: "$e", Seed: "s", TS: 5}
	first, err := d.BeginUpgrade(ctx, up)
	if err != nil || !reflect.DeepEqual(first, up) {
		t.Fatal(first, err)
	}
	again := up
	again.Seed, again.TS = "other", 6
	if second, err := d.BeginUpgrade(ctx, again); err != nil || !reflect.DeepEqual(second, up) {
		t.Errorf("again: %+v, %v", second, err)
	}
	for before, want := range map[int64]int{5: 0, 6: 1} {
		if list, err := d.Upgrades(context.Background(), before, 10); err != nil || len(list) != want {
			t.Errorf("before %d: %v, %v", before, list, err)
		}
	}
	if err := d.FinishUpgrade(ctx, "!o:a"); err != nil {
		t.Fatal(err)
	}
	if list, err := d.Upgrades(ctx, 100, 10); err != nil || len(list) != 0 {
		t.Errorf("after the end: %v, %v", list, err)
	}
}
