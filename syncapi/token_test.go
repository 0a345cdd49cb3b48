package syncapi

import (
	"math"
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
	if _, err := parseVector(text, newVector(8, 4, 1, 77)); err == nil {
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
	for _, bad := range []string{"t", "t1_2", "t1_2_3_4", "t-1_2_0", "t01_2_0", "tx_2_0", timelineToken(roomapi.Position{Partition: p + 1, Seq: 3}),
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
