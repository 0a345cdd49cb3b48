package syncapi

// skipTo goes on at a Seq: what is missing before it was given up by who
// publishes the topic, and what is current follows.
func (s *source) skipTo(seq int64) {
	s.seq = max(s.seq, seq-1)
	for held := range s.held {
		if held < seq {
			delete(s.held, held)
		}
	}
}
