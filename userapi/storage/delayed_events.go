package storage

import (
	"context"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
)

// maxFinalised is how many finalised events of a user are kept.
const maxFinalised = 1000

const delayedColumns = `delay_id, user_id, request, room_id, type, is_state, state_key, content, origin_ts, delay_ms, scheduled_ts,
	state, tries, finalised_ts, event_id, error`

func scanDelayed(scan func(...any) error) (e api.DelayedEvent, err error) {
	var isState bool
	var stateKey, content string
	err = scan(&e.ID, &e.UserID, &e.Request, &e.RoomID, &e.Type, &isState, &stateKey, &content, &e.OriginTS, &e.DelayMS, &e.ScheduledTS,
		(*string)(&e.State), &e.Tries, &e.FinalisedTS, &e.EventID, &e.Error)
	if isState {
		e.StateKey = &stateKey
	}
	e.Content = jsontext.Value(content)
	return e, err
}

// DelayedByRequest returns the ID of the event that a client's transaction made;
// "" for none.
func (d *Database) DelayedByRequest(ctx context.Context, tx *sqldb.Tx, userID, request string) (id string, err error) {
	_, err = sqldb.Found(tx.QueryRow(ctx, "SELECT delay_id FROM delayed_events WHERE user_id = $1 AND request = $2", userID, request).Scan(&id))
	return id, err
}

// CountDelayed counts a user's events that are not finalised, and tells how long
// it is until the first is due, in milliseconds.
func (d *Database) CountDelayed(ctx context.Context, tx *sqldb.Tx, userID string) (n int, next int64, err error) {
	err = tx.QueryRow(ctx, "SELECT count(*), coalesce(min(due_ts), 0) - "+d.Now()+` FROM delayed_events
		WHERE user_id = $1 AND state IN ('scheduled', 'sending')`, userID).Scan(&n, &next)
	return n, next, err
}

// InsertDelayed schedules an event, and forgets the oldest finalised ones of its
// user where there are very many.
func (d *Database) InsertDelayed(ctx context.Context, tx *sqldb.Tx, e *api.DelayedEvent) error {
	stateKey := ""
	if e.StateKey != nil {
		stateKey = *e.StateKey
	}
	_, err := tx.Exec(ctx, `INSERT INTO delayed_events (delay_id, user_id, request, room_id, type, is_state, state_key, content, origin_ts, delay_ms,
		scheduled_ts, due_ts, state, owner, until_ts, tries, finalised_ts, event_id, error)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, `+d.Now()+`, `+d.Now()+` + $11, 'scheduled', '', 0, 0, 0, '', '')`,
		e.ID, e.UserID, e.Request, e.RoomID, e.Type, e.StateKey != nil, stateKey, string(e.Content), e.OriginTS, e.DelayMS, e.DelayMS)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `DELETE FROM delayed_events WHERE delay_id IN (SELECT delay_id FROM delayed_events
		WHERE user_id = $1 AND finalised_ts > 0 ORDER BY finalised_ts DESC LIMIT 1000000 OFFSET $2)`, e.UserID, maxFinalised)
	return err
}

// Delayed returns an event of a user's, or with ID "" all that are scheduled, in
// the order in which they are due.
func (d *Database) Delayed(ctx context.Context, tx *sqldb.Tx, userID, id string) ([]api.DelayedEvent, error) {
	out := []api.DelayedEvent{}
	text, args := "SELECT "+delayedColumns+" FROM delayed_events WHERE user_id = $1 AND delay_id = $2", []any{userID, id}
	if id == "" {
		text, args = "SELECT "+delayedColumns+" FROM delayed_events WHERE user_id = $1 AND state = 'scheduled' ORDER BY due_ts, delay_id", []any{userID}
	}
	err := tx.Each(ctx, func(scan func(...any) error) error {
		e, err := scanDelayed(scan)
		out = append(out, e)
		return err
	}, text, args...)
	return out, err
}

// RestartDelayed puts an event off that is scheduled; false when it is not.
func (d *Database) RestartDelayed(ctx context.Context, tx *sqldb.Tx, userID, id string) (bool, error) {
	return sqldb.Affected(tx.Exec(ctx, "UPDATE delayed_events SET scheduled_ts = "+d.Now()+", due_ts = "+d.Now()+` + delay_ms
		WHERE user_id = $1 AND delay_id = $2 AND state = 'scheduled'`, userID, id))
}

// CancelDelayed cancels an event that is scheduled; false when it is not.
func (d *Database) CancelDelayed(ctx context.Context, tx *sqldb.Tx, userID, id string) (bool, error) {
	return sqldb.Affected(tx.Exec(ctx, "UPDATE delayed_events SET state = 'cancelled', finalised_ts = "+d.Now()+
		" WHERE user_id = $1 AND delay_id = $2 AND state = 'scheduled'", userID, id))
}

// SendDelayed takes an event that is scheduled for who sends it now; false when it
// is not.
func (d *Database) SendDelayed(ctx context.Context, tx *sqldb.Tx, userID, id, owner string, ttl int64) (bool, error) {
	return sqldb.Affected(tx.Exec(ctx, "UPDATE delayed_events SET state = 'sending', owner = $1, tries = tries + 1, until_ts = "+d.Now()+
		" + $2 WHERE user_id = $3 AND delay_id = $4 AND state = 'scheduled'", owner, ttl, userID, id))
}

// TakeDelayed takes events that are due, or that somebody took and did not finish
// in time, and tells how long it is until the next one is due; -1 for never.
func (d *Database) TakeDelayed(ctx context.Context, owner string, limit int, ttl int64) (out []api.DelayedEvent, next int64, err error) {
	now := d.Now()
	due := "(state = 'scheduled' AND due_ts <= " + now + " OR state = 'sending' AND until_ts <= " + now + ")"
	err = d.ReadOne(ctx, func(tx *sqldb.Tx) error {
		var at int64
		err := tx.QueryRow(ctx, `SELECT coalesce(min(ts), 0), `+now+` FROM (SELECT min(due_ts) AS ts FROM delayed_events WHERE state = 'scheduled'
			UNION ALL SELECT min(until_ts) FROM delayed_events WHERE state = 'sending') pending`).Scan(&next, &at)
		if next == 0 {
			next = -1
		} else {
			next = max(0, next-at)
		}
		return err
	})
	if err != nil || next != 0 {
		return nil, next, err
	}
	err = d.Write(ctx, func(tx *sqldb.Tx) error {
		out = nil
		// The condition stands twice: on PostgreSQL another instance may take a row
		// between the choice and the update.
		return tx.Each(ctx, func(scan func(...any) error) error {
			e, err := scanDelayed(scan)
			out = append(out, e)
			return err
		}, "UPDATE delayed_events SET state = 'sending', owner = $1, tries = tries + 1, until_ts = "+now+" + $2 WHERE "+due+
			" AND delay_id IN (SELECT delay_id FROM delayed_events WHERE "+due+" ORDER BY due_ts, delay_id LIMIT $3) RETURNING "+delayedColumns,
			owner, ttl, limit)
	})
	return out, next, err
}

// FinishDelayed notes what became of an event that its owner has taken: it was
// sent, or refused, or (neither) is scheduled as before.
func (d *Database) FinishDelayed(ctx context.Context, id, owner string, state api.DelayedState, eventID, reason string) error {
	finalised := d.Now()
	if state == api.DelayedScheduled {
		finalised = "0"
	}
	return d.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE delayed_events SET state = $1, owner = '', until_ts = 0, event_id = $2, error = $3, finalised_ts = "+finalised+
			" WHERE delay_id = $4 AND owner = $5 AND state = 'sending'", string(state), eventID, reason, id, owner)
		return err
	})
}

// DropDelayed forgets events that were finalised longer ago than the milliseconds
// given.
func (d *Database) DropDelayed(ctx context.Context, keep int64) error {
	return d.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM delayed_events WHERE finalised_ts > 0 AND finalised_ts < "+d.Now()+" - $1", keep)
		return err
	})
}
