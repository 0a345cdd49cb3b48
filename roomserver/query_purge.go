package roomserver

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/property"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/roomserver/storage"
)

// maxLooked bounds the events looked at for one answer.
const maxLooked = 1000

// maxRetentionTypes bounds the types of one question.
const maxRetentionTypes = 4

func (s *Server) queryRetention(ctx context.Context, req *api.RetentionRequest) (*api.RetentionResponse, error) {
	if len(req.Types) > maxRetentionTypes {
		return nil, matrixerror.InvalidParam("At most %d types at once", maxRetentionTypes)
	}
	limit := min(max(req.Limit, 1), maxListedRooms)
	out := &api.RetentionResponse{}
	err := s.store.Read(ctx, func(tx *sqldb.Tx) error {
		*out = api.RetentionResponse{}
		listed, err := s.store.RoomsAfter(ctx, tx, req.Partition, req.After, limit+1)
		if err != nil {
			return err
		}
		out.More = len(listed) > limit
		listed = listed[:min(len(listed), limit)]
		contents, err := s.retentionOf(ctx, tx, listed, req.Types)
		for _, room := range listed {
			out.Rooms = append(out.Rooms, api.RoomRetention{RoomID: room.ID, Content: contents[room.ID]})
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("roomserver: retention: %w", err)
	}
	return out, nil
}

// retentionOf reads the entries of rooms' states that say how long events are kept.
func (s *Server) retentionOf(ctx context.Context, tx *sqldb.Tx, listed []*storage.Room, types []string) (map[string]jsontext.Value, error) {
	var asked []storage.Entry
	for _, room := range listed {
		for _, typ := range types {
			asked = append(asked, storage.Entry{RoomNID: room.NID, Type: typ, Seq: room.LatestSeq})
		}
	}
	found, err := s.store.StateEvents(ctx, tx, asked)
	if err != nil {
		return nil, err
	}
	out := map[string]jsontext.Value{}
	for _, room := range listed {
		for _, typ := range types {
			row := found[storage.Entry{RoomNID: room.NID, Type: typ, Seq: room.LatestSeq}]
			if row == nil {
				continue
			}
			event, err := stored(row)
			if err != nil {
				return nil, err
			}
			out[room.ID] = jsontext.Value(event.Content())
			break
		}
	}
	return out, nil
}

func (s *Server) queryPurgeable(ctx context.Context, req *api.PurgeableRequest) (*api.PurgeableResponse, error) {
	if (req.BeforeTS > 0) == (req.Before.Seq > 0) {
		return nil, matrixerror.InvalidParam("Either a time or a place says what is old")
	}
	_, row, err := s.known(ctx, req.RoomID)
	if err != nil {
		return nil, err
	}
	out := &api.PurgeableResponse{}
	var events []storage.Old
	limit := min(max(req.Limit, 1), maxLooked)
	if err := s.store.ReadOne(ctx, func(tx *sqldb.Tx) (err error) {
		switch after := req.After; {
		case req.Before.Seq > 0:
			events, err = s.store.StandingBefore(ctx, tx, row.NID, req.Before.Seq, req.Before.Sub, after.Seq, after.Sub, limit)
		case after.Others:
			events, err = s.store.OthersOlderThan(ctx, tx, row.NID, req.BeforeTS, after.Number, limit)
		default:
			events, err = s.store.OlderThan(ctx, tx, row.NID, req.BeforeTS, storage.Moment{TS: after.TS, Seq: after.Seq, Sub: after.Sub}, limit)
		}
		return err
	}); err != nil {
		return nil, fmt.Errorf("roomserver: purgeable: %w", err)
	}
	for i := range events {
		if e := &events[i]; !isState(e) && !slices.Contains(row.Extremities, e.EventID) {
			out.EventIDs = append(out.EventIDs, e.EventID)
		}
	}
	out.Next, out.More = lookedThrough(req, events, limit)
	return out, nil
}

// lookedThrough is how far a room has been looked through with these events, and
// whether that is not all.
func lookedThrough(req *api.PurgeableRequest, events []storage.Old, limit int) (next api.PurgePlace, more bool) {
	next, more = req.After, len(events) == limit
	if len(events) > 0 {
		last := &events[len(events)-1]
		switch {
		case req.After.Others:
			next.Number = last.NID
		case req.Before.Seq > 0:
			next.Seq, next.Sub = last.Seq, last.Sub
		default:
			next.TS, next.Seq, next.Sub = last.TS, last.Seq, last.Sub
		}
	}
	if !more && req.BeforeTS > 0 && req.Others && !req.After.Others {
		return api.PurgePlace{Others: true}, true
	}
	return next, more
}

// isState tells by what is read of it whether an event is one of state. In a header
// state_key stands before sender, which no change of state has.
func isState(e *storage.Old) bool {
	if e.Output == nil {
		_, state := property.Member(e.JSON, "state_key")
		return state
	}
	own, _, _ := bytes.Cut(e.Output, []byte(`,"sender":"`))
	return bytes.Contains(own, []byte(`,"state_key":`))
}
