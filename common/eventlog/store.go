package eventlog

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// The stored format. Partitions of all topics are numbered; a record's row is
// number<<offsetBits + offset, so that appends go to the end of a partition's
// stretch of the table. crc is the CRC-32C of id and time (little-endian,
// 8 bytes each), the key's length (4 bytes), key and value.
const offsetBits = 44

const schema = `
CREATE TABLE IF NOT EXISTS topics (
	name TEXT PRIMARY KEY,
	id TEXT NOT NULL,
	partitions BIGINT NOT NULL,
	first_number BIGINT NOT NULL
);
CREATE TABLE IF NOT EXISTS partitions (
	number INTEGER PRIMARY KEY,
	start_offset BIGINT NOT NULL
);
CREATE TABLE IF NOT EXISTS records (
	id INTEGER PRIMARY KEY,
	time BIGINT NOT NULL,
	crc BIGINT NOT NULL,
	key BLOB NOT NULL,
	value BLOB NOT NULL
);`

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(id, time int64, key, value []byte) uint32 {
	var head [20]byte
	binary.LittleEndian.PutUint64(head[0:], uint64(id))
	binary.LittleEndian.PutUint64(head[8:], uint64(time))
	binary.LittleEndian.PutUint32(head[16:], uint32(len(key)))
	crc := crc32.Update(0, castagnoli, head[:])
	crc = crc32.Update(crc, castagnoli, key)
	return crc32.Update(crc, castagnoli, value)
}

func rowID(number int, offset int64) int64 { return int64(number)<<offsetBits + offset }

// prepareStore makes the tables and counts the partitions there are.
func (l *Embedded) prepareStore(ctx context.Context) error {
	return l.db.Write(ctx, func(tx *sqldb.Tx) error {
		if _, err := tx.Script(ctx, schema); err != nil {
			return err
		}
		return tx.QueryRow(ctx, "SELECT count(*) FROM partitions").Scan(&l.parts)
	})
}

// loadTopic opens a topic, or makes it.
func (l *Embedded) loadTopic(ctx context.Context, spec TopicSpec) (*topic, error) {
	if spec.Partitions < 1 || spec.Partitions > 1<<10 {
		return nil, fmt.Errorf("%d partitions", spec.Partitions)
	}
	t := &topic{id: newID(), durability: spec.Durability, retention: spec.Retention}
	if spec.Durability == Ephemeral {
		bytes := spec.MaxBytes
		if bytes == 0 {
			bytes = 1 << 20
		}
		for range spec.Partitions {
			t.partitions = append(t.partitions, &partition{number: -1, maxBytes: bytes})
		}
		return t, nil
	}
	err := l.db.Write(ctx, func(tx *sqldb.Tx) error {
		t.partitions = nil
		var count, first int
		err := tx.QueryRow(ctx, "SELECT id, partitions, first_number FROM topics WHERE name = $1", spec.Name).Scan(&t.id, &count, &first)
		if errors.Is(err, sql.ErrNoRows) {
			count, first = spec.Partitions, l.parts
			err = l.makeTopic(ctx, tx, spec.Name, t.id, count)
		}
		if err != nil {
			return err
		}
		for n := first; n < first+count; n++ {
			p, err := loadPartition(ctx, tx, n)
			if err != nil {
				return err
			}
			t.partitions = append(t.partitions, p)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return t, l.db.SafePoint(ctx) // a topic's identity is not lost
}

func (l *Embedded) makeTopic(ctx context.Context, tx *sqldb.Tx, name, id string, count int) error {
	if _, err := tx.Exec(ctx, "INSERT INTO topics (name, id, partitions, first_number) VALUES ($1, $2, $3, $4)", name, id, count, l.parts); err != nil {
		return err
	}
	for range count {
		if _, err := tx.Exec(ctx, "INSERT INTO partitions (number, start_offset) VALUES ($1, 0)", l.parts); err != nil {
			return err
		}
		l.parts++
	}
	return nil
}

func loadPartition(ctx context.Context, tx *sqldb.Tx, number int) (*partition, error) {
	p := &partition{number: number}
	if err := tx.QueryRow(ctx, "SELECT start_offset FROM partitions WHERE number = $1", number).Scan(&p.start); err != nil {
		return nil, err
	}
	var last sql.NullInt64
	err := tx.QueryRow(ctx, "SELECT max(id) FROM records WHERE id >= $1 AND id < $2", rowID(number, 0), rowID(number+1, 0)).Scan(&last)
	if err != nil {
		return nil, err
	}
	p.end = p.start
	if last.Valid {
		p.end = last.Int64 - rowID(number, 0) + 1
	}
	p.next = p.end
	return p, nil
}

// commit writes a batch in one transaction and gives its records their
// offsets. It runs in the commit loop alone, which owns partition.next.
func (l *Embedded) commit(batch []*appendCall) error {
	ctx, now := context.Background(), time.Now()
	next := map[*partition]int64{}
	err := l.db.Write(ctx, func(tx *sqldb.Tx) error {
		for _, call := range batch {
			call.now = now
			for i, m := range call.messages {
				p := call.targets[i].partition
				if p.number < 0 {
					continue
				}
				offset, ok := next[p]
				if !ok {
					offset = p.next
				}
				id, key, value := rowID(p.number, offset), notNil(m.Key), notNil(m.Value)
				if _, err := tx.Exec(ctx, "INSERT INTO records (id, time, crc, key, value) VALUES ($1, $2, $3, $4, $5)",
					id, now.UnixMilli(), int64(checksum(id, now.UnixMilli(), key, value)), key, value); err != nil {
					return err
				}
				call.offsets[i], next[p] = offset, offset+1
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for p, n := range next {
		p.next = n
	}
	return nil
}

func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// maxStoredRecords bounds the records of one read from the store.
const maxStoredRecords = 1000

// stretch is a part of a partition: offsets from the first up to the second.
type stretch struct{ from, end int64 }

// readStored reads records that the tail does not hold any more. They are
// below the partition's end, so they are there, unless they were trimmed since;
// what is stored behind the end may not be durable yet, and is nobody's to see.
func (l *Embedded) readStored(ctx context.Context, name string, number int, part stretch, maxBytes int) ([]Record, error) {
	from := part.from
	var out []Record
	err := l.db.Read(ctx, func(tx *sqldb.Tx) error {
		rows, err := tx.Query(ctx, "SELECT id, time, crc, key, value FROM records WHERE id >= $1 AND id < $2 ORDER BY id LIMIT $3",
			rowID(number, from), rowID(number, part.end), maxStoredRecords)
		if err != nil {
			return err
		}
		defer rows.Close()
		for bytes := 0; rows.Next(); {
			var id, millis, crc int64
			var r Record
			if err := rows.Scan(&id, &millis, &crc, &r.Key, &r.Value); err != nil {
				return err
			}
			r.Offset, r.Time = id-rowID(number, 0), time.UnixMilli(millis)
			if int64(checksum(id, millis, r.Key, r.Value)) != crc {
				return fmt.Errorf("%w: %s, offset %d", ErrCorrupt, name, r.Offset)
			}
			if want := from + int64(len(out)); r.Offset != want {
				if len(out) == 0 {
					return fmt.Errorf("%w: %s at %d", ErrOffsetOutOfRange, name, from)
				}
				return fmt.Errorf("%w: %s: offset %d follows %d", ErrCorrupt, name, r.Offset, want-1)
			}
			if bytes += len(r.Value); bytes > maxBytes && len(out) > 0 {
				break
			}
			out = append(out, r)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("eventlog: read: %w", err)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: %s at %d", ErrOffsetOutOfRange, name, from)
	}
	return out, nil
}
