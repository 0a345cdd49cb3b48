package eventlog

import (
	"context"
	"database/sql"
	"time"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// trimBatch bounds what one transaction deletes: appends wait meanwhile.
const trimBatch = 500

// trimLoop drops records that nobody needs and retention does not hold.
func (l *Embedded) trimLoop() {
	defer l.stopped.Done()
	ticker := time.NewTicker(l.opts.TrimEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			l.trim()
		case <-l.stop:
			return
		}
	}
}

// trim drops what may go in each partition. A failure (a full disk) leaves the
// records where they are until the next time.
func (l *Embedded) trim() {
	l.mu.RLock()
	var all []target
	for _, t := range l.topics {
		for _, p := range t.partitions {
			if p.number >= 0 {
				all = append(all, target{t, p})
			}
		}
	}
	l.mu.RUnlock()
	for _, at := range all {
		for !l.closed.Load() {
			more, err := l.trimSome(at.topic, at.partition)
			if err != nil || !more {
				break
			}
		}
	}
}

// trimSome drops up to trimBatch records of a partition.
func (l *Embedded) trimSome(t *topic, p *partition) (more bool, err error) {
	t.mu.Lock()
	start, limit := p.start, min(p.trimTo, p.start+trimBatch)
	t.mu.Unlock()
	if limit <= start {
		return false, nil
	}
	ctx, oldest := context.Background(), time.Now().Add(-t.retention).UnixMilli()
	to := limit
	err = l.db.Write(ctx, func(tx *sqldb.Tx) error {
		var keep sql.NullInt64 // the first that retention holds
		if err := tx.QueryRow(ctx, "SELECT min(id) FROM records WHERE id >= $1 AND id < $2 AND time > $3",
			rowID(p.number, start), rowID(p.number, limit), oldest).Scan(&keep); err != nil {
			return err
		}
		to = limit
		if keep.Valid {
			to = keep.Int64 - rowID(p.number, 0)
		}
		if _, err := tx.Exec(ctx, "DELETE FROM records WHERE id >= $1 AND id < $2", rowID(p.number, start), rowID(p.number, to)); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "UPDATE partitions SET start_offset = $1 WHERE number = $2", to, p.number)
		return err
	})
	if err != nil {
		return false, err
	}
	t.mu.Lock()
	p.start = to
	t.mu.Unlock()
	return to == limit, nil
}
