package storage

import (
	"context"
	"database/sql"
	"errors"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Alias is a row of aliases.
type Alias struct{ Alias, RoomID, Creator string }

const (
	selectAlias   = `SELECT room_id, creator FROM aliases WHERE alias = $1`
	selectAliases = `SELECT alias FROM aliases WHERE room_id = $1 ORDER BY alias`
	// An alias of a room that never came to be may be taken over once it is old:
	// whoever reserved it crashed.
	insertAlias = `INSERT INTO aliases (alias, room_id, creator, created_ts) VALUES ($1, $2, $3, $4)
ON CONFLICT (alias) DO UPDATE SET room_id = excluded.room_id, creator = excluded.creator, created_ts = excluded.created_ts
WHERE aliases.created_ts < $5 AND NOT EXISTS (SELECT 1 FROM rooms WHERE rooms.room_id = aliases.room_id)`
	deleteAlias       = `DELETE FROM aliases WHERE alias = $1`
	deleteAliasOf     = `DELETE FROM aliases WHERE alias = $1 AND room_id = $2`
	deleteRoomAliases = `DELETE FROM aliases WHERE room_id = $1`
	moveAliases       = `UPDATE aliases SET room_id = $1 WHERE room_id = $2`
)

// Alias returns an alias; ok is false when there is none.
func (d *Database) Alias(ctx context.Context, alias string) (a Alias, ok bool, err error) {
	a.Alias = alias
	err = d.db.ReadOne(ctx, func(tx *sqldb.Tx) error {
		err := tx.QueryRow(ctx, selectAlias, alias).Scan(&a.RoomID, &a.Creator)
		ok = err == nil
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	return a, ok, err
}

// Aliases returns the aliases of a room, sorted.
func (d *Database) Aliases(ctx context.Context, roomID string) ([]string, error) {
	return d.texts(ctx, selectAliases, roomID)
}

// PutAlias makes an alias, at the time now in milliseconds; one whose room does
// not exist and that was made before stale is taken over. It returns the alias
// as it is afterwards: another room's if it was taken.
func (d *Database) PutAlias(ctx context.Context, a Alias, now, stale int64) (is Alias, err error) {
	is.Alias = a.Alias
	err = d.db.Write(ctx, func(tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, insertAlias, a.Alias, a.RoomID, a.Creator, now, stale); err != nil {
			return err
		}
		return tx.QueryRow(ctx, selectAlias, a.Alias).Scan(&is.RoomID, &is.Creator)
	})
	return is, err
}

// DeleteAlias removes an alias, if it is the room's where roomID is not "", and
// tells whether it was there.
func (d *Database) DeleteAlias(ctx context.Context, alias, roomID string) (was bool, err error) {
	err = d.db.Write(ctx, func(tx *sqldb.Tx) error {
		var res sql.Result
		var err error
		if roomID == "" {
			res, err = tx.Exec(ctx, deleteAlias, alias)
		} else {
			res, err = tx.Exec(ctx, deleteAliasOf, alias, roomID)
		}
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		was = n > 0
		return err
	})
	return was, err
}

// MoveRoom gives the aliases of a room, and its place in the published
// directory, to another one. It may be repeated.
func (d *Database) MoveRoom(ctx context.Context, from, to string) error {
	return d.db.Write(ctx, func(tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, moveAliases, to, from); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, insertPublishedLike, to, from); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, deletePublished, from)
		return err
	})
}
