package storage

import (
	"context"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
)

// maxPastRules is how many of the push rules that a user had before are kept,
// maxPastBytes how large they may be.
const (
	maxPastRules = 20
	maxPastBytes = 128 << 10
)

// PutPastRules keeps the push rules that a user had until now, a time in
// milliseconds, and forgets the oldest of too many.
func (d *Database) PutPastRules(ctx context.Context, tx *sqldb.Tx, userID string, seq, until int64, content jsontext.Value) error {
	if len(content) > maxPastBytes {
		return nil
	}
	if _, err := tx.Exec(ctx, "INSERT INTO past_push_rules (user_id, seq, until_ts, content) VALUES ($1, $2, $3, $4)",
		userID, seq, until, string(content)); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `DELETE FROM past_push_rules WHERE user_id = $1 AND seq IN (SELECT seq FROM past_push_rules
		WHERE user_id = $2 ORDER BY seq DESC LIMIT 1000000 OFFSET $3)`, userID, userID, maxPastRules)
	return err
}

// PastRules returns the push rules that a user had before, oldest first.
func (d *Database) PastRules(ctx context.Context, userID string) (out []api.PastRules, err error) {
	err = d.ReadOne(ctx, func(tx *sqldb.Tx) error {
		out = nil
		return tx.Each(ctx, func(scan func(...any) error) error {
			var p api.PastRules
			var content string
			err := scan(&p.UntilTS, &content)
			p.Content = jsontext.Value(content)
			out = append(out, p)
			return err
		}, "SELECT until_ts, content FROM past_push_rules WHERE user_id = $1 ORDER BY seq", userID)
	})
	return out, err
}
