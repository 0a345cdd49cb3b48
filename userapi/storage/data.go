package storage

import (
	"context"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
)

// AccountData returns a user's account data: of the rooms ("" for global) and
// types given, nil meaning all.
func (d *Database) AccountData(ctx context.Context, userID string, rooms, types []string) (out map[string]map[string]jsontext.Value, err error) {
	text, args := "SELECT room_id, type, content FROM account_data WHERE user_id = $1", []any{userID}
	switch {
	case rooms != nil && types != nil:
		text += " AND room_id " + d.Any("$2") + " AND type " + d.Any("$3")
		args = append(args, sqldb.List(rooms), sqldb.List(types))
	case rooms != nil:
		text += " AND room_id " + d.Any("$2")
		args = append(args, sqldb.List(rooms))
	case types != nil:
		text += " AND type " + d.Any("$2")
		args = append(args, sqldb.List(types))
	}
	err = d.ReadOne(ctx, func(tx *sqldb.Tx) error {
		out = map[string]map[string]jsontext.Value{}
		return tx.Each(ctx, func(scan func(...any) error) error {
			var room, typ, content string
			if err := scan(&room, &typ, &content); err != nil {
				return err
			}
			if out[room] == nil {
				out[room] = map[string]jsontext.Value{}
			}
			out[room][typ] = jsontext.Value(content)
			return nil
		}, text, args...)
	})
	return out, err
}

// OneAccountData returns one event within a transaction; nil when there is none.
func (d *Database) OneAccountData(ctx context.Context, tx *sqldb.Tx, userID, roomID, typ string) (jsontext.Value, error) {
	var content string
	ok, err := sqldb.Found(tx.QueryRow(ctx, "SELECT content FROM account_data WHERE user_id = $1 AND room_id = $2 AND type = $3", userID, roomID, typ).Scan(&content))
	if err != nil || !ok {
		return nil, err
	}
	return jsontext.Value(content), nil
}

// PutAccountData stores one event; nil content deletes it. False when there
// was nothing to delete.
func (d *Database) PutAccountData(ctx context.Context, tx *sqldb.Tx, userID, roomID, typ string, content jsontext.Value) (bool, error) {
	if content == nil {
		return sqldb.Affected(tx.Exec(ctx, "DELETE FROM account_data WHERE user_id = $1 AND room_id = $2 AND type = $3", userID, roomID, typ))
	}
	return sqldb.Affected(tx.Exec(ctx, `INSERT INTO account_data (user_id, room_id, type, content) VALUES ($1, $2, $3, $4)
		ON CONFLICT (user_id, room_id, type) DO UPDATE SET content = excluded.content`, userID, roomID, typ, string(content)))
}

// CountAccountData counts a user's events of account data but for one.
func (d *Database) CountAccountData(ctx context.Context, tx *sqldb.Tx, userID, roomID, typ string) (n int, err error) {
	err = tx.QueryRow(ctx, "SELECT count(*) FROM account_data WHERE user_id = $1 AND NOT (room_id = $2 AND type = $3)", userID, roomID, typ).Scan(&n)
	return n, err
}

// PutFilter stores a filter.
func (d *Database) PutFilter(ctx context.Context, userID, id string, content jsontext.Value) error {
	return d.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO filters (user_id, filter_id, content) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", userID, id, string(content))
		return err
	})
}

// Filter returns a filter; nil when there is none.
func (d *Database) Filter(ctx context.Context, userID, id string) (content jsontext.Value, err error) {
	err = d.ReadOne(ctx, func(tx *sqldb.Tx) error {
		var text string
		ok, err := sqldb.Found(tx.QueryRow(ctx, "SELECT content FROM filters WHERE user_id = $1 AND filter_id = $2", userID, id).Scan(&text))
		if ok {
			content = jsontext.Value(text)
		}
		return err
	})
	return content, err
}

// PutReceipt stores a receipt; false when it says what is stored already.
func (d *Database) PutReceipt(ctx context.Context, tx *sqldb.Tx, userID, roomID string, r api.Receipt) (bool, error) {
	return sqldb.Affected(tx.Exec(ctx, `INSERT INTO receipts (user_id, room_id, type, thread_id, event_id, ts) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (user_id, room_id, type, thread_id) DO UPDATE SET event_id = excluded.event_id, ts = excluded.ts
		WHERE receipts.event_id <> excluded.event_id`, userID, roomID, r.Type, r.ThreadID, r.EventID, r.TS))
}

// Receipts returns a user's receipts; nil rooms means all.
func (d *Database) Receipts(ctx context.Context, userID string, rooms []string) (out map[string][]api.Receipt, err error) {
	text, args := "SELECT room_id, type, thread_id, event_id, ts FROM receipts WHERE user_id = $1", []any{userID}
	if rooms != nil {
		text += " AND room_id " + d.Any("$2")
		args = append(args, sqldb.List(rooms))
	}
	err = d.ReadOne(ctx, func(tx *sqldb.Tx) error {
		out = map[string][]api.Receipt{}
		return tx.Each(ctx, func(scan func(...any) error) error {
			var room string
			var r api.Receipt
			err := scan(&room, &r.Type, &r.ThreadID, &r.EventID, &r.TS)
			out[room] = append(out[room], r)
			return err
		}, text, args...)
	})
	return out, err
}

// Forget notes that a user forgot a room.
func (d *Database) Forget(ctx context.Context, tx *sqldb.Tx, userID, roomID, eventID string) error {
	_, err := tx.Exec(ctx, `INSERT INTO forgotten (user_id, room_id, event_id) VALUES ($1, $2, $3)
		ON CONFLICT (user_id, room_id) DO UPDATE SET event_id = excluded.event_id`, userID, roomID, eventID)
	return err
}

// Forgotten returns the member event of the forgetting, or "".
func (d *Database) Forgotten(ctx context.Context, userID, roomID string) (eventID string, err error) {
	err = d.ReadOne(ctx, func(tx *sqldb.Tx) error {
		_, err := sqldb.Found(tx.QueryRow(ctx, "SELECT event_id FROM forgotten WHERE user_id = $1 AND room_id = $2", userID, roomID).Scan(&eventID))
		return err
	})
	return eventID, err
}

// PutPresences stores the presence of users, of each once.
func (d *Database) PutPresences(ctx context.Context, tx *sqldb.Tx, list []api.Presence) error {
	rows := make([][]any, len(list))
	for i, p := range list {
		rows[i] = []any{p.UserID, p.Presence, p.StatusMsg, p.LastActiveTS}
	}
	_, err := tx.ExecMany(ctx, `INSERT INTO presence (user_id, presence, status_msg, last_active_ts) VALUES ($1, $2, $3, $4)
		ON CONFLICT (user_id) DO UPDATE SET presence = excluded.presence, status_msg = excluded.status_msg, last_active_ts = excluded.last_active_ts`,
		[]int{1}, rows)
	return err
}

// ConfirmPresence notes the request that has set a user's presence.
func (d *Database) ConfirmPresence(ctx context.Context, tx *sqldb.Tx, userID, id string) error {
	_, err := tx.Exec(ctx, "UPDATE presence SET set_id = $1 WHERE user_id = $2", id, userID)
	return err
}

// PresenceSet returns the request that has set a user's presence last; "" when
// none has.
func (d *Database) PresenceSet(ctx context.Context, userID string) (id string, err error) {
	err = d.ReadOne(ctx, func(tx *sqldb.Tx) error {
		_, err := sqldb.Found(tx.QueryRow(ctx, "SELECT set_id FROM presence WHERE user_id = $1", userID).Scan(&id))
		return err
	})
	return id, err
}

// Present returns who was not offline when that was stored last.
func (d *Database) Present(ctx context.Context, limit int) ([]api.Presence, error) {
	return d.presences(ctx, "presence <> 'offline' LIMIT $1", limit)
}

// Presence returns what is stored of several users.
func (d *Database) Presence(ctx context.Context, userIDs []string) ([]api.Presence, error) {
	return d.presences(ctx, "user_id "+d.Any("$1"), sqldb.List(userIDs))
}

func (d *Database) presences(ctx context.Context, where string, arg any) (out []api.Presence, err error) {
	err = d.ReadOne(ctx, func(tx *sqldb.Tx) error {
		out = nil
		return tx.Each(ctx, func(scan func(...any) error) error {
			var p api.Presence
			err := scan(&p.UserID, &p.Presence, &p.StatusMsg, &p.LastActiveTS)
			out = append(out, p)
			return err
		}, "SELECT user_id, presence, status_msg, last_active_ts FROM presence WHERE "+where, arg)
	})
	return out, err
}
