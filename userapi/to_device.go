package userapi

import (
	"context"
	"maps"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
	"github.com/matrix-org/dendrite/userapi/storage"
)

const (
	// maxInbox bounds the messages to a device, of which the oldest go then: of
	// a device that nobody uses any more, in all likelihood.
	maxInbox = 20_000
	// inboxCheck is about how many messages come between looks at that.
	inboxCheck = 100
	// allDevices stands for each of a user's devices.
	allDevices = "*"
)

// sendToDevice puts messages into inboxes. The row of the request makes a retry,
// on any instance and after any crash, do nothing. It returns once readers are told:
// a client that shares a key, and then sends what is encrypted with it, is not to
// have that arrive first.
// spec: client-server-api §put_matrixclientv3sendtodeviceeventtypetxnid
func (s *Server) sendToDevice(ctx context.Context, r *api.SendToDeviceRequest) (*struct{}, error) {
	users := slices.Sorted(maps.Keys(r.Messages))
	var reach []string // users
	var seqs []int64   // of the changes that tell of it
	err := s.write(ctx, func(tx *sqldb.Tx) error {
		reach = nil // it may be tried again
		fresh, err := s.db.NoteSent(ctx, tx, r.Sender, r.DeviceID, r.RequestID, s.now().UnixMilli())
		if err != nil || !fresh || len(users) == 0 {
			return err
		}
		// They stay until this is committed: no message comes to a device
		// after what belongs to it was deleted.
		devices, err := s.db.KeepDevices(ctx, tx, users)
		if err != nil {
			return err
		}
		var list []storage.ToDevice
		var changes []api.UserChange
		first := map[string]int{} // of a user's messages
		for _, user := range users {
			reached := reached(r.Messages[user], devices[user])
			if len(reached) == 0 {
				continue
			}
			first[user] = len(changes)
			changes = append(changes, api.UserChange{UserID: user, Kind: api.ChangeToDevice, DeviceIDs: reached})
			for _, device := range reached {
				content, ok := r.Messages[user][device]
				if !ok {
					content = r.Messages[user][allDevices]
				}
				list = append(list, storage.ToDevice{DeviceName: storage.DeviceName{UserID: user, DeviceID: device}, Sender: r.Sender, Type: r.Type, Content: content})
			}
		}
		if seqs, err = s.db.Changes(ctx, tx, changes); err != nil || len(list) == 0 {
			return err
		}
		for _, c := range changes {
			reach = append(reach, c.UserID)
		}
		for i := range list {
			list[i].Seq = seqs[first[list[i].UserID]]
		}
		if err := s.db.PutToDevice(ctx, tx, list); err != nil {
			return err
		}
		return s.trimInboxes(ctx, tx, list)
	})
	if err == nil && len(reach) > 0 {
		s.awaitPublished(ctx, reach, seqs)
	}
	return &struct{}{}, err
}

// reached are those of a user's devices that messages are for.
func reached(messages map[string]jsontext.Value, devices []string) (out []string) {
	_, all := messages[allDevices]
	for _, device := range devices {
		if _, one := messages[device]; one || all {
			out = append(out, device)
		}
	}
	return out
}

func (s *Server) trimInboxes(ctx context.Context, tx *sqldb.Tx, list []storage.ToDevice) error {
	for _, m := range list {
		if m.Seq%inboxCheck != 0 {
			continue
		}
		n, err := s.db.TrimInbox(ctx, tx, m.DeviceName, s.maxInbox)
		if err != nil {
			return err
		}
		if n > 0 {
			s.logger.WithField("user", m.UserID).WithField("device", m.DeviceID).WithField("messages", n).
				Warn("A device's inbox is full; the oldest messages to it are dropped")
		}
	}
	return nil
}

func (s *Server) queryToDevice(ctx context.Context, r *api.ToDeviceRequest) (*api.ToDeviceResponse, error) {
	list, err := s.db.ToDevice(ctx, storage.DeviceName{UserID: r.UserID, DeviceID: r.DeviceID}, r.After, r.UpTo, r.Limit)
	return &api.ToDeviceResponse{Messages: list}, err
}

func (s *Server) ackToDevice(ctx context.Context, r *api.AckToDeviceRequest) (*struct{}, error) {
	return &struct{}{}, s.db.DeleteToDevice(ctx, storage.DeviceName{UserID: r.UserID, DeviceID: r.DeviceID}, r.UpTo)
}
