package storage

import (
	"context"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Aside is a record that waits, of a room that is set aside.
type Aside struct {
	RoomID    string
	N         int64
	Partition int
	RequestID string
	Answers   []int // partitions of room.answers
	Bytes     int64 // of Record
	Record    []byte
}

// PutAside stores one.
func (s *Store) PutAside(ctx context.Context, tx *sqldb.Tx, a *Aside) error {
	answers, err := json.Marshal(a.Answers)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO set_aside (room_id, n, partition_id, request_id, answers, record) VALUES ($1, $2, $3, $4, $5, $6)`, a.RoomID, a.N, a.Partition, a.RequestID, string(answers), a.Record)
	return err
}

// AnswerAside changes who waits for the verdict of one.
func (s *Store) AnswerAside(ctx context.Context, tx *sqldb.Tx, roomID string, n int64, partitions []int) error {
	answers, err := json.Marshal(partitions)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `UPDATE set_aside SET answers = $1 WHERE room_id = $2 AND n = $3`, string(answers), roomID, n)
	return err
}

// DropAside drops a room's records up to one of them.
func (s *Store) DropAside(ctx context.Context, tx *sqldb.Tx, roomID string, to int64) error {
	_, err := tx.Exec(ctx, `DELETE FROM set_aside WHERE room_id = $1 AND n <= $2`, roomID, to)
	return err
}

// AsideOf returns a room's records after one of them, in order.
func (s *Store) AsideOf(ctx context.Context, tx *sqldb.Tx, roomID string, after int64, limit int) ([]*Aside, error) {
	return collect(ctx, tx, func(r scanner) (*Aside, error) {
		a, answers := &Aside{RoomID: roomID}, ""
		if err := r.Scan(&a.N, &a.Partition, &a.RequestID, &answers, &a.Record); err != nil {
			return nil, err
		}
		a.Bytes = int64(len(a.Record))
		return a, json.Unmarshal([]byte(answers), &a.Answers)
	}, `SELECT n, partition_id, request_id, answers, record FROM set_aside WHERE room_id = $1 AND n > $2 ORDER BY n LIMIT $3`, roomID, after, limit)
}

// AsideIn returns those of a partition without the records themselves, each
// room's in order.
func (s *Store) AsideIn(ctx context.Context, tx *sqldb.Tx, partition int) ([]*Aside, error) {
	return collect(ctx, tx, func(r scanner) (*Aside, error) {
		a, answers := &Aside{Partition: partition}, ""
		if err := r.Scan(&a.RoomID, &a.N, &a.RequestID, &answers, &a.Bytes); err != nil {
			return nil, err
		}
		return a, json.Unmarshal([]byte(answers), &a.Answers)
	}, `SELECT room_id, n, request_id, answers, length(record) FROM set_aside WHERE partition_id = $1 ORDER BY room_id, n`, partition)
}
