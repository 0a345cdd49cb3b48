package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Output is what a record of room.output was made of.
type Output struct {
	Seq    int64
	Header []byte
	JSON   []byte // of its event; nil if it has none
}

// Outputs returns a partition's outputs after a Seq, in order. Those of what
// has been purged are left out.
func (s *Store) Outputs(ctx context.Context, tx *sqldb.Tx, partition int, after int64, limit int) ([]Output, error) {
	return collect(ctx, tx, func(r scanner) (o Output, err error) {
		err = r.Scan(&o.Seq, &o.Header, &o.JSON)
		o.Seq -= EventNID(partition, 0)
		return o, err
	}, `SELECT event_nid, output, json FROM (SELECT event_nid, output, json FROM events
			WHERE event_nid > $1 AND event_nid < $2 ORDER BY event_nid LIMIT $3) e
		UNION ALL SELECT o.output_nid, o.output, e.json FROM (SELECT output_nid, event_nid, output FROM outputs
			WHERE output_nid > $1 AND output_nid < $2 ORDER BY output_nid LIMIT $3) o LEFT JOIN events e ON e.event_nid = o.event_nid
		ORDER BY 1 LIMIT $3`, EventNID(partition, after), EventNID(partition+1, 0), limit)
}
