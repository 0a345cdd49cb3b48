package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Preview returns the stored preview of a URL, by its hash, if it has not expired:
// "" for a page that could not be had.
func (d *Database) Preview(ctx context.Context, urlHash string, now int64) (response string, ok bool, err error) {
	err = d.db.ReadOne(ctx, func(tx *sqldb.Tx) error {
		ok, err = sqldb.Found(tx.QueryRow(ctx, `SELECT response FROM previews WHERE url_hash = $1 AND expires_ts > $2`, urlHash, now).Scan(&response))
		return err
	})
	return response, ok, err
}

// PutPreview stores a preview until a time.
func (d *Database) PutPreview(ctx context.Context, urlHash, response string, expires int64) error {
	return d.db.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO previews (url_hash, response, expires_ts) VALUES ($1, $2, $3)
			ON CONFLICT (url_hash) DO UPDATE SET response = excluded.response, expires_ts = excluded.expires_ts`, urlHash, response, expires)
		return err
	})
}

// DropPreviews deletes previews that have expired.
func (d *Database) DropPreviews(ctx context.Context, now int64) error {
	return d.db.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM previews WHERE expires_ts <= $1`, now)
		return err
	})
}
