package searchapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/matrix-org/dendrite/common/matrixerror"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/searchapi/storage"
	"github.com/matrix-org/dendrite/searchapi/words"
)

const (
	// historyEvents is how many events of a room's history are indexed at once.
	historyEvents = 1000
	// sweepEvents is how many events of a purged room are removed at once.
	sweepEvents = 500
	// staleTexts is how many texts are read at once.
	staleTexts = 100
	// tendEvery is how often it is looked for work that nobody told of: another
	// instance's, which has died.
	tendEvery = 10 * time.Second
	// tendRetry is the pause after something failed.
	tendRetry = time.Second
)

// begin has a partition's history read, and what comes from now on indexed: the
// index lacks records of before.
func (s *Server) begin(ctx context.Context, partition int) error {
	heads, err := roomapi.Heads(ctx, s.caller, false)
	if err != nil {
		return fmt.Errorf("searchapi: heads: %w", err)
	}
	var seq int64
	if partition < len(heads) {
		seq = heads[partition]
	}
	if err := s.db.Begin(ctx, partition, seq); err != nil {
		return fmt.Errorf("searchapi: begin a history: %w", err)
	}
	s.applied[partition] = seq
	s.progress.Advance(map[int]int64{partition: seq})
	s.stir()
	return nil
}

// stir says that there may be something to do.
func (s *Server) stir() {
	select {
	case s.work <- struct{}{}:
	default:
	}
}

// tend does what is to be done beside what comes, of the partitions of this
// instance, until ctx is done.
func (s *Server) tend(ctx context.Context) {
	for ctx.Err() == nil {
		some, err := s.tendOnce(ctx)
		wait := tendEvery
		switch {
		case err != nil && ctx.Err() == nil:
			s.logger.WithError(err).Warn("Indexing history stands still")
			wait = tendRetry
		case some:
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-s.work:
		}
		timer.Stop()
	}
}

// tendOnce does a part of that; it tells whether there may be more.
func (s *Server) tendOnce(ctx context.Context) (some bool, err error) {
	partitions := s.owned()
	if len(partitions) == 0 {
		s.metrics.histories.Set(0)
		return false, nil
	}
	stale, err := s.db.Stale(ctx, partitions, staleTexts)
	if err == nil && len(stale) > 0 {
		return true, s.refresh(ctx, partitions, stale)
	}
	if err == nil {
		some, err = s.db.Sweep(ctx, partitions, sweepEvents)
	}
	if err != nil || some {
		return some, err
	}
	histories, err := s.db.Histories(ctx, partitions)
	s.metrics.histories.Set(float64(len(histories)))
	if err != nil || len(histories) == 0 {
		return false, err
	}
	err = s.readOn(ctx, histories[0])
	if errors.Is(err, storage.ErrMoved) {
		err = nil
	}
	return true, err
}

// refresh reads the texts of events.
func (s *Server) refresh(ctx context.Context, partitions []int64, list []storage.Stale) error {
	texts, err := s.texts(ctx, list)
	if err != nil {
		return fmt.Errorf("searchapi: texts: %w", err)
	}
	numbers := make([]int, len(partitions))
	for i, p := range partitions {
		numbers[i] = int(p)
	}
	return s.db.Refresh(ctx, numbers, list, texts, s.partition)
}

// texts reads the terms of the newest texts of events from the room server, by the
// events that have them; none of those that are not there any more.
func (s *Server) texts(ctx context.Context, list []storage.Stale) (map[string][]string, error) {
	ids := map[string][]string{}
	out := map[string][]string{}
	for _, e := range list {
		if e.TextID != "" {
			ids[e.RoomID] = append(ids[e.RoomID], e.TextID)
			out[e.TextID] = nil
		}
	}
	for roomID, of := range ids {
		res, err := roomapi.QueryEvents.Call(ctx, s.caller, &roomapi.EventsRequest{RoomID: roomID, EventIDs: of})
		if matrixerror.Is(err, "M_NOT_FOUND") {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range res.Events {
			if t, ok := textOf(e.Event); ok {
				out[e.EventID()] = words.Terms(t.text)
			}
		}
	}
	return out, nil
}

// readOn reads some more of a history.
func (s *Server) readOn(ctx context.Context, h storage.History) error {
	roomID := h.RoomID
	if roomID == "" {
		page, err := roomapi.QueryRooms.Call(ctx, s.caller, &roomapi.RoomsRequest{Partition: h.Partition, After: h.AfterRoom, Limit: 1})
		if err != nil {
			return fmt.Errorf("searchapi: rooms: %w", err)
		}
		if len(page.Rooms) == 0 {
			return s.db.Finish(ctx, h)
		}
		roomID = page.Rooms[0].RoomID
	}
	to := h
	to.AfterRoom, to.RoomID, to.AtSeq, to.AtSub = roomID, "", 0, 0
	res, err := roomapi.QueryHistory.Call(ctx, s.caller, &roomapi.HistoryRequest{RoomID: roomID, Limit: historyEvents,
		From: roomapi.Position{Partition: h.Partition, Seq: h.AtSeq, Sub: h.AtSub}, To: roomapi.Position{Partition: h.Partition, Seq: max(h.ToSeq, 1)}})
	if matrixerror.Is(err, "M_NOT_FOUND") {
		return s.db.Advance(ctx, h, to, roomID, storage.NewChanges(s.partition)) // purged
	}
	if err != nil {
		return fmt.Errorf("searchapi: history: %w", err)
	}
	d := newDraft(s.partition)
	for _, e := range res.Events {
		if keyOf(e.Type(), e.StateKey()) != 0 && (e.RedactedBy != "" || !d.add(e.Event, e.Position.Seq, e.HistoryVisibility)) {
			d.drop(e.EventID(), h.Partition)
		}
	}
	if res.More {
		to = h
		to.RoomID, to.AtSeq, to.AtSub = roomID, res.Next.Seq, res.Next.Sub
	}
	if err := s.db.Advance(ctx, h, to, roomID, d.last()); err != nil {
		return fmt.Errorf("searchapi: index a history: %w", err)
	}
	s.metrics.history.Add(float64(len(res.Events)))
	return nil
}
