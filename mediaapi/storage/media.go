package storage

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Ref names media: mxc://Server/ID.
type Ref struct{ Server, ID string }

// Kinds of media.
const (
	Upload  = "upload"
	Preview = "preview"
	Remote  = "remote"
)

// Media is a row of media.
type Media struct {
	Ref
	Kind, UserID                                 string
	CreatedTS, UploadedTS, ExpiresTS, AccessedTS int64
	ContentType, Filename                        string
	Size                                         int64
	Hash                                         string
	Quarantined, Protected                       bool
}

const mediaColumns = `server_name, media_id, kind, user_id, created_ts, uploaded_ts, expires_ts, accessed_ts, content_type, filename, size, hash, quarantined, protected`

const insertMedia = `INSERT INTO media (` + mediaColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT (server_name, media_id) DO NOTHING`

func (m *Media) values() []any {
	return []any{m.Server, m.ID, m.Kind, m.UserID, m.CreatedTS, m.UploadedTS, m.ExpiresTS, m.AccessedTS, m.ContentType, m.Filename, m.Size, m.Hash, m.Quarantined, m.Protected}
}

func scanMedia(scan func(...any) error) (m Media, err error) {
	err = scan(&m.Server, &m.ID, &m.Kind, &m.UserID, &m.CreatedTS, &m.UploadedTS, &m.ExpiresTS, &m.AccessedTS, &m.ContentType, &m.Filename, &m.Size, &m.Hash, &m.Quarantined, &m.Protected)
	return m, err
}

// Errors that say why media cannot be stored.
var (
	ErrBlocked   = errors.New("mediaapi/storage: these bytes are blocked")
	ErrDoomed    = errors.New("mediaapi/storage: these bytes are just being removed")
	ErrClaimLost = errors.New("mediaapi/storage: the claim has ended")
	ErrQuota     = errors.New("mediaapi/storage: the user has as much as is allowed")
	ErrTaken     = errors.New("mediaapi/storage: the media has been uploaded already")
	ErrGone      = errors.New("mediaapi/storage: the media was not created, or has expired")
	ErrPending   = errors.New("mediaapi/storage: the user has as much waiting for uploads as is allowed")
)

// Media returns a row; ok is false when there is none.
func (d *Database) Media(ctx context.Context, ref Ref) (m Media, ok bool, err error) {
	err = d.db.ReadOne(ctx, func(tx *sqldb.Tx) error {
		var err error
		m, err = scanMedia(tx.QueryRow(ctx, "SELECT "+mediaColumns+" FROM media WHERE server_name = $1 AND media_id = $2", ref.Server, ref.ID).Scan)
		ok, err = sqldb.Found(err)
		return err
	})
	return m, ok, err
}

const upsertUsage = `INSERT INTO usage (user_id, bytes, files) VALUES ($1, $2, $3)
	ON CONFLICT (user_id) DO UPDATE SET bytes = usage.bytes + excluded.bytes, files = usage.files + excluded.files RETURNING bytes`

// Create stores media whose bytes are yet to come; ErrPending if the user has most
// such already.
func (d *Database) Create(ctx context.Context, m Media, most int) error {
	return d.db.Write(ctx, func(tx *sqldb.Tx) error {
		// The user's row is locked by this: of two requests one counts the other's.
		var bytes, pending int64
		if err := tx.QueryRow(ctx, upsertUsage, m.UserID, 0, 0).Scan(&bytes); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, `SELECT COUNT(*) FROM media WHERE user_id = $1 AND uploaded_ts = 0 AND expires_ts > $2`, m.UserID, m.CreatedTS).Scan(&pending)
		if err != nil {
			return err
		}
		if pending >= int64(most) {
			return ErrPending
		}
		_, err = tx.Exec(ctx, insertMedia, m.values()...)
		return err
	})
}

// Usage returns how many bytes a user has uploaded.
func (d *Database) Usage(ctx context.Context, userID string) (bytes int64, err error) {
	err = d.db.ReadOne(ctx, func(tx *sqldb.Tx) error {
		_, err := sqldb.Found(tx.QueryRow(ctx, `SELECT bytes FROM usage WHERE user_id = $1`, userID).Scan(&bytes))
		return err
	})
	return bytes, err
}

// Commit stores media whose bytes are in the store, in place of the claim to them.
// created says that Create has stored a row for it. quota bounds what the user has;
// zero means no limit. It fails with one of the errors above.
func (d *Database) Commit(ctx context.Context, claim string, m Media, created bool, quota int64) error {
	return d.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := d.redeem(ctx, tx, claim, m.Hash); err != nil {
			return err
		}
		if m.UserID != "" {
			var bytes int64
			if err := tx.QueryRow(ctx, upsertUsage, m.UserID, m.Size, 1).Scan(&bytes); err != nil {
				return err
			}
			if quota > 0 && bytes > quota {
				return ErrQuota
			}
		}
		if created {
			return complete(ctx, tx, &m)
		}
		ok, err := sqldb.Affected(tx.Exec(ctx, insertMedia, m.values()...))
		if err == nil && !ok {
			return ErrTaken
		}
		return err
	})
}

func complete(ctx context.Context, tx *sqldb.Tx, m *Media) error {
	ok, err := sqldb.Affected(tx.Exec(ctx, `UPDATE media SET uploaded_ts = $1, accessed_ts = $2, expires_ts = 0, content_type = $3, filename = $4, size = $5, hash = $6
		WHERE server_name = $7 AND media_id = $8 AND user_id = $9 AND uploaded_ts = 0 AND expires_ts > $10`,
		m.UploadedTS, m.UploadedTS, m.ContentType, m.Filename, m.Size, m.Hash, m.Server, m.ID, m.UserID, m.UploadedTS))
	if err != nil || ok {
		return err
	}
	var uploaded int64
	there, err := sqldb.Found(tx.QueryRow(ctx, `SELECT uploaded_ts FROM media WHERE server_name = $1 AND media_id = $2`, m.Server, m.ID).Scan(&uploaded))
	switch {
	case err != nil:
		return err
	case there && uploaded > 0:
		return ErrTaken
	}
	return ErrGone
}

// UserMedia returns what a user has uploaded, or is about to, newest first, behind
// a row of before; a zero one begins.
func (d *Database) UserMedia(ctx context.Context, userID string, before Media, limit int) (out []Media, err error) {
	const text = `SELECT ` + mediaColumns + ` FROM media WHERE user_id = $1 AND (created_ts < $2 OR created_ts = $3 AND media_id < $4) ORDER BY created_ts DESC, media_id DESC LIMIT $5`
	if before.ID == "" {
		before.CreatedTS = 1 << 62
	}
	return d.many(ctx, text, userID, before.CreatedTS, before.CreatedTS, before.ID, limit)
}

// Idle returns media of a kind that nobody has got since a time, nobody protects and
// is not quarantined, behind a row of after in their order; a zero one begins.
func (d *Database) Idle(ctx context.Context, kind string, since int64, after Media, limit int) ([]Media, error) {
	const text = `SELECT ` + mediaColumns + ` FROM media WHERE kind = $1 AND accessed_ts < $2 AND uploaded_ts > 0 AND NOT protected AND NOT quarantined
		AND (accessed_ts > $3 OR accessed_ts = $4 AND (server_name > $5 OR server_name = $6 AND media_id > $7))
		ORDER BY accessed_ts, server_name, media_id LIMIT $8`
	if after.ID == "" {
		after.AccessedTS = -1
	}
	return d.many(ctx, text, kind, since, after.AccessedTS, after.AccessedTS, after.Server, after.Server, after.ID, limit)
}

// Expired returns media whose time has come: created and not uploaded, or images
// of previews.
func (d *Database) Expired(ctx context.Context, now int64, limit int) ([]Media, error) {
	return d.many(ctx, `SELECT `+mediaColumns+` FROM media WHERE expires_ts > 0 AND expires_ts <= $1 AND NOT protected AND NOT quarantined ORDER BY expires_ts LIMIT $2`, now, limit)
}

func (d *Database) many(ctx context.Context, text string, args ...any) (out []Media, err error) {
	err = d.db.ReadOne(ctx, func(tx *sqldb.Tx) error {
		out = nil
		return tx.Each(ctx, func(scan func(...any) error) error {
			m, err := scanMedia(scan)
			out = append(out, m)
			return err
		}, text, args...)
	})
	return out, err
}

// Touch notes that media were got at a time.
func (d *Database) Touch(ctx context.Context, refs []Ref, now int64) error {
	rows := make([][]any, len(refs))
	for i, r := range refs {
		rows[i] = []any{now, r.Server, r.ID}
	}
	return d.db.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.ExecMany(ctx, `UPDATE media SET accessed_ts = $1 WHERE server_name = $2 AND media_id = $3`, []int{2, 3}, rows)
		return err
	})
}

// Delete deletes media, whatever they are, and has their bytes looked at. It returns
// how many were deleted.
func (d *Database) Delete(ctx context.Context, refs []Ref) (int, error) {
	return d.delete(ctx, refs, "")
}

// DeleteIdle is Delete but for what was got since a time, or is protected or
// quarantined by now.
func (d *Database) DeleteIdle(ctx context.Context, refs []Ref, since int64) (int, error) {
	return d.delete(ctx, refs, " AND accessed_ts < $3 AND NOT protected AND NOT quarantined", since)
}

// DeleteExpired is Delete but for what has not expired, such as what was uploaded at
// the last moment.
func (d *Database) DeleteExpired(ctx context.Context, refs []Ref, now int64) (int, error) {
	return d.delete(ctx, refs, " AND expires_ts > 0 AND expires_ts <= $3 AND NOT protected AND NOT quarantined", now)
}

// delete deletes media, and then locks blobs and users as Commit does, in one order:
// transactions that delete and commit the same do not wait for each other for good.
func (d *Database) delete(ctx context.Context, refs []Ref, condition string, more ...any) (n int, err error) {
	text := "DELETE FROM media WHERE server_name = $1 AND media_id = $2" + condition + " RETURNING user_id, size, hash"
	refs = slices.SortedFunc(slices.Values(refs), func(a, b Ref) int { return cmp.Or(cmp.Compare(a.Server, b.Server), cmp.Compare(a.ID, b.ID)) })
	err = d.db.Write(ctx, func(tx *sqldb.Tx) error {
		n = 0
		type use struct{ bytes, files int64 }
		hashes, users := map[string]bool{}, map[string]use{}
		for _, ref := range refs {
			var userID, hash string
			var size int64
			ok, err := sqldb.Found(tx.QueryRow(ctx, text, append([]any{ref.Server, ref.ID}, more...)...).Scan(&userID, &size, &hash))
			if err != nil {
				return err
			}
			if !ok {
				continue
			}
			n++
			if hash != "" { // it was uploaded
				hashes[hash] = true
				users[userID] = use{users[userID].bytes + size, users[userID].files + 1}
			}
		}
		delete(users, "")
		for _, hash := range slices.Sorted(maps.Keys(hashes)) {
			if err := d.look(ctx, tx, hash); err != nil {
				return err
			}
		}
		for _, userID := range slices.Sorted(maps.Keys(users)) {
			var left int64
			if err := tx.QueryRow(ctx, upsertUsage, userID, -users[userID].bytes, -users[userID].files).Scan(&left); err != nil {
				return err
			}
		}
		return nil
	})
	return n, err
}
