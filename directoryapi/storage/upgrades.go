package storage

import (
	"context"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/directoryapi/api"
)

const (
	upgradeColumns = `room_id, user_id, version, creators, event_id, seed, ts`
	insertUpgrade  = `INSERT INTO upgrades (` + upgradeColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (room_id) DO NOTHING`
	selectUpgrade  = `SELECT ` + upgradeColumns + ` FROM upgrades WHERE room_id = $1`
	selectUpgrades = `SELECT ` + upgradeColumns + ` FROM upgrades WHERE ts < $1 ORDER BY ts, room_id LIMIT $2`
	deleteUpgrade  = `DELETE FROM upgrades WHERE room_id = $1`
)

// BeginUpgrade stores an upgrade unless the room has one, and returns the one
// that it has.
func (d *Database) BeginUpgrade(ctx context.Context, up api.Upgrade) (is api.Upgrade, err error) {
	creators, err := json.Marshal(up.Creators)
	if err != nil {
		return is, err
	}
	err = d.db.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, insertUpgrade, up.RoomID, up.UserID, up.Version, clean(string(creators)), up.EventID, up.Seed, up.TS)
		if err != nil {
			return err
		}
		is, err = scanUpgrade(tx.QueryRow(ctx, selectUpgrade, up.RoomID))
		return err
	})
	return is, err
}

// FinishUpgrade removes an upgrade.
func (d *Database) FinishUpgrade(ctx context.Context, roomID string) error {
	return d.db.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, deleteUpgrade, roomID)
		return err
	})
}

// Upgrades returns upgrades that began before a time, oldest first.
func (d *Database) Upgrades(ctx context.Context, before int64, limit int) (out []api.Upgrade, err error) {
	err = d.db.ReadOne(ctx, func(tx *sqldb.Tx) error {
		out = nil
		rows, err := tx.Query(ctx, selectUpgrades, before, limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			up, err := scanUpgrade(rows)
			if err != nil {
				return err
			}
			out = append(out, up)
		}
		return rows.Err()
	})
	return out, err
}

func scanUpgrade(row interface{ Scan(...any) error }) (up api.Upgrade, err error) {
	var creators string
	if err := row.Scan(&up.RoomID, &up.UserID, &up.Version, &creators, &up.EventID, &up.Seed, &up.TS); err != nil {
		return up, err
	}
	return up, json.Unmarshal([]byte(creators), &up.Creators)
}
