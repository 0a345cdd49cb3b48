package storage

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
)

// resyncUsers bounds the users looked at in one step of a resync.
const resyncUsers = 100

// StartResync gives up what a partition still lacks in user.output: it writes
// the change that tells readers so, with the next Seq after both the head and
// published, and notes that the current rows are to follow. It returns that Seq.
// If more was published than this database knows of, it was restored from an
// older copy, and one-time keys that it holds may have been given out since.
func (d *Database) StartResync(ctx context.Context, tx *sqldb.Tx, partition int, published int64) (int64, error) {
	if err := beginResync(ctx, tx, partition); err != nil {
		return 0, err
	}
	var head int64
	if err := tx.QueryRow(ctx, "SELECT seq FROM output_heads WHERE partition_id = $1", partition).Scan(&head); err != nil {
		return 0, fmt.Errorf("userapi: resync: %w", err)
	}
	if published > head {
		if err := d.ForgetPrekeys(ctx, tx, partition); err != nil {
			return 0, fmt.Errorf("userapi: resync: %w", err)
		}
	}
	for _, one := range []struct {
		text string
		args []any
	}{
		{"UPDATE output_heads SET seq = $1 WHERE partition_id = $2 AND seq < $3", []any{published, partition, published}},
		{"DELETE FROM outbox WHERE partition_id = $1", []any{partition}},
	} {
		if _, err := tx.Exec(ctx, one.text, one.args...); err != nil {
			return 0, fmt.Errorf("userapi: resync: %w", err)
		}
	}
	res, err := d.change(ctx, tx, partition, api.UserChange{Kind: api.ChangeResync})
	return res.Seq, err
}

// Restored makes good what a database that was restored from an older copy
// cannot know, where no log tells of it: it forgets one-time keys, and has all
// that is current told anew, device lists among it.
func (d *Database) Restored(ctx context.Context) error {
	return d.Write(ctx, func(tx *sqldb.Tx) error {
		for p := range d.partitions {
			if _, err := d.RequestResync(ctx, tx, p); err != nil {
				return err
			}
		}
		return d.ForgetPrekeys(ctx, tx, -1)
	})
}

// RequestResync has the current rows of a partition follow all that is on its
// way, behind a change that tells readers so.
func (d *Database) RequestResync(ctx context.Context, tx *sqldb.Tx, partition int) (*api.WriteResponse, error) {
	if err := beginResync(ctx, tx, partition); err != nil {
		return nil, err
	}
	res, err := d.change(ctx, tx, partition, api.UserChange{Kind: api.ChangeResync})
	return &res, err
}

// beginResync notes that the current rows are to follow; what is under way of
// that begins again. It locks the row first, as Resync does, before others.
func beginResync(ctx context.Context, tx *sqldb.Tx, partition int) error {
	_, err := tx.Exec(ctx, "INSERT INTO resyncs (partition_id, after_user) VALUES ($1, '') ON CONFLICT (partition_id) DO UPDATE SET after_user = ''", partition)
	if err != nil {
		return fmt.Errorf("userapi: resync: %w", err)
	}
	return nil
}

// Resyncing tells whether a resync of a partition is under way.
func (d *Database) Resyncing(ctx context.Context, partition int) (active bool, err error) {
	err = d.ReadOne(ctx, func(tx *sqldb.Tx) error {
		var one int
		active, err = sqldb.Found(tx.QueryRow(ctx, "SELECT 1 FROM resyncs WHERE partition_id = $1", partition).Scan(&one))
		return err
	})
	return active, err
}

// Resync writes the next users' current rows as changes of their partition;
// false when there is nothing left to do.
func (d *Database) Resync(ctx context.Context, tx *sqldb.Tx, partition int) (more bool, err error) {
	var after string
	// The update is the lock that both engines know.
	ok, err := sqldb.Found(tx.QueryRow(ctx, "UPDATE resyncs SET after_user = after_user WHERE partition_id = $1 RETURNING after_user", partition).Scan(&after))
	if err != nil || !ok {
		return false, err
	}
	type row struct {
		id          string
		deactivated bool
	}
	var users []row
	err = tx.Each(ctx, func(scan func(...any) error) error {
		var u row
		err := scan(&u.id, &u.deactivated)
		users = append(users, u)
		return err
	}, "SELECT user_id, deactivated FROM accounts WHERE user_id > $1 ORDER BY user_id LIMIT $2", after, resyncUsers)
	if err != nil {
		return false, err
	}
	if len(users) == 0 {
		if _, err := tx.Exec(ctx, "DELETE FROM resyncs WHERE partition_id = $1", partition); err != nil {
			return false, err
		}
		_, err := d.change(ctx, tx, partition, api.UserChange{Kind: api.ChangeResynced})
		return false, err
	}
	var all []api.UserChange
	for _, u := range users {
		if eventlog.PartitionFor(u.id, d.partitions) != partition {
			continue
		}
		if _, _, err := d.LockAccount(ctx, tx, u.id); err != nil {
			return false, err
		}
		changes, err := d.currentChanges(ctx, tx, u.id, u.deactivated)
		if err != nil {
			return false, err
		}
		for i := range changes {
			changes[i].UserID = u.id
		}
		all = append(all, changes...)
	}
	if len(all) > 0 {
		if _, err := d.change(ctx, tx, partition, all...); err != nil {
			return false, err
		}
	}
	_, err = tx.Exec(ctx, "UPDATE resyncs SET after_user = $1 WHERE partition_id = $2", users[len(users)-1].id, partition)
	return true, err
}

// currentChanges tells all that is stored of a user as changes.
func (d *Database) currentChanges(ctx context.Context, tx *sqldb.Tx, userID string, deactivated bool) ([]api.UserChange, error) {
	var out []api.UserChange
	if deactivated {
		out = append(out, api.UserChange{Kind: api.ChangeDeactivated})
	}
	devices, err := d.Devices(ctx, tx, userID)
	if err != nil {
		return nil, err
	}
	for _, dev := range devices {
		out = append(out, api.UserChange{Kind: api.ChangeDevices, DeviceID: dev.DeviceID})
	}
	for _, current := range []func(context.Context, *sqldb.Tx, string) ([]api.UserChange, error){d.currentKeys, d.currentPushers, d.currentThreads} {
		more, err := current(ctx, tx, userID)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	profile, err := d.Profile(ctx, tx, userID)
	if err != nil {
		return nil, err
	}
	if len(profile) > 0 {
		content, err := json.Marshal(profile, json.Deterministic(true))
		if err != nil {
			return nil, fmt.Errorf("userapi: encoding a profile: %w", err)
		}
		out = append(out, api.UserChange{Kind: api.ChangeProfile, Content: content})
	}
	err = tx.Each(ctx, func(scan func(...any) error) error {
		var room, typ, content string
		err := scan(&room, &typ, &content)
		out = append(out, api.AccountDataChange(userID, room, typ, jsontext.Value(content)))
		return err
	}, "SELECT room_id, type, content FROM account_data WHERE user_id = $1 ORDER BY room_id, type", userID)
	if err != nil {
		return nil, err
	}
	err = tx.Each(ctx, func(scan func(...any) error) error {
		var room string
		var r api.Receipt
		err := scan(&room, &r.Type, &r.ThreadID, &r.EventID, &r.TS)
		out = append(out, api.UserChange{Kind: api.ChangeReceipt, RoomID: room, Type: r.Type, Receipt: &r})
		return err
	}, "SELECT room_id, type, thread_id, event_id, ts FROM receipts WHERE user_id = $1 ORDER BY room_id, type, thread_id", userID)
	if err != nil {
		return nil, err
	}
	err = tx.Each(ctx, func(scan func(...any) error) error {
		c := api.UserChange{Kind: api.ChangeForget, Again: true}
		err := scan(&c.RoomID, &c.EventID)
		out = append(out, c)
		return err
	}, "SELECT room_id, event_id FROM forgotten WHERE user_id = $1 ORDER BY room_id", userID)
	return out, err
}

// currentKeys tells what is stored of a user's keys, and of messages to devices.
func (d *Database) currentKeys(ctx context.Context, tx *sqldb.Tx, userID string) ([]api.UserChange, error) {
	var out []api.UserChange
	devices, err := d.KeysOfDevices(ctx, tx, []string{userID})
	if err != nil {
		return nil, err
	}
	cross, err := d.CrossKeys(ctx, tx, []string{userID})
	if err != nil {
		return nil, err
	}
	if len(devices)+len(cross) > 0 {
		out = append(out, api.UserChange{Kind: api.ChangeDeviceList})
	}
	left, err := d.PrekeysOfUser(ctx, tx, userID)
	if err != nil {
		return nil, err
	}
	for dev, keys := range left {
		out = append(out, api.UserChange{Kind: api.ChangeDeviceKeys, DeviceID: dev.DeviceID, OneTimeKeys: keys.Counts, UnusedFallback: keys.Unused})
	}
	inboxes, err := d.Inboxes(ctx, tx, userID)
	if err != nil {
		return nil, err
	}
	if len(inboxes) > 0 {
		out = append(out, api.UserChange{Kind: api.ChangeToDevice, DeviceIDs: slices.Sorted(maps.Keys(inboxes)), Again: true})
	}
	err = tx.Each(ctx, func(scan func(...any) error) error {
		c := api.UserChange{Kind: api.ChangeSignatures}
		err := scan(&c.Target)
		out = append(out, c)
		return err
	}, "SELECT DISTINCT user_id FROM key_signatures WHERE signer_id = $1 AND user_id <> $2 ORDER BY user_id", userID, userID)
	return out, err
}

// currentPushers tells which pushers a user has, if there are any.
func (d *Database) currentPushers(ctx context.Context, tx *sqldb.Tx, userID string) ([]api.UserChange, error) {
	list, err := d.Pushers(ctx, tx, userID)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	c, err := api.ChangeOfPushers(userID, list)
	return []api.UserChange{c}, err
}
