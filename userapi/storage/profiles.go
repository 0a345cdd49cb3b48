package storage

import (
	"context"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Profile returns a user's profile within a transaction.
func (d *Database) Profile(ctx context.Context, tx *sqldb.Tx, userID string) (map[string]jsontext.Value, error) {
	out := map[string]jsontext.Value{}
	err := tx.Each(ctx, func(scan func(...any) error) error {
		var field, value string
		err := scan(&field, &value)
		out[field] = jsontext.Value(value)
		return err
	}, "SELECT field, value FROM profiles WHERE user_id = $1", userID)
	return out, err
}

// ProfileOf returns the profile of a user; false when there is none, or no more.
func (d *Database) ProfileOf(ctx context.Context, userID string) (fields map[string]jsontext.Value, ok bool, err error) {
	err = d.ReadOne(ctx, func(tx *sqldb.Tx) error {
		fields, ok = map[string]jsontext.Value{}, false
		return tx.Each(ctx, func(scan func(...any) error) error {
			var field, value string
			err := scan(&field, &value)
			if ok = true; field != "" {
				fields[field] = jsontext.Value(value)
			}
			return err
		}, `SELECT coalesce(p.field, ''), coalesce(p.value, '') FROM accounts a LEFT JOIN profiles p ON p.user_id = a.user_id
			WHERE a.user_id = $1 AND a.deactivated = $2`, userID, false)
	})
	return fields, ok, err
}

// PutProfileField stores a field; a nil value deletes it.
func (d *Database) PutProfileField(ctx context.Context, tx *sqldb.Tx, userID, field string, value jsontext.Value) error {
	if value == nil {
		_, err := tx.Exec(ctx, "DELETE FROM profiles WHERE user_id = $1 AND field = $2", userID, field)
		return err
	}
	_, err := tx.Exec(ctx, `INSERT INTO profiles (user_id, field, value) VALUES ($1, $2, $3)
		ON CONFLICT (user_id, field) DO UPDATE SET value = excluded.value`, userID, field, string(value))
	return err
}

// DeleteProfile deletes all fields.
func (d *Database) DeleteProfile(ctx context.Context, tx *sqldb.Tx, userID string) error {
	_, err := tx.Exec(ctx, "DELETE FROM profiles WHERE user_id = $1", userID)
	return err
}

// Avatars returns those of some URIs that are in profiles. Clients may have written a
// slash with a backslash before it.
func (d *Database) Avatars(ctx context.Context, uris []string) (out []string, err error) {
	values := make([]string, 0, 2*len(uris))
	for _, uri := range uris {
		values = append(values, `"`+uri+`"`, `"`+strings.ReplaceAll(uri, "/", `\/`)+`"`)
	}
	err = d.Read(ctx, func(tx *sqldb.Tx) error {
		out = nil
		return tx.Each(ctx, func(scan func(...any) error) error {
			var value string
			err := scan(&value)
			out = append(out, strings.Trim(strings.ReplaceAll(value, `\/`, "/"), `"`))
			return err
		}, "SELECT DISTINCT value FROM profiles WHERE field = 'avatar_url' AND value "+d.Any("$1"), sqldb.List(values))
	})
	return out, err
}
