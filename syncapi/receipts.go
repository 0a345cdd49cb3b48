package syncapi

import (
	"context"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/syncapi/storage"
)

// receipts are those in force in a room, all of them once loaded.
type receipts struct {
	loaded bool
	// ready is closed once they are loaded, or have failed to.
	ready   chan struct{}
	pending []storage.Receipt
	all     map[receiptKey]placed
	// highest has the last Seq for each partition of user.output.
	highest []int64
}

type receiptKey struct{ user, typ, thread string }

// placed is a receipt with the partition of its Seq.
type placed struct {
	storage.Receipt
	partition int
}

const (
	receiptPublic  = "m.read"
	receiptPrivate = "m.read.private"
)

// receiptBytes is about what a receipt costs in memory.
const receiptBytes = 300

func (s *receipts) put(r storage.Receipt) {
	key := receiptKey{r.UserID, r.Type, r.ThreadID}
	if s.all[key].Seq < r.Seq {
		p := eventlog.PartitionFor(r.UserID, len(s.highest))
		s.all[key] = placed{r, p}
		s.highest[p] = max(s.highest[p], r.Seq)
	}
}

// putReceipt applies a receipt; rooms whose receipts are not in memory have it
// in the database.
func (r *room) putReceipt(rec storage.Receipt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.receipts == nil:
	case !r.receipts.loaded:
		r.receipts.pending = append(r.receipts.pending, rec)
	default:
		r.receipts.put(rec)
	}
}

// loadReceipts brings the receipts of the rooms into memory.
func (v *view) loadReceipts(ctx context.Context, rooms []*room) error {
	var mine []*room
	var others []chan struct{}
	for _, r := range rooms {
		r.mu.Lock()
		switch {
		case r.receipts == nil:
			r.receipts = &receipts{ready: make(chan struct{}), highest: make([]int64, len(v.shape.users))}
			mine = append(mine, r)
		case !r.receipts.loaded:
			others = append(others, r.receipts.ready)
		}
		r.mu.Unlock()
	}
	if len(mine) > 0 {
		if err := v.fillReceipts(context.WithoutCancel(ctx), mine); err != nil {
			return err
		}
	}
	for _, ready := range others {
		select {
		case <-ready:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (v *view) fillReceipts(ctx context.Context, rooms []*room) error {
	ctx, cancel := context.WithTimeout(ctx, v.loadTimeout)
	defer cancel()
	ids := make([]string, len(rooms))
	for i, r := range rooms {
		ids[i] = r.id
	}
	var rows []storage.Receipt
	err := v.awaitRows(ctx, ofUsers)
	if err == nil {
		rows, err = v.store.Receipts(ctx, ids)
	}
	byRoom := map[string][]storage.Receipt{}
	for _, row := range rows {
		byRoom[row.RoomID] = append(byRoom[row.RoomID], row)
	}
	for _, r := range rooms {
		r.mu.Lock()
		set := r.receipts
		if err != nil {
			r.receipts = nil
		} else {
			set.all = make(map[receiptKey]placed, len(byRoom[r.id]))
			for _, row := range byRoom[r.id] {
				set.put(row)
			}
			for _, row := range set.pending {
				set.put(row)
			}
			set.pending, set.loaded = nil, true
			r.bytes += int64(len(set.all)) * receiptBytes
		}
		close(set.ready)
		r.mu.Unlock()
		if n := len(byRoom[r.id]); n > 0 && err == nil {
			v.grown(r, int64(n)*receiptBytes)
		}
	}
	return err
}

// receiptsSince returns the receipts of the room that the user may see and
// that came between the vectors.
func (r *room) receiptsSince(since, cut *vector, user string) []storage.Receipt {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.receipts == nil || !r.receipts.loaded || since != nil && covers(since.users, r.receipts.highest) {
		return nil
	}
	// What came after the cut is told with the next answer.
	var out []storage.Receipt
	for key, rec := range r.receipts.all {
		// spec: client-server-api §private-read-receipts
		if key.typ == receiptPrivate && key.user != user {
			continue
		}
		if rec.Seq > since.user(rec.partition) && rec.Seq <= cut.user(rec.partition) {
			out = append(out, rec.Receipt)
		}
	}
	return out
}

// receiptsOf returns a user's own receipts in the room.
func (r *room) receiptsOf(user string) []storage.Receipt {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.receipts == nil || !r.receipts.loaded {
		return nil
	}
	var out []storage.Receipt
	for key, rec := range r.receipts.all {
		if key.user == user {
			out = append(out, rec.Receipt)
		}
	}
	return out
}

// readSince tells whether the user has read something since the token.
func (r *room) readSince(since, cut *vector, u *user) bool {
	for _, rec := range r.receiptsOf(u.id) {
		if rec.Seq > since.user(u.partition) && rec.Seq <= cut.user(u.partition) {
			return true
		}
	}
	return false
}
