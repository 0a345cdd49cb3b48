package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// EndSession notes that tokens of a user have ended, for other instances. It is
// the last statement of its transaction: who ends sessions takes turns by it.
func (d *Database) EndSession(ctx context.Context, tx *sqldb.Tx, userID string, now int64) error {
	var seq int64
	if err := tx.QueryRow(ctx, "UPDATE session_ends_head SET seq = seq + 1 WHERE id = 1 RETURNING seq").Scan(&seq); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "INSERT INTO session_ends (seq, user_id, created_ts) VALUES ($1, $2, $3)", seq, userID, now)
	return err
}

// SessionEnds returns the last Seq of session_ends, and whose tokens ended after
// another one; whole is false when not all of these are known any more.
func (d *Database) SessionEnds(ctx context.Context, after int64) (last int64, users []string, whole bool, err error) {
	err = d.ReadOne(ctx, func(tx *sqldb.Tx) error {
		return tx.QueryRow(ctx, "SELECT seq FROM session_ends_head WHERE id = 1").Scan(&last)
	})
	if err != nil || last == after {
		return last, nil, true, err
	}
	err = d.Read(ctx, func(tx *sqldb.Tx) error {
		users, err = tx.Texts(ctx, "SELECT user_id FROM session_ends WHERE seq > $1 AND seq <= $2", after, last)
		return err
	})
	return last, users, int64(len(users)) == last-after, err
}

// DropSessionEnds deletes what is older than the time given in milliseconds.
func (d *Database) DropSessionEnds(ctx context.Context, olderThan int64) error {
	return d.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM session_ends WHERE created_ts < $1", olderThan)
		return err
	})
}
