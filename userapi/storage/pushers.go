package storage

import (
	"context"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
)

// TakePusherTurn has the transactions that set a pusher of an app and key take
// turns, whoever's it is; EndPusherTurn belongs to it.
func (d *Database) TakePusherTurn(ctx context.Context, tx *sqldb.Tx, appID, pushkey string) error {
	_, err := tx.Exec(ctx, "INSERT INTO pusher_turns (app_id, pushkey) VALUES ($1, $2)", appID, pushkey)
	return err
}

// EndPusherTurn leaves no row behind.
func (d *Database) EndPusherTurn(ctx context.Context, tx *sqldb.Tx, appID, pushkey string) error {
	_, err := tx.Exec(ctx, "DELETE FROM pusher_turns WHERE app_id = $1 AND pushkey = $2", appID, pushkey)
	return err
}

// PusherOwners lists who has a pusher of an app and key.
func (d *Database) PusherOwners(ctx context.Context, tx *sqldb.Tx, appID, pushkey string) (out []string, err error) {
	return tx.Texts(ctx, "SELECT user_id FROM pushers WHERE app_id = $1 AND pushkey = $2 ORDER BY user_id", appID, pushkey)
}

// PutPusher stores a pusher; one that is there keeps its ID.
func (d *Database) PutPusher(ctx context.Context, tx *sqldb.Tx, userID string, p *api.Pusher) error {
	_, err := tx.Exec(ctx, `INSERT INTO pushers (user_id, app_id, pushkey, pusher_id, device_id, kind, app_name, device_name, profile_tag, lang, data, set_ts)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (user_id, app_id, pushkey)
		DO UPDATE SET device_id = excluded.device_id, kind = excluded.kind, app_name = excluded.app_name, device_name = excluded.device_name,
		profile_tag = excluded.profile_tag, lang = excluded.lang, data = excluded.data, set_ts = excluded.set_ts`,
		userID, p.AppID, p.Pushkey, p.ID, p.DeviceID, p.Kind, p.AppName, p.DeviceName, p.ProfileTag, p.Lang, string(p.Data), p.SetTS)
	return err
}

// DropPusher deletes a pusher, if id is "" or its ID; false when there is none.
func (d *Database) DropPusher(ctx context.Context, tx *sqldb.Tx, userID, appID, pushkey, id string) (bool, error) {
	return sqldb.Affected(tx.Exec(ctx, "DELETE FROM pushers WHERE user_id = $1 AND app_id = $2 AND pushkey = $3 AND ($4 = '' OR pusher_id = $5)",
		userID, appID, pushkey, id, id))
}

// DropPushersOf deletes the pushers that devices have made; false when there were
// none.
func (d *Database) DropPushersOf(ctx context.Context, tx *sqldb.Tx, userID string, devices []string) (bool, error) {
	return sqldb.Affected(tx.Exec(ctx, "DELETE FROM pushers WHERE user_id = $1 AND device_id "+d.Any("$2"), userID, sqldb.List(devices)))
}

const selectPushers = `SELECT user_id, pusher_id, device_id, kind, app_id, pushkey, app_name, device_name, profile_tag, lang, data, set_ts FROM pushers `

// Pushers lists a user's pushers within a transaction.
func (d *Database) Pushers(ctx context.Context, tx *sqldb.Tx, userID string) ([]api.Pusher, error) {
	out := []api.Pusher{}
	err := tx.Each(ctx, func(scan func(...any) error) error {
		_, p, err := scanPusher(scan)
		out = append(out, p)
		return err
	}, selectPushers+"WHERE user_id = $1 ORDER BY app_id, pushkey", userID)
	return out, err
}

func scanPusher(scan func(...any) error) (userID string, p api.Pusher, err error) {
	var data string
	err = scan(&userID, &p.ID, &p.DeviceID, &p.Kind, &p.AppID, &p.Pushkey, &p.AppName, &p.DeviceName, &p.ProfileTag, &p.Lang, &data, &p.SetTS)
	p.Data = jsontext.Value(data)
	return userID, p, err
}

// Pushed lists users who have pushers, by ID, with those.
func (d *Database) Pushed(ctx context.Context, after string, limit int) (out []api.PushedUser, err error) {
	err = d.ReadOne(ctx, func(tx *sqldb.Tx) error {
		out = nil
		return tx.Each(ctx, func(scan func(...any) error) error {
			user, p, err := scanPusher(scan)
			if n := len(out); n == 0 || out[n-1].UserID != user {
				out = append(out, api.PushedUser{UserID: user})
			}
			out[len(out)-1].Pushers = append(out[len(out)-1].Pushers, p)
			return err
		}, selectPushers+"WHERE user_id IN (SELECT DISTINCT user_id FROM pushers WHERE user_id > $1 ORDER BY user_id LIMIT $2) ORDER BY user_id, app_id, pushkey", after, limit)
	})
	return out, err
}
