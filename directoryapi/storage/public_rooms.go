package storage

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/directoryapi/api"
)

// PublicQuery selects a page of the published directory. Rooms are ordered by
// the number of their members, most first, then by ID.
type PublicQuery struct {
	Search string   // in lower case; "" for all
	Types  []string // nil for all
	Limit  int
	// After and Before bound the page by a room's place; at most one is set.
	After, Before *Place
}

// Place is a room's place in the order of the directory.
type Place struct {
	Joined int
	RoomID string
}

const (
	publicColumns = `SELECT r.room_id, r.version, r.room_type, r.name, r.topic, r.canonical_alias, r.avatar_url, r.join_rule, r.encryption,
    r.replaced, r.world_readable, r.guest_can_join, r.federate, r.joined, 1`
	publicFrom = ` FROM published p JOIN rooms r ON r.room_id = p.room_id WHERE r.joined > 0`
)

// PublicRooms returns a page, whether there is more behind it in its direction,
// and how many rooms match in all.
func (d *Database) PublicRooms(ctx context.Context, q PublicQuery) (out []api.Room, more bool, total int, err error) {
	where, args := d.publicWhere(q)
	page, pageArgs := publicPage(q, args)
	err = d.db.Read(ctx, func(tx *sqldb.Tx) error {
		var n int64
		if err := tx.QueryRow(ctx, `SELECT COUNT(*)`+publicFrom+where, args...).Scan(&n); err != nil {
			return err
		}
		total = int(n)
		rows, err := tx.Query(ctx, publicColumns+publicFrom+where+page, pageArgs...)
		if err != nil {
			return err
		}
		out, err = scanRooms(rows)
		return err
	})
	if len(out) > q.Limit {
		out, more = out[:q.Limit], true
	}
	if q.Before != nil {
		slices.Reverse(out)
	}
	return out, more, total, err
}

// publicWhere makes the conditions on rooms. There are four texts in all, so
// that each is prepared once.
func (d *Database) publicWhere(q PublicQuery) (string, []any) {
	var b strings.Builder
	var args []any
	if q.Search != "" {
		args = append(args, "%"+escapeLike(clean(q.Search))+"%")
		b.WriteString(` AND r.search LIKE $1 ESCAPE '!'`)
	}
	if q.Types != nil {
		types := make([]string, len(q.Types))
		for i, t := range q.Types {
			types[i] = clean(t)
		}
		args = append(args, sqldb.List(types))
		b.WriteString(` AND r.room_type ` + d.db.Any("$"+strconv.Itoa(len(args))))
	}
	return b.String(), args
}

// publicPage bounds and orders the page; one room more than asked for tells
// whether there is more.
func publicPage(q PublicQuery, args []any) (string, []any) {
	args = slices.Clone(args)
	place := func(n int) string { return "$" + strconv.Itoa(len(args)+n) }
	text, order := "", ` ORDER BY r.joined DESC, r.room_id`
	switch {
	case q.After != nil:
		text = ` AND (r.joined < ` + place(1) + ` OR r.joined = ` + place(1) + ` AND r.room_id > ` + place(2) + `)`
		args = append(args, int64(q.After.Joined), q.After.RoomID)
	case q.Before != nil:
		text = ` AND (r.joined > ` + place(1) + ` OR r.joined = ` + place(1) + ` AND r.room_id < ` + place(2) + `)`
		order = ` ORDER BY r.joined, r.room_id DESC`
		args = append(args, int64(q.Before.Joined), q.Before.RoomID)
	}
	text += order + ` LIMIT ` + place(1)
	return text, append(args, int64(q.Limit)+1)
}

// escapeLike makes text match only itself in LIKE with '!' as the escape.
func escapeLike(s string) string {
	return strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(s)
}
