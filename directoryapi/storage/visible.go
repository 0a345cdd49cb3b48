package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// VisibleUsers returns those of some users who are joined to a room that a viewer
// is joined to, or that everybody may join or read.
func (d *Database) VisibleUsers(ctx context.Context, viewer string, users []string) ([]string, error) {
	return d.texts(ctx, `SELECT DISTINCT m.user_id FROM memberships m LEFT JOIN rooms r ON r.room_id = m.room_id
WHERE m.user_id `+d.db.Any("$1")+` AND m.membership = 'join' AND (r.join_rule = 'public' OR r.world_readable = 1
    OR EXISTS (SELECT 1 FROM memberships o WHERE o.user_id = $2 AND o.room_id = m.room_id AND o.membership = 'join'))`,
		sqldb.List(users), viewer)
}
