package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Account is a row of accounts.
type Account struct {
	UserID       string
	PasswordHash string // "" when there is no password
	Admin, Guest bool
	Locked       bool
	Suspended    bool
	Deactivated  bool
	CreatedTS    int64 // milliseconds
}

// InsertAccount stores a new account; false when the name is taken.
func (d *Database) InsertAccount(ctx context.Context, tx *sqldb.Tx, a Account) (bool, error) {
	return sqldb.Affected(tx.Exec(ctx, `INSERT INTO accounts (user_id, password_hash, admin, guest, locked, suspended, deactivated, created_ts)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
		a.UserID, a.PasswordHash, a.Admin, a.Guest, a.Locked, a.Suspended, a.Deactivated, a.CreatedTS))
}

// Account returns an account; false when there is none.
func (d *Database) Account(ctx context.Context, userID string) (a Account, ok bool, err error) {
	err = d.ReadOne(ctx, func(tx *sqldb.Tx) error {
		a.UserID = userID
		ok, err = sqldb.Found(tx.QueryRow(ctx, `SELECT password_hash, admin, guest, locked, suspended, deactivated, created_ts
			FROM accounts WHERE user_id = $1`, userID).
			Scan(&a.PasswordHash, &a.Admin, &a.Guest, &a.Locked, &a.Suspended, &a.Deactivated, &a.CreatedTS))
		return err
	})
	return a, ok, err
}

// LockAccount returns an account and keeps it as it is until the transaction
// ends: whoever makes or ends sessions, or changes what was read before, takes
// turns by it. False when there is no such account. The update is the lock that both engines know.
func (d *Database) LockAccount(ctx context.Context, tx *sqldb.Tx, userID string) (a Account, ok bool, err error) {
	a.UserID = userID
	ok, err = sqldb.Found(tx.QueryRow(ctx, `UPDATE accounts SET user_id = user_id WHERE user_id = $1
		RETURNING password_hash, admin, guest, locked, suspended, deactivated, created_ts`, userID).
		Scan(&a.PasswordHash, &a.Admin, &a.Guest, &a.Locked, &a.Suspended, &a.Deactivated, &a.CreatedTS))
	return a, ok, err
}

// Guests returns those of the users who are guests.
func (d *Database) Guests(ctx context.Context, userIDs []string) (out []string, err error) {
	err = d.Read(ctx, func(tx *sqldb.Tx) error {
		out, err = tx.Texts(ctx, "SELECT user_id FROM accounts WHERE user_id "+d.Any("$1")+" AND guest = $2", sqldb.List(userIDs), true)
		return err
	})
	return out, err
}

// UpgradeGuest makes a guest's account a user's; false when it is none.
func (d *Database) UpgradeGuest(ctx context.Context, tx *sqldb.Tx, userID, hash string) (bool, error) {
	return sqldb.Affected(tx.Exec(ctx, "UPDATE accounts SET guest = $1, password_hash = $2 WHERE user_id = $3 AND guest = $4 AND deactivated = $5",
		false, hash, userID, true, false))
}

// SetPassword replaces an account's password hash.
func (d *Database) SetPassword(ctx context.Context, tx *sqldb.Tx, userID, hash string) error {
	_, err := tx.Exec(ctx, "UPDATE accounts SET password_hash = $1 WHERE user_id = $2", hash, userID)
	return err
}

// Deactivate ends an account; false when it was ended before.
func (d *Database) Deactivate(ctx context.Context, tx *sqldb.Tx, userID string) (bool, error) {
	return sqldb.Affected(tx.Exec(ctx, "UPDATE accounts SET deactivated = $1, password_hash = '' WHERE user_id = $2 AND deactivated = $3", true, userID, false))
}

// UseRegistrationToken counts one use; false when the token may not be used.
func (d *Database) UseRegistrationToken(ctx context.Context, tx *sqldb.Tx, token string, now int64) (bool, error) {
	return sqldb.Affected(tx.Exec(ctx, `UPDATE registration_tokens SET used = used + 1
		WHERE token = $1 AND (uses_allowed = 0 OR used < uses_allowed) AND (expires_ts = 0 OR expires_ts > $2)`, token, now))
}

// RegistrationTokenValid tells whether a token may be used.
func (d *Database) RegistrationTokenValid(ctx context.Context, token string, now int64) (valid bool, err error) {
	err = d.ReadOne(ctx, func(tx *sqldb.Tx) error {
		var one int
		valid, err = sqldb.Found(tx.QueryRow(ctx, `SELECT 1 FROM registration_tokens
			WHERE token = $1 AND (uses_allowed = 0 OR used < uses_allowed) AND (expires_ts = 0 OR expires_ts > $2)`, token, now).Scan(&one))
		return err
	})
	return valid, err
}

// PutRegistrationToken stores a token.
func (d *Database) PutRegistrationToken(ctx context.Context, token string, usesAllowed, expires int64) error {
	return d.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO registration_tokens (token, uses_allowed, used, expires_ts) VALUES ($1, $2, 0, $3)
			ON CONFLICT (token) DO UPDATE SET uses_allowed = excluded.uses_allowed, expires_ts = excluded.expires_ts`, token, usesAllowed, expires)
		return err
	})
}
