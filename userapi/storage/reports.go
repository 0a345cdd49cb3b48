package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
)

// PutReport stores a report, in place of the one that its user has made of the
// same before: that is open again.
func (d *Database) PutReport(ctx context.Context, r api.Report) error {
	return d.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO reports (report_id, kind, reporter, room_id, event_id, user_id, reason, created_ts, resolved_ts, note)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, '') ON CONFLICT (reporter, kind, room_id, event_id, user_id)
			DO UPDATE SET reason = excluded.reason, created_ts = excluded.created_ts, resolved_ts = 0, note = ''`,
			r.ID, string(r.Kind), r.Reporter, r.RoomID, r.EventID, r.UserID, r.Reason, r.CreatedTS)
		return err
	})
}

// CountReports counts the open reports of a user.
func (d *Database) CountReports(ctx context.Context, reporter string) (n int, err error) {
	err = d.ReadOne(ctx, func(tx *sqldb.Tx) error {
		return tx.QueryRow(ctx, "SELECT count(*) FROM reports WHERE reporter = $1 AND resolved_ts = 0", reporter).Scan(&n)
	})
	return n, err
}

// Reports lists reports, newest first: the open ones, or all.
func (d *Database) Reports(ctx context.Context, all bool, limit int) (out []api.Report, err error) {
	const columns = "SELECT report_id, kind, reporter, room_id, event_id, user_id, reason, created_ts, resolved_ts, note FROM reports"
	text := columns + " WHERE resolved_ts = 0 ORDER BY created_ts DESC, report_id LIMIT $1"
	if all {
		text = columns + " ORDER BY created_ts DESC, report_id LIMIT $1"
	}
	err = d.ReadOne(ctx, func(tx *sqldb.Tx) error {
		out = []api.Report{}
		return tx.Each(ctx, func(scan func(...any) error) error {
			var r api.Report
			err := scan(&r.ID, (*string)(&r.Kind), &r.Reporter, &r.RoomID, &r.EventID, &r.UserID, &r.Reason, &r.CreatedTS, &r.ResolvedTS, &r.Note)
			out = append(out, r)
			return err
		}, text, limit)
	})
	return out, err
}

// ResolveReport closes a report with a note; false when there is none of the ID.
func (d *Database) ResolveReport(ctx context.Context, id, note string, now int64) (ok bool, err error) {
	err = d.Write(ctx, func(tx *sqldb.Tx) error {
		ok, err = sqldb.Affected(tx.Exec(ctx, "UPDATE reports SET resolved_ts = $1, note = $2 WHERE report_id = $3", now, note, id))
		return err
	})
	return ok, err
}

// SetModeration locks or suspends an account, or ends that; nil changes nothing.
func (d *Database) SetModeration(ctx context.Context, tx *sqldb.Tx, userID string, locked, suspended *bool) error {
	if locked != nil {
		if _, err := tx.Exec(ctx, "UPDATE accounts SET locked = $1 WHERE user_id = $2", *locked, userID); err != nil {
			return err
		}
	}
	if suspended != nil {
		if _, err := tx.Exec(ctx, "UPDATE accounts SET suspended = $1 WHERE user_id = $2", *suspended, userID); err != nil {
			return err
		}
	}
	return nil
}
