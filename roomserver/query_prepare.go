package roomserver

import (
	"context"
	"errors"
	"fmt"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// queryPrepare builds an event as it would be sent now; whether it is accepted
// is decided when it is logged.
func (s *Server) queryPrepare(ctx context.Context, req *api.PrepareRequest) (*api.PrepareResponse, error) {
	r, row, err := s.known(ctx, req.RoomID)
	if err != nil {
		return nil, err
	}
	w := newWork(s, req.RoomID, row.Partition)
	w.ctx, w.room, w.version = ctx, r, gomatrixserverlib.RoomVersion(row.Version)
	w.layer = newLayer(row, ref{seq: row.StateSeq}, nil)
	trial := newLayer(row, w.current, nil)
	w.trial = &trial
	if err := w.fetchAuth(&req.Proto); err != nil {
		return nil, asMatrixError(err)
	}
	event, err := w.build(&api.InputRecord{TS: req.TS, RequestID: fmt.Sprint("prepare", req.TS)}, &req.Proto, 0)
	if err != nil || w.err != nil {
		return nil, asMatrixError(errors.Join(err, w.err))
	}
	if event, err = event.Sign(s.serverName, s.key); err != nil {
		return nil, fmt.Errorf("roomserver: prepare: %w", err)
	}
	auth, err := s.loadEvents(ctx, event.AuthEventIDs())
	return &api.PrepareResponse{RoomVersion: w.version, Event: &api.StoredEvent{Event: event, Outlier: true}, AuthEvents: auth}, err
}

// fetchAuth reads what authorising a proto needs, as the room was at the work's
// row: the room may go on meanwhile.
func (w *work) fetchAuth(p *api.Proto) error {
	keys, err := gomatrixserverlib.AuthKeys(w.version, p.Type, p.Sender, p.StateKey, p.Content)
	if err != nil {
		return &refusal{status: 400, code: "M_BAD_JSON", message: err.Error()}
	}
	keys = append(keys, gomatrixserverlib.StateKey{Type: "m.room.create"})
	entries, err := w.s.currentState(w.ctx, w.room, w.row, &api.StateRequest{RoomID: w.roomID, Keys: keys})
	for _, key := range keys {
		w.fetched[key] = entries[key]
	}
	return err
}

// asMatrixError makes a refusal what callers get.
func asMatrixError(err error) error {
	var refused *refusal
	if errors.As(err, &refused) {
		return matrixerror.New(refused.status, refused.code, "%s", refused.message)
	}
	return fmt.Errorf("roomserver: %w", err)
}
