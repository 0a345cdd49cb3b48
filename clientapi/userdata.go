package clientapi

import (
	"context"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/filters"
	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

func (s *Server) userDataEndpoints() []httpapi.Endpoint {
	const user, room = v3 + "/user/{userId}", v3 + "/rooms/{roomId}"
	e := func(method, path string, access httpapi.Access, h httpapi.Handler) httpapi.Endpoint {
		return httpapi.Endpoint{Method: method, Path: path, Access: access, Limit: httpapi.LimitRequest, Handler: h}
	}
	return []httpapi.Endpoint{
		e("GET", v3+"/profile/{userId}", httpapi.Public, s.getProfile),
		e("GET", v3+"/profile/{userId}/{keyName}", httpapi.Public, s.getProfileField),
		e("PUT", v3+"/profile/{userId}/{keyName}", httpapi.Guest, s.putProfileField),
		e("DELETE", v3+"/profile/{userId}/{keyName}", httpapi.Guest, s.deleteProfileField),
		e("GET", user+"/account_data/{type}", httpapi.User, s.getAccountData),
		e("PUT", user+"/account_data/{type}", httpapi.User, s.putAccountData),
		e("GET", user+"/rooms/{roomId}/account_data/{type}", httpapi.User, s.getAccountData),
		e("PUT", user+"/rooms/{roomId}/account_data/{type}", httpapi.User, s.putAccountData),
		e("GET", user+"/rooms/{roomId}/tags", httpapi.User, s.getTags),
		e("PUT", user+"/rooms/{roomId}/tags/{tag}", httpapi.User, s.putTag),
		e("DELETE", user+"/rooms/{roomId}/tags/{tag}", httpapi.User, s.deleteTag),
		e("POST", user+"/filter", httpapi.User, s.postFilter),
		e("GET", user+"/filter/{filterId}", httpapi.User, s.getFilter),
		e("POST", user+"/openid/request_token", httpapi.User, s.postOpenID),
		e("GET", v3+"/presence/{userId}/status", httpapi.User, s.getPresence),
		e("PUT", v3+"/presence/{userId}/status", httpapi.User, s.putPresence),
		e("PUT", room+"/typing/{userId}", httpapi.User, s.putTyping),
		e("POST", room+"/receipt/{receiptType}/{eventId}", httpapi.User, s.postReceipt),
		e("POST", room+"/read_markers", httpapi.User, s.postReadMarkers),
	}
}

// Bounds of what is stored for users, in bytes.
const (
	maxAccountDataBytes = 64 << 10
	maxTagBytes         = 16 << 10
	maxProfileKey       = 255
	maxProfileName      = 256
	maxProfileURL       = 1000
)

// ownPath checks that the user of the path is who calls.
func ownPath(r *httpapi.Request) error {
	if r.PathValue("userId") != r.Device.UserID {
		return matrixerror.Forbidden("That is somebody else's")
	}
	return nil
}

// getProfile serves GET /profile/{userId}.
func (s *Server) getProfile(r *httpapi.Request) (any, error) {
	profile, err := s.profileOf(r.Context(), r.PathValue("userId"))
	if err != nil {
		return nil, err
	}
	return profile.Fields, nil
}

func (s *Server) profileOf(ctx context.Context, userID string) (*userapi.ProfileResponse, error) {
	if err := checkUserID(userID); err != nil {
		return nil, err
	}
	return userapi.QueryProfile.Call(ctx, s.caller, &userapi.ProfileRequest{UserID: userID})
}

// getProfileField serves GET /profile/{userId}/{keyName}.
func (s *Server) getProfileField(r *httpapi.Request) (any, error) {
	profile, err := s.profileOf(r.Context(), r.PathValue("userId"))
	if err != nil {
		return nil, err
	}
	key := r.PathValue("keyName")
	value, ok := profile.Fields[key]
	if !ok {
		return nil, matrixerror.NotFound("The profile has no such field")
	}
	return map[string]jsontext.Value{key: value}, nil
}

// profilePath reads the path of a change of one's own profile. Guests have but
// a name.
// spec: client-server-api §guest-access
func profilePath(r *httpapi.Request) (key string, err error) {
	key = r.PathValue("keyName")
	if len(key) > maxProfileKey {
		return "", matrixerror.New(400, "M_KEY_TOO_LARGE", "The field's name is longer than %d bytes", maxProfileKey)
	}
	if key != "displayname" && key != "avatar_url" && key != "m.tz" && !namespaced(key) {
		return "", matrixerror.InvalidParam("That is not the name of a profile field")
	}
	if r.Device.IsGuest && key != "displayname" {
		return "", matrixerror.New(403, "M_GUEST_ACCESS_FORBIDDEN", "Guests may change their display name only")
	}
	return key, ownPath(r)
}

// namespaced tells whether a key has the form org.example.key.
// spec: appendices §common-namespaced-identifier-grammar
func namespaced(key string) bool {
	dots := 0
	for i, part := range strings.Split(key, ".") {
		if part == "" || part[0] < 'a' || part[0] > 'z' {
			return false
		}
		for _, c := range []byte(part) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
				return false
			}
		}
		dots = i
	}
	return dots > 0
}

// putProfileField serves PUT /profile/{userId}/{keyName}.
// spec: client-server-api §profiles
func (s *Server) putProfileField(r *httpapi.Request) (any, error) {
	key, err := profilePath(r)
	if err != nil {
		return nil, err
	}
	var body map[string]jsontext.Value
	if err := r.Decode(&body); err != nil {
		return nil, err
	}
	value, ok := body[key]
	if !ok {
		return nil, matrixerror.MissingParam("%s is missing", key)
	}
	if key == "m.tz" && value.Kind() != '"' {
		return nil, matrixerror.BadJSON("m.tz is not the name of a time zone")
	}
	if key == "displayname" || key == "avatar_url" {
		limit := maxProfileName
		if key == "avatar_url" {
			limit = maxProfileURL
		}
		switch {
		case value.Kind() == 'n':
			value = nil
		case value.Kind() != '"':
			return nil, matrixerror.BadJSON("%s is not a string", key)
		case len(value) > limit+2:
			return nil, matrixerror.InvalidParam("%s is longer than %d bytes", key, limit)
		}
	}
	return nil, s.changeProfile(r, key, value)
}

// deleteProfileField serves DELETE /profile/{userId}/{keyName}.
func (s *Server) deleteProfileField(r *httpapi.Request) (any, error) {
	key, err := profilePath(r)
	if err != nil {
		return nil, err
	}
	return nil, s.changeProfile(r, key, nil)
}

func (s *Server) changeProfile(r *httpapi.Request, key string, value jsontext.Value) error {
	if err := notSuspended(r.Device); err != nil {
		return err
	}
	propagate, err := r.QueryBool("org.matrix.msc4069.propagate", true)
	if err != nil {
		return err
	}
	_, err = userapi.PutProfile.Call(r.Context(), s.caller, &userapi.PutProfileRequest{UserID: r.Device.UserID, Field: key, Value: value, Quiet: !propagate})
	if err == nil {
		s.hurryJobs()
	}
	return err
}

// accountDataPath reads the path of account data: the room is "" for global.
func accountDataPath(r *httpapi.Request) (roomID, typ string, err error) {
	if err := ownPath(r); err != nil {
		return "", "", err
	}
	if r.PathValue("roomId") != "" {
		if roomID, err = pathRoomID(r); err != nil {
			return "", "", err
		}
	}
	typ = r.PathValue("type")
	return roomID, typ, checkEventType(typ, "")
}

// getAccountData serves GET of account data.
func (s *Server) getAccountData(r *httpapi.Request) (any, error) {
	roomID, typ, err := accountDataPath(r)
	if err != nil {
		return nil, err
	}
	content, err := s.accountDataOf(r.Context(), r.Device.UserID, roomID, typ)
	if err == nil && content == nil {
		err = matrixerror.NotFound("There is no such account data")
	}
	return content, err
}

func (s *Server) accountDataOf(ctx context.Context, userID, roomID, typ string) (jsontext.Value, error) {
	res, err := userapi.QueryAccountData.Call(ctx, s.caller, &userapi.AccountDataRequest{UserID: userID, RoomIDs: []string{roomID}, Types: []string{typ}})
	if err != nil {
		return nil, err
	}
	return res.Data[roomID][typ], nil
}

// putAccountData serves PUT of account data.
func (s *Server) putAccountData(r *httpapi.Request) (any, error) {
	roomID, typ, err := accountDataPath(r)
	if err != nil {
		return nil, err
	}
	if typ == "m.fully_read" || typ == userapi.TypePushRules {
		return nil, matrixerror.New(405, "M_BAD_JSON", "%s is not set in this way", typ)
	}
	content, err := decodeObject(r)
	if err != nil {
		return nil, err
	}
	if len(content) > maxAccountDataBytes {
		return nil, matrixerror.TooLarge("The account data is larger than %d bytes", maxAccountDataBytes)
	}
	_, err = userapi.PutAccountData.Call(r.Context(), s.caller, &userapi.PutAccountDataRequest{UserID: r.Device.UserID, RoomID: roomID, Type: typ, Content: content.Clone()})
	return nil, err
}

// getTags serves GET of a room's tags.
func (s *Server) getTags(r *httpapi.Request) (any, error) {
	if err := ownPath(r); err != nil {
		return nil, err
	}
	roomID, err := pathRoomID(r)
	if err != nil {
		return nil, err
	}
	content, err := s.accountDataOf(r.Context(), r.Device.UserID, roomID, "m.tag")
	if err == nil && content == nil {
		content = jsontext.Value(`{"tags":{}}`)
	}
	return content, err
}

// putTag serves PUT of a tag.
func (s *Server) putTag(r *httpapi.Request) (any, error) {
	content, err := decodeObject(r)
	if err != nil {
		return nil, err
	}
	var tag struct {
		Order jsontext.Value `json:"order"`
	}
	if err := json.Unmarshal(content, &tag); err != nil || len(tag.Order) > 0 && tag.Order.Kind() != '0' {
		return nil, matrixerror.BadJSON("order is not a number")
	}
	return nil, s.changeTag(r, content)
}

// deleteTag serves DELETE of a tag.
func (s *Server) deleteTag(r *httpapi.Request) (any, error) { return nil, s.changeTag(r, nil) }

func (s *Server) changeTag(r *httpapi.Request, content jsontext.Value) error {
	if err := ownPath(r); err != nil {
		return err
	}
	roomID, err := pathRoomID(r)
	if err != nil {
		return err
	}
	tag := r.PathValue("tag")
	if err := checkEventType(tag, ""); err != nil {
		return err
	}
	if len(content) > maxTagBytes {
		return matrixerror.TooLarge("The tag is too large")
	}
	_, err = userapi.PutTag.Call(r.Context(), s.caller, &userapi.PutTagRequest{UserID: r.Device.UserID, RoomID: roomID, Tag: tag, Content: content.Clone()})
	return err
}

// postFilter serves POST /user/{userId}/filter.
func (s *Server) postFilter(r *httpapi.Request) (any, error) {
	if err := ownPath(r); err != nil {
		return nil, err
	}
	filter, err := decodeObject(r)
	if err != nil {
		return nil, err
	}
	if _, err := filters.Parse(filter); err != nil {
		return nil, err
	}
	res, err := userapi.PutFilter.Call(r.Context(), s.caller, &userapi.PutFilterRequest{UserID: r.Device.UserID, Filter: filter})
	if err != nil {
		return nil, err
	}
	return map[string]string{"filter_id": res.FilterID}, nil
}

// getFilter serves GET /user/{userId}/filter/{filterId}.
func (s *Server) getFilter(r *httpapi.Request) (any, error) {
	if err := ownPath(r); err != nil {
		return nil, err
	}
	res, err := userapi.QueryFilter.Call(r.Context(), s.caller, &userapi.FilterRequest{UserID: r.Device.UserID, FilterID: r.PathValue("filterId")})
	if err != nil {
		return nil, err
	}
	return res.Filter, nil
}

// postOpenID serves POST /user/{userId}/openid/request_token.
func (s *Server) postOpenID(r *httpapi.Request) (any, error) {
	if err := ownPath(r); err != nil {
		return nil, err
	}
	res, err := userapi.IssueToken.Call(r.Context(), s.caller, &userapi.IssueTokenRequest{UserID: r.Device.UserID, Kind: userapi.TokenOpenID})
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"access_token": res.Token, "token_type": "Bearer", "matrix_server_name": s.serverName,
		"expires_in": int64(time.Duration(res.ExpiresInMS) * time.Millisecond / time.Second),
	}, nil
}
