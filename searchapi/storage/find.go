package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// First is the number that is above those of all events.
const First = 1<<63 - 1

// Found is an event that has all the terms that were asked for.
type Found struct {
	NID, RoomNID, Seq int64
	EventID, Sender   string
	Key               Key
	Level             int64
	HasURL            bool
	Words             int // how many terms it has
}

// Find returns events that have terms of all lists, newest first, below a number;
// where rooms are given only theirs.
func (d *Database) Find(ctx context.Context, terms [][]sqldb.Term, rooms []int64, below int64, limit int) (out []Found, err error) {
	err = d.db.ReadOne(ctx, func(tx *sqldb.Tx) error {
		out, err = d.findTx(ctx, tx, terms, rooms, below, limit)
		return err
	})
	return out, err
}

func (d *Database) findTx(ctx context.Context, tx *sqldb.Tx, terms [][]sqldb.Term, rooms []int64, below int64, limit int) (out []Found, err error) {
	if rooms != nil {
		list := make([]sqldb.Term, len(rooms))
		for i, nid := range rooms {
			list[i].Text = roomTerm(nid)
		}
		terms = append([][]sqldb.Term{list}, terms...)
	}
	query := d.db.TermQuery(terms)
	err = tx.Each(ctx, func(scan func(...any) error) error {
		var f Found
		var hasURL int64
		err := scan(&f.NID, &f.EventID, &f.RoomNID, &f.Seq, &f.Sender, &f.Key, &f.Level, &hasURL, &f.Words)
		f.HasURL = hasURL == 1
		out = append(out, f)
		return err
	}, `SELECT e.nid, e.event_id, e.room_nid, e.seq, e.sender, e.key_nid, e.level, e.has_url, e.words FROM (
`+d.db.FindTerms("terms", "words", "$1", "$2", "$3")+`) f JOIN events e ON e.nid = f.rowid ORDER BY e.nid DESC`, query, below, limit)
	return out, err
}
