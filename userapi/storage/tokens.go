package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/sqldb"
)

// Token is an access token as it is stored.
type Token struct {
	Hash             string
	ID               int64
	UserID, DeviceID string
	ExpiresTS        int64  // milliseconds; 0: never
	RefreshHash      string // "" when it cannot be refreshed
}

// InsertToken stores an access token.
func (d *Database) InsertToken(ctx context.Context, tx *sqldb.Tx, t Token) error {
	_, err := tx.Exec(ctx, "INSERT INTO access_tokens (hash, token_id, user_id, device_id, expires_ts, refresh_hash) VALUES ($1, $2, $3, $4, $5, $6)",
		t.Hash, t.ID, t.UserID, t.DeviceID, t.ExpiresTS, t.RefreshHash)
	return err
}

// Verified is what a token stands for.
type Verified struct {
	Device      httpapi.Device
	ExpiresTS   int64
	RefreshHash string
	// Parent is the refresh token that this token's use makes void.
	Parent string
	// DisplayName and AvatarURL are fields of the user's profile, "" where it has none.
	DisplayName, AvatarURL string
}

// Verify returns whose access token it is; false when it is unknown.
func (d *Database) Verify(ctx context.Context, hash string) (v Verified, ok bool, err error) {
	err = d.ReadOne(ctx, func(tx *sqldb.Tx) error {
		ok, err = sqldb.Found(tx.QueryRow(ctx, `SELECT t.token_id, t.user_id, t.device_id, t.expires_ts, t.refresh_hash, coalesce(r.parent, ''),
			coalesce(d.display_name, ''), a.admin, a.guest, a.locked, a.suspended, coalesce(n.value, ''), coalesce(p.value, '')
			FROM access_tokens t JOIN accounts a ON a.user_id = t.user_id
			LEFT JOIN devices d ON d.user_id = t.user_id AND d.device_id = t.device_id
			LEFT JOIN refresh_tokens r ON r.hash = t.refresh_hash
			LEFT JOIN profiles n ON n.user_id = t.user_id AND n.field = 'displayname'
			LEFT JOIN profiles p ON p.user_id = t.user_id AND p.field = 'avatar_url'
			WHERE t.hash = $1 AND a.deactivated = $2`, hash, false).
			Scan(&v.Device.AccessTokenID, &v.Device.UserID, &v.Device.DeviceID, &v.ExpiresTS, &v.RefreshHash, &v.Parent,
				&v.Device.DisplayName, &v.Device.IsAdmin, &v.Device.IsGuest, &v.Device.Locked, &v.Device.Suspended, &v.DisplayName, &v.AvatarURL))
		return err
	})
	return v, ok, err
}

// TokenUser returns whose access token it is, within a transaction; "" when it
// is unknown.
func (d *Database) TokenUser(ctx context.Context, tx *sqldb.Tx, hash string) (userID string, err error) {
	_, err = sqldb.Found(tx.QueryRow(ctx, "SELECT user_id FROM access_tokens WHERE hash = $1", hash).Scan(&userID))
	return userID, err
}

// InsertRefreshToken stores a refresh token, with the one that it replaces.
func (d *Database) InsertRefreshToken(ctx context.Context, tx *sqldb.Tx, hash, userID, deviceID, parent string) error {
	_, err := tx.Exec(ctx, "INSERT INTO refresh_tokens (hash, user_id, device_id, parent) VALUES ($1, $2, $3, $4)", hash, userID, deviceID, parent)
	return err
}

// RefreshToken returns whose refresh token it is; false when it is unknown.
func (d *Database) RefreshToken(ctx context.Context, tx *sqldb.Tx, hash string) (userID, deviceID, parent string, ok bool, err error) {
	ok, err = sqldb.Found(tx.QueryRow(ctx, "SELECT user_id, device_id, parent FROM refresh_tokens WHERE hash = $1", hash).Scan(&userID, &deviceID, &parent))
	return userID, deviceID, parent, ok, err
}

// DropChildren deletes the unused tokens that were made from a refresh token.
func (d *Database) DropChildren(ctx context.Context, tx *sqldb.Tx, parent string) error {
	if _, err := tx.Exec(ctx, "DELETE FROM access_tokens WHERE refresh_hash IN (SELECT hash FROM refresh_tokens WHERE parent = $1)", parent); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "DELETE FROM refresh_tokens WHERE parent = $1", parent)
	return err
}

// Confirm notes that a token made from parent was used: parent ends, and the
// access token that came with it.
func (d *Database) Confirm(ctx context.Context, tx *sqldb.Tx, parent string) error {
	if parent == "" {
		return nil
	}
	for _, text := range []string{
		"DELETE FROM access_tokens WHERE refresh_hash = $1",
		"DELETE FROM refresh_tokens WHERE hash = $1",
		"UPDATE refresh_tokens SET parent = '' WHERE parent = $1",
	} {
		if _, err := tx.Exec(ctx, text, parent); err != nil {
			return err
		}
	}
	return nil
}

func (d *Database) deleteTokens(ctx context.Context, tx *sqldb.Tx, userID, deviceID string) error {
	for _, text := range []string{
		"DELETE FROM access_tokens WHERE user_id = $1 AND device_id = $2",
		"DELETE FROM refresh_tokens WHERE user_id = $1 AND device_id = $2",
	} {
		if _, err := tx.Exec(ctx, text, userID, deviceID); err != nil {
			return err
		}
	}
	return nil
}

// InsertShortToken stores a short-lived token and drops those that ran out.
func (d *Database) InsertShortToken(ctx context.Context, hash, kind, userID string, now, expires int64) error {
	return d.Write(ctx, func(tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, "DELETE FROM short_tokens WHERE expires_ts < $1", now); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "INSERT INTO short_tokens (hash, kind, user_id, expires_ts) VALUES ($1, $2, $3, $4)", hash, kind, userID, expires)
		return err
	})
}

// DeleteShortTokens ends a user's short-lived tokens of a kind.
func (d *Database) DeleteShortTokens(ctx context.Context, tx *sqldb.Tx, userID, kind string) error {
	_, err := tx.Exec(ctx, "DELETE FROM short_tokens WHERE user_id = $1 AND kind = $2", userID, kind)
	return err
}

// UseShortToken returns whose short-lived token it is, and ends it; "" when it
// is unknown or ran out.
func (d *Database) UseShortToken(ctx context.Context, tx *sqldb.Tx, hash, kind string, now int64) (userID string, err error) {
	_, err = sqldb.Found(tx.QueryRow(ctx, "DELETE FROM short_tokens WHERE hash = $1 AND kind = $2 AND expires_ts > $3 RETURNING user_id", hash, kind, now).Scan(&userID))
	return userID, err
}

// ShortToken returns whose short-lived token it is; "" when it is unknown or
// ran out.
func (d *Database) ShortToken(ctx context.Context, hash, kind string, now int64) (userID string, err error) {
	err = d.ReadOne(ctx, func(tx *sqldb.Tx) error {
		_, err := sqldb.Found(tx.QueryRow(ctx, "SELECT user_id FROM short_tokens WHERE hash = $1 AND kind = $2 AND expires_ts > $3", hash, kind, now).Scan(&userID))
		return err
	})
	return userID, err
}
