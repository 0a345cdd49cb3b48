package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// TakeJob gives an owner a job that nobody does and whose time has come, for ttl
// milliseconds by the database's clock; one that it has already is prolonged.
func (d *Database) TakeJob(ctx context.Context, name, owner string, ttl int64) (ok bool, err error) {
	now := d.db.Now()
	err = d.db.Write(ctx, func(tx *sqldb.Tx) error {
		ok, err = sqldb.Affected(tx.Exec(ctx, `INSERT INTO jobs (name, owner, until_ts, next_ts) VALUES ($1, $2, `+now+` + $3, 0)
			ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until_ts = excluded.until_ts
			WHERE jobs.owner = excluded.owner AND jobs.until_ts >= `+now+` OR jobs.until_ts < `+now+` AND jobs.next_ts <= `+now, name, owner, ttl))
		return err
	})
	return ok, err
}

// FinishJob gives a job back, which is to be done again after pause milliseconds.
func (d *Database) FinishJob(ctx context.Context, name, owner string, pause int64) error {
	return d.db.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE jobs SET owner = '', until_ts = 0, next_ts = `+d.db.Now()+` + $1 WHERE name = $2 AND owner = $3`, pause, name, owner)
		return err
	})
}
