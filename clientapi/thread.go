package clientapi

import (
	"bytes"
	"context"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/roomserver/api"
)

const relThread = "m.thread"

// relation is what an event's content says of another event.
type relation struct {
	RelatesTo struct {
		RelType string `json:"rel_type"`
		EventID string `json:"event_id"`
	} `json:"m.relates_to"`
}

// relationTo reads it; nothing of what is malformed.
func relationTo(content jsontext.Value) (is relation) {
	if json.Unmarshal(content, &is) != nil {
		return relation{}
	}
	return is
}

// checkThread refuses an event that would start a thread at one that relates to
// another event itself: an edit, a reaction, part of another thread. A reply is
// none of these and may have a thread. Other events cost one look at their bytes.
// spec: client-server-api §validation-of-mthread-relationships
func (s *Server) checkThread(ctx context.Context, d *httpapi.Device, roomID string, content jsontext.Value) error {
	if !bytes.Contains(content, []byte(relThread)) {
		return nil
	}
	is := relationTo(content).RelatesTo
	if is.RelType != relThread || is.EventID == "" {
		return nil
	}
	res, err := api.QueryEvents.Call(ctx, s.caller, &api.EventsRequest{RoomID: roomID, EventIDs: []string{is.EventID}, Viewer: d.UserID})
	if err != nil {
		return hideUnknown(err)
	}
	for _, root := range res.Events {
		if root.EventID() == is.EventID && relationTo(root.Content()).RelatesTo.RelType != "" {
			return matrixerror.New(400, "M_UNKNOWN", "No thread can start at an event that relates to another one")
		}
	}
	return nil
}

const (
	// mainThread is what is in no thread.
	mainThread = "main"
	// maxThreadHops is how many relations are followed from an event to a thread.
	maxThreadHops = 3
)

// checkInThread refuses a receipt for an event that is not in the thread that it
// names. A thread's root, which is in the main timeline, may be read in either. What
// is not known (yet), or was redacted and relates to nothing since, may be in any.
// spec: client-server-api §threaded-read-receipts
func (s *Server) checkInThread(ctx context.Context, d *httpapi.Device, roomID, eventID, thread string) error {
	for range 1 + maxThreadHops {
		if eventID == thread {
			return nil
		}
		res, err := api.QueryEvents.Call(ctx, s.caller, &api.EventsRequest{RoomID: roomID, EventIDs: []string{eventID}, Viewer: d.UserID})
		if err != nil {
			return hideUnknown(err)
		}
		if len(res.Events) == 0 || res.Events[0].RedactedBy != "" {
			return nil
		}
		is := relationTo(res.Events[0].Content()).RelatesTo
		in := mainThread
		switch {
		case is.EventID == "" || is.RelType == "":
		case is.RelType == relThread:
			in = is.EventID
		default:
			eventID = is.EventID
			continue
		}
		if in != thread {
			return matrixerror.InvalidParam("The event is not in that thread")
		}
		return nil
	}
	return nil
}
