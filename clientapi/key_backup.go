package clientapi

import (
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// Bounds of key backups, in bytes.
const (
	maxBackupBody    = 8 << 20
	maxBackupKey     = 64 << 10 // session_data
	maxBackupAuth    = 64 << 10 // auth_data
	maxBackupName    = 255      // algorithm, room ID, session ID
	maxBackupKeyPost = 10_000   // keys of a request
)

func (s *Server) keyBackupEndpoints() []httpapi.Endpoint {
	const version, keys = v3 + "/room_keys/version", v3 + "/room_keys/keys"
	e := func(method, path string, h httpapi.Handler) httpapi.Endpoint {
		return httpapi.Endpoint{Method: method, Path: path, Access: httpapi.User, Limit: httpapi.LimitRequest, MaxBody: maxBackupBody, Handler: h}
	}
	list := []httpapi.Endpoint{
		e("POST", version, s.postBackup),
		e("GET", version, s.getBackup),
		e("GET", version+"/{version}", s.getBackup),
		e("PUT", version+"/{version}", s.putBackup),
		e("DELETE", version+"/{version}", s.deleteBackup),
	}
	for _, path := range []string{keys, keys + "/{roomId}", keys + "/{roomId}/{sessionId}"} {
		list = append(list, e("PUT", path, s.putBackupKeys), e("GET", path, s.getBackupKeys), e("DELETE", path, s.deleteBackupKeys))
	}
	return list
}

// backupBody describes a version, as clients give it and are told it.
type backupBody struct {
	Algorithm string         `json:"algorithm"`
	AuthData  jsontext.Value `json:"auth_data"`
	Count     *int64         `json:"count,omitzero"`
	ETag      string         `json:"etag,omitzero"`
	Version   string         `json:"version,omitzero"`
}

func readBackup(r *httpapi.Request) (*backupBody, error) {
	var body backupBody
	if err := r.Decode(&body); err != nil {
		return nil, err
	}
	switch {
	case body.Algorithm == "" || len(body.AuthData) == 0:
		return nil, matrixerror.MissingParam("algorithm or auth_data is missing")
	case body.AuthData.Kind() != '{':
		return nil, matrixerror.BadJSON("auth_data is not an object")
	case len(body.AuthData) > maxBackupAuth || len(body.Algorithm) > maxBackupName:
		return nil, matrixerror.TooLarge("auth_data is larger than %d bytes", maxBackupAuth)
	}
	return &body, nil
}

// backupVersion reads a version; what is none is of no backup.
func backupVersion(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 || strconv.FormatInt(n, 10) != text {
		return 0, matrixerror.NotFound("There is no such backup version")
	}
	return n, nil
}

// postBackup serves POST /room_keys/version.
// spec: client-server-api §post_matrixclientv3room_keysversion
func (s *Server) postBackup(r *httpapi.Request) (any, error) {
	body, err := readBackup(r)
	if err != nil {
		return nil, err
	}
	res, err := userapi.NewKeyBackup.Call(r.Context(), s.caller, &userapi.NewKeyBackupRequest{UserID: r.Device.UserID, Algorithm: body.Algorithm, AuthData: body.AuthData})
	if err != nil {
		return nil, err
	}
	return map[string]string{"version": strconv.FormatInt(res.Version, 10)}, nil
}

// getBackup serves GET /room_keys/version and /room_keys/version/{version}.
func (s *Server) getBackup(r *httpapi.Request) (any, error) {
	req := &userapi.KeyBackupRequest{UserID: r.Device.UserID}
	if text := r.PathValue("version"); text != "" {
		var err error
		if req.Version, err = backupVersion(text); err != nil {
			return nil, err
		}
	}
	res, err := userapi.QueryKeyBackup.Call(r.Context(), s.caller, req)
	if err != nil {
		return nil, err
	}
	return &backupBody{Algorithm: res.Algorithm, AuthData: res.AuthData, Count: &res.Count,
		ETag: strconv.FormatInt(res.ETag, 10), Version: strconv.FormatInt(res.Version, 10)}, nil
}

// putBackup serves PUT /room_keys/version/{version}.
// spec: client-server-api §put_matrixclientv3room_keysversionversion
func (s *Server) putBackup(r *httpapi.Request) (any, error) {
	body, err := readBackup(r)
	if err != nil {
		return nil, err
	}
	version, err := backupVersion(r.PathValue("version"))
	if err != nil {
		return nil, err
	}
	if body.Version != "" && body.Version != r.PathValue("version") {
		return nil, matrixerror.InvalidParam("The version of the body is another one than that of the path")
	}
	_, err = userapi.PutKeyBackup.Call(r.Context(), s.caller, &userapi.PutKeyBackupRequest{UserID: r.Device.UserID, Version: version, Algorithm: body.Algorithm, AuthData: body.AuthData})
	return nil, err
}

// deleteBackup serves DELETE /room_keys/version/{version}.
func (s *Server) deleteBackup(r *httpapi.Request) (any, error) {
	version, err := backupVersion(r.PathValue("version"))
	if err != nil {
		return nil, err
	}
	_, err = userapi.DeleteKeyBackup.Call(r.Context(), s.caller, &userapi.KeyBackupRequest{UserID: r.Device.UserID, Version: version})
	return nil, err
}

// backupKey is a key as clients give it and are told it.
type backupKey struct {
	FirstMessageIndex *int64         `json:"first_message_index"`
	ForwardedCount    *int64         `json:"forwarded_count"`
	IsVerified        *bool          `json:"is_verified"`
	SessionData       jsontext.Value `json:"session_data"`
}

type backupRoom struct {
	Sessions map[string]*backupKey `json:"sessions"`
}

type backupRooms struct {
	Rooms map[string]*backupRoom `json:"rooms"`
}

// backupPath reads what keys of which version the request is about.
func backupPath(r *httpapi.Request) (*userapi.BackupKeysRequest, error) {
	text := r.QueryString("version")
	if text == "" {
		return nil, matrixerror.MissingParam("version is missing")
	}
	version, err := backupVersion(text)
	return &userapi.BackupKeysRequest{UserID: r.Device.UserID, Version: version, RoomID: r.PathValue("roomId"), SessionID: r.PathValue("sessionId")}, err
}

// putBackupKeys serves PUT /room_keys/keys and what is below it.
// spec: client-server-api §put_matrixclientv3room_keyskeys
func (s *Server) putBackupKeys(r *httpapi.Request) (any, error) {
	path, err := backupPath(r)
	if err != nil && !matrixerror.Is(err, "M_NOT_FOUND") { // it is the wrong version then
		return nil, err
	}
	var body backupRooms
	switch {
	case path.SessionID != "":
		key := &backupKey{}
		err = r.Decode(key)
		body.Rooms = map[string]*backupRoom{path.RoomID: {Sessions: map[string]*backupKey{path.SessionID: key}}}
	case path.RoomID != "":
		room := &backupRoom{}
		err = r.Decode(room)
		body.Rooms = map[string]*backupRoom{path.RoomID: room}
	default:
		err = r.Decode(&body)
	}
	if err != nil {
		return nil, err
	}
	put := &userapi.PutBackupKeysRequest{UserID: r.Device.UserID, Version: path.Version}
	if put.Keys, err = body.keys(); err != nil {
		return nil, err
	}
	res, err := userapi.PutBackupKeys.Call(r.Context(), s.caller, put)
	if err != nil {
		return nil, err
	}
	return backupChanged(res), nil
}

func backupChanged(b *userapi.KeyBackup) any {
	return map[string]any{"count": b.Count, "etag": strconv.FormatInt(b.ETag, 10)}
}

// keys are the keys of a body, once they are what they should be.
func (b *backupRooms) keys() ([]userapi.BackupKey, error) {
	if b.Rooms == nil {
		return nil, matrixerror.MissingParam("rooms is missing")
	}
	var out []userapi.BackupKey
	for roomID, room := range b.Rooms {
		if room == nil || room.Sessions == nil {
			return nil, matrixerror.MissingParam("sessions is missing")
		}
		for sessionID, k := range room.Sessions {
			switch {
			case k == nil || k.FirstMessageIndex == nil || k.ForwardedCount == nil || k.IsVerified == nil || len(k.SessionData) == 0:
				return nil, matrixerror.MissingParam("A key lacks first_message_index, forwarded_count, is_verified or session_data")
			case k.SessionData.Kind() != '{':
				return nil, matrixerror.BadJSON("session_data is not an object")
			case *k.FirstMessageIndex < 0 || *k.ForwardedCount < 0 || *k.FirstMessageIndex > math.MaxUint32 || *k.ForwardedCount > math.MaxUint32:
				return nil, matrixerror.InvalidParam("first_message_index or forwarded_count is out of range")
			case len(k.SessionData) > maxBackupKey:
				return nil, matrixerror.TooLarge("session_data is larger than %d bytes", maxBackupKey)
			case roomID == "" || sessionID == "" || len(roomID) > maxBackupName || len(sessionID) > maxBackupName:
				return nil, matrixerror.InvalidParam("A room or session ID is empty or too long")
			}
			out = append(out, userapi.BackupKey{RoomID: roomID, SessionID: sessionID, IsVerified: *k.IsVerified,
				FirstMessageIndex: *k.FirstMessageIndex, ForwardedCount: *k.ForwardedCount, SessionData: k.SessionData})
		}
	}
	if len(out) > maxBackupKeyPost {
		return nil, matrixerror.TooLarge("There are more than %d keys", maxBackupKeyPost)
	}
	return out, nil
}

// getBackupKeys serves GET /room_keys/keys and what is below it.
// spec: client-server-api §get_matrixclientv3room_keyskeys
func (s *Server) getBackupKeys(r *httpapi.Request) (any, error) {
	req, err := backupPath(r)
	if err != nil {
		return nil, err
	}
	rooms := map[string]*backupRoom{}
	for more := true; more; {
		res, err := userapi.QueryBackupKeys.Call(r.Context(), s.caller, req)
		if err != nil {
			return nil, err
		}
		for i := range res.Keys {
			k := &res.Keys[i]
			if rooms[k.RoomID] == nil {
				rooms[k.RoomID] = &backupRoom{Sessions: map[string]*backupKey{}}
			}
			rooms[k.RoomID].Sessions[k.SessionID] = &backupKey{&k.FirstMessageIndex, &k.ForwardedCount, &k.IsVerified, k.SessionData}
			req.AfterRoom, req.AfterSession = k.RoomID, k.SessionID
		}
		more = res.More
	}
	switch {
	case req.SessionID != "":
		if room := rooms[req.RoomID]; room != nil {
			return room.Sessions[req.SessionID], nil
		}
		return nil, matrixerror.NotFound("There is no such key")
	case req.RoomID != "":
		if room := rooms[req.RoomID]; room != nil {
			return room, nil
		}
		return &backupRoom{Sessions: map[string]*backupKey{}}, nil
	}
	return &backupRooms{Rooms: rooms}, nil
}

// deleteBackupKeys serves DELETE /room_keys/keys and what is below it.
func (s *Server) deleteBackupKeys(r *httpapi.Request) (any, error) {
	req, err := backupPath(r)
	if err != nil {
		return nil, err
	}
	res, err := userapi.DeleteBackupKeys.Call(r.Context(), s.caller, req)
	if err != nil {
		return nil, err
	}
	return backupChanged(res), nil
}
