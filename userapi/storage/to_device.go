package storage

import (
	"context"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
)

// ToDevice is a message in a device's inbox.
type ToDevice struct {
	DeviceName
	Seq          int64
	Sender, Type string
	Content      jsontext.Value
}

// NoteSent notes that a device's request is being carried out; false when it was
// before.
func (d *Database) NoteSent(ctx context.Context, tx *sqldb.Tx, userID, deviceID, requestID string, now int64) (bool, error) {
	return sqldb.Affected(tx.Exec(ctx, "INSERT INTO to_device_sent (user_id, device_id, request_id, created_ts) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
		userID, deviceID, requestID, now))
}

// DropSent forgets requests of before the time given in milliseconds.
func (d *Database) DropSent(ctx context.Context, before int64) error {
	return d.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM to_device_sent WHERE created_ts < $1", before)
		return err
	})
}

// PutToDevice stores messages.
func (d *Database) PutToDevice(ctx context.Context, tx *sqldb.Tx, list []ToDevice) error {
	rows := make([][]any, len(list))
	for i, m := range list {
		rows[i] = []any{m.UserID, m.DeviceID, m.Seq, m.Sender, m.Type, string(m.Content)}
	}
	_, err := tx.ExecMany(ctx, "INSERT INTO to_device (user_id, device_id, seq, sender, type, content) VALUES ($1, $2, $3, $4, $5, $6)", nil, rows)
	return err
}

// TrimInbox deletes all but a device's last messages.
func (d *Database) TrimInbox(ctx context.Context, tx *sqldb.Tx, dev DeviceName, most int) (int64, error) {
	res, err := tx.Exec(ctx, `DELETE FROM to_device WHERE user_id = $1 AND device_id = $2 AND seq <= (SELECT seq FROM to_device
		WHERE user_id = $1 AND device_id = $2 ORDER BY seq DESC LIMIT 1 OFFSET $3)`, dev.UserID, dev.DeviceID, most)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// DeleteToDevice deletes a device's messages up to a Seq.
func (d *Database) DeleteToDevice(ctx context.Context, dev DeviceName, upTo int64) error {
	return d.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM to_device WHERE user_id = $1 AND device_id = $2 AND seq <= $3", dev.UserID, dev.DeviceID, upTo)
		return err
	})
}

// ToDevice returns a device's messages in (after, upTo], in order, at most limit.
func (d *Database) ToDevice(ctx context.Context, dev DeviceName, after, upTo int64, limit int) (out []api.ToDeviceMessage, err error) {
	err = d.ReadOne(ctx, func(tx *sqldb.Tx) error {
		out = nil
		return tx.Each(ctx, func(scan func(...any) error) error {
			var m api.ToDeviceMessage
			var content string
			err := scan(&m.Seq, &m.Sender, &m.Type, &content)
			m.Content = jsontext.Value(content)
			out = append(out, m)
			return err
		}, `SELECT seq, sender, type, content FROM to_device WHERE user_id = $1 AND device_id = $2 AND seq > $3 AND seq <= $4
			ORDER BY seq LIMIT $5`, dev.UserID, dev.DeviceID, after, upTo, limit)
	})
	return out, err
}

// Inboxes returns the first and last Seq of the messages to a user's devices.
func (d *Database) Inboxes(ctx context.Context, tx *sqldb.Tx, userID string) (map[string][2]int64, error) {
	out := map[string][2]int64{}
	err := tx.Each(ctx, func(scan func(...any) error) error {
		var device string
		var seqs [2]int64
		err := scan(&device, &seqs[0], &seqs[1])
		out[device] = seqs
		return err
	}, "SELECT device_id, min(seq), max(seq) FROM to_device WHERE user_id = $1 GROUP BY device_id", userID)
	return out, err
}
