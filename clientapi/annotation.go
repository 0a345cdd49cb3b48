package clientapi

import (
	"context"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	directory "github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// checkAnnotation refuses a reaction that its sender has sent already; a retry
// of the transaction that sent it is none. Events that annotate nothing cost
// one look at their bytes.
// spec: client-server-api §avoiding-duplicate-annotations
func (s *Server) checkAnnotation(ctx context.Context, d *httpapi.Device, roomID, typ, txnID string, content jsontext.Value) error {
	is, ok := directory.ParseAnnotation(content)
	if !ok {
		return nil
	}
	want, err := s.headOf(ctx, roomID)
	if err != nil {
		return err
	}
	found, err := directory.QueryAnnotation.Call(ctx, s.caller, &directory.AnnotationRequest{
		RoomID: roomID, EventID: is.EventID, Sender: d.UserID, Type: typ, Key: is.Key, AtLeast: want,
	})
	if err != nil || found.EventID == "" {
		return err
	}
	events, err := api.QueryEvents.Call(ctx, s.caller, &api.EventsRequest{RoomID: roomID, EventIDs: []string{found.EventID}})
	if err != nil {
		return hideUnknown(err)
	}
	for _, e := range events.Events {
		if e.Device == d.DeviceID && e.TxnID == txnID {
			return nil
		}
	}
	return matrixerror.New(400, "M_DUPLICATE_ANNOTATION", "You have sent this reaction already")
}

// headOf is what a view has to have applied that shows all that was acknowledged
// in a room, whatever happens in others.
func (s *Server) headOf(ctx context.Context, roomID string) ([]int64, error) {
	heads, err := api.QueryHeads.Call(ctx, s.caller, &api.HeadsRequest{RoomID: roomID})
	if err != nil {
		return nil, err
	}
	want := make([]int64, len(heads.Seqs))
	if len(want) > 0 {
		p := eventlog.PartitionFor(roomID, len(want))
		want[p] = heads.Seqs[p]
	}
	return want, nil
}
