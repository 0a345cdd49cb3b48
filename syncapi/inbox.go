package syncapi

import (
	"context"

	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// maxToDevice bounds the messages of an answer.
// spec: client-server-api §send-to-device-messaging
const maxToDevice = 100

// inbox finds the messages to the device between since and the cut, and deletes
// those up to since, which the client has. Their places are those of user.output,
// as are those of account data: where there are more than an answer holds, the cut
// moves back to the last one told, and the next answer goes on from there.
func (a *answer) inbox(ctx context.Context) error {
	var err error
	if a.toDevice, err = a.messages(ctx, a.since.user(a.u.partition), maxToDevice+1); err != nil {
		return err
	}
	if len(a.toDevice) > maxToDevice {
		a.toDevice = a.toDevice[:maxToDevice]
		a.cut = a.cut.clone()
		a.cut.users[a.u.partition] = a.toDevice[maxToDevice-1].Seq
	}
	return nil
}

// messages returns the first messages to the device between a Seq and the cut, and
// deletes those up to it. Where there is nothing of both nobody is asked.
func (a *answer) messages(ctx context.Context, since int64, most int) ([]userapi.ToDeviceMessage, error) {
	cut := a.cut.user(a.u.partition)
	a.u.mu.Lock()
	d := a.u.ofDevice(a.deviceID)
	a.u.mu.Unlock()
	if d.first == 0 {
		return nil, nil
	}
	if d.first <= since {
		_, err := userapi.AckToDevice.Call(ctx, a.s.caller, &userapi.AckToDeviceRequest{UserID: a.u.id, DeviceID: a.deviceID, UpTo: since})
		if err != nil {
			return nil, err
		}
		a.u.acknowledged(a.deviceID, since)
	}
	if d.last <= since || d.first > cut {
		return nil, nil
	}
	res, err := userapi.QueryToDevice.Call(ctx, a.s.caller, &userapi.ToDeviceRequest{
		UserID: a.u.id, DeviceID: a.deviceID, After: since, UpTo: cut, Limit: most})
	if err != nil {
		return nil, err
	}
	return res.Messages, nil
}

// acknowledged notes that a device has nothing up to a Seq any more.
func (u *user) acknowledged(id string, upTo int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	d := u.ofDevice(id)
	if d.first > upTo {
		return // somebody was faster
	}
	if d.first = upTo + 1; d.last <= upTo {
		d.first, d.last = 0, 0
	}
	u.devices[id] = d
}

// appendToDevice appends the messages to the device.
func (a *answer) appendToDevice(body []byte) []byte {
	if len(a.toDevice) == 0 {
		return body
	}
	a.something = true
	return append(appendMessages(append(appendKey(body, "to_device"), '{'), a.toDevice), '}')
}

// appendMessages appends the member events.
func appendMessages(body []byte, messages []userapi.ToDeviceMessage) []byte {
	body = append(appendKey(body, "events"), '[')
	for i := range messages {
		m := &messages[i]
		body = append(append(comma(body), `{"content":`...), m.Content...)
		body = appendString(append(body, `,"sender":`...), m.Sender)
		body = append(appendString(append(body, `,"type":`...), m.Type), '}')
	}
	return append(body, ']')
}
