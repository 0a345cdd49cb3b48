package lease

import (
	"context"
	"fmt"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Place is how far a group has read a partition, as the tables say: for tools
// that look at an installation from outside.
type Place struct {
	Group     string
	Partition int
	// Owner and Address are of the instance that has or had it; Live says that
	// its lease holds, by the database's clock.
	Owner, Address string
	Live           bool
	// NextOffset and TopicID are as in Lease.
	Epoch, NextOffset int64
	TopicID           string
}

// Migrate makes the tables.
func Migrate(ctx context.Context, db *sqldb.DB) error {
	if err := db.Migrate(ctx, "lease", migrations); err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	return nil
}

// Places returns all places that are stored in a database.
func Places(ctx context.Context, db *sqldb.DB) ([]Place, error) {
	var out []Place
	err := db.Read(ctx, func(tx *sqldb.Tx) error {
		out = nil
		rows, err := tx.Query(ctx, `SELECT group_name, number, owner, address, CASE WHEN owner <> '' AND expiry >= `+db.Now()+` THEN 1 ELSE 0 END,
			epoch, next_offset, topic_id FROM lease_partitions ORDER BY group_name, number`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var p Place
			var live int
			if err := rows.Scan(&p.Group, &p.Partition, &p.Owner, &p.Address, &live, &p.Epoch, &p.NextOffset, &p.TopicID); err != nil {
				return err
			}
			p.Live = live == 1
			out = append(out, p)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("lease: places: %w", err)
	}
	return out, nil
}

// PutPlace stores a place that nobody owns, whatever was there: the epoch goes
// on, so that who may have owned it before cannot commit.
func PutPlace(ctx context.Context, tx *sqldb.Tx, p Place) error {
	_, err := tx.Exec(ctx, `INSERT INTO lease_partitions (group_name, number, owner, address, epoch, expiry, next_offset, topic_id)
		VALUES ($1, $2, '', '', $3, 0, $4, $5) ON CONFLICT (group_name, number) DO UPDATE SET owner = '', address = '', expiry = 0,
			epoch = CASE WHEN excluded.epoch > lease_partitions.epoch THEN excluded.epoch ELSE lease_partitions.epoch END,
			next_offset = excluded.next_offset, topic_id = excluded.topic_id`,
		p.Group, p.Partition, p.Epoch+1, p.NextOffset, p.TopicID)
	if err != nil {
		return fmt.Errorf("lease: put place: %w", err)
	}
	return nil
}
