package api

// MaxBatch is how many questions a BatchRequest may hold.
const MaxBatch = 200

// BatchRequest asks about many rooms at once. It goes where its first question
// would: rooms of one instance belong together (rpc.Place).
type BatchRequest struct {
	States    []*StateRequest
	Histories []*HistoryRequest
	Events    []*EventsRequest
}

// Len is how many questions it holds.
func (r *BatchRequest) Len() int { return len(r.States) + len(r.Histories) + len(r.Events) }

// RoutingKey implements rpc.Routed.
func (r *BatchRequest) RoutingKey() string {
	switch {
	case len(r.States) > 0:
		return r.States[0].RoomID
	case len(r.Histories) > 0:
		return r.Histories[0].RoomID
	case len(r.Events) > 0:
		return r.Events[0].RoomID
	}
	return ""
}

// BatchResponse holds an answer in the place of each question. It is nil where
// that has none, for instance because nobody knows the room, and where the answers
// together would be too large: such a question is to be asked by itself.
type BatchResponse struct {
	States    []*StateResponse
	Histories []*HistoryResponse
	Events    []*EventsResponse
}
