package storage

import (
	"context"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/sqldb"
)

// DeviceName names a device of a user.
type DeviceName struct{ UserID, DeviceID string }

// Prekey is a one-time or a fallback key of a device. The key's whole name is
// Algorithm + ":" + KeyID.
type Prekey struct {
	DeviceName
	Algorithm, KeyID string
	Key              jsontext.Value
	// Claimed tells that the one-time key was given out.
	Claimed bool
}

// Prekeys is how many keys a device has left: one-time keys by algorithm, and
// the algorithms whose fallback key was not used.
type Prekeys struct {
	Counts map[string]int64
	Unused []string
}

// TakeTurn begins an upload of a device's one-time keys: the next one waits for
// the end of the transaction. It returns the upload's number.
func (d *Database) TakeTurn(ctx context.Context, tx *sqldb.Tx, userID, deviceID string) (upload int64, err error) {
	err = tx.QueryRow(ctx, `INSERT INTO key_turns (user_id, device_id, uploads) VALUES ($1, $2, 1)
		ON CONFLICT (user_id, device_id) DO UPDATE SET uploads = key_turns.uploads + 1 RETURNING uploads`, userID, deviceID).Scan(&upload)
	return upload, err
}

// prekeyColumns name a kind of key of a device, or with the fourth one key.
func prekeyColumns() []string { return []string{"c_user", "c_device", "c_algorithm", "c_key"} }

// OneTimeKeys returns those of a device's one-time keys that are known already,
// claimed or not.
func (d *Database) OneTimeKeys(ctx context.Context, tx *sqldb.Tx, keys []Prekey) (out []Prekey, err error) {
	rows := make([][]any, len(keys))
	for i, k := range keys {
		rows[i] = []any{k.UserID, k.DeviceID, k.Algorithm, k.KeyID}
	}
	err = tx.Each(ctx, func(scan func(...any) error) error {
		var k Prekey
		var key string
		err := scan(&k.UserID, &k.DeviceID, &k.Algorithm, &k.KeyID, &key, &k.Claimed)
		k.Key = jsontext.Value(key)
		out = append(out, k)
		return err
	}, `SELECT o.user_id, o.device_id, o.algorithm, o.key_id, o.key, o.claimed_ts > 0 FROM `+d.From("$1", "c", prekeyColumns())+`
		JOIN one_time_keys o ON o.user_id = c.c_user AND o.device_id = c.c_device AND o.algorithm = c.c_algorithm AND o.key_id = c.c_key`,
		sqldb.Records(prekeyColumns(), rows))
	return out, err
}

// PutOneTimeKeys stores one-time keys of an upload.
func (d *Database) PutOneTimeKeys(ctx context.Context, tx *sqldb.Tx, upload int64, keys []Prekey) error {
	rows := make([][]any, len(keys))
	for i, k := range keys {
		rows[i] = []any{k.UserID, k.DeviceID, k.Algorithm, k.KeyID, upload, string(k.Key)}
	}
	_, err := tx.ExecMany(ctx, `INSERT INTO one_time_keys (user_id, device_id, algorithm, key_id, upload, claimed_ts, key) VALUES ($1, $2, $3, $4, $5, 0, $6)
		ON CONFLICT (user_id, device_id, algorithm, key_id) DO UPDATE SET upload = excluded.upload, claimed_ts = 0, key = excluded.key`, []int{1, 2, 3, 4}, rows)
	return err
}

// PutFallbackKeys stores fallback keys, each in place of that of its algorithm; one
// that was there already stays as used as it was. It returns how many are new.
func (d *Database) PutFallbackKeys(ctx context.Context, tx *sqldb.Tx, keys []Prekey) (int64, error) {
	rows := make([][]any, len(keys))
	for i, k := range keys {
		rows[i] = []any{k.UserID, k.DeviceID, k.Algorithm, k.KeyID, string(k.Key), false}
	}
	return tx.ExecMany(ctx, `INSERT INTO fallback_keys (user_id, device_id, algorithm, key_id, key, used) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (user_id, device_id, algorithm) DO UPDATE SET key_id = excluded.key_id, key = excluded.key, used = excluded.used
		WHERE fallback_keys.key_id <> excluded.key_id OR fallback_keys.key <> excluded.key`, []int{1, 2, 3}, rows)
}

// Claim gives out a key of each kind asked for, which is named without its key
// ID: the one-time key that was uploaded first, else the fallback key. It returns
// these, and the devices that have fewer keys now. All of a claim is one
// statement for each kind of key, under the devices' turns: no other claim
// changes what a statement has found, which need not look at claimed_ts twice,
// so that rows are found by their primary key whatever the planner knows.
func (d *Database) Claim(ctx context.Context, tx *sqldb.Tx, kinds []Prekey, now int64) (keys []Prekey, changed []DeviceName, err error) {
	if kinds, err = d.takeTurns(ctx, tx, kinds); err != nil || len(kinds) == 0 {
		return nil, nil, err
	}
	keys, err = d.claim(ctx, tx, `UPDATE one_time_keys SET claimed_ts = $1
		FROM (SELECT c.c_user, c.c_device, c.c_algorithm, (SELECT o.key_id FROM one_time_keys o
			WHERE o.user_id = c.c_user AND o.device_id = c.c_device AND o.algorithm = c.c_algorithm AND o.claimed_ts = 0
			ORDER BY o.upload, o.key_id LIMIT 1) AS c_next FROM `+d.From("$2", "c", prekeyColumns()[:3])+`) AS n
		WHERE one_time_keys.user_id = n.c_user AND one_time_keys.device_id = n.c_device AND one_time_keys.algorithm = n.c_algorithm
			AND one_time_keys.key_id = n.c_next
		RETURNING user_id, device_id, algorithm, key_id, key`, now, kindRecords(kinds))
	if err != nil {
		return nil, nil, err
	}
	got := make(map[[3]string]struct{}, len(keys))
	for _, k := range keys {
		changed = append(changed, k.DeviceName)
		got[k.kind()] = struct{}{}
	}
	var missing []Prekey
	for _, k := range kinds {
		if _, ok := got[k.kind()]; !ok {
			missing = append(missing, k)
		}
	}
	if len(missing) == 0 {
		return keys, changed, nil
	}
	first, err := d.claim(ctx, tx, `UPDATE fallback_keys SET used = $1 FROM `+d.From("$2", "c", prekeyColumns()[:3])+`
		WHERE fallback_keys.user_id = c.c_user AND fallback_keys.device_id = c.c_device AND fallback_keys.algorithm = c.c_algorithm AND NOT fallback_keys.used
		RETURNING user_id, device_id, algorithm, key_id, key`, true, kindRecords(missing))
	if err != nil {
		return nil, nil, err
	}
	for _, k := range first {
		changed = append(changed, k.DeviceName)
	}
	all, err := d.claim(ctx, tx, `SELECT f.user_id, f.device_id, f.algorithm, f.key_id, f.key FROM `+d.From("$1", "c", prekeyColumns()[:3])+`
		JOIN fallback_keys f ON f.user_id = c.c_user AND f.device_id = c.c_device AND f.algorithm = c.c_algorithm`, kindRecords(missing))
	return append(keys, all...), changed, err
}

// takeTurns waits for the turns of the devices of kinds, and returns the kinds of
// those that have one. A device without a turn had no keys when that was looked at:
// those of an upload that has come since are of no use to a claim without a turn.
func (d *Database) takeTurns(ctx context.Context, tx *sqldb.Tx, kinds []Prekey) ([]Prekey, error) {
	asked := make([][]any, len(kinds))
	for i, k := range kinds {
		asked[i] = []any{k.UserID, k.DeviceID}
	}
	columns := prekeyColumns()[:2]
	for {
		var turns [][]any
		known := map[DeviceName]struct{}{}
		err := tx.Each(ctx, func(scan func(...any) error) error {
			var dev DeviceName
			err := scan(&dev.UserID, &dev.DeviceID)
			if _, twice := known[dev]; !twice {
				known[dev] = struct{}{}
				turns = append(turns, []any{dev.UserID, dev.DeviceID})
			}
			return err
		}, `SELECT t.user_id, t.device_id FROM `+d.From("$1", "c", columns)+`
			JOIN key_turns t ON t.user_id = c.c_user AND t.device_id = c.c_device`, sqldb.Records(columns, asked))
		if err != nil || len(turns) == 0 {
			return nil, err
		}
		taken, err := tx.ExecMany(ctx, "UPDATE key_turns SET uploads = uploads WHERE user_id = $1 AND device_id = $2", []int{1, 2}, turns)
		if err != nil {
			return nil, err
		}
		if taken == int64(len(turns)) { // else a device has been deleted meanwhile
			return slices.DeleteFunc(slices.Clone(kinds), func(k Prekey) bool {
				_, ok := known[k.DeviceName]
				return !ok
			}), nil
		}
	}
}

// kind is what tells kinds of keys apart.
func (k *Prekey) kind() [3]string { return [3]string{k.UserID, k.DeviceID, k.Algorithm} }

func kindRecords(kinds []Prekey) any {
	rows := make([][]any, len(kinds))
	for i, k := range kinds {
		rows[i] = []any{k.UserID, k.DeviceID, k.Algorithm}
	}
	return sqldb.Records(prekeyColumns()[:3], rows)
}

func (d *Database) claim(ctx context.Context, tx *sqldb.Tx, text string, args ...any) (out []Prekey, err error) {
	err = tx.Each(ctx, func(scan func(...any) error) error {
		var k Prekey
		var key string
		err := scan(&k.UserID, &k.DeviceID, &k.Algorithm, &k.KeyID, &key)
		k.Key = jsontext.Value(key)
		out = append(out, k)
		return err
	}, text, args...)
	return out, err
}

// PrekeysOf tells what devices have left; of those that have nothing left too.
func (d *Database) PrekeysOf(ctx context.Context, tx *sqldb.Tx, devices []DeviceName) (map[DeviceName]Prekeys, error) {
	out := make(map[DeviceName]Prekeys, len(devices))
	rows := make([][]any, 0, len(devices))
	for _, dev := range devices {
		if _, ok := out[dev]; !ok {
			out[dev] = Prekeys{Counts: map[string]int64{}}
			rows = append(rows, []any{dev.UserID, dev.DeviceID})
		}
	}
	columns := prekeyColumns()[:2]
	err := tx.Each(ctx, func(scan func(...any) error) error {
		var dev DeviceName
		var algorithm string
		var n int64
		if err := scan(&dev.UserID, &dev.DeviceID, &algorithm, &n); err != nil {
			return err
		}
		out[dev] = out[dev].with(algorithm, n)
		return nil
	}, `SELECT o.user_id, o.device_id, o.algorithm, count(*) FROM `+d.From("$1", "c", columns)+`
		JOIN one_time_keys o ON o.user_id = c.c_user AND o.device_id = c.c_device AND o.claimed_ts = 0
		GROUP BY o.user_id, o.device_id, o.algorithm
		UNION ALL SELECT f.user_id, f.device_id, f.algorithm, 0 FROM `+d.From("$2", "g", columns)+`
		JOIN fallback_keys f ON f.user_id = g.c_user AND f.device_id = g.c_device AND NOT f.used`,
		sqldb.Records(columns, rows), sqldb.Records(columns, rows))
	return out, err
}

// PrekeysOfUser is PrekeysOf for all of a user's devices that have uploaded any.
func (d *Database) PrekeysOfUser(ctx context.Context, tx *sqldb.Tx, userID string) (map[DeviceName]Prekeys, error) {
	var devices []DeviceName
	err := tx.Each(ctx, func(scan func(...any) error) error {
		dev := DeviceName{UserID: userID}
		err := scan(&dev.DeviceID)
		devices = append(devices, dev)
		return err
	}, "SELECT device_id FROM key_turns WHERE user_id = $1 ORDER BY device_id", userID)
	if err != nil || len(devices) == 0 {
		return nil, err
	}
	return d.PrekeysOf(ctx, tx, devices)
}

// with adds a row: no count stands for an unused fallback key.
func (p Prekeys) with(algorithm string, n int64) Prekeys {
	if n == 0 {
		p.Unused = append(p.Unused, algorithm)
		slices.Sort(p.Unused)
		return p
	}
	p.Counts[algorithm] = n
	return p
}

// DropClaimed deletes one-time keys that were given out before the time given in
// milliseconds.
func (d *Database) DropClaimed(ctx context.Context, before int64) error {
	return d.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM one_time_keys WHERE claimed_ts > 0 AND claimed_ts < $1", before)
		return err
	})
}

// ForgetPrekeys makes a database that was restored from an older copy safe: the
// one-time keys of a partition's users (of all, for -1) may have been given out
// since, so they are dropped, and fallback keys count as used, so that devices
// upload new ones.
func (d *Database) ForgetPrekeys(ctx context.Context, tx *sqldb.Tx, partition int) error {
	var users []string
	err := tx.Each(ctx, func(scan func(...any) error) error {
		var user string
		err := scan(&user)
		if partition < 0 || eventlog.PartitionFor(user, d.partitions) == partition {
			users = append(users, user)
		}
		return err
	}, "SELECT DISTINCT user_id FROM key_turns")
	if err != nil {
		return err
	}
	for some := range slices.Chunk(users, forgetUsers) {
		if _, err := tx.Exec(ctx, "DELETE FROM one_time_keys WHERE user_id "+d.Any("$1"), sqldb.List(some)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE fallback_keys SET used = $1 WHERE user_id "+d.Any("$2"), true, sqldb.List(some)); err != nil {
			return err
		}
	}
	return nil
}

// forgetUsers bounds the users of one statement.
const forgetUsers = 1000
