package storage

import (
	"context"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
)

// NewBackup makes the next version of a user's key backup and returns its number.
// The caller has locked the account.
func (d *Database) NewBackup(ctx context.Context, tx *sqldb.Tx, userID, algorithm string, authData jsontext.Value) (version int64, err error) {
	err = tx.QueryRow(ctx, `INSERT INTO key_backups (user_id, version, algorithm, auth_data, etag, keys, deleted)
		SELECT $1, coalesce(max(version), 0) + 1, $2, $3, 0, 0, FALSE FROM key_backups WHERE user_id = $4 RETURNING version`,
		userID, algorithm, string(authData), userID).Scan(&version)
	return version, err
}

// Backup returns a version of a user's key backup, the last one for 0; Version is
// 0 when there is none. Deleted ones are found by their number only.
func (d *Database) Backup(ctx context.Context, tx *sqldb.Tx, userID string, version int64) (b api.KeyBackup, deleted bool, err error) {
	text, args := "AND version = $2", []any{userID, version}
	if version == 0 {
		text, args = "AND NOT deleted ORDER BY version DESC LIMIT 1", []any{userID}
	}
	var auth string
	_, err = sqldb.Found(tx.QueryRow(ctx, "SELECT version, algorithm, auth_data, etag, keys, deleted FROM key_backups WHERE user_id = $1 "+text, args...).
		Scan(&b.Version, &b.Algorithm, &auth, &b.ETag, &b.Count, &deleted))
	b.AuthData = jsontext.Value(auth)
	return b, deleted, err
}

// PutBackup replaces what is said of a version.
func (d *Database) PutBackup(ctx context.Context, tx *sqldb.Tx, userID string, version int64, authData jsontext.Value) error {
	_, err := tx.Exec(ctx, "UPDATE key_backups SET auth_data = $1 WHERE user_id = $2 AND version = $3", string(authData), userID, version)
	return err
}

// DeleteBackup deletes a version with its keys.
func (d *Database) DeleteBackup(ctx context.Context, tx *sqldb.Tx, userID string, version int64) error {
	if _, err := tx.Exec(ctx, "DELETE FROM key_backup_keys WHERE user_id = $1 AND version = $2", userID, version); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "UPDATE key_backups SET deleted = $1, auth_data = '{}', keys = 0 WHERE user_id = $2 AND version = $3", true, userID, version)
	return err
}

// PutBackupKeys stores keys, each unless a better one is there, and says what
// the version has then.
// spec: client-server-api §server-side-key-backups
func (d *Database) PutBackupKeys(ctx context.Context, tx *sqldb.Tx, userID string, version int64, keys []api.BackupKey) error {
	columns := []string{"c_room", "c_session"}
	names, rows := make([][]any, len(keys)), make([][]any, len(keys))
	for i, k := range keys {
		names[i] = []any{k.RoomID, k.SessionID}
		rows[i] = []any{userID, version, k.RoomID, k.SessionID, k.IsVerified, k.FirstMessageIndex, k.ForwardedCount, string(k.SessionData)}
	}
	var known int64
	err := tx.QueryRow(ctx, `SELECT count(*) FROM `+d.From("$1", "c", columns)+`
		JOIN key_backup_keys k ON k.user_id = $2 AND k.version = $3 AND k.room_id = c.c_room AND k.session_id = c.c_session`,
		sqldb.Records(columns, names), userID, version).Scan(&known)
	if err != nil {
		return err
	}
	changed, err := tx.ExecMany(ctx, `INSERT INTO key_backup_keys
		(user_id, version, room_id, session_id, is_verified, first_message_index, forwarded_count, session_data) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (user_id, version, room_id, session_id) DO UPDATE SET is_verified = excluded.is_verified,
			first_message_index = excluded.first_message_index, forwarded_count = excluded.forwarded_count, session_data = excluded.session_data
		WHERE (excluded.is_verified AND NOT key_backup_keys.is_verified) OR (excluded.is_verified = key_backup_keys.is_verified
			AND (excluded.first_message_index < key_backup_keys.first_message_index
				OR (excluded.first_message_index = key_backup_keys.first_message_index AND excluded.forwarded_count < key_backup_keys.forwarded_count)))`,
		[]int{1, 2, 3, 4}, rows)
	if err != nil || changed == 0 {
		return err
	}
	return d.backupChanged(ctx, tx, userID, version, int64(len(keys))-known)
}

// DeleteBackupKeys deletes keys of a version: all, those of a room, or one.
func (d *Database) DeleteBackupKeys(ctx context.Context, tx *sqldb.Tx, userID string, version int64, roomID, sessionID string) error {
	text, args := keysOf(userID, version, roomID, sessionID)
	res, err := tx.Exec(ctx, "DELETE FROM key_backup_keys WHERE "+text, args...)
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err != nil || n == 0 {
		return err
	}
	return d.backupChanged(ctx, tx, userID, version, -n)
}

func (d *Database) backupChanged(ctx context.Context, tx *sqldb.Tx, userID string, version, more int64) error {
	_, err := tx.Exec(ctx, "UPDATE key_backups SET etag = etag + 1, keys = keys + $1 WHERE user_id = $2 AND version = $3", more, userID, version)
	return err
}

// BackupKeys returns keys of a version, by room and session, behind one of them;
// at most limit.
func (d *Database) BackupKeys(ctx context.Context, tx *sqldb.Tx, userID string, version int64, q *api.BackupKeysRequest, limit int) (out []api.BackupKey, err error) {
	text, args := keysOf(userID, version, q.RoomID, q.SessionID)
	if q.AfterRoom != "" {
		n := len(args)
		text += " AND (room_id, session_id) > ($" + strconv.Itoa(n+1) + ", $" + strconv.Itoa(n+2) + ")"
		args = append(args, q.AfterRoom, q.AfterSession)
	}
	err = tx.Each(ctx, func(scan func(...any) error) error {
		var k api.BackupKey
		var data string
		err := scan(&k.RoomID, &k.SessionID, &k.IsVerified, &k.FirstMessageIndex, &k.ForwardedCount, &data)
		k.SessionData = jsontext.Value(data)
		out = append(out, k)
		return err
	}, `SELECT room_id, session_id, is_verified, first_message_index, forwarded_count, session_data FROM key_backup_keys WHERE `+text+`
		ORDER BY room_id, session_id LIMIT $`+strconv.Itoa(len(args)+1), append(args, limit)...)
	return out, err
}

func keysOf(userID string, version int64, roomID, sessionID string) (text string, args []any) {
	text, args = "user_id = $1 AND version = $2", []any{userID, version}
	if roomID != "" {
		text, args = text+" AND room_id = $3", append(args, roomID)
	}
	if sessionID != "" {
		text, args = text+" AND session_id = $4", append(args, sessionID)
	}
	return text, args
}
