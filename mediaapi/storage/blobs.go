package storage

import (
	"context"
	"slices"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Blob is a row of blobs.
type Blob struct {
	Hash, Generation string
	Size             int64
}

// Blob returns the blob with a hash, unless it is doomed or not there.
func (d *Database) Blob(ctx context.Context, hash string) (b Blob, ok bool, err error) {
	b.Hash = hash
	err = d.db.ReadOne(ctx, func(tx *sqldb.Tx) error {
		ok, err = sqldb.Found(tx.QueryRow(ctx, `SELECT generation, size FROM blobs WHERE hash = $1 AND NOT doomed`, hash).Scan(&b.Generation, &b.Size))
		return err
	})
	return b, ok, err
}

// Claim keeps a blob for ttl milliseconds, for who will write it, if need be, and
// then name it. generation is that of the key if the blob is new. It fails with
// ErrBlocked, or with ErrDoomed for a while.
func (d *Database) Claim(ctx context.Context, claim string, b Blob, ttl int64) (is Blob, err error) {
	is.Hash = b.Hash
	now := d.db.Now()
	err = d.db.Write(ctx, func(tx *sqldb.Tx) error {
		var doomed bool
		err := tx.QueryRow(ctx, `INSERT INTO blobs (hash, generation, size, doomed, check_ts) VALUES ($1, $2, $3, $4, `+now+` + $5)
			ON CONFLICT (hash) DO UPDATE SET check_ts = CASE WHEN blobs.check_ts = 0 THEN excluded.check_ts ELSE blobs.check_ts END
			RETURNING generation, size, doomed`, b.Hash, b.Generation, b.Size, false, ttl).Scan(&is.Generation, &is.Size, &doomed)
		if err != nil {
			return err
		}
		if doomed {
			return ErrDoomed
		}
		if err := refuseBlocked(ctx, tx, b.Hash); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO claims (claim_id, hash, until_ts) VALUES ($1, $2, `+now+` + $3)`, claim, b.Hash, ttl)
		return err
	})
	return is, err
}

func refuseBlocked(ctx context.Context, tx *sqldb.Tx, hash string) error {
	var n int64
	if err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM blocked_hashes WHERE hash = $1`, hash).Scan(&n); err != nil {
		return err
	}
	if n > 0 {
		return ErrBlocked
	}
	return nil
}

// Release gives a claim up.
func (d *Database) Release(ctx context.Context, claim string) error {
	return d.db.Write(ctx, func(tx *sqldb.Tx) error {
		var hash string
		ok, err := sqldb.Found(tx.QueryRow(ctx, `DELETE FROM claims WHERE claim_id = $1 RETURNING hash`, claim).Scan(&hash))
		if err != nil || !ok {
			return err
		}
		return d.look(ctx, tx, hash)
	})
}

// redeem ends a claim within the transaction that names its blob, whose row it locks.
func (d *Database) redeem(ctx context.Context, tx *sqldb.Tx, claim, hash string) error {
	locked, err := sqldb.Affected(tx.Exec(ctx, `UPDATE blobs SET size = size WHERE hash = $1 AND NOT doomed`, hash))
	if err != nil {
		return err
	}
	held, err := sqldb.Affected(tx.Exec(ctx, `DELETE FROM claims WHERE claim_id = $1 AND hash = $2 AND until_ts > `+d.db.Now(), claim, hash))
	if err != nil {
		return err
	}
	if !locked || !held {
		return ErrClaimLost
	}
	return refuseBlocked(ctx, tx, hash)
}

// look has it looked at whether a blob is needed.
func (d *Database) look(ctx context.Context, tx *sqldb.Tx, hash string) error {
	_, err := tx.Exec(ctx, `UPDATE blobs SET check_ts = `+d.db.Now()+` WHERE hash = $1 AND NOT doomed`, hash)
	return err
}

// TakeChecks returns blobs that are to be looked at; for lease milliseconds nobody
// else gets them.
func (d *Database) TakeChecks(ctx context.Context, limit int, lease int64) (hashes []string, err error) {
	now := d.db.Now()
	err = d.db.Write(ctx, func(tx *sqldb.Tx) error {
		// The condition stands twice: on PostgreSQL another instance may take a row
		// between the choice and the update.
		hashes, err = tx.Texts(ctx, `UPDATE blobs SET check_ts = `+now+` + $1 WHERE check_ts > 0 AND check_ts <= `+now+` AND hash IN
			(SELECT hash FROM blobs WHERE check_ts > 0 AND check_ts <= `+now+` ORDER BY check_ts LIMIT $2`+d.db.LockFree()+`) RETURNING hash`, lease, limit)
		return err
	})
	return hashes, err
}

// Doom dooms a blob if nobody names or claims it, its thumbnails with it. doomed
// tells that it is, by now or before: then its file is to be removed, and after that
// Forget called.
func (d *Database) Doom(ctx context.Context, hash string) (b Blob, doomed bool, err error) {
	b.Hash = hash
	err = d.db.Write(ctx, func(tx *sqldb.Tx) error {
		doomed = false
		there, err := sqldb.Found(tx.QueryRow(ctx, `UPDATE blobs SET size = size WHERE hash = $1 RETURNING generation, size, doomed`, hash).Scan(&b.Generation, &b.Size, &doomed))
		if err != nil || !there || doomed {
			return err
		}
		needed, err := d.needed(ctx, tx, hash)
		if err != nil || needed {
			return err
		}
		doomed = true
		if _, err := tx.Exec(ctx, `UPDATE blobs SET doomed = $1 WHERE hash = $2`, true, hash); err != nil {
			return err
		}
		smaller, err := tx.Texts(ctx, `DELETE FROM thumbnails WHERE source = $1 RETURNING hash`, hash)
		if err != nil {
			return err
		}
		slices.Sort(smaller)
		for _, h := range smaller {
			if err := d.look(ctx, tx, h); err != nil {
				return err
			}
		}
		return nil
	})
	return b, doomed && err == nil, err
}

// needed tells whether a blob is named or claimed, and sets when to look again.
func (d *Database) needed(ctx context.Context, tx *sqldb.Tx, hash string) (bool, error) {
	now := d.db.Now()
	if _, err := tx.Exec(ctx, `DELETE FROM claims WHERE hash = $1 AND until_ts <= `+now, hash); err != nil {
		return false, err
	}
	var until, names int64
	err := tx.QueryRow(ctx, `SELECT COALESCE(MAX(until_ts), 0) FROM claims WHERE hash = $1`, hash).Scan(&until)
	if err != nil {
		return false, err
	}
	// An image that was made as its thumbnails are is one of its own: that does not keep it.
	err = tx.QueryRow(ctx, `SELECT (SELECT COUNT(*) FROM media WHERE hash = $1) + (SELECT COUNT(*) FROM thumbnails WHERE hash = $2 AND source <> $3)`, hash, hash, hash).Scan(&names)
	if err != nil || until == 0 && names == 0 {
		return false, err
	}
	_, err = tx.Exec(ctx, `UPDATE blobs SET check_ts = $1 WHERE hash = $2`, until, hash)
	return true, err
}

// Forget deletes the row of a doomed blob, whose file is gone.
func (d *Database) Forget(ctx context.Context, b Blob) error {
	return d.db.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM blobs WHERE hash = $1 AND generation = $2 AND doomed`, b.Hash, b.Generation)
		return err
	})
}
