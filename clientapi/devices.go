package clientapi

import (
	"context"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// maxDeleteDevices bounds the devices of one delete_devices.
const maxDeleteDevices = 1000

// authBody is a body that has nothing but auth.
type authBody struct {
	Auth jsontext.Value `json:"auth"`
}

// rawOrNil keeps a nil *Raw from becoming a non-nil answer.
func rawOrNil(raw *httpapi.Raw) any {
	if raw == nil {
		return nil
	}
	return raw
}

// getDevices serves GET /devices.
func (s *Server) getDevices(r *httpapi.Request) (any, error) {
	res, err := userapi.QueryDevices.Call(r.Context(), s.caller, &userapi.DevicesRequest{UserID: r.Device.UserID})
	if err != nil {
		return nil, err
	}
	return map[string]any{"devices": res.Devices}, nil
}

// getDevice serves GET /devices/{deviceId}.
func (s *Server) getDevice(r *httpapi.Request) (any, error) {
	res, err := userapi.QueryDevices.Call(r.Context(), s.caller, &userapi.DevicesRequest{UserID: r.Device.UserID})
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(res.Devices, func(d userapi.DeviceInfo) bool { return d.DeviceID == r.PathValue("deviceId") })
	if i < 0 {
		return nil, matrixerror.NotFound("There is no such device")
	}
	return &res.Devices[i], nil
}

// putDevice serves PUT /devices/{deviceId}.
func (s *Server) putDevice(r *httpapi.Request) (any, error) {
	var req struct {
		DisplayName *string `json:"display_name"`
	}
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	_, err := userapi.PutDevice.Call(r.Context(), s.caller, &userapi.PutDeviceRequest{UserID: r.Device.UserID, DeviceID: r.PathValue("deviceId"), DisplayName: req.DisplayName})
	return nil, err
}

// deleteDevice serves DELETE /devices/{deviceId}.
func (s *Server) deleteDevice(r *httpapi.Request) (any, error) {
	var req authBody
	if err := r.DecodeOptional(&req); err != nil {
		return nil, err
	}
	if raw, err := s.withPassword(r, "delete_devices", req.Auth); err != nil || raw != nil {
		return rawOrNil(raw), err
	}
	return nil, s.endDevices(r.Context(), r.Device.UserID, []string{r.PathValue("deviceId")})
}

// postDeleteDevices serves POST /delete_devices.
func (s *Server) postDeleteDevices(r *httpapi.Request) (any, error) {
	var req struct {
		Auth    jsontext.Value `json:"auth"`
		Devices []string       `json:"devices"`
	}
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	if req.Devices == nil {
		return nil, matrixerror.MissingParam("devices is missing")
	}
	if len(req.Devices) > maxDeleteDevices {
		return nil, matrixerror.InvalidParam("At most %d devices can be deleted at once", maxDeleteDevices)
	}
	if raw, err := s.withPassword(r, "delete_devices", req.Auth); err != nil || raw != nil {
		return rawOrNil(raw), err
	}
	return nil, s.endDevices(r.Context(), r.Device.UserID, req.Devices)
}

func (s *Server) endDevices(ctx context.Context, userID string, ids []string) error {
	_, err := userapi.DeleteDevices.Call(ctx, s.caller, &userapi.DeleteDevicesRequest{UserID: userID, DeviceIDs: ids})
	return err
}

// getThreePIDs serves GET /account/3pid: there are none without an identity
// server.
func (s *Server) getThreePIDs(*httpapi.Request) (any, error) {
	return map[string][]string{"threepids": {}}, nil
}

// postPassword serves POST /account/password.
// spec: client-server-api §post_matrixclientv3accountpassword
func (s *Server) postPassword(r *httpapi.Request) (any, error) {
	req := struct {
		Auth          jsontext.Value `json:"auth"`
		NewPassword   string         `json:"new_password"`
		LogoutDevices bool           `json:"logout_devices"`
	}{LogoutDevices: true}
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	if raw, err := s.withPassword(r, "password", req.Auth); err != nil || raw != nil {
		return rawOrNil(raw), err
	}
	if req.NewPassword == "" {
		return nil, matrixerror.MissingParam("new_password is missing")
	}
	_, err := userapi.SetPassword.Call(r.Context(), s.caller, &userapi.SetPasswordRequest{
		UserID: r.Device.UserID, Password: req.NewPassword, LogoutOthers: req.LogoutDevices, KeepDevice: r.Device.DeviceID,
	})
	return nil, err
}

// postDeactivate serves POST /account/deactivate.
// spec: client-server-api §post_matrixclientv3accountdeactivate
func (s *Server) postDeactivate(r *httpapi.Request) (any, error) {
	var req struct {
		Auth  jsontext.Value `json:"auth"`
		Erase bool           `json:"erase"`
	}
	if err := r.DecodeOptional(&req); err != nil {
		return nil, err
	}
	if raw, err := s.withPassword(r, "deactivate", req.Auth); err != nil || raw != nil {
		return rawOrNil(raw), err
	}
	if _, err := userapi.Deactivate.Call(r.Context(), s.caller, &userapi.DeactivateRequest{UserID: r.Device.UserID}); err != nil {
		return nil, err
	}
	s.hurryJobs()
	return map[string]string{"id_server_unbind_result": "no-support"}, nil
}
