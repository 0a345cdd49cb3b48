package clientapi

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// pathRoomID is the room ID of the path. Only its shape is checked: whether
// there is such a room is for whoever is asked next.
func pathRoomID(r *httpapi.Request) (string, error) {
	id := r.PathValue("roomId")
	if err := checkRoomID(id); err != nil {
		return "", err
	}
	return id, nil
}

func checkRoomID(id string) error {
	if len(id) < 2 || id[0] != '!' || len(id) > gomatrixserverlib.MaxIDBytes || !cleanText(id) {
		return matrixerror.InvalidParam("That is not a room ID")
	}
	return nil
}

// checkEventType refuses types and state keys that no event can have.
// spec: client-server-api §size-limits
func checkEventType(typ, stateKey string) error {
	if typ == "" {
		return matrixerror.InvalidParam("The event type is empty")
	}
	if len(typ) > gomatrixserverlib.MaxIDBytes || len(stateKey) > gomatrixserverlib.MaxIDBytes {
		return matrixerror.TooLarge("The event type or state key is longer than %d bytes", gomatrixserverlib.MaxIDBytes)
	}
	if !utf8.ValidString(typ) || !utf8.ValidString(stateKey) {
		return matrixerror.InvalidParam("The event type or state key is not UTF-8")
	}
	return nil
}

// checkTxnID bounds a transaction ID: it is stored with the event.
func checkTxnID(id string) error {
	if id == "" || len(id) > gomatrixserverlib.MaxIDBytes || !utf8.ValidString(id) {
		return matrixerror.InvalidParam("The transaction ID is empty, longer than %d bytes or not UTF-8", gomatrixserverlib.MaxIDBytes)
	}
	return nil
}

// cleanText tells whether s is UTF-8 without control characters.
func cleanText(s string) bool {
	return utf8.ValidString(s) && strings.IndexFunc(s, func(c rune) bool { return c < 0x20 || c == 0x7f }) < 0
}

// notSuspended refuses users of suspended accounts.
// spec: client-server-api §account-suspension
func notSuspended(d *httpapi.Device) error {
	if d.Suspended {
		return matrixerror.New(403, "M_USER_SUSPENDED", "You cannot do this while your account is suspended")
	}
	return nil
}

// decodeObject reads a body that is an event's content: any JSON object.
func decodeObject(r *httpapi.Request) (jsontext.Value, error) {
	body, err := r.DecodeRaw()
	if err != nil {
		return nil, err
	}
	if body.Kind() != '{' {
		return nil, matrixerror.BadJSON("The body is not a JSON object")
	}
	return body, nil
}

// readContent reads a body that is an event's content, in canonical form: one
// pass for what is right in every room version. What is not is looked at again
// for the right errcode, or for versions that allow it.
func (s *Server) readContent(r *httpapi.Request, roomID string) (jsontext.Value, error) {
	body, err := r.ReadBody()
	if err != nil {
		return nil, err
	}
	if len(body) <= gomatrixserverlib.MaxEventBytes {
		canonical, err := gomatrixserverlib.CanonicalJSON(body)
		if err == nil && len(canonical) > 0 && canonical[0] == '{' {
			return canonical, nil
		}
	}
	raw, err := decodeObject(r)
	if err != nil {
		return nil, err
	}
	return s.eventContent(r.Context(), roomID, raw)
}

// eventContent returns content in canonical form, as far as that can be told
// without asking for the room's version: what is right in every version costs
// one pass; the rest asks.
// spec: appendices §canonical-json
func (s *Server) eventContent(ctx context.Context, roomID string, content jsontext.Value) (jsontext.Value, error) {
	if len(content) > gomatrixserverlib.MaxEventBytes {
		return nil, matrixerror.TooLarge("The event is larger than %d bytes", gomatrixserverlib.MaxEventBytes)
	}
	canonical, strictErr := gomatrixserverlib.CanonicalJSON(content)
	if strictErr == nil {
		return canonical, nil
	}
	lenient, err := gomatrixserverlib.CanonicalJSONLenient(content)
	if err != nil {
		return nil, matrixerror.BadJSON("The content cannot be an event's: %v", err)
	}
	room, err := api.QueryRoom.Call(ctx, s.caller, &api.RoomRequest{RoomID: roomID})
	if err != nil {
		if matrixerror.Is(err, "M_NOT_FOUND") {
			return nil, errNotInRoom()
		}
		return nil, err
	}
	if rules := room.Version.Rules(); rules == nil || rules.StrictJSON {
		return nil, matrixerror.BadJSON("The content cannot be an event's: %v", strictErr)
	}
	return lenient, nil
}

// versionContent is eventContent where the version is known.
func versionContent(v gomatrixserverlib.RoomVersion, content jsontext.Value) (jsontext.Value, error) {
	if len(content) > gomatrixserverlib.MaxEventBytes {
		return nil, matrixerror.TooLarge("The event is larger than %d bytes", gomatrixserverlib.MaxEventBytes)
	}
	canonical := gomatrixserverlib.CanonicalJSONLenient
	if rules := v.Rules(); rules == nil || rules.StrictJSON {
		canonical = gomatrixserverlib.CanonicalJSON
	}
	out, err := canonical(content)
	if err != nil {
		return nil, matrixerror.BadJSON("The content cannot be an event's: %v", err)
	}
	return out, nil
}

// errNotInRoom is said of rooms that are unknown as of rooms that the user may
// not see, so that neither can be told from the other.
func errNotInRoom() error { return matrixerror.Forbidden("You are not in this room") }

// hideUnknown turns an unknown room into one that the user is not in.
func hideUnknown(err error) error {
	if matrixerror.Is(err, "M_NOT_FOUND") {
		return errNotInRoom()
	}
	return err
}

// eventIDResponse answers whatever made one event.
type eventIDResponse struct {
	EventID string `json:"event_id"`
}

// roomIDResponse answers joins, knocks and createRoom.
type roomIDResponse struct {
	RoomID string `json:"room_id"`
}

// errNoEvent says that an accepted verdict makes no sense.
var errNoEvent = matrixerror.New(500, "M_UNKNOWN", "The room server accepted the request without naming an event")
