package storage

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Annotation is a local user's annotation of an event.
type Annotation struct {
	RoomID, Parent, Sender, Type, Key string
	EventID                           string // of the annotation itself
}

const (
	insertAnnotation = `INSERT INTO annotations (room_id, parent, sender, type, key_hash, event_id) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (room_id, parent, sender, type, key_hash) DO NOTHING`
	selectAnnotation      = `SELECT event_id FROM annotations WHERE room_id = $1 AND parent = $2 AND sender = $3 AND type = $4 AND key_hash = $5`
	deleteAnnotations     = `DELETE FROM annotations WHERE room_id = $1 AND event_id `
	deleteRoomAnnotations = `DELETE FROM annotations WHERE room_id = $1`
)

// PutAnnotation writes a row within a transaction; the first of its kind stays.
func (d *Database) PutAnnotation(ctx context.Context, tx *sqldb.Tx, a *Annotation) error {
	_, err := tx.Exec(ctx, insertAnnotation, a.RoomID, clean(a.Parent), a.Sender, clean(a.Type), hashKey(a.Key), a.EventID)
	return err
}

// DropAnnotations removes redacted or purged annotations within a transaction;
// events that are none are fine.
func (d *Database) DropAnnotations(ctx context.Context, tx *sqldb.Tx, roomID string, eventIDs []string) error {
	_, err := tx.Exec(ctx, deleteAnnotations+d.db.Any("$2"), roomID, sqldb.List(eventIDs))
	return err
}

// AnnotationOf returns the annotation's EventID; "" when there is none.
func (d *Database) AnnotationOf(ctx context.Context, a Annotation) (eventID string, err error) {
	err = d.db.ReadOne(ctx, func(tx *sqldb.Tx) error {
		err := tx.QueryRow(ctx, selectAnnotation, a.RoomID, clean(a.Parent), a.Sender, clean(a.Type), hashKey(a.Key)).Scan(&eventID)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	return eventID, err
}

// hashKey bounds the length of what is indexed.
func hashKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}
