package kafka

import (
	"testing"
	"time"

	"github.com/IBM/sarama"
)

// TestSession: a request names what is new to the broker, and all of it where
// there is no session, where something is not followed any more, and where the
// broker has forgotten.
func TestSession(t *testing.T) {
	topic := &topic{name: "t"}
	a, b, c := &tail{p: &partition{topic: topic}}, &tail{p: &partition{topic: topic, number: 1}}, &tail{p: &partition{topic: topic, number: 2}}
	var s session
	for i, step := range []struct {
		from  map[*tail]int64
		named int
		whole bool
		// id and fails are what the broker answers.
		id    int32
		fails sarama.KError
		epoch int32
	}{
		{map[*tail]int64{a: 1, b: 1}, 2, true, 0, sarama.ErrNoError, 0}, // it has no room for sessions
		{map[*tail]int64{a: 1, b: 1}, 2, true, 7, sarama.ErrNoError, 0},
		{map[*tail]int64{a: 1, b: 1}, 0, false, 7, sarama.ErrNoError, 1},
		{map[*tail]int64{a: 1, b: 5}, 1, false, 7, sarama.ErrNoError, 2},
		{map[*tail]int64{a: 1, b: 5, c: 0}, 1, false, 7, sarama.ErrNoError, 3},
		{map[*tail]int64{a: 2, c: 9}, 2, true, 8, sarama.ErrNoError, 0}, // without b
		{map[*tail]int64{a: 2, c: 9}, 0, false, 0, sarama.ErrFetchSessionIDNotFound, 1},
		{map[*tail]int64{a: 2, c: 9}, 2, true, 9, sarama.ErrNoError, 0},
		{map[*tail]int64{a: 3, c: 9}, 1, false, 9, sarama.ErrNoError, 1},
	} {
		if named, _ := s.named(step.from); len(named) != step.named {
			t.Errorf("step %d: %d are named, not %d", i, len(named), step.named)
		}
		request, whole := s.request(step.from)
		if whole != step.whole || request.SessionEpoch != step.epoch {
			t.Errorf("step %d: whole %v in epoch %d", i, whole, request.SessionEpoch)
		}
		if ok := s.answered(&sarama.FetchResponse{SessionID: step.id, ErrorCode: int16(step.fails)}, step.from); ok != (step.fails == sarama.ErrNoError) {
			t.Errorf("step %d: it was answered: %v", i, ok)
		}
	}
}

// TestPace: requests that follow one another closely are kept apart; others, and
// all where nothing can wait, go at once.
func TestPace(t *testing.T) {
	const gather = 10 * time.Millisecond
	now := time.Now()
	for _, c := range []struct {
		gather, apart, since, left time.Duration
	}{
		{gather, 5 * time.Millisecond, 0, gather},
		{gather, 15 * time.Millisecond, 4 * time.Millisecond, 6 * time.Millisecond},
		{gather, 15 * time.Millisecond, 30 * time.Millisecond, 0},
		{gather, 25 * time.Millisecond, 0, 0},
		{0, 0, 0, 0},
	} {
		var p pace
		p.did(c.gather, now)
		p.did(c.gather, now.Add(c.apart))
		if left := p.left(c.gather, now.Add(c.apart+c.since)); left != c.left {
			t.Errorf("%v after %v apart: a pause of %v, not %v", c.since, c.apart, left, c.left)
		}
	}
}
