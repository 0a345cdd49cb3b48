package roomserver

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/roomserver/api"
)

const (
	// maxBatchBytes bounds the events of all answers to a batch of questions.
	maxBatchBytes = 8 << 20
	// batchOverhead is about what travels of an event beside its JSON.
	batchOverhead = 200
	// batchAtOnce is how many of a batch's questions are answered at a time: each
	// may take a connection to the database.
	batchAtOnce = 4
)

// queryBatch answers questions about many rooms, as far as they have answers that
// are not too large together.
func (s *Server) queryBatch(ctx context.Context, req *api.BatchRequest) (*api.BatchResponse, error) {
	if req.Len() > api.MaxBatch {
		return nil, matrixerror.InvalidParam("At most %d questions at once", api.MaxBatch)
	}
	out := &api.BatchResponse{
		States: make([]*api.StateResponse, len(req.States)), Histories: make([]*api.HistoryResponse, len(req.Histories)),
		Events: make([]*api.EventsResponse, len(req.Events)),
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(batchAtOnce)
	var left atomic.Int64
	left.Store(maxBatchBytes)
	for i, q := range req.States {
		group.Go(func() error {
			return oneOf(ctx, &left, q, s.queryState, func(r *api.StateResponse) int64 { return bytesOf(r.Events) + int64(len(r.IDs)*batchOverhead) }, &out.States[i])
		})
	}
	for i, q := range req.Histories {
		group.Go(func() error {
			return oneOf(ctx, &left, q, s.queryHistory, func(r *api.HistoryResponse) int64 { return bytesOf(r.Events) }, &out.Histories[i])
		})
	}
	for i, q := range req.Events {
		group.Go(func() error {
			return oneOf(ctx, &left, q, s.queryEvents, func(r *api.EventsResponse) int64 { return bytesOf(r.Events) }, &out.Events[i])
		})
	}
	return out, group.Wait()
}

func bytesOf(events []*api.StoredEvent) (n int64) {
	for _, e := range events {
		n += int64(batchOverhead + len(e.JSON()))
	}
	return n
}

// oneOf answers one question of a batch, unless too much has been answered
// already. A panic is an error, as in a call of its own.
func oneOf[Req, Res any](ctx context.Context, left *atomic.Int64, req *Req, answer func(context.Context, *Req) (*Res, error), size func(*Res) int64, to **Res) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("roomserver: panic: %v\n%s", p, debug.Stack())
		}
	}()
	if req == nil || left.Load() <= 0 {
		return nil
	}
	res, err := answer(ctx, req)
	switch {
	case matrixerror.From(err) != nil:
		return nil // it is said to who asks that alone
	case err != nil:
		return err
	}
	if left.Add(-size(res)) >= 0 {
		*to = res
	}
	return nil
}
