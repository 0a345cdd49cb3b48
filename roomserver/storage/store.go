package storage

import (
	"context"
	"embed"
	"fmt"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/sqldb"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store is the room server's database.
type Store struct{ *sqldb.DB }

// New brings the schema up to date.
func New(ctx context.Context, db *sqldb.DB) (*Store, error) {
	if err := db.Migrate(ctx, "roomserver", migrations); err != nil {
		return nil, err
	}
	return &Store{db}, nil
}

// scanner is a row.
type scanner interface{ Scan(dest ...any) error }

// collect reads all rows of a query.
func collect[T any](ctx context.Context, tx *sqldb.Tx, scan func(scanner) (T, error), text string, args ...any) ([]T, error) {
	rows, err := tx.Query(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// Positions are the last Seq of each partition, and the last number given to an
// event without one.
type Positions struct{ Seqs, Others []int64 }

// Positions returns those of the first partitions.
func (s *Store) Positions(ctx context.Context, tx *sqldb.Tx, partitions int) (Positions, error) {
	out := Positions{make([]int64, partitions), make([]int64, partitions)}
	type row struct{ partition, seq, others int64 }
	rows, err := collect(ctx, tx, func(r scanner) (v row, err error) { return v, r.Scan(&v.partition, &v.seq, &v.others) },
		`SELECT partition_id, seq, others FROM positions`)
	for _, r := range rows {
		if int(r.partition) < partitions {
			out.Seqs[r.partition], out.Others[r.partition] = r.seq, r.others
		}
	}
	return out, err
}

// FirstSeq is the Seq up to which a partition's were given before the topics had
// as many partitions as now; 0 if they always had.
func (s *Store) FirstSeq(ctx context.Context, tx *sqldb.Tx, partition int) (seq int64, err error) {
	return seq, tx.QueryRow(ctx, `SELECT COALESCE(MAX(first_seq), 0) FROM positions WHERE partition_id = $1`, partition).Scan(&seq)
}

// HighestSeq is the highest Seq of any partition, also of one that is not there
// any more.
func (s *Store) HighestSeq(ctx context.Context, tx *sqldb.Tx) (seq int64, err error) {
	return seq, tx.QueryRow(ctx, `SELECT COALESCE(MAX(seq), 0) FROM positions`).Scan(&seq)
}

// Repartition puts every room into the one of so many partitions that its ID
// says; all of them go on behind the Seq, and behind all numbers given to events
// without one.
func Repartition(ctx context.Context, tx *sqldb.Tx, partitions int, seq int64) error {
	for _, table := range []string{"rooms", "set_aside"} {
		if err := repartition(ctx, tx, table, partitions); err != nil {
			return fmt.Errorf("roomserver/storage: %s: %w", table, err)
		}
	}
	if err := repartitionOutOfRoom(ctx, tx, partitions); err != nil {
		return fmt.Errorf("roomserver/storage: out_of_room: %w", err)
	}
	var others int64
	if err := tx.QueryRow(ctx, `SELECT COALESCE(MAX(others), 0) FROM positions`).Scan(&others); err != nil {
		return fmt.Errorf("roomserver/storage: positions: %w", err)
	}
	if _, err := tx.Exec(ctx, `DELETE FROM positions`); err != nil {
		return fmt.Errorf("roomserver/storage: positions: %w", err)
	}
	for p := range partitions {
		if _, err := tx.Exec(ctx, `INSERT INTO positions (partition_id, seq, others, first_seq) VALUES ($1, $2, $3, $4)`, p, seq, others, seq); err != nil {
			return fmt.Errorf("roomserver/storage: positions: %w", err)
		}
	}
	return nil
}

// repartition gives a table's rows the partitions that their room IDs say.
func repartition(ctx context.Context, tx *sqldb.Tx, table string, partitions int) error {
	type row struct {
		id        string
		partition int64
	}
	rows, err := collect(ctx, tx, func(r scanner) (v row, err error) { return v, r.Scan(&v.id, &v.partition) },
		`SELECT DISTINCT room_id, partition_id FROM `+table)
	if err != nil {
		return err
	}
	for _, r := range rows {
		p := int64(eventlog.PartitionFor(r.id, partitions))
		if p == r.partition {
			continue
		}
		if _, err := tx.Exec(ctx, `UPDATE `+table+` SET partition_id = $1 WHERE room_id = $2`, p, r.id); err != nil {
			return err
		}
	}
	return nil
}

// repartitionOutOfRoom does so for the numbers of outputs, by which out_of_room
// is listed; they keep their Seqs.
func repartitionOutOfRoom(ctx context.Context, tx *sqldb.Tx, partitions int) error {
	type row struct {
		room, user string
		nid        int64
	}
	rows, err := collect(ctx, tx, func(r scanner) (v row, err error) { return v, r.Scan(&v.room, &v.user, &v.nid) },
		`SELECT room_id, user_id, output_nid FROM out_of_room WHERE output_nid > 0`)
	if err != nil {
		return err
	}
	for _, r := range rows {
		nid := EventNID(eventlog.PartitionFor(r.room, partitions), r.nid-EventNID(Partition(r.nid), 0))
		if _, err := tx.Exec(ctx, `UPDATE out_of_room SET output_nid = $1 WHERE room_id = $2 AND user_id = $3`, nid, r.room, r.user); err != nil {
			return err
		}
	}
	return nil
}
