package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// TakeAttempt takes one of the attempts of a key, of which burst are there at
// first and one comes back in every milliseconds. It returns how many
// milliseconds to wait when there is none. A row of a later time than there can
// be, since the clock was set back, is like none.
func (d *Database) TakeAttempt(ctx context.Context, key string, now, every, burst int64) (wait int64, err error) {
	err = d.Write(ctx, func(tx *sqldb.Tx) error {
		var full int64
		wait = 0
		ok, err := sqldb.Found(tx.QueryRow(ctx, `INSERT INTO attempts (key, full_ts) VALUES ($1, $2)
			ON CONFLICT (key) DO UPDATE SET full_ts =
				CASE WHEN attempts.full_ts < $3 OR attempts.full_ts > $4 THEN $5 ELSE attempts.full_ts + $6 END
			WHERE attempts.full_ts <= $7 OR attempts.full_ts > $8 RETURNING full_ts`,
			key, now+every, now, now+burst*every, now+every, every, now+(burst-1)*every, now+burst*every).Scan(&full))
		if err != nil || ok {
			return err
		}
		if err := tx.QueryRow(ctx, "SELECT full_ts FROM attempts WHERE key = $1", key).Scan(&full); err != nil {
			return err
		}
		wait = full - now - (burst-1)*every
		return nil
	})
	return wait, err
}

// GiveAttempt gives an attempt of a key back.
func (d *Database) GiveAttempt(ctx context.Context, key string, every int64) error {
	return d.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE attempts SET full_ts = full_ts - $1 WHERE key = $2", every, key)
		return err
	})
}

// DropAttempts deletes the keys that have all attempts again, and of more than
// most those that have them soonest.
func (d *Database) DropAttempts(ctx context.Context, now int64, most int) error {
	return d.Write(ctx, func(tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, "DELETE FROM attempts WHERE full_ts <= $1", now); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "DELETE FROM attempts WHERE key IN (SELECT key FROM attempts ORDER BY full_ts DESC LIMIT 1000000 OFFSET $1)", most)
		return err
	})
}
