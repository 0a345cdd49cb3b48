package api

import (
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/rpc"
)

// The methods around the keys of devices and users.
// spec: client-server-api §key-management-api
var (
	// UploadKeys stores identity, one-time and fallback keys of a device: 400
	// M_INVALID_PARAM for another user's or device's, or for a one-time key whose
	// ID stands for another one; 400 M_INVALID_SIGNATURE.
	UploadKeys = rpc.NewMethod[UploadKeysRequest, UploadKeysResponse](Service, "upload_keys")
	// QueryKeys returns the identity and cross-signing keys of local users.
	QueryKeys = rpc.NewMethod[KeysRequest, KeysResponse](Service, "keys").Harmless()
	// ClaimKeys gives out one-time keys of local users' devices, each once, in the
	// order of their uploads; else fallback keys.
	ClaimKeys = rpc.NewMethod[ClaimKeysRequest, ClaimKeysResponse](Service, "claim_keys")
	// PutCrossSigning stores cross-signing keys, unless that needs authentication
	// first: 400 M_INVALID_SIGNATURE, 400 M_MISSING_PARAM without a master key, 403
	// M_FORBIDDEN when a key is named as a device is.
	PutCrossSigning = rpc.NewMethod[PutCrossSigningRequest, PutCrossSigningResponse](Service, "put_cross_signing")
	// PutSignatures stores signatures of devices' and master keys.
	PutSignatures = rpc.NewMethod[PutSignaturesRequest, PutSignaturesResponse](Service, "put_signatures")
	// QueryDeviceStates returns what readers keep of a user's devices.
	QueryDeviceStates = rpc.NewMethod[DeviceStatesRequest, DeviceStatesResponse](Service, "device_states").Harmless()
	// PutDehydrated stores a dehydrated device in place of the one there is.
	// spec: MSC3814
	PutDehydrated = rpc.NewMethod[PutDehydratedRequest, DehydratedResponse](Service, "put_dehydrated")
	// QueryDehydrated returns a user's dehydrated device: 404 when there is none.
	QueryDehydrated = rpc.NewMethod[DehydratedRequest, DehydratedResponse](Service, "dehydrated").Harmless()
	// DeleteDehydrated deletes it: 404 when there is none.
	DeleteDehydrated = rpc.NewMethod[DehydratedRequest, DehydratedResponse](Service, "delete_dehydrated")
)

// CurveAlgorithm is the kind of one-time keys that all clients use; its count is
// told even where it is zero.
const CurveAlgorithm = "signed_curve25519"

// UploadKeysRequest holds keys of a device as the client gave them. DeviceKeys may
// be nil; the others are by "algorithm:key ID".
type UploadKeysRequest struct {
	UserID, DeviceID          string
	DeviceKeys                jsontext.Value
	OneTimeKeys, FallbackKeys map[string]jsontext.Value
}

// UploadKeysResponse holds the number of one-time keys left, by algorithm.
type UploadKeysResponse struct{ Counts map[string]int64 }

// KeysRequest names devices by user; no device means all of them. Viewer is who
// asks, who sees more of his own keys and of what he has signed; "" for another
// server.
type KeysRequest struct {
	Viewer  string
	Devices map[string][]string
}

// KeysResponse holds keys by user. Users without an account are not in it.
type KeysResponse struct {
	Devices                          map[string]map[string]jsontext.Value // by device
	Master, SelfSigning, UserSigning map[string]jsontext.Value
}

// ClaimKeysRequest names the algorithm of the key wanted by user and device.
type ClaimKeysRequest struct{ Devices map[string]map[string]string }

// ClaimKeysResponse holds keys by user, device and "algorithm:key ID".
type ClaimKeysResponse struct {
	Keys map[string]map[string]map[string]jsontext.Value
}

// PutCrossSigningRequest holds cross-signing keys; nil for those that stay.
type PutCrossSigningRequest struct {
	UserID                           string
	Master, SelfSigning, UserSigning jsontext.Value
	// Authorised is set once the user has authenticated for this.
	Authorised bool
}

// PutCrossSigningResponse says if nothing was stored since the user has to
// authenticate first.
type PutCrossSigningResponse struct{ Unauthorised bool }

// PutSignaturesRequest holds signed keys by their user and ID (a device's, or a
// master key in base64). UserID is who has signed them.
type PutSignaturesRequest struct {
	UserID string
	Signed map[string]map[string]jsontext.Value
}

// KeyFailure says why a signature was not stored.
type KeyFailure struct {
	ErrCode string `json:"errcode"`
	Error   string `json:"error"`
}

// PutSignaturesResponse holds what failed, by the key's user and ID.
type PutSignaturesResponse struct {
	Failures map[string]map[string]KeyFailure
}

// DeviceStatesRequest names a user.
type DeviceStatesRequest struct{ UserID string }

// DeviceState is what is left of a device's one-time and fallback keys, and the
// first and last position of messages to it (zero for none).
type DeviceState struct {
	DeviceID    string
	OneTimeKeys map[string]int64
	Unused      []string
	First, Last int64
}

// DeviceStatesResponse holds the states of a user's devices that have any. Of
// user.output all changes up to Seq are in it, and perhaps some behind that.
type DeviceStatesResponse struct {
	Seq     int64
	Devices []DeviceState
}

// PutDehydratedRequest describes a dehydrated device.
type PutDehydratedRequest struct {
	DeviceID, DisplayName string
	Data                  jsontext.Value
	// Keys are those of the device; its UserID is whose it is.
	Keys UploadKeysRequest
}

// DehydratedRequest names a user.
type DehydratedRequest struct{ UserID string }

// DehydratedResponse describes a user's dehydrated device.
type DehydratedResponse struct {
	DeviceID string
	Data     jsontext.Value
}
