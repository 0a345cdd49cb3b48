package storage

import (
	"path/filepath"
	"testing"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/sqldb"
)

// TestRepartition: whatever is in a partition goes to the one that its room's ID
// says, keeps its Seq, and everything goes on behind what any partition had.
func TestRepartition(t *testing.T) {
	ctx := t.Context()
	db, err := sqldb.Open(ctx, sqldb.Options{URL: "file:" + filepath.Join(t.TempDir(), "rooms.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	s, err := New(ctx, db)
	if err != nil {
		t.Fatal(err)
	}
	const before, after = 16, 5
	rooms := []string{"!a:test", "!b:test", "!c:test", "!d:test"}
	err = db.Write(ctx, func(tx *sqldb.Tx) error {
		for i, id := range rooms {
			p, seq := eventlog.PartitionFor(id, before), int64(10+i)
			seqs := Positions{make([]int64, before), make([]int64, before)}
			seqs.Seqs[p], seqs.Others[p] = seq, 100-seq
			var b Batch
			if err := b.Room(&Room{NID: EventNID(p, seq), ID: id, Version: "11", Partition: p, LatestSeq: seq}); err != nil {
				return err
			}
			b.Position(p, seqs)
			_, rows := b.Statements()
			if _, err := tx.ExecAll(ctx, rows...); err != nil {
				return err
			}
			if err := s.PutAside(ctx, tx, &Aside{RoomID: id, N: 1, Partition: p, Record: []byte("{}")}); err != nil {
				return err
			}
			o := &OutOfRoom{RoomID: id, UserID: "@u:test", OutputNID: EventNID(p, seq), JSON: []byte("{}"), Stripped: []byte("[]")}
			if err := s.PutOutOfRoom(ctx, tx, o); err != nil {
				return err
			}
		}
		highest, err := s.HighestSeq(ctx, tx)
		if err != nil {
			return err
		}
		if highest != 13 {
			t.Errorf("the highest Seq is %d", highest)
		}
		return Repartition(ctx, tx, after, highest)
	})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Read(ctx, func(tx *sqldb.Tx) error {
		positions, err := s.Positions(ctx, tx, before)
		if err != nil {
			return err
		}
		for p := range before {
			seq, others := int64(13), int64(90)
			if p >= after {
				seq, others = 0, 0
			}
			if positions.Seqs[p] != seq || positions.Others[p] != others {
				t.Errorf("partition %d is at %d and %d", p, positions.Seqs[p], positions.Others[p])
			}
			if first, err := s.FirstSeq(ctx, tx, p); err != nil || first != seq {
				t.Errorf("partition %d began at %d: %v", p, first, err)
			}
		}
		for i, id := range rooms {
			p := eventlog.PartitionFor(id, after)
			room, err := s.Room(ctx, tx, id)
			if err != nil || room.Partition != p || room.LatestSeq != int64(10+i) {
				t.Errorf("%s: %+v, %v", id, room, err)
			}
			aside, err := s.AsideOf(ctx, tx, id, 0, 10)
			if err != nil || len(aside) != 1 || aside[0].Partition != p {
				t.Errorf("%s is aside: %v, %v", id, aside, err)
			}
			listed, err := s.OutOfRooms(ctx, tx, p, int64(9+i), 1)
			if err != nil || len(listed) != 1 || listed[0].RoomID != id || listed[0].OutputNID != EventNID(p, int64(10+i)) {
				t.Errorf("%s out of room: %v, %v", id, listed, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
