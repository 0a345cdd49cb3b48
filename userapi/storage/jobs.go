package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Job is work in rooms that is to be done for a user.
type Job struct{ UserID, Kind, ID string }

// PutJob stores a job in place of one of the same kind.
func (d *Database) PutJob(ctx context.Context, tx *sqldb.Tx, j Job, now int64) error {
	_, err := tx.Exec(ctx, `INSERT INTO jobs (user_id, kind, job_id, created_ts) VALUES ($1, $2, $3, $4)
		ON CONFLICT (user_id, kind) DO UPDATE SET job_id = excluded.job_id, created_ts = excluded.created_ts`, j.UserID, j.Kind, j.ID, now)
	return err
}

// Jobs returns the oldest jobs.
func (d *Database) Jobs(ctx context.Context, limit int) (out []Job, err error) {
	err = d.Read(ctx, func(tx *sqldb.Tx) error {
		out = nil
		return each(ctx, tx, func(scan func(...any) error) error {
			var j Job
			err := scan(&j.UserID, &j.Kind, &j.ID)
			out = append(out, j)
			return err
		}, "SELECT user_id, kind, job_id FROM jobs ORDER BY created_ts, user_id LIMIT $1", limit)
	})
	return out, err
}

// FinishJob deletes a job, unless another one took its place.
func (d *Database) FinishJob(ctx context.Context, j Job) error {
	return d.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM jobs WHERE user_id = $1 AND kind = $2 AND job_id = $3", j.UserID, j.Kind, j.ID)
		return err
	})
}
