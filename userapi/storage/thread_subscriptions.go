package storage

import (
	"context"
	"fmt"
	"math"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
)

// ThreadRow is a row of thread_subscriptions.
type ThreadRow struct {
	api.ThreadSubscription
	LeftAt int64
}

const threadColumns = `room_id, thread_id, subscribed, automatic, seq, left_at, past`

func scanThread(scan func(...any) error) (r ThreadRow, err error) {
	var past string
	if err := scan(&r.RoomID, &r.ThreadID, &r.Subscribed, &r.Automatic, &r.Seq, &r.LeftAt, &past); err != nil {
		return r, err
	}
	if err := json.Unmarshal([]byte(past), &r.Past); err != nil {
		return r, fmt.Errorf("userapi: the past of a subscription: %w", err)
	}
	return r, nil
}

// ThreadSubscription returns a user's row of a thread within a transaction; nil for
// none.
func (d *Database) ThreadSubscription(ctx context.Context, tx *sqldb.Tx, userID, roomID, threadID string) (*ThreadRow, error) {
	var row ThreadRow
	ok, err := sqldb.Found(func() (err error) {
		row, err = scanThread(tx.QueryRow(ctx, `SELECT `+threadColumns+` FROM thread_subscriptions
			WHERE user_id = $1 AND room_id = $2 AND thread_id = $3`, userID, roomID, threadID).Scan)
		return err
	}())
	if err != nil || !ok {
		return nil, err
	}
	return &row, nil
}

// PutThreadSubscription stores a row.
func (d *Database) PutThreadSubscription(ctx context.Context, tx *sqldb.Tx, userID string, r *ThreadRow) error {
	past, err := json.Marshal(r.Past)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO thread_subscriptions (user_id, `+threadColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (user_id, room_id, thread_id) DO UPDATE SET subscribed = excluded.subscribed, automatic = excluded.automatic,
		seq = excluded.seq, left_at = excluded.left_at, past = excluded.past`,
		userID, r.RoomID, r.ThreadID, r.Subscribed, r.Automatic, r.Seq, r.LeftAt, string(past))
	return err
}

// CountThreadSubscriptions counts a user's rows.
func (d *Database) CountThreadSubscriptions(ctx context.Context, tx *sqldb.Tx, userID string) (n int, err error) {
	err = tx.QueryRow(ctx, "SELECT count(*) FROM thread_subscriptions WHERE user_id = $1", userID).Scan(&n)
	return n, err
}

// ThreadSubscriptions returns rows of a user, those changed last first.
func (d *Database) ThreadSubscriptions(ctx context.Context, r *api.ThreadSubscriptionsRequest) (out []api.ThreadSubscription, err error) {
	before, limit := r.Before, r.Limit
	if before == 0 {
		before = math.MaxInt64
	}
	if limit == 0 {
		limit = math.MaxInt32
	}
	err = d.ReadOne(ctx, func(tx *sqldb.Tx) error {
		out = nil
		return tx.Each(ctx, func(scan func(...any) error) error {
			row, err := scanThread(scan)
			out = append(out, row.ThreadSubscription)
			return err
		}, `SELECT `+threadColumns+` FROM thread_subscriptions WHERE user_id = $1 AND seq > $2 AND seq < $3
			AND ($4 = '' OR room_id = $5 AND thread_id = $6) ORDER BY seq DESC LIMIT $7`,
			r.UserID, r.After, before, r.ThreadID, r.RoomID, r.ThreadID, limit)
	})
	return out, err
}

// ThreadsOf returns a page of the rows of many users.
func (d *Database) ThreadsOf(ctx context.Context, r *api.ThreadsOfRequest) (out []api.ThreadOf, err error) {
	err = d.ReadOne(ctx, func(tx *sqldb.Tx) error {
		out = nil
		return tx.Each(ctx, func(scan func(...any) error) error {
			var t api.ThreadOf
			err := scan(&t.UserID, &t.RoomID, &t.ThreadID, &t.Subscribed, &t.Seq)
			out = append(out, t)
			return err
		}, `SELECT user_id, room_id, thread_id, subscribed, seq FROM thread_subscriptions WHERE user_id `+d.Any("$1")+`
			AND (user_id, room_id, thread_id) > ($2, $3, $4) ORDER BY user_id, room_id, thread_id LIMIT $5`,
			sqldb.List(r.UserIDs), r.After.UserID, r.After.RoomID, r.After.ThreadID, r.Limit)
	})
	return out, err
}

// currentThreads tells what a user has said of threads.
func (d *Database) currentThreads(ctx context.Context, tx *sqldb.Tx, userID string) (out []api.UserChange, err error) {
	err = tx.Each(ctx, func(scan func(...any) error) error {
		row, err := scanThread(scan)
		if err != nil {
			return err
		}
		c, err := api.ChangeOfThread(userID, row.RoomID, row.ThreadID, row.ThreadState)
		c.Again = true
		out = append(out, c)
		return err
	}, `SELECT `+threadColumns+` FROM thread_subscriptions WHERE user_id = $1 ORDER BY seq`, userID)
	return out, err
}
