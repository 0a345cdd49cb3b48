package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// ThreadUpdate is a thread in which something was said: the Seqs of the last and of
// the first of it, and the time of the last.
type ThreadUpdate struct {
	RoomID, Root    string
	Last, TS, First int64
}

// ThreadUpdates returns threads of rooms of one partition in which something was
// said in (since, upTo], last first, of those whose last is not after a Seq. What has
// come after upTo is not looked at.
func (s *Store) ThreadUpdates(ctx context.Context, rooms []string, since, upTo, from int64, limit int) ([]ThreadUpdate, error) {
	const said = ` FROM relations r WHERE r.room_id = t.room_id AND r.parent = t.root AND r.rel_type = 'm.thread' AND `
	return query(ctx, s, "thread updates", `SELECT t.room_id, t.root, t.last, (SELECT MAX(r.ts)`+said+`r.seq = t.last), (SELECT MIN(r.seq)`+said+`r.seq > $1)
		FROM (SELECT room_id, root, CASE WHEN seq <= $2 THEN seq ELSE (SELECT MAX(r.seq)`+said+`r.seq > $3 AND r.seq <= $4) END AS last
			FROM threads t WHERE room_id `+s.db.Any("$5")+` AND seq > $6) t
		WHERE t.last <= $7 ORDER BY t.last DESC LIMIT $8`,
		[]any{since, upTo, since, upTo, sqldb.List(rooms), since, from, limit},
		func(r scanner) (ThreadUpdate, error) {
			var t ThreadUpdate
			return t, r.Scan(&t.RoomID, &t.Root, &t.Last, &t.TS, &t.First)
		})
}
