package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Thumbnail is a row of thumbnails, with its blob.
type Thumbnail struct {
	Source        string // the hash of what it is made of
	Width, Height int    // as asked for
	Method        string
	Animated      bool
	Blob          Blob
	ContentType   string
}

// Thumbnails returns the thumbnails of a blob.
func (d *Database) Thumbnails(ctx context.Context, source string) (out []Thumbnail, err error) {
	err = d.db.ReadOne(ctx, func(tx *sqldb.Tx) error {
		out = nil
		return tx.Each(ctx, func(scan func(...any) error) error {
			t := Thumbnail{Source: source}
			err := scan(&t.Width, &t.Height, &t.Method, &t.Animated, &t.Blob.Hash, &t.ContentType, &t.Blob.Generation, &t.Blob.Size)
			out = append(out, t)
			return err
		}, `SELECT t.width, t.height, t.method, t.animated, t.hash, t.content_type, b.generation, b.size
			FROM thumbnails t JOIN blobs b ON b.hash = t.hash WHERE t.source = $1 AND NOT b.doomed ORDER BY t.width * t.height, t.width, t.method`, source)
	})
	return out, err
}

// PutThumbnail stores a thumbnail whose bytes are in the store, in place of the
// claim to them; ErrGone if what it is made of is not there any more.
func (d *Database) PutThumbnail(ctx context.Context, claim string, t Thumbnail) error {
	return d.db.Write(ctx, func(tx *sqldb.Tx) error {
		ok, err := sqldb.Affected(tx.Exec(ctx, `UPDATE blobs SET size = size WHERE hash = $1 AND NOT doomed`, t.Source))
		if err != nil {
			return err
		}
		if !ok {
			return ErrGone
		}
		if err := d.redeem(ctx, tx, claim, t.Blob.Hash); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO thumbnails (source, width, height, method, animated, hash, content_type) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (source, width, height, method, animated) DO NOTHING`, t.Source, t.Width, t.Height, t.Method, t.Animated, t.Blob.Hash, t.ContentType)
		return err
	})
}
