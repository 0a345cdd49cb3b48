package storage

import (
	"context"
	"fmt"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
)

const purgeColumns = "purge_id, kind, part, room_id, before_ts, event_id, force, place, purged, created_ts, finished_ts, error"

func scanPurge(scan func(...any) error) (p api.Purge, err error) {
	return p, scan(&p.ID, (*string)(&p.Kind), &p.Partition, &p.RoomID, &p.BeforeTS, &p.EventID, &p.Force, &p.Place, &p.Purged,
		&p.CreatedTS, &p.FinishedTS, &p.Error)
}

// PutPurge stores a purge, unless there is one that is not finished and does the
// same: it returns that one's ID.
func (d *Database) PutPurge(ctx context.Context, p *api.Purge) (id string, err error) {
	err = d.Write(ctx, func(tx *sqldb.Tx) error {
		known, err := sqldb.Found(tx.QueryRow(ctx, `SELECT purge_id FROM purges WHERE finished_ts = 0 AND kind = $1 AND room_id = $2
			AND before_ts = $3 AND event_id = $4 AND force = $5`, string(p.Kind), p.RoomID, p.BeforeTS, p.EventID, p.Force).Scan(&id))
		if known || err != nil {
			return err
		}
		id = p.ID
		return d.insertPurge(ctx, tx, p)
	})
	return id, err
}

func (d *Database) insertPurge(ctx context.Context, tx *sqldb.Tx, p *api.Purge) error {
	_, err := tx.Exec(ctx, `INSERT INTO purges (purge_id, kind, part, room_id, before_ts, event_id, force, place, purged, created_ts, due_ts,
		owner, until_ts, finished_ts, error) VALUES ($1, $2, $3, $4, $5, $6, $7, '', 0, `+d.Now()+`, 0, '', 0, 0, '')
		ON CONFLICT (purge_id) DO NOTHING`, p.ID, string(p.Kind), p.Partition, p.RoomID, p.BeforeTS, p.EventID, p.Force)
	return err
}

// Purges lists purges, newest first, or the one with an ID; those that are due again
// and again are left out.
func (d *Database) Purges(ctx context.Context, id string, limit int) (out []api.Purge, err error) {
	err = d.ReadOne(ctx, func(tx *sqldb.Tx) error {
		out = []api.Purge{}
		return tx.Each(ctx, func(scan func(...any) error) error {
			p, err := scanPurge(scan)
			out = append(out, p)
			return err
		}, "SELECT "+purgeColumns+" FROM purges WHERE kind <> 'retention' AND ($1 = '' OR purge_id = $1) ORDER BY created_ts DESC, purge_id LIMIT $2", id, limit)
	})
	return out, err
}

// TakePurge gives a purge that is due and that nobody does to an owner, for ttl
// milliseconds: one of an administrator's first. Of so many partitions there is one
// for what expires.
func (d *Database) TakePurge(ctx context.Context, owner string, partitions int, ttl int64) (p api.Purge, ok bool, err error) {
	now := d.Now()
	due := "finished_ts = 0 AND due_ts <= " + now + " AND until_ts <= " + now
	var there, waiting int
	err = d.ReadOne(ctx, func(tx *sqldb.Tx) error {
		return tx.QueryRow(ctx, `SELECT coalesce(sum(CASE WHEN kind = 'retention' AND part < $1 THEN 1 ELSE 0 END), 0),
			coalesce(sum(CASE WHEN `+due+` AND (kind <> 'retention' OR part < $1) THEN 1 ELSE 0 END), 0)
			FROM purges WHERE finished_ts = 0`, partitions).Scan(&there, &waiting)
	})
	if err != nil || there >= partitions && waiting == 0 {
		return p, false, err
	}
	err = d.Write(ctx, func(tx *sqldb.Tx) error {
		for n := 0; there < partitions && n < partitions; n++ {
			if err := d.insertPurge(ctx, tx, &api.Purge{ID: fmt.Sprint("retention/", n), Kind: api.PurgeExpired, Partition: n}); err != nil {
				return err
			}
		}
		// The condition stands twice: on PostgreSQL another instance may take the
		// row between the choice and the update.
		ok = false
		return tx.Each(ctx, func(scan func(...any) error) (err error) {
			p, err = scanPurge(scan)
			ok = true
			return err
		}, "UPDATE purges SET owner = $1, until_ts = "+now+" + $2 WHERE "+due+" AND purge_id = (SELECT purge_id FROM purges WHERE "+due+
			" AND (kind <> 'retention' OR part < $3) ORDER BY CASE WHEN kind = 'retention' THEN 1 ELSE 0 END, due_ts, created_ts, purge_id LIMIT 1)"+
			" RETURNING "+purgeColumns, owner, ttl, partitions)
	})
	return p, ok, err
}

// KeepPurge notes how far a purge is, and prolongs it; false when it is not the
// owner's any more.
func (d *Database) KeepPurge(ctx context.Context, id, owner, place string, purged, ttl int64) (ok bool, err error) {
	err = d.Write(ctx, func(tx *sqldb.Tx) error {
		ok, err = sqldb.Affected(tx.Exec(ctx, "UPDATE purges SET place = $1, purged = purged + $2, until_ts = "+d.Now()+
			" + $3 WHERE purge_id = $4 AND owner = $5 AND finished_ts = 0", place, purged, ttl, id, owner))
		return err
	})
	return ok, err
}

// FinishPurge ends a purge, unless it is not the owner's any more; again is in how
// many milliseconds it is due once more, or 0.
func (d *Database) FinishPurge(ctx context.Context, id, owner string, purged int64, reason string, again int64) error {
	finished := d.Now()
	if again > 0 {
		finished = "0"
	}
	return d.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE purges SET purged = purged + $1, error = $2, place = '', owner = '', until_ts = 0, due_ts = "+d.Now()+
			" + $3, finished_ts = "+finished+" WHERE purge_id = $4 AND owner = $5", purged, reason, again, id, owner)
		return err
	})
}

// DropPurges forgets purges that were finished longer ago than the milliseconds
// given.
func (d *Database) DropPurges(ctx context.Context, keep int64) error {
	return d.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM purges WHERE finished_ts > 0 AND finished_ts < "+d.Now()+" - $1", keep)
		return err
	})
}
