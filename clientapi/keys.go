package clientapi

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// Bounds of what is asked of keys at once: by a client, and of the user-api.
const (
	maxKeyUsers    = 10_000
	maxKeyDevices  = 1000 // of one user
	maxClaims      = 10_000
	keyUsersAtOnce = 500
	claimsAtOnce   = 1000
	maxKeysBody    = 2 << 20
)

func (s *Server) keyEndpoints() []httpapi.Endpoint {
	const dehydrated = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device"
	e := func(method, path string, access httpapi.Access, h httpapi.Handler) httpapi.Endpoint {
		return httpapi.Endpoint{Method: method, Path: path, Access: access, Limit: httpapi.LimitRequest, MaxBody: maxKeysBody, Handler: h}
	}
	return slices.Concat([]httpapi.Endpoint{
		e("POST", v3+"/keys/upload", httpapi.Guest, s.postKeys),
		e("POST", v3+"/keys/query", httpapi.Guest, s.postKeysQuery),
		e("POST", v3+"/keys/claim", httpapi.Guest, s.postKeysClaim),
		e("POST", v3+"/keys/device_signing/upload", httpapi.User, s.postDeviceSigning),
		e("POST", v3+"/keys/signatures/upload", httpapi.User, s.postSignatures),

		e("PUT", v3+"/sendToDevice/{eventType}/{txnId}", httpapi.Guest, s.putToDevice),

		e("PUT", dehydrated, httpapi.User, s.putDehydrated),
		e("GET", dehydrated, httpapi.User, s.getDehydrated),
		e("DELETE", dehydrated, httpapi.User, s.deleteDehydrated),
		e("GET", dehydrated+"/{deviceId}/events", httpapi.User, s.getDehydratedEvents),
		e("POST", dehydrated+"/{deviceId}/events", httpapi.User, s.postDehydratedEvents),
	}, s.keyBackupEndpoints())
}

// uploadBody is a body with the keys of a device.
type uploadBody struct {
	DeviceKeys   jsontext.Value            `json:"device_keys"`
	OneTimeKeys  map[string]jsontext.Value `json:"one_time_keys"`
	FallbackKeys map[string]jsontext.Value `json:"fallback_keys"`
}

func (b *uploadBody) request(userID, deviceID string) userapi.UploadKeysRequest {
	req := userapi.UploadKeysRequest{UserID: userID, DeviceID: deviceID, OneTimeKeys: b.OneTimeKeys, FallbackKeys: b.FallbackKeys}
	if b.DeviceKeys.Kind() != 'n' {
		req.DeviceKeys = b.DeviceKeys
	}
	return req
}

// postKeys serves POST /keys/upload.
// spec: client-server-api §post_matrixclientv3keysupload
func (s *Server) postKeys(r *httpapi.Request) (any, error) {
	var body uploadBody
	if err := r.Decode(&body); err != nil {
		return nil, err
	}
	req := body.request(r.Device.UserID, r.Device.DeviceID)
	res, err := userapi.UploadKeys.Call(r.Context(), s.caller, &req)
	if err != nil {
		return nil, err
	}
	return map[string]any{"one_time_key_counts": res.Counts}, nil
}

// ours tells whether a user is of this server. Keys of other servers' users, and
// messages to their devices, are federation's; without it such users are unknown,
// which is no failure of their servers.
func (s *Server) ours(userID string) bool {
	_, server, ok := strings.Cut(userID, ":")
	return ok && server == s.serverName
}

// keysAnswer answers /keys/query.
type keysAnswer struct {
	Devices     map[string]map[string]jsontext.Value `json:"device_keys"`
	Failures    map[string]jsontext.Value            `json:"failures"`
	Master      map[string]jsontext.Value            `json:"master_keys"`
	SelfSigning map[string]jsontext.Value            `json:"self_signing_keys"`
	UserSigning map[string]jsontext.Value            `json:"user_signing_keys"`
}

// postKeysQuery serves POST /keys/query.
// spec: client-server-api §post_matrixclientv3keysquery
func (s *Server) postKeysQuery(r *httpapi.Request) (any, error) {
	var body struct {
		Devices map[string][]string `json:"device_keys"`
	}
	if err := r.Decode(&body); err != nil {
		return nil, err
	}
	if body.Devices == nil {
		return nil, matrixerror.MissingParam("device_keys is missing")
	}
	if len(body.Devices) > maxKeyUsers {
		return nil, matrixerror.InvalidParam("Keys of more than %d users are asked for", maxKeyUsers)
	}
	answer := &keysAnswer{Devices: map[string]map[string]jsontext.Value{}, Failures: map[string]jsontext.Value{},
		Master: map[string]jsontext.Value{}, SelfSigning: map[string]jsontext.Value{}, UserSigning: map[string]jsontext.Value{}}
	users := slices.DeleteFunc(slices.Sorted(maps.Keys(body.Devices)), func(id string) bool { return !s.ours(id) })
	for some := range slices.Chunk(users, keyUsersAtOnce) {
		req := &userapi.KeysRequest{Viewer: r.Device.UserID, Devices: map[string][]string{}}
		for _, id := range some {
			if len(body.Devices[id]) > maxKeyDevices {
				return nil, matrixerror.InvalidParam("Keys of more than %d devices of a user are asked for", maxKeyDevices)
			}
			req.Devices[id] = body.Devices[id]
		}
		res, err := userapi.QueryKeys.Call(r.Context(), s.caller, req)
		if err != nil {
			return nil, err
		}
		maps.Copy(answer.Devices, res.Devices)
		maps.Copy(answer.Master, res.Master)
		maps.Copy(answer.SelfSigning, res.SelfSigning)
		maps.Copy(answer.UserSigning, res.UserSigning)
	}
	return answer, nil
}

// postKeysClaim serves POST /keys/claim.
// spec: client-server-api §post_matrixclientv3keysclaim
func (s *Server) postKeysClaim(r *httpapi.Request) (any, error) {
	var body struct {
		Keys map[string]map[string]string `json:"one_time_keys"`
	}
	if err := r.Decode(&body); err != nil {
		return nil, err
	}
	if body.Keys == nil {
		return nil, matrixerror.MissingParam("one_time_keys is missing")
	}
	total := 0
	for _, devices := range body.Keys {
		total += len(devices)
	}
	if total > maxClaims {
		return nil, matrixerror.InvalidParam("More than %d keys are claimed", maxClaims)
	}
	out := map[string]map[string]map[string]jsontext.Value{}
	some, n := map[string]map[string]string{}, 0
	for user, devices := range body.Keys {
		if !s.ours(user) {
			continue
		}
		some[user] = devices
		if n += len(devices); n < claimsAtOnce {
			continue
		}
		if err := s.claim(r.Context(), some, out); err != nil {
			return nil, err
		}
		some, n = map[string]map[string]string{}, 0
	}
	if err := s.claim(r.Context(), some, out); err != nil {
		return nil, err
	}
	return map[string]any{"one_time_keys": out, "failures": struct{}{}}, nil
}

func (s *Server) claim(ctx context.Context, devices map[string]map[string]string, out map[string]map[string]map[string]jsontext.Value) error {
	if len(devices) == 0 {
		return nil
	}
	res, err := userapi.ClaimKeys.Call(ctx, s.caller, &userapi.ClaimKeysRequest{Devices: devices})
	if err == nil {
		maps.Copy(out, res.Keys)
	}
	return err
}
