package clientapi

import (
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

const (
	// maxToDevice bounds the messages of a request, maxToDeviceBytes each of them.
	maxToDevice      = 10_000
	maxToDeviceBytes = 64 << 10
	// dehydratedBatch bounds the messages of one answer.
	dehydratedBatch = 100
)

// putToDevice serves PUT /sendToDevice/{eventType}/{txnId}. Suspended users may:
// devices are verified by such messages.
// spec: client-server-api §put_matrixclientv3sendtodeviceeventtypetxnid
func (s *Server) putToDevice(r *httpapi.Request) (any, error) {
	typ, txnID := r.PathValue("eventType"), r.PathValue("txnId")
	if err := checkEventType(typ, ""); err != nil {
		return nil, err
	}
	if err := checkTxnID(txnID); err != nil {
		return nil, err
	}
	var body struct {
		Messages map[string]map[string]jsontext.Value `json:"messages"`
	}
	if err := r.Decode(&body); err != nil {
		return nil, err
	}
	if body.Messages == nil {
		return nil, matrixerror.MissingParam("messages is missing")
	}
	req := &userapi.SendToDeviceRequest{Sender: r.Device.UserID, DeviceID: r.Device.DeviceID, Type: typ,
		RequestID: transactionID(r.Device, "PUT", "/sendToDevice/"+typ, txnID), Messages: map[string]map[string]jsontext.Value{}}
	total := 0
	for user, devices := range body.Messages {
		for _, content := range devices {
			if content.Kind() != '{' {
				return nil, matrixerror.BadJSON("A message is not an object")
			}
			if len(content) > maxToDeviceBytes {
				return nil, matrixerror.TooLarge("A message is larger than %d bytes", maxToDeviceBytes)
			}
		}
		if total += len(devices); total > maxToDevice {
			return nil, matrixerror.InvalidParam("There are more than %d messages", maxToDevice)
		}
		if s.ours(user) {
			req.Messages[user] = devices
		}
	}
	_, err := userapi.SendToDevice.Call(r.Context(), s.caller, req)
	return nil, err
}

// putDehydrated serves PUT /dehydrated_device. spec: MSC3814
func (s *Server) putDehydrated(r *httpapi.Request) (any, error) {
	var body struct {
		uploadBody
		DeviceID string         `json:"device_id"`
		Data     jsontext.Value `json:"device_data"`
		Name     string         `json:"initial_device_display_name"`
	}
	if err := r.Decode(&body); err != nil {
		return nil, err
	}
	if body.DeviceID == "" || len(body.Data) == 0 || given(body.DeviceKeys) == nil {
		return nil, matrixerror.MissingParam("device_id, device_data or device_keys is missing")
	}
	if body.Data.Kind() != '{' {
		return nil, matrixerror.BadJSON("device_data is not an object")
	}
	if len(body.Data) > maxAccountDataBytes {
		return nil, matrixerror.TooLarge("device_data is larger than %d bytes", maxAccountDataBytes)
	}
	req := &userapi.PutDehydratedRequest{DeviceID: body.DeviceID, DisplayName: body.Name, Data: body.Data, Keys: body.request(r.Device.UserID, body.DeviceID)}
	if _, err := userapi.PutDehydrated.Call(r.Context(), s.caller, req); err != nil {
		return nil, err
	}
	return map[string]string{"device_id": body.DeviceID}, nil
}

// getDehydrated serves GET /dehydrated_device.
func (s *Server) getDehydrated(r *httpapi.Request) (any, error) {
	res, err := userapi.QueryDehydrated.Call(r.Context(), s.caller, &userapi.DehydratedRequest{UserID: r.Device.UserID})
	if err != nil {
		return nil, err
	}
	return map[string]any{"device_id": res.DeviceID, "device_data": res.Data}, nil
}

// deleteDehydrated serves DELETE /dehydrated_device.
func (s *Server) deleteDehydrated(r *httpapi.Request) (any, error) {
	res, err := userapi.DeleteDehydrated.Call(r.Context(), s.caller, &userapi.DehydratedRequest{UserID: r.Device.UserID})
	if err != nil {
		return nil, err
	}
	return map[string]string{"device_id": res.DeviceID}, nil
}

// eventsAnswer answers with messages to a dehydrated device.
type eventsAnswer struct {
	Events    []toDeviceEvent `json:"events"`
	NextBatch string          `json:"next_batch,omitzero"`
}

type toDeviceEvent struct {
	Content jsontext.Value `json:"content"`
	Sender  string         `json:"sender"`
	Type    string         `json:"type"`
}

// getDehydratedEvents serves GET /dehydrated_device/{deviceId}/events, in which
// there is a next_batch as long as there are more messages.
func (s *Server) getDehydratedEvents(r *httpapi.Request) (any, error) {
	answer, more, err := s.dehydratedEvents(r, r.QueryString("from"))
	if err == nil && !more {
		answer.NextBatch = ""
	}
	return answer, err
}

// postDehydratedEvents serves POST /dehydrated_device/{deviceId}/events, as
// earlier texts of MSC3814 have it and clients do it: who asks goes on, always
// with a next_batch, until there are no events.
func (s *Server) postDehydratedEvents(r *httpapi.Request) (any, error) {
	var body struct {
		NextBatch string `json:"next_batch"`
	}
	if err := r.DecodeOptional(&body); err != nil {
		return nil, err
	}
	answer, _, err := s.dehydratedEvents(r, body.NextBatch)
	return answer, err
}

// dehydratedEvents reads messages; they stay until the device is deleted, so that
// a rehydration that breaks off can be begun anew.
func (s *Server) dehydratedEvents(r *httpapi.Request, from string) (answer *eventsAnswer, more bool, err error) {
	after := int64(0)
	if from != "" {
		text, ok := strings.CutPrefix(from, "d")
		if after, err = strconv.ParseInt(text, 10, 63); !ok || err != nil || after < 0 {
			return nil, false, matrixerror.InvalidParam("Unknown or malformed token")
		}
	}
	device, err := userapi.QueryDehydrated.Call(r.Context(), s.caller, &userapi.DehydratedRequest{UserID: r.Device.UserID})
	if err != nil && !matrixerror.Is(err, "M_NOT_FOUND") {
		return nil, false, err
	}
	if err != nil || device.DeviceID != r.PathValue("deviceId") {
		return nil, false, matrixerror.Forbidden("That is not the dehydrated device")
	}
	res, err := userapi.QueryToDevice.Call(r.Context(), s.caller, &userapi.ToDeviceRequest{
		UserID: r.Device.UserID, DeviceID: device.DeviceID, After: after, UpTo: 1 << 62, Limit: dehydratedBatch + 1})
	if err != nil {
		return nil, false, err
	}
	list := res.Messages
	if more = len(list) > dehydratedBatch; more {
		list = list[:dehydratedBatch]
	}
	answer = &eventsAnswer{Events: make([]toDeviceEvent, len(list))}
	for i, m := range list {
		answer.Events[i] = toDeviceEvent{m.Content, m.Sender, m.Type}
		after = m.Seq
	}
	answer.NextBatch = "d" + strconv.FormatInt(after, 10)
	return answer, more, nil
}
