package storage

import (
	"context"
	"math"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Never is when a pusher is due that has nothing new.
const Never = math.MaxInt64

// News is an event that a pusher's gateway is to be told of.
type News struct {
	PusherID, RoomID, EventID string
	Partition                 int // with Seq, the event's place
	Seq                       int64
	Tweaks                    string // a JSON object
	// Event is what is known of it, where the room server does not know; else "".
	Event    string
	Version  string // of the room
	LoggedTS int64  // milliseconds
}

// Mark says that a pusher has something new.
type Mark struct {
	PusherID, UserID string
	UserPartition    int
	// ReadSeq is the Seq by which the user has read something; 0 for news.
	ReadSeq int64
}

// PutNews writes what is new for pushers within a transaction.
func (d *Database) PutNews(ctx context.Context, tx *sqldb.Tx, list []News) error {
	rows := make([][]any, len(list))
	for i, n := range list {
		rows[i] = []any{n.PusherID, n.EventID, n.RoomID, n.Partition, n.Seq, n.Tweaks, n.Event, n.Version, n.LoggedTS}
	}
	_, err := tx.ExecMany(ctx, `INSERT INTO news (pusher_id, event_id, room_id, partition_id, seq, tweaks, event, room_version, logged_ts)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (pusher_id, event_id) DO NOTHING`, []int{1, 2}, rows)
	return err
}

// PutMarks makes pushers due, but for those whose gateway has failed: these wait
// for their turn. A pusher may be among them once.
func (d *Database) PutMarks(ctx context.Context, tx *sqldb.Tx, list []Mark) error {
	rows := make([][]any, len(list))
	for i, m := range list {
		rows[i] = []any{m.PusherID, m.UserID, m.UserPartition, m.ReadSeq}
	}
	_, err := tx.ExecMany(ctx, `INSERT INTO states (pusher_id, user_id, user_partition, due_ts, changes, tries, read_seq, badge)
VALUES ($1, $2, $3, 0, 1, 0, $4, '') ON CONFLICT (pusher_id) DO UPDATE SET
    due_ts = CASE WHEN states.tries = 0 THEN 0 ELSE states.due_ts END, changes = states.changes + 1,
    read_seq = CASE WHEN excluded.read_seq > states.read_seq THEN excluded.read_seq ELSE states.read_seq END`, []int{1}, rows)
	return err
}

// Due is a pusher that has something new and whose time has come.
type Due struct {
	PusherID, UserID string
	TS               int64 // when its time came
}

// Due lists pushers of users of some partitions of user.output, in an order, from
// behind one of them on; Due{} is before all.
func (d *Database) Due(ctx context.Context, partitions []int64, now int64, after Due, limit int) (out []Due, err error) {
	err = d.db.ReadOne(ctx, func(tx *sqldb.Tx) error {
		out = nil
		return tx.Each(ctx, func(scan func(...any) error) error {
			var p Due
			err := scan(&p.PusherID, &p.UserID, &p.TS)
			out = append(out, p)
			return err
		}, `SELECT pusher_id, user_id, due_ts FROM states WHERE user_partition `+d.db.Any("$1")+` AND due_ts <= $2 AND (due_ts > $3 OR due_ts = $4 AND pusher_id > $5)
    ORDER BY due_ts, pusher_id LIMIT $6`, sqldb.List(partitions), now, after.TS, after.TS, after.PusherID, limit)
	})
	return out, err
}

// State is what is known of a pusher, with the oldest of what is new for it.
type State struct {
	Changes, ReadSeq, Tries int64
	Badge                   string
	News                    []News
}

// State returns a pusher's state with some news, oldest first; false where there
// is none.
func (d *Database) State(ctx context.Context, pusherID string, limit int) (s State, ok bool, err error) {
	err = d.db.Read(ctx, func(tx *sqldb.Tx) error {
		s = State{}
		ok, err = sqldb.Found(tx.QueryRow(ctx, `SELECT changes, read_seq, tries, badge FROM states WHERE pusher_id = $1`, pusherID).
			Scan(&s.Changes, &s.ReadSeq, &s.Tries, &s.Badge))
		if !ok || err != nil {
			return err
		}
		return tx.Each(ctx, func(scan func(...any) error) error {
			n := News{PusherID: pusherID}
			err := scan(&n.EventID, &n.RoomID, &n.Partition, &n.Seq, &n.Tweaks, &n.Event, &n.Version, &n.LoggedTS)
			s.News = append(s.News, n)
			return err
		}, `SELECT event_id, room_id, partition_id, seq, tweaks, event, room_version, logged_ts FROM news WHERE pusher_id = $1 ORDER BY logged_ts, partition_id, seq LIMIT $2`,
			pusherID, limit)
	})
	return s, ok, err
}

// Trim drops what is older than a time, and the oldest of more than a number; it
// returns how many.
func (d *Database) Trim(ctx context.Context, pusherID string, before int64, most int) (dropped int64, err error) {
	err = d.db.Write(ctx, func(tx *sqldb.Tx) error {
		res, err := tx.Exec(ctx, `DELETE FROM news WHERE pusher_id = $1 AND (logged_ts < $2 OR event_id IN (
    SELECT event_id FROM news WHERE pusher_id = $3 ORDER BY logged_ts DESC, partition_id DESC, seq DESC LIMIT 1000000 OFFSET $4))`, pusherID, before, pusherID, most)
		if err != nil {
			return err
		}
		dropped, err = res.RowsAffected()
		return err
	})
	return dropped, err
}

// Sent says that a gateway has an event, or is not to have it, and what badge it
// was told; "" for none.
func (d *Database) Sent(ctx context.Context, pusherID, eventID, badge string) error {
	return d.db.Write(ctx, func(tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM news WHERE pusher_id = $1 AND event_id = $2`, pusherID, eventID); err != nil {
			return err
		}
		if badge == "" {
			return nil
		}
		_, err := tx.Exec(ctx, `UPDATE states SET tries = 0, badge = $1 WHERE pusher_id = $2`, badge, pusherID)
		return err
	})
}

// Failed says when a gateway is to be asked again.
func (d *Database) Failed(ctx context.Context, pusherID string, due int64) error {
	return d.db.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE states SET tries = tries + 1, due_ts = $1 WHERE pusher_id = $2`, due, pusherID)
		return err
	})
}

// Rest says that nothing is new for a pusher as of a number of changes, and what
// badge its gateway was told last. If there were more it stays due.
func (d *Database) Rest(ctx context.Context, pusherID string, changes int64, badge string) error {
	return d.db.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE states SET tries = 0, due_ts = $1, read_seq = 0, badge = $2 WHERE pusher_id = $3 AND changes = $4`,
			int64(Never), badge, pusherID, changes)
		return err
	})
}

// Drop forgets a pusher that is not there any more.
func (d *Database) Drop(ctx context.Context, pusherID string) error {
	return d.db.Write(ctx, func(tx *sqldb.Tx) error { return d.DropTx(ctx, tx, []string{pusherID}) })
}

// DropTx forgets pushers within a transaction.
func (d *Database) DropTx(ctx context.Context, tx *sqldb.Tx, pushers []string) error {
	for _, table := range []string{"news", "states"} {
		if _, err := tx.Exec(ctx, `DELETE FROM `+table+` WHERE pusher_id `+d.db.Any("$1"), sqldb.List(pushers)); err != nil {
			return err
		}
	}
	return nil
}

// PushersOf lists the pushers of a user that have had something new, within a
// transaction.
func (d *Database) PushersOf(ctx context.Context, tx *sqldb.Tx, userID string) (out []string, err error) {
	err = tx.Each(ctx, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		out = append(out, id)
		return err
	}, `SELECT pusher_id FROM states WHERE user_id = $1`, userID)
	return out, err
}
