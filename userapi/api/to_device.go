package api

import (
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/rpc"
)

// The methods around messages to devices.
// spec: client-server-api §send-to-device-messaging
var (
	// SendToDevice puts messages into the inboxes of local users' devices, once
	// for each RequestID of a device.
	SendToDevice = rpc.NewMethod[SendToDeviceRequest, struct{}](Service, "send_to_device").Harmless()
	// QueryToDevice returns messages of a device's inbox, which stay there.
	QueryToDevice = rpc.NewMethod[ToDeviceRequest, ToDeviceResponse](Service, "to_device").Harmless()
	// AckToDevice deletes the messages that a device has got.
	AckToDevice = rpc.NewMethod[AckToDeviceRequest, struct{}](Service, "ack_to_device").Harmless()
)

// SendToDeviceRequest holds messages by user and device ("*" for all of a user's
// devices). Users and devices that do not exist are passed over.
type SendToDeviceRequest struct {
	Sender, DeviceID string
	RequestID        string
	Type             string
	Messages         map[string]map[string]jsontext.Value
}

// ToDeviceRequest asks for the messages of a device with a Seq in (After, UpTo],
// at most Limit.
type ToDeviceRequest struct {
	UserID, DeviceID string
	After, UpTo      int64
	Limit            int
}

// ToDeviceMessage is a message. Seq is its position on user.output.
type ToDeviceMessage struct {
	Seq          int64
	Sender, Type string
	Content      jsontext.Value
}

// ToDeviceResponse holds messages in their order.
type ToDeviceResponse struct{ Messages []ToDeviceMessage }

// AckToDeviceRequest says up to which Seq a device has got its messages.
type AckToDeviceRequest struct {
	UserID, DeviceID string
	UpTo             int64
}
