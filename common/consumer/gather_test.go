package consumer

import (
	"testing"
	"time"

	"github.com/matrix-org/dendrite/common/eventlog"
)

// TestGather: who has a part of the partitions pauses for as much longer, and who
// gets records one by one, or shares them with nobody, not at all.
func TestGather(t *testing.T) {
	for _, c := range []struct {
		gather time.Duration
		owned  int
		recent float64
		sole   bool
		want   time.Duration
	}{
		{3 * time.Millisecond, 16, 2, false, 3 * time.Millisecond},
		{3 * time.Millisecond, 8, 2, false, 6 * time.Millisecond},
		{3 * time.Millisecond, 4, 2, false, 12 * time.Millisecond},
		{3 * time.Millisecond, 1, 2, false, maxGather},
		{3 * time.Millisecond, 16, 1, false, 0},
		{3 * time.Millisecond, 16, 2, true, 0},
		{3 * time.Millisecond, 0, 2, false, 0},
		{0, 16, 2, false, 0},
	} {
		consumer := &Consumer{o: Options{Gather: c.gather, GatherMost: maxGather, Topic: eventlog.TopicInfo{Partitions: 16}}, recent: c.recent, sole: c.sole, owned: map[int]*partition{}}
		for p := range c.owned {
			consumer.owned[p] = &partition{}
		}
		if got := consumer.pause(); got != c.want {
			t.Errorf("%+v: a pause of %v", c, got)
		}
	}
}
