package clientapi

import (
	"context"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

const (
	// maxReportReason bounds what users say of a report, in bytes.
	maxReportReason = 4000
	// A report of a room or a user is answered at a random time within these, so
	// that it does not tell whether there is such a room or user.
	minReportDelay, maxReportDelay = 50 * time.Millisecond, 300 * time.Millisecond
)

// reportEndpoints list how users tell administrators of what they have seen.
// Suspended users may do so as well.
func (s *Server) reportEndpoints() []httpapi.Endpoint {
	post := func(path string, h httpapi.Handler) httpapi.Endpoint {
		return httpapi.Endpoint{Method: "POST", Path: v3 + path, Access: httpapi.User, Limit: httpapi.LimitMessage, MaxBody: 4 * maxReportReason, Handler: h}
	}
	return []httpapi.Endpoint{
		post("/rooms/{roomId}/report", s.reportRoom),
		post("/rooms/{roomId}/report/{eventId}", s.reportEvent),
		post("/users/{userId}/report", s.reportUser),
	}
}

// reportReason reads the body of a report.
func reportReason(r *httpapi.Request, needed bool) (string, error) {
	var body map[string]jsontext.Value
	if err := r.Decode(&body); err != nil {
		return "", err
	}
	raw, ok := body["reason"]
	switch {
	case !ok && needed:
		return "", matrixerror.MissingParam("reason is missing; it may be empty")
	case !ok:
		return "", nil
	case raw.Kind() != '"':
		return "", matrixerror.BadJSON("reason is not a string")
	}
	text, err := jsontext.AppendUnquote(nil, raw)
	if err != nil {
		return "", matrixerror.BadJSON("reason is not a string")
	}
	if len(text) > maxReportReason {
		return "", matrixerror.TooLarge("The reason is longer than %d bytes", maxReportReason)
	}
	return strings.ReplaceAll(string(text), "\x00", ""), nil // PostgreSQL stores none
}

// reportEvent serves POST /rooms/{roomId}/report/{eventId}: of events that the
// user, who must be in the room, may see. All else does not exist.
// spec: client-server-api §post_matrixclientv3roomsroomidreporteventid
func (s *Server) reportEvent(r *httpapi.Request) (any, error) {
	ctx, reporter := r.Context(), r.Device.UserID
	roomID, err := pathRoomID(r)
	if err != nil {
		return nil, err
	}
	eventID := r.PathValue("eventId")
	reason, err := reportReason(r, false)
	if err != nil {
		return nil, err
	}
	unknown := matrixerror.NotFound("The event was not found, or you are not in its room")
	if len(eventID) > gomatrixserverlib.MaxIDBytes || !cleanText(eventID) {
		return nil, unknown
	}
	membership, err := s.membership(ctx, roomID, reporter)
	if err != nil && !matrixerror.Is(err, "M_NOT_FOUND") {
		return nil, err
	}
	if membership != "join" {
		return nil, unknown
	}
	res, err := api.QueryEvents.Call(ctx, s.caller, &api.EventsRequest{RoomID: roomID, EventIDs: []string{eventID}, Viewer: reporter})
	if err != nil && !matrixerror.Is(err, "M_NOT_FOUND") {
		return nil, err
	}
	if err != nil || len(res.Events) == 0 {
		return nil, unknown
	}
	return nil, s.report(ctx, userapi.Report{Kind: userapi.ReportEvent, Reporter: reporter, RoomID: roomID, EventID: eventID,
		UserID: res.Events[0].Sender(), Reason: reason})
}

func (s *Server) report(ctx context.Context, report userapi.Report) error {
	_, err := userapi.PutReport.Call(ctx, s.caller, &report)
	return err
}

// reportRoom serves POST /rooms/{roomId}/report. Nobody has to be in the room,
// and the answer does not tell whether there is one.
// spec: client-server-api §post_matrixclientv3roomsroomidreport
func (s *Server) reportRoom(r *httpapi.Request) (any, error) {
	roomID, err := pathRoomID(r)
	if err != nil {
		return nil, err
	}
	return s.reportQuietly(r, userapi.Report{Kind: userapi.ReportRoom, RoomID: roomID}, func(ctx context.Context) error {
		if _, err := api.QueryRoom.Call(ctx, s.caller, &api.RoomRequest{RoomID: roomID}); !matrixerror.Is(err, "M_NOT_FOUND") {
			return err
		}
		// An invite is all that is known of a room that nobody of ours is in.
		rooms, err := s.roomsOf(ctx, r.Device.UserID, nil)
		if err != nil {
			return err
		}
		for _, room := range rooms {
			if room.RoomID == roomID {
				return nil
			}
		}
		return matrixerror.NotFound("There is no such room")
	})
}

// reportUser serves POST /users/{userId}/report.
// spec: client-server-api §post_matrixclientv3usersuseridreport
func (s *Server) reportUser(r *httpapi.Request) (any, error) {
	userID := r.PathValue("userId")
	if err := checkUserID(userID); err != nil {
		return nil, err
	}
	return s.reportQuietly(r, userapi.Report{Kind: userapi.ReportUser, UserID: userID}, func(ctx context.Context) error {
		_, err := userapi.QueryAccount.Call(ctx, s.caller, &userapi.AccountRequest{UserID: userID})
		return err
	})
}

// reportQuietly stores a report of what is there, and answers the same, as late,
// about what is not.
func (s *Server) reportQuietly(r *httpapi.Request, report userapi.Report, exists func(context.Context) error) (any, error) {
	ctx := r.Context()
	at := time.NewTimer(minReportDelay + rand.N(maxReportDelay-minReportDelay))
	defer at.Stop()
	var err error
	if report.Reason, err = reportReason(r, true); err != nil {
		return nil, err
	}
	report.Reporter = r.Device.UserID
	if err = exists(ctx); err == nil {
		err = s.report(ctx, report)
	}
	if err != nil && !matrixerror.Is(err, "M_NOT_FOUND") {
		return nil, err
	}
	select {
	case <-at.C:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
