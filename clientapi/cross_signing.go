package clientapi

import (
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// maxSigned bounds the keys of which signatures are uploaded at once.
const maxSigned = 1000

// postDeviceSigning serves POST /keys/device_signing/upload. Whether the user has
// to authenticate is decided where the keys are.
// spec: client-server-api §post_matrixclientv3keysdevice_signingupload
func (s *Server) postDeviceSigning(r *httpapi.Request) (any, error) {
	var body struct {
		Auth        jsontext.Value `json:"auth"`
		Master      jsontext.Value `json:"master_key"`
		SelfSigning jsontext.Value `json:"self_signing_key"`
		UserSigning jsontext.Value `json:"user_signing_key"`
	}
	if err := r.Decode(&body); err != nil {
		return nil, err
	}
	req := &userapi.PutCrossSigningRequest{UserID: r.Device.UserID, Master: given(body.Master), SelfSigning: given(body.SelfSigning),
		UserSigning: given(body.UserSigning), Authorised: r.Device.AppserviceID != ""}
	res, err := userapi.PutCrossSigning.Call(r.Context(), s.caller, req)
	if err != nil || !res.Unauthorised {
		return nil, err
	}
	if raw, err := s.withPassword(r, "device_signing", body.Auth); err != nil || raw != nil {
		return rawOrNil(raw), err
	}
	req.Authorised = true
	_, err = userapi.PutCrossSigning.Call(r.Context(), s.caller, req)
	return nil, err
}

// given is a member of a body, for which null is as good as nothing.
func given(v jsontext.Value) jsontext.Value {
	if v.Kind() == 'n' {
		return nil
	}
	return v
}

// postSignatures serves POST /keys/signatures/upload.
// spec: client-server-api §post_matrixclientv3keyssignaturesupload
func (s *Server) postSignatures(r *httpapi.Request) (any, error) {
	var body map[string]map[string]jsontext.Value
	if err := r.Decode(&body); err != nil {
		return nil, err
	}
	total := 0
	for _, keys := range body {
		total += len(keys)
	}
	if total > maxSigned {
		return nil, matrixerror.InvalidParam("Signatures of more than %d keys are uploaded", maxSigned)
	}
	res, err := userapi.PutSignatures.Call(r.Context(), s.caller, &userapi.PutSignaturesRequest{UserID: r.Device.UserID, Signed: body})
	if err != nil {
		return nil, err
	}
	if res.Failures == nil {
		res.Failures = map[string]map[string]userapi.KeyFailure{}
	}
	return map[string]any{"failures": res.Failures}, nil
}
