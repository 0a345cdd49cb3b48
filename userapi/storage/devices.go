package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
)

// PutDevice stores a device, or takes over the one with that ID: its tokens
// end, its display name is kept.
// spec: client-server-api §post_matrixclientv3login
func (d *Database) PutDevice(ctx context.Context, tx *sqldb.Tx, userID string, dev api.DeviceInfo) error {
	if err := d.deleteTokens(ctx, tx, userID, dev.DeviceID); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `INSERT INTO devices (user_id, device_id, display_name, last_seen_ip, last_seen_ts) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (user_id, device_id) DO UPDATE SET last_seen_ip = excluded.last_seen_ip, last_seen_ts = excluded.last_seen_ts`,
		userID, dev.DeviceID, dev.DisplayName, dev.LastSeenIP, dev.LastSeenTS)
	return err
}

// CountDevices counts a user's devices but one.
func (d *Database) CountDevices(ctx context.Context, tx *sqldb.Tx, userID, but string) (n int, err error) {
	err = tx.QueryRow(ctx, "SELECT count(*) FROM devices WHERE user_id = $1 AND device_id <> $2", userID, but).Scan(&n)
	return n, err
}

// Devices lists a user's devices by ID, within a transaction.
func (d *Database) Devices(ctx context.Context, tx *sqldb.Tx, userID string) ([]api.DeviceInfo, error) {
	out := []api.DeviceInfo{}
	err := tx.Each(ctx, func(scan func(...any) error) error {
		var dev api.DeviceInfo
		err := scan(&dev.DeviceID, &dev.DisplayName, &dev.LastSeenIP, &dev.LastSeenTS)
		out = append(out, dev)
		return err
	}, "SELECT device_id, display_name, last_seen_ip, last_seen_ts FROM devices WHERE user_id = $1 ORDER BY device_id", userID)
	return out, err
}

// SeenAt tells whether one of a user's devices was last heard of at an address.
func (d *Database) SeenAt(ctx context.Context, userID, ip string) (seen bool, err error) {
	err = d.ReadOne(ctx, func(tx *sqldb.Tx) error {
		var one int
		seen, err = sqldb.Found(tx.QueryRow(ctx, "SELECT 1 FROM devices WHERE user_id = $1 AND last_seen_ip = $2 LIMIT 1", userID, ip).Scan(&one))
		return err
	})
	return seen, err
}

// RenameDevice sets a display name, or with set false only looks whether the
// device is there; false when it is not.
func (d *Database) RenameDevice(ctx context.Context, tx *sqldb.Tx, userID, deviceID, name string, set bool) (bool, error) {
	if !set {
		var one int
		return sqldb.Found(tx.QueryRow(ctx, "SELECT 1 FROM devices WHERE user_id = $1 AND device_id = $2", userID, deviceID).Scan(&one))
	}
	return sqldb.Affected(tx.Exec(ctx, "UPDATE devices SET display_name = $1 WHERE user_id = $2 AND device_id = $3", name, userID, deviceID))
}

// DeleteDevice ends a device and its tokens; false when there is none.
func (d *Database) DeleteDevice(ctx context.Context, tx *sqldb.Tx, userID, deviceID string) (bool, error) {
	if err := d.deleteTokens(ctx, tx, userID, deviceID); err != nil {
		return false, err
	}
	return sqldb.Affected(tx.Exec(ctx, "DELETE FROM devices WHERE user_id = $1 AND device_id = $2", userID, deviceID))
}

// Seen notes that devices were heard of; what names none is passed over.
func (d *Database) Seen(ctx context.Context, tx *sqldb.Tx, list []api.Activity) error {
	rows := make([][]any, 0, len(list))
	for _, a := range list {
		if a.DeviceID != "" {
			rows = append(rows, []any{a.IP, a.IP, a.TS, a.UserID, a.DeviceID, a.TS})
		}
	}
	_, err := tx.ExecMany(ctx, `UPDATE devices SET last_seen_ip = CASE WHEN $1 = '' THEN last_seen_ip ELSE $2 END, last_seen_ts = $3
		WHERE user_id = $4 AND device_id = $5 AND last_seen_ts < $6`, []int{4, 5}, rows)
	return err
}
