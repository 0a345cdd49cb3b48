package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Avatars returns those of some URIs that are pictures of rooms.
func (d *Database) Avatars(ctx context.Context, uris []string) ([]string, error) {
	return d.texts(ctx, `SELECT DISTINCT avatar_url FROM rooms WHERE avatar_url `+d.db.Any("$1"), sqldb.List(uris))
}
