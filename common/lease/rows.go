package lease

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/matrix-org/dendrite/common/sqldb"
)

func (m *Manager) makeRows(ctx context.Context) error {
	return m.o.DB.Write(ctx, func(tx *sqldb.Tx) error {
		rows := make([][]any, m.o.Partitions)
		for n := range rows {
			rows[n] = []any{m.o.Group, n}
		}
		_, err := tx.ExecMany(ctx, `INSERT INTO lease_partitions (group_name, number, owner, address, epoch, expiry, next_offset, topic_id)
				VALUES ($1, $2, '', '', 0, 0, -1, '') ON CONFLICT (group_name, number) DO NOTHING`, []int{1, 2}, rows)
		return err
	})
}

// beat renews what this instance has and takes what its share lacks. Each statement
// is right by itself, so there is no transaction around them. Validity counts from
// before the first.
func (m *Manager) beat(ctx context.Context) error {
	before, known := time.Now(), m.known()
	var mine []Lease
	var taken taking
	share, err := m.join(ctx)
	if err != nil {
		return err
	}
	if err = m.o.DB.WriteOne(ctx, func(tx *sqldb.Tx) error { mine, err = m.renew(ctx, tx); return err }); err != nil {
		return err
	}
	if lacks := share - len(mine); lacks > 0 {
		if err = m.o.DB.Write(ctx, func(tx *sqldb.Tx) error { taken, err = m.take(ctx, tx, lacks); return err }); err != nil {
			return err
		}
		mine = append(mine, taken.leases...)
	}
	m.metrics.taken.Add(float64(len(taken.leases)))
	m.metrics.takeovers.Add(float64(taken.over))
	kept := mine[:0]
	for _, l := range mine {
		if h, ok := known[l.Partition]; ok && h.Epoch == l.Epoch && l.NextOffset < h.committed {
			m.o.Logger.WithField("group", m.o.Group).WithField("partition", l.Partition).
				Errorf("The database went back from offset %d to %d: beginning anew from there", h.committed, l.NextOffset)
			continue
		}
		kept = append(kept, l)
	}
	m.adopt(kept, share, before.Add(m.o.TTL-m.o.TTL/8))
	return nil
}

// adopt makes the outcome of a beat known.
func (m *Manager) adopt(mine []Lease, share int, until time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := make(map[int]held, len(mine))
	changed := len(mine) != len(m.held)
	m.metrics.lost.Add(float64(lost(m.held, mine)))
	for _, l := range mine {
		old, ok := m.held[l.Partition]
		committed := l.NextOffset
		if ok && old.Epoch == l.Epoch && time.Now().Before(old.until) {
			l, committed = old.Lease, old.committed
		} else {
			changed = true
		}
		now[l.Partition] = held{l, until, committed}
	}
	surplus := max(0, len(mine)-share)
	if changed || surplus != m.surplus {
		m.held, m.surplus = now, surplus
		m.notify()
		return
	}
	m.held = now
}

// join keeps this instance among the members and returns how many partitions
// are its share: all members come to the same sums.
func (m *Manager) join(ctx context.Context) (int, error) {
	if m.o.Sole {
		return m.o.Partitions, nil
	}
	now := m.o.DB.Now()
	// What the other rows say is asked within the statement: a beat of each group is
	// what an idle instance costs.
	others := func(what string) string {
		return "(SELECT count(*) FROM lease_members AS o WHERE o.group_name = $4 AND o.owner <> $5 AND " + what + ")"
	}
	var alive, before, gone int
	err := m.o.DB.WriteOne(ctx, func(tx *sqldb.Tx) error {
		return tx.QueryRow(ctx, `INSERT INTO lease_members (group_name, owner, expiry) VALUES ($1, $2, `+now+` + $3)
			ON CONFLICT (group_name, owner) DO UPDATE SET expiry = excluded.expiry
			RETURNING `+others("o.expiry >= "+now)+", "+others("o.expiry >= "+now+" AND o.owner < $5")+", "+others("o.expiry < "+now),
			m.o.Group, m.o.Owner, m.o.TTL.Milliseconds(), m.o.Group, m.o.Owner).Scan(&alive, &before, &gone)
	})
	if err == nil && gone > 0 {
		err = m.o.DB.WriteOne(ctx, func(tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, "DELETE FROM lease_members WHERE group_name = $1 AND expiry < "+now, m.o.Group)
			return err
		})
	}
	if err != nil {
		return 0, err
	}
	members := alive + 1
	share := m.o.Partitions / members
	if before < m.o.Partitions%members {
		share++
	}
	return share, nil
}

const columns = " RETURNING number, epoch, next_offset, topic_id"

// renew prolongs the leases of this instance, also ones that have run out but
// that nobody took.
func (m *Manager) renew(ctx context.Context, tx *sqldb.Tx) ([]Lease, error) {
	return leases(ctx, tx, "UPDATE lease_partitions SET expiry = "+m.o.DB.Now()+" + $1 WHERE owner = $2 AND group_name = $3 AND number IN "+
		"(SELECT number FROM lease_partitions WHERE owner = $4 AND group_name = $5 ORDER BY number"+m.o.DB.Lock()+")"+columns,
		m.o.TTL.Milliseconds(), m.o.Owner, m.o.Group, m.o.Owner, m.o.Group)
}

// taking is what a beat took; over of it from owners that had not given it back.
type taking struct {
	leases []Lease
	over   int
}

// take gets up to n partitions that nobody has, or a sole instance whatever it
// has not.
func (m *Manager) take(ctx context.Context, tx *sqldb.Tx, n int) (t taking, err error) {
	now := m.o.DB.Now()
	free := "(owner = '' OR expiry < " + now + ")"
	if m.o.Sole {
		free = "owner <> $4"
	} else {
		free += " AND owner <> $4"
	}
	left, err := m.left(ctx, tx)
	if err != nil {
		return t, err
	}
	// The condition stands twice: on PostgreSQL another instance may take a row
	// between the choice and the update.
	t.leases, err = leases(ctx, tx, `UPDATE lease_partitions SET owner = $1, address = $2, epoch = epoch + 1, expiry = `+now+` + $3
		WHERE `+free+` AND group_name = $5 AND number IN
		(SELECT number FROM lease_partitions WHERE `+free+` AND group_name = $5 ORDER BY number LIMIT $6`+m.o.DB.Lock()+`)`+columns,
		m.o.Owner, m.o.Address, m.o.TTL.Milliseconds(), m.o.Owner, m.o.Group, n)
	for _, l := range t.leases {
		if epoch, there := left[l.Partition]; there && epoch == l.Epoch-1 {
			t.over++
		}
	}
	return t, err
}

// left returns the epochs of others that have not given their partition back,
// by partition: of those that take gets, their owners are gone.
func (m *Manager) left(ctx context.Context, tx *sqldb.Tx) (map[int]int64, error) {
	owned, err := leases(ctx, tx, "SELECT number, epoch, next_offset, topic_id FROM lease_partitions WHERE group_name = $1 AND owner <> '' AND owner <> $2",
		m.o.Group, m.o.Owner)
	epochs := make(map[int]int64, len(owned))
	for _, l := range owned {
		epochs[l.Partition] = l.Epoch
	}
	return epochs, err
}

func leases(ctx context.Context, tx *sqldb.Tx, text string, args ...any) ([]Lease, error) {
	rows, err := tx.Query(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Lease
	for rows.Next() {
		var l Lease
		if err := rows.Scan(&l.Partition, &l.Epoch, &l.NextOffset, &l.TopicID); err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, rows.Err()
}

// ErrMoved says that a partition's offset is not what the commit goes on from:
// an earlier commit took effect though it seemed to fail.
var ErrMoved = errors.New("lease: the offset was committed before")

// Commit stores, within the transaction of their effects, that the records from
// l.NextOffset up to next were consumed. It fails with ErrFenced when l is not
// the partition's lease any more, with ErrMoved when the offset stored is another.
func (m *Manager) Commit(ctx context.Context, tx *sqldb.Tx, l Lease, topicID string, next int64) error {
	return m.CommitAll(ctx, tx, topicID, []Consumed{{l, next}})
}

// Consumed says that a partition's records up to Next were consumed.
type Consumed struct {
	Lease Lease
	Next  int64
}

// CommitAll is Commit for several partitions: all of them, or it fails. What is
// stored beside that goes to the database with it.
func (m *Manager) CommitAll(ctx context.Context, tx *sqldb.Tx, topicID string, all []Consumed, beside ...sqldb.Many) error {
	rows := make([][]any, len(all))
	for i, c := range all {
		rows[i] = []any{c.Next, topicID, m.o.Group, c.Lease.Partition, m.o.Owner, c.Lease.Epoch, c.Lease.NextOffset}
	}
	n, err := tx.ExecAll(ctx, append(slices.Clip(beside), sqldb.Many{Text: `UPDATE lease_partitions SET next_offset = $1, topic_id = $2
		WHERE group_name = $3 AND number = $4 AND owner = $5 AND epoch = $6 AND next_offset = $7`, Key: []int{4}, Rows: rows})...)
	if err != nil {
		return fmt.Errorf("lease: commit: %w", err)
	}
	if n == int64(len(all)) {
		return nil
	}
	var moved error
	for _, c := range all { // which is it? Those that were updated are at Next by now.
		now, err := m.load(ctx, tx, c.Lease.Partition)
		if err != nil {
			return err
		}
		if now.Epoch != c.Lease.Epoch {
			return fmt.Errorf("%w: %s/%d", ErrFenced, m.o.Group, c.Lease.Partition)
		}
		if now.NextOffset != c.Next || n == 0 {
			moved = fmt.Errorf("%w: %s/%d at %d, not %d", ErrMoved, m.o.Group, c.Lease.Partition, now.NextOffset, c.Lease.NextOffset)
		}
	}
	if moved == nil {
		moved = fmt.Errorf("%w: %s", ErrMoved, m.o.Group)
	}
	return moved
}

// load reads a partition's row; Epoch is 0 when this instance does not own it.
func (m *Manager) load(ctx context.Context, tx *sqldb.Tx, partition int) (Lease, error) {
	l := Lease{Partition: partition}
	err := tx.QueryRow(ctx, `SELECT CASE WHEN owner = $1 THEN epoch ELSE 0 END, next_offset, topic_id FROM lease_partitions
		WHERE group_name = $2 AND number = $3`, m.o.Owner, m.o.Group, partition).Scan(&l.Epoch, &l.NextOffset, &l.TopicID)
	if err != nil {
		return l, fmt.Errorf("lease: %s/%d: %w", m.o.Group, partition, err)
	}
	return l, nil
}

// Reload returns the lease with what is committed now; ErrFenced if it is lost.
func (m *Manager) Reload(ctx context.Context, l Lease) (Lease, error) {
	var now Lease
	err := m.o.DB.ReadOne(ctx, func(tx *sqldb.Tx) (err error) {
		now, err = m.load(ctx, tx, l.Partition)
		return err
	})
	if err == nil && now.Epoch != l.Epoch {
		err = fmt.Errorf("%w: %s/%d", ErrFenced, m.o.Group, l.Partition)
	}
	return now, err
}

// Move stores another offset, where to go on was decided without any effect.
func (m *Manager) Move(ctx context.Context, l Lease, topicID string, next int64) error {
	return m.o.DB.Write(ctx, func(tx *sqldb.Tx) error { return m.Commit(ctx, tx, l, topicID, next) })
}

// Current returns the partitions of this instance with what is committed now.
func (m *Manager) Current(ctx context.Context) ([]Lease, error) {
	var out []Lease
	err := m.o.DB.ReadOne(ctx, func(tx *sqldb.Tx) (err error) {
		out, err = leases(ctx, tx, "SELECT number, epoch, next_offset, topic_id FROM lease_partitions WHERE group_name = $1 AND owner = $2",
			m.o.Group, m.o.Owner)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("lease: current: %w", err)
	}
	return out, nil
}

// Release gives a partition back, so that another instance takes it at its next
// beat. Nothing may be working on it any more.
func (m *Manager) Release(ctx context.Context, l Lease) error {
	m.mu.Lock()
	if h, ok := m.held[l.Partition]; ok && h.Epoch == l.Epoch {
		delete(m.held, l.Partition)
		m.surplus = max(0, m.surplus-1)
	}
	m.mu.Unlock()
	err := m.o.DB.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE lease_partitions SET owner = '', address = '', expiry = 0
			WHERE group_name = $1 AND number = $2 AND owner = $3 AND epoch = $4`, m.o.Group, l.Partition, m.o.Owner, l.Epoch)
		return err
	})
	if err != nil {
		return fmt.Errorf("lease: release: %w", err)
	}
	return nil
}

// Leave gives everything back; to be called after Run has returned.
func (m *Manager) Leave(ctx context.Context) error {
	m.mu.Lock()
	clear(m.held)
	m.notify()
	m.mu.Unlock()
	err := m.o.DB.Write(ctx, func(tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, "UPDATE lease_partitions SET owner = '', address = '', expiry = 0 WHERE owner = $1 AND group_name = $2 AND number IN "+
			"(SELECT number FROM lease_partitions WHERE owner = $3 AND group_name = $4 ORDER BY number"+m.o.DB.Lock()+")",
			m.o.Owner, m.o.Group, m.o.Owner, m.o.Group); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "DELETE FROM lease_members WHERE group_name = $1 AND owner = $2", m.o.Group, m.o.Owner)
		return err
	})
	if err != nil {
		return fmt.Errorf("lease: leave: %w", err)
	}
	return nil
}

// Owner says who has a partition.
type Owner struct {
	Name    string
	Address string
}

// Owners returns the group's owners by partition, as far as their leases hold:
// queries are routed by it.
func Owners(ctx context.Context, db *sqldb.DB, group string) (map[int]Owner, error) {
	out := map[int]Owner{}
	err := db.ReadOne(ctx, func(tx *sqldb.Tx) error {
		clear(out)
		rows, err := tx.Query(ctx, "SELECT number, owner, address FROM lease_partitions WHERE group_name = $1 AND owner <> '' AND expiry >= "+db.Now(), group)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var n int
			var o Owner
			if err := rows.Scan(&n, &o.Name, &o.Address); err != nil {
				return err
			}
			out[n] = o
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("lease: owners: %w", err)
	}
	return out, nil
}

// Stored returns the next offset of each partition as it is committed, by
// whichever instance; -1 where there is none.
func (m *Manager) Stored(ctx context.Context) ([]int64, error) {
	out := make([]int64, m.o.Partitions)
	for p := range out {
		out[p] = -1
	}
	err := m.o.DB.ReadOne(ctx, func(tx *sqldb.Tx) error {
		all, err := leases(ctx, tx, "SELECT number, epoch, next_offset, topic_id FROM lease_partitions WHERE group_name = $1", m.o.Group)
		for _, l := range all {
			if l.Partition < len(out) {
				out[l.Partition] = l.NextOffset
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("lease: stored: %w", err)
	}
	return out, nil
}
