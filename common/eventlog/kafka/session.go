package kafka

import (
	"errors"
	"math"

	"github.com/IBM/sarama"
)

// session is a fetch session (KIP-227): the broker remembers which partitions are
// asked for and from where, so that a request names only those whose offset has
// moved, and the answer only those with something new. Most partitions are quiet
// most of the time: without it, each would be in every request and answer.
type session struct {
	id    int32 // 0: none, or the broker has no room for one
	epoch int32 // of the next request
	// at is what the broker remembers.
	at map[*tail]int64
}

// request asks for what follows the offsets; whole tells that it names all.
func (s *session) request(from map[*tail]int64) (request *sarama.FetchRequest, whole bool) {
	named, whole := s.named(from)
	request = fetchRequest(fetchWait)
	request.SessionID, request.SessionEpoch = s.id, s.epoch
	if whole {
		request.SessionEpoch = 0
	}
	for _, t := range named {
		request.AddBlock(t.p.topic.name, t.p.number, from[t], fetchPartition, -1)
	}
	return request, whole
}

// named are the tails that the broker has to be told of; whole tells that it is to
// begin anew. A partition cannot be taken out of a session with sarama, so that
// too begins a new one, which ends the old.
func (s *session) named(from map[*tail]int64) (named []*tail, whole bool) {
	whole = s.id == 0
	for t := range s.at {
		if _, still := from[t]; !still {
			whole = true
			break
		}
	}
	for t, offset := range from {
		if at, known := s.at[t]; whole || !known || at != offset {
			named = append(named, t)
		}
	}
	return named, whole
}

// answered notes what the broker remembers by an answer; false when it knows
// nothing of the session any more, and has answered nothing.
func (s *session) answered(answer *sarama.FetchResponse, from map[*tail]int64) bool {
	if err := sarama.KError(answer.ErrorCode); !errors.Is(err, sarama.ErrNoError) {
		*s = session{}
		return false
	}
	if answer.SessionID != s.id || s.id == 0 {
		*s = session{id: answer.SessionID}
	}
	if s.at = from; s.epoch == math.MaxInt32 {
		s.epoch = 0
	}
	s.epoch++
	return true
}
