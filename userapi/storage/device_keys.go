package storage

import (
	"context"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// DeviceKeys are a device's identity keys as it has uploaded them.
type DeviceKeys struct {
	UserID, DeviceID string
	Keys             jsontext.Value
	// DisplayName is the device's.
	DisplayName string
}

// KeepDevice tells whether a device is there, and keeps it until the transaction
// ends.
func (d *Database) KeepDevice(ctx context.Context, tx *sqldb.Tx, userID, deviceID string) (bool, error) {
	var one int
	return sqldb.Found(tx.QueryRow(ctx, "SELECT 1 FROM devices WHERE user_id = $1 AND device_id = $2"+d.Keep(), userID, deviceID).Scan(&one))
}

// KeepDevices returns the devices of users, and keeps them until the transaction
// ends.
func (d *Database) KeepDevices(ctx context.Context, tx *sqldb.Tx, userIDs []string) (map[string][]string, error) {
	out := map[string][]string{}
	err := tx.Each(ctx, func(scan func(...any) error) error {
		var user, device string
		err := scan(&user, &device)
		out[user] = append(out[user], device)
		return err
	}, "SELECT user_id, device_id FROM devices WHERE user_id "+d.Any("$1")+" ORDER BY user_id, device_id"+d.Keep(), sqldb.List(userIDs))
	return out, err
}

// DeviceNamed tells whether a user has a device with one of the IDs.
func (d *Database) DeviceNamed(ctx context.Context, tx *sqldb.Tx, userID string, ids []string) (bool, error) {
	var one int
	return sqldb.Found(tx.QueryRow(ctx, "SELECT 1 FROM devices WHERE user_id = $1 AND device_id "+d.Any("$2")+" LIMIT 1", userID, sqldb.List(ids)).Scan(&one))
}

// KeysOfDevices returns the identity keys of all devices of users.
func (d *Database) KeysOfDevices(ctx context.Context, tx *sqldb.Tx, userIDs []string) (out []DeviceKeys, err error) {
	err = tx.Each(ctx, func(scan func(...any) error) error {
		var k DeviceKeys
		var keys string
		err := scan(&k.UserID, &k.DeviceID, &keys, &k.DisplayName)
		k.Keys = jsontext.Value(keys)
		out = append(out, k)
		return err
	}, `SELECT k.user_id, k.device_id, k.keys, d.display_name FROM device_keys k
		JOIN devices d ON d.user_id = k.user_id AND d.device_id = k.device_id WHERE k.user_id `+d.Any("$1"), sqldb.List(userIDs))
	return out, err
}

// KeysOfDevice returns a device's identity keys; nil when there are none.
func (d *Database) KeysOfDevice(ctx context.Context, tx *sqldb.Tx, userID, deviceID string) (jsontext.Value, error) {
	var keys string
	ok, err := sqldb.Found(tx.QueryRow(ctx, "SELECT keys FROM device_keys WHERE user_id = $1 AND device_id = $2", userID, deviceID).Scan(&keys))
	if err != nil || !ok {
		return nil, err
	}
	return jsontext.Value(keys), nil
}

// PutDeviceKeys stores a device's identity keys.
func (d *Database) PutDeviceKeys(ctx context.Context, tx *sqldb.Tx, userID, deviceID string, keys jsontext.Value) error {
	_, err := tx.Exec(ctx, `INSERT INTO device_keys (user_id, device_id, keys) VALUES ($1, $2, $3)
		ON CONFLICT (user_id, device_id) DO UPDATE SET keys = excluded.keys`, userID, deviceID, string(keys))
	return err
}

// DropPrekeys deletes a device's one-time and fallback keys.
func (d *Database) DropPrekeys(ctx context.Context, tx *sqldb.Tx, userID, deviceID string) error {
	for _, table := range []string{"one_time_keys", "fallback_keys"} {
		if _, err := tx.Exec(ctx, "DELETE FROM "+table+" WHERE user_id = $1 AND device_id = $2", userID, deviceID); err != nil {
			return err
		}
	}
	return nil
}

// Dropped says what a device that was deleted had.
type Dropped struct {
	// Keys tells that others knew its identity keys, Prekeys that there were
	// one-time or fallback keys to be counted.
	Keys, Prekeys bool
}

// DropDeviceKeys deletes what belongs to a device that was deleted in the
// transaction: keys, signatures of it, messages to it.
func (d *Database) DropDeviceKeys(ctx context.Context, tx *sqldb.Tx, userID, deviceID string) (had Dropped, err error) {
	if had.Prekeys, err = sqldb.Affected(tx.Exec(ctx, "DELETE FROM key_turns WHERE user_id = $1 AND device_id = $2", userID, deviceID)); err != nil {
		return had, err
	}
	if had.Keys, err = sqldb.Affected(tx.Exec(ctx, "DELETE FROM device_keys WHERE user_id = $1 AND device_id = $2", userID, deviceID)); err != nil {
		return had, err
	}
	if err := d.DropPrekeys(ctx, tx, userID, deviceID); err != nil {
		return had, err
	}
	for _, text := range []string{
		"DELETE FROM to_device WHERE user_id = $1 AND device_id = $2",
		"DELETE FROM to_device_sent WHERE user_id = $1 AND device_id = $2",
		"DELETE FROM dehydrated_devices WHERE user_id = $1 AND device_id = $2",
		"DELETE FROM key_signatures WHERE user_id = $1 AND key_id = $2",
	} {
		if _, err := tx.Exec(ctx, text, userID, deviceID); err != nil {
			return had, err
		}
	}
	_, err = tx.Exec(ctx, "DELETE FROM key_signatures WHERE signer_id = $1 AND signer_key = $2", userID, "ed25519:"+deviceID)
	return had, err
}

// DropUserKeys deletes what a user has beside devices: cross-signing keys and
// what they signed, key backups.
func (d *Database) DropUserKeys(ctx context.Context, tx *sqldb.Tx, userID string) error {
	for _, text := range []string{
		"DELETE FROM cross_signing_keys WHERE user_id = $1",
		"DELETE FROM key_signatures WHERE user_id = $1",
		"DELETE FROM key_signatures WHERE signer_id = $1",
		"DELETE FROM key_backup_keys WHERE user_id = $1",
		"DELETE FROM key_backups WHERE user_id = $1",
	} {
		if _, err := tx.Exec(ctx, text, userID); err != nil {
			return err
		}
	}
	return nil
}

// PutDehydrated notes which device of a user is the dehydrated one.
func (d *Database) PutDehydrated(ctx context.Context, tx *sqldb.Tx, userID, deviceID string, data jsontext.Value) error {
	_, err := tx.Exec(ctx, `INSERT INTO dehydrated_devices (user_id, device_id, data) VALUES ($1, $2, $3)
		ON CONFLICT (user_id) DO UPDATE SET device_id = excluded.device_id, data = excluded.data`, userID, deviceID, string(data))
	return err
}

// Dehydrated returns a user's dehydrated device; "" when there is none.
func (d *Database) Dehydrated(ctx context.Context, tx *sqldb.Tx, userID string) (deviceID string, data jsontext.Value, err error) {
	var text string
	_, err = sqldb.Found(tx.QueryRow(ctx, "SELECT device_id, data FROM dehydrated_devices WHERE user_id = $1", userID).Scan(&deviceID, &text))
	return deviceID, jsontext.Value(text), err
}
