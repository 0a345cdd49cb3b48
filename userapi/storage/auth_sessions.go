package storage

import (
	"context"
	"strings"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// AuthSession is a row of auth_sessions.
type AuthSession struct {
	ID, Operation, UserID string
	Completed             []string
	RegistrationToken     string
	ExpiresTS             int64
}

// PutAuthSession stores a session and drops those that ran out.
func (d *Database) PutAuthSession(ctx context.Context, s AuthSession, now int64) error {
	return d.Write(ctx, func(tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, "DELETE FROM auth_sessions WHERE expires_ts < $1", now); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO auth_sessions (session_id, operation, user_id, completed, registration_token, expires_ts)
			VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (session_id) DO UPDATE
			SET completed = excluded.completed, registration_token = excluded.registration_token`,
			s.ID, s.Operation, s.UserID, strings.Join(s.Completed, " "), s.RegistrationToken, s.ExpiresTS)
		return err
	})
}

// AuthSession returns a session that has not run out; false when there is none.
func (d *Database) AuthSession(ctx context.Context, id string, now int64) (s AuthSession, ok bool, err error) {
	err = d.ReadOne(ctx, func(tx *sqldb.Tx) error {
		s.ID = id
		var completed string
		ok, err = sqldb.Found(tx.QueryRow(ctx, `SELECT operation, user_id, completed, registration_token, expires_ts FROM auth_sessions
			WHERE session_id = $1 AND expires_ts > $2`, id, now).Scan(&s.Operation, &s.UserID, &completed, &s.RegistrationToken, &s.ExpiresTS))
		s.Completed = strings.Fields(completed)
		return err
	})
	return s, ok, err
}

// DeleteAuthSession ends a session.
func (d *Database) DeleteAuthSession(ctx context.Context, tx *sqldb.Tx, id string) error {
	_, err := tx.Exec(ctx, "DELETE FROM auth_sessions WHERE session_id = $1", id)
	return err
}
