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

// PutOutput stores the output at output_nid of an event that is stored under
// another number, or (0) of none. It is purged with the room, if that is not 0.
func (s *Store) PutOutput(ctx context.Context, tx *sqldb.Tx, outputNID, roomNID, eventNID int64, header []byte) error {
	_, err := tx.Exec(ctx, `INSERT INTO outputs (output_nid, room_nid, event_nid, output) VALUES ($1, $2, $3, $4)`, outputNID, roomNID, eventNID, header)
	return err
}

// Outputs returns a partition's outputs after a Seq, in order. Those of what
// has been purged are left out.
func (s *Store) Outputs(ctx context.Context, tx *sqldb.Tx, partition int, after int64, limit int) ([]Output, error) {
	return collect(ctx, tx, func(r scanner) (o Output, err error) {
		err = r.Scan(&o.Seq, &o.Header, &o.JSON)
		o.Seq -= EventNID(partition, 0)
		return o, err
	}, `SELECT e.event_nid, e.output, e.json FROM events e WHERE e.event_nid > $1 AND e.event_nid < $2
		UNION ALL SELECT o.output_nid, o.output, e.json FROM outputs o LEFT JOIN events e ON e.event_nid = o.event_nid
			WHERE o.output_nid > $1 AND o.output_nid < $2
		ORDER BY 1 LIMIT $3`, EventNID(partition, after), EventNID(partition+1, 0), limit)
}
