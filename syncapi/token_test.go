package syncapi

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/matrix-org/dendrite/common/eventlog"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

func testShape() *vector { return newVector(16, 4, 1, 77) }

func TestTokens(t *testing.T) {
	v := testShape()
	for i := range v.rooms {
		v.rooms[i] = int64(i) * 1_000_000_007
	}
	v.users[2], v.eph[0] = 5, math.MaxInt32
	text := v.String()
	if len(text) >= 300 {
		t.Errorf("token has %d characters", len(text))
	}
	back, err := parseVector(text, testShape())
	if err != nil || !back.covers(v) || !v.covers(back) || back.ephID != v.ephID {
		t.Fatalf("%v: %v", err, back)
	}
	if _, err := parseVector(text, newVector(16, 8, 1, 77)); err == nil {
		t.Error("a token of another shape is taken")
	}
	largest := testShape()
	for i := range largest.rooms {
		largest.rooms[i] = 1 << 40
	}
	if n := len(largest.String()); n >= 300 {
		t.Errorf("a token after 10^12 events has %d characters", n)
	}
}

func TestTimelineTokens(t *testing.T) {
	const room = "!a:test"
	p := eventlog.PartitionFor(room, 16)
	for _, pos := range []roomapi.Position{{Partition: p}, {Partition: p, Seq: 5}, {Partition: p, Seq: 9, Sub: -3}} {
		got, err := parsePoint(timelineToken(pos), room, testShape())
		if err != nil || got != pos {
			t.Errorf("%v: %v, %v", pos, got, err)
		}
	}
	v := testShape()
	v.rooms[p] = 12
	if got, err := parsePoint(v.String(), room, testShape()); err != nil || got.Seq != 12 || got.Partition != p {
		t.Errorf("sync token: %v, %v", got, err)
	}
	for _, bad := range []string{"t", "t1_2", "t1_2_3_4", "t-1_2_0", "t01_2_0", "tx_2_0", timelineToken(roomapi.Position{Partition: 1024, Seq: 3}),
		timelineToken(roomapi.Position{Partition: p, Seq: 3, Sub: 1}), "t99999999999999999999_1_0"} {
		if _, err := parsePoint(bad, room, testShape()); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestVectorOrder(t *testing.T) {
	a, b := testShape(), testShape()
	b.rooms[1] = 1
	if a.covers(b) || !b.covers(a) {
		t.Error("rooms are not compared")
	}
	a.rooms[1], a.eph[0], b.eph[0] = 2, 1, 9
	if a.covers(b) {
		t.Error("ephemeral positions of one incarnation are not compared")
	}
	b.ephID++
	if !a.covers(b) {
		t.Error("positions of another incarnation are waited for")
	}
	if b.sinceEph(0, a.ephID) != 0 || b.sinceEph(0, b.ephID) != 9 || b.sinceEph(7, b.ephID) != 0 {
		t.Error("sinceEph")
	}
}

// TestRepartitionedTokens: a token from before the topic had another number of
// partitions means the same for every room.
func TestRepartitionedTokens(t *testing.T) {
	const begin = 1000 // above all that there was
	old, shape := testShape(), newVector(5, 4, 1, 77)
	for i := range old.rooms {
		old.rooms[i] = int64(100 + i)
	}
	for i := range shape.rooms {
		shape.rooms[i] = begin
	}
	token, err := parseVector(old.String(), shape)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		room := fmt.Sprintf("!%d:test", i)
		want := int64(100 + eventlog.PartitionFor(room, 16))
		if got := token.of(room, eventlog.PartitionFor(room, 5), 5); got != want {
			t.Fatalf("%s: %d, was %d", room, got, want)
		}
		point, err := parsePoint(old.String(), room, shape)
		if err != nil || point.Seq != want || point.Partition != eventlog.PartitionFor(room, 5) {
			t.Fatalf("%s: %v, %v", room, point, err)
		}
		if got := shape.of(room, eventlog.PartitionFor(room, 5), 5); got != begin {
			t.Fatalf("%s: a new token says %d", room, got)
		}
	}
	if !shape.covers(token) || token.covers(shape) {
		t.Error("the new positions are above the old ones")
	}
	shape.rooms[3] = 50
	if shape.covers(token) {
		t.Error("a forged token is taken for one of before")
	}
	if got := timelineToken(roomapi.Position{Partition: 13, Seq: 9}); !strings.HasPrefix(got, "t13_") {
		t.Error(got)
	} else if _, err := parsePoint(got, "!a:test", shape); err != nil {
		t.Error(err)
	}
}

func FuzzToken(f *testing.F) {
	f.Add(testShape().String())
	f.Add("t3_17_-2")
	f.Add("s____")
	f.Fuzz(func(t *testing.T, text string) {
		if v, err := parseVector(text, testShape()); err == nil {
			again, err := parseVector(v.String(), testShape())
			if err != nil || !again.covers(v) || !v.covers(again) {
				t.Fatalf("%q does not come back", text)
			}
		}
		if pos, err := parsePoint(text, "!a:test", testShape()); err == nil && (pos.Seq < 0 || pos.Sub > 0) {
			t.Fatalf("%q gives %v", text, pos)
		}
	})
}
