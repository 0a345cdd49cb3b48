package storage

import (
	"context"
	"fmt"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Selection chooses media by one of these.
type Selection struct {
	Refs   []Ref
	UserID string
	Hash   string
	Server string
}

// where is the condition that a selection without Refs is.
func (s Selection) where() (column, value string, err error) {
	switch {
	case s.UserID != "":
		return "user_id", s.UserID, nil
	case s.Hash != "":
		return "hash", s.Hash, nil
	case s.Server != "":
		return "server_name", s.Server, nil
	}
	return "", "", fmt.Errorf("mediaapi/storage: nothing is selected")
}

// Flag is a column that Set sets.
type Flag string

// The flags of media.
const (
	Quarantined Flag = "quarantined"
	Protected   Flag = "protected"
)

// Set sets or clears a flag of media and returns how many have it otherwise than
// before. Quarantining by hash or server blocks either for what comes later, and
// clearing it ends that.
func (d *Database) Set(ctx context.Context, s Selection, f Flag, to bool, now int64) (n int64, err error) {
	err = d.db.Write(ctx, func(tx *sqldb.Tx) error {
		n = 0
		if f == Quarantined {
			if err := block(ctx, tx, s, to, now); err != nil {
				return err
			}
		}
		if len(s.Refs) > 0 {
			rows := make([][]any, len(s.Refs))
			for i, r := range s.Refs {
				rows[i] = []any{to, r.Server, r.ID, !to}
			}
			n, err = tx.ExecMany(ctx, "UPDATE media SET "+string(f)+" = $1 WHERE server_name = $2 AND media_id = $3 AND "+string(f)+" = $4", []int{2, 3}, rows)
			return err
		}
		column, value, err := s.where()
		if err != nil {
			return err
		}
		res, err := tx.Exec(ctx, "UPDATE media SET "+string(f)+" = $1 WHERE "+column+" = $2 AND "+string(f)+" = $3", to, value, !to)
		if err != nil {
			return err
		}
		n, err = res.RowsAffected()
		return err
	})
	return n, err
}

// block notes that a hash or a server is blocked, or no longer is. The blob's row is
// locked first: who is about to name the blob sees the block, or is seen.
func block(ctx context.Context, tx *sqldb.Tx, s Selection, to bool, now int64) error {
	table, column, value := "blocked_hashes", "hash", s.Hash
	if s.Server != "" {
		table, column, value = "blocked_servers", "server_name", s.Server
	}
	if value == "" {
		return nil
	}
	if _, err := tx.Exec(ctx, `UPDATE blobs SET size = size WHERE hash = $1`, s.Hash); err != nil {
		return err
	}
	text, args := "DELETE FROM "+table+" WHERE "+column+" = $1", []any{value}
	if to {
		text, args = "INSERT INTO "+table+" ("+column+", created_ts) VALUES ($1, $2) ON CONFLICT ("+column+") DO NOTHING", append(args, now)
	}
	_, err := tx.Exec(ctx, text, args...)
	return err
}

// ServerBlocked tells whether a server's media are not wanted.
func (d *Database) ServerBlocked(ctx context.Context, server string) (bool, error) {
	var n int64
	err := d.db.ReadOne(ctx, func(tx *sqldb.Tx) error {
		return tx.QueryRow(ctx, `SELECT COUNT(*) FROM blocked_servers WHERE server_name = $1`, server).Scan(&n)
	})
	return n > 0, err
}

// Selected returns media of a selection that has no Refs, up to a limit.
func (d *Database) Selected(ctx context.Context, s Selection, limit int) ([]Media, error) {
	column, value, err := s.where()
	if err != nil {
		return nil, err
	}
	return d.many(ctx, "SELECT "+mediaColumns+" FROM media WHERE "+column+" = $1 ORDER BY server_name, media_id LIMIT $2", value, limit)
}
