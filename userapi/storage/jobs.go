package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Job is work in rooms that is to be done for a user.
type Job struct{ UserID, Kind, ID string }

// PutJob stores a job in place of one of the same kind, which whoever does it
// has lost.
func (d *Database) PutJob(ctx context.Context, tx *sqldb.Tx, j Job, now int64) error {
	_, err := tx.Exec(ctx, `INSERT INTO jobs (user_id, kind, job_id, created_ts) VALUES ($1, $2, $3, $4)
		ON CONFLICT (user_id, kind) DO UPDATE SET job_id = excluded.job_id, created_ts = excluded.created_ts, owner = '', until_ts = 0`,
		j.UserID, j.Kind, j.ID, now)
	return err
}

// TakeJob gives the oldest job that nobody does to an owner, for ttl
// milliseconds by the database's clock; false when there is none.
func (d *Database) TakeJob(ctx context.Context, owner string, ttl int64) (j Job, ok bool, err error) {
	now := d.Now()
	err = d.Write(ctx, func(tx *sqldb.Tx) error {
		// The condition stands twice: on PostgreSQL another instance may take
		// the row between the choice and the update.
		ok, err = sqldb.Found(tx.QueryRow(ctx, `UPDATE jobs SET owner = $1, until_ts = `+now+` + $2 WHERE until_ts < `+now+` AND job_id =
			(SELECT job_id FROM jobs WHERE until_ts < `+now+` ORDER BY created_ts, user_id LIMIT 1) RETURNING user_id, kind, job_id`,
			owner, ttl).Scan(&j.UserID, &j.Kind, &j.ID))
		return err
	})
	return j, ok, err
}

// RenewJob prolongs what an owner has taken; false when it is not theirs any
// more.
func (d *Database) RenewJob(ctx context.Context, j Job, owner string, ttl int64) (ok bool, err error) {
	err = d.Write(ctx, func(tx *sqldb.Tx) error {
		ok, err = sqldb.Affected(tx.Exec(ctx, "UPDATE jobs SET until_ts = "+d.Now()+" + $1 WHERE user_id = $2 AND kind = $3 AND job_id = $4 AND owner = $5",
			ttl, j.UserID, j.Kind, j.ID, owner))
		return err
	})
	return ok, err
}

// FinishJob deletes a job, unless it is not the owner's any more.
func (d *Database) FinishJob(ctx context.Context, j Job, owner string) error {
	return d.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM jobs WHERE user_id = $1 AND kind = $2 AND job_id = $3 AND owner = $4", j.UserID, j.Kind, j.ID, owner)
		return err
	})
}
