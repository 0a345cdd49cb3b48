package storage

import (
	"context"
	"embed"
	"fmt"

	"github.com/matrix-org/dendrite/common/sqldb"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store is the view's database.
type Store struct{ db *sqldb.DB }

// Open brings the database's schema up to date.
func Open(ctx context.Context, db *sqldb.DB) (*Store, error) {
	if err := db.Migrate(ctx, "syncapi", migrations); err != nil {
		return nil, fmt.Errorf("syncapi/storage: migrate: %w", err)
	}
	return &Store{db: db}, nil
}

// Batch is what a batch of records does to the view. All of it is applied in
// one transaction, in the order of the fields.
type Batch struct {
	// Fence fails unless the rows are still this instance's to write; nil where
	// there is no other.
	Fence func(context.Context, *sqldb.Tx) error
	// Clear names rooms of which all that came of room.output is dropped first.
	Clear       []string
	Memberships []Membership
	Relations   []Relation
	// Unrelate names events whose relations a redaction has ended.
	Unrelate []RoomEvent
	// Gone are events that were purged.
	Gone     []Gone
	Receipts []Receipt
	Markers  []Marker
	// DeviceLists tell whose keys changed.
	DeviceLists []DeviceList
	Unread      []Unread
	Rooms       []Room
	// Purge names rooms of which nothing is kept up to a Seq.
	Purge   []RoomSeq
	Offsets []Offset
}

// RoomEvent names an event of a room.
type RoomEvent struct{ RoomID, EventID string }

// RoomSeq is a point in a room's timeline.
type RoomSeq struct {
	RoomID string
	Seq    int64
}

// Empty tells that a batch stores nothing.
func (b *Batch) Empty() bool {
	return len(b.Memberships)+len(b.Relations)+len(b.Unrelate)+len(b.Gone)+len(b.Receipts)+len(b.Markers)+
		len(b.DeviceLists)+len(b.Unread)+len(b.Rooms)+len(b.Purge)+len(b.Offsets) == 0
}

// Add adds the rows that records of one source make; nil stands for none.
func (b *Batch) Add(o *Batch) {
	if o == nil {
		return
	}
	b.Memberships = append(b.Memberships, o.Memberships...)
	b.Relations = append(b.Relations, o.Relations...)
	b.Unrelate = append(b.Unrelate, o.Unrelate...)
	b.Gone = append(b.Gone, o.Gone...)
	b.Receipts = append(b.Receipts, o.Receipts...)
	b.Markers = append(b.Markers, o.Markers...)
	b.DeviceLists = append(b.DeviceLists, o.DeviceLists...)
	b.Purge = append(b.Purge, o.Purge...)
}

// Apply stores a batch.
func (s *Store) Apply(ctx context.Context, b *Batch) error {
	err := s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if b.Fence != nil {
			if err := b.Fence(ctx, tx); err != nil {
				return err
			}
		}
		for _, step := range []func() error{
			func() error { return s.clearRooms(ctx, tx, b.Clear) },
			func() error { return putMemberships(ctx, tx, b.Memberships) },
			func() error { return putRelations(ctx, tx, b.Relations) },
			func() error { return each(b.Unrelate, func(e *RoomEvent) error { return unrelate(ctx, tx, e) }) },
			func() error { return putReceipts(ctx, tx, b.Receipts) },
			func() error { return each(b.Gone, func(g *Gone) error { return g.forget(ctx, tx, s.db) }) },
			func() error { return putMarkers(ctx, tx, b.Markers) },
			func() error { return putDeviceLists(ctx, tx, b.DeviceLists) },
			func() error { return putUnread(ctx, tx, b.Unread) },
			func() error { return putRooms(ctx, tx, b.Rooms) },
			func() error { return each(b.Purge, func(p *RoomSeq) error { return p.purge(ctx, tx) }) },
			func() error { return putOffsets(ctx, tx, b.Offsets) },
		} {
			if err := step(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("syncapi/storage: apply: %w", err)
	}
	return nil
}

// putMany runs a statement for each of a list, as sqldb.Tx.ExecMany does.
func putMany[T any](ctx context.Context, tx *sqldb.Tx, list []T, key []int, text string, args func(*T) []any) error {
	if len(list) == 0 {
		return nil
	}
	rows := make([][]any, len(list))
	for i := range list {
		rows[i] = args(&list[i])
	}
	_, err := tx.ExecMany(ctx, text, key, rows)
	return err
}

func each[T any](list []T, f func(*T) error) error {
	for i := range list {
		if err := f(&list[i]); err != nil {
			return err
		}
	}
	return nil
}

// purge drops what is known of a room up to a Seq. Receipts, which tell nothing
// of the room's Seqs, go altogether.
func (p *RoomSeq) purge(ctx context.Context, tx *sqldb.Tx) error {
	for _, table := range roomTables() {
		if _, err := tx.Exec(ctx, `DELETE FROM `+table+` WHERE room_id = $1 AND seq <= $2`, p.RoomID, p.Seq); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, `DELETE FROM receipts WHERE room_id = $1`, p.RoomID)
	return err
}

// query reads all rows of a query.
func query[T any](ctx context.Context, s *Store, what, text string, args []any, scan func(rows scanner) (T, error)) ([]T, error) {
	var out []T
	err := s.db.ReadOne(ctx, func(tx *sqldb.Tx) error {
		out = out[:0]
		rows, err := tx.Query(ctx, text, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			v, err := scan(rows)
			if err != nil {
				return err
			}
			out = append(out, v)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("syncapi/storage: %s: %w", what, err)
	}
	return out, nil
}

// scanner is a row.
type scanner interface{ Scan(dest ...any) error }

// Clear forgets the whole view.
func Clear(ctx context.Context, tx *sqldb.Tx) error {
	for _, table := range []string{"memberships", "relations", "threads", "unread", "rooms", "receipts", "markers", "device_lists", "connections", "offsets"} {
		if _, err := tx.Exec(ctx, `DELETE FROM `+table); err != nil {
			return err
		}
	}
	return nil
}
