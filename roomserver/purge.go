package roomserver

import (
	"context"
	"fmt"
	"slices"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/roomserver/storage"
)

// What is to be purged, and when, is for writers to decide, who have a clock: here
// it takes effect in the order of the log, and the same again in a replay, however
// that is cut into batches.

// purge forgets the room.
func (w *work) purge(in *input) error {
	if w.trial.row.ID == "" {
		return &refusal{status: 404, code: "M_NOT_FOUND", message: "Unknown room"}
	}
	if w.inUse(in) {
		return &refusal{status: 403, code: "M_FORBIDDEN", message: "Users of this server are in the room"}
	}
	w.push(&staged{work: w, output: api.OutputRecord{V: 1, Kind: api.OutputPurged, RoomID: w.roomID, RoomVersion: w.trial.row.Version}})
	in.done([]string{})
	return nil
}

// inUse tells whether a purge has to be refused for who is in the room.
func (w *work) inUse(in *input) bool { return in.record.IfEmpty && w.row.LocalJoined > 0 }

// purgeHistory forgets events. State stays, since it or what it authorises may be
// needed, and so do forward extremities, which the next event follows.
// spec: MSC1763 §enforcing-a-retention-policy
func (w *work) purgeHistory(in *input) error {
	if w.trial.row.ID == "" {
		return &refusal{status: 404, code: "M_NOT_FOUND", message: "Unknown room"}
	}
	if len(in.record.Purge) > api.MaxPurge {
		return &refusal{status: 400, code: "M_TOO_LARGE", message: fmt.Sprintf("At most %d events are purged at once", api.MaxPurge)}
	}
	known, err := w.find(in.record.Purge...)
	if err != nil {
		return err
	}
	var purges []*found
	for _, id := range in.record.Purge {
		f := known[id]
		if f == nil || f.event.IsState() || slices.Contains(w.trial.row.Extremities, id) {
			continue
		}
		delete(known, id) // it may stand there twice
		w.forgetEvent(id, f)
		purges = append(purges, f)
	}
	in.done([]string{})
	if len(purges) == 0 {
		return nil
	}
	st := &staged{work: w, purges: purges, output: api.OutputRecord{V: 1, Kind: api.OutputHistoryPurged, RoomID: w.roomID,
		RoomVersion: w.trial.row.Version, JoinedCount: w.trial.row.Joined, InvitedCount: w.trial.row.Invited}}
	for _, f := range purges { // where they stood is known once all are numbered
		st.output.Purged = append(st.output.Purged, api.PurgedEvent{EventID: f.event.EventID()})
	}
	w.push(st)
	st.ts = in.record.TS
	w.forgetOutputs(in.record.TS)
	return nil
}

// forgetOutputs drops, once the record is stored, what was published of purges long
// before it: who has not read that by now builds its view anew. So the names of
// purged events do not pile up.
func (w *work) forgetOutputs(ts int64) {
	before := ts - w.s.config.TransactionLifetime.Milliseconds()
	w.trial.writes = append(w.trial.writes, func(ctx context.Context, tx *sqldb.Tx, store *storage.Store, roomNID int64) error {
		return store.ForgetPurges(ctx, tx, roomNID, before)
	})
}

// forgetEvent notes that an event is not known any more: what is stored of it goes,
// and what is staged is not stored.
func (w *work) forgetEvent(id string, f *found) {
	w.trial.gone[id] = true
	for st := f.st; st != nil; st = st.outlier {
		st.gone = true
		if st.placed && st.outlier == nil { // it is stored, as an outlier
			f = &found{nid: st.nid, event: st.event}
		}
	}
	if f.nid != 0 {
		w.trial.deleted = append(w.trial.deleted, f)
	}
}

// isGone tells whether an event was purged, by this batch, and has not come again.
func (w *work) isGone(id string) bool {
	if w.trial != nil {
		if gone, ok := w.trial.gone[id]; ok {
			return gone
		}
	}
	return w.gone[id]
}

// writeDeleted deletes what is stored of purged events, before anything is put: an
// event that has come again has the same ID.
func (w *work) writeDeleted(ctx context.Context, tx *sqldb.Tx) error {
	if len(w.deleted) == 0 {
		return nil
	}
	nids := make([]int64, len(w.deleted))
	for i, f := range w.deleted {
		nids[i] = f.nid
		if f.event.Type() == "m.room.redaction" {
			if err := w.s.store.ForgetEarlyRedaction(ctx, tx, f.event.Redacts(), f.event.EventID()); err != nil {
				return err
			}
		}
	}
	return w.s.store.DeleteEvents(ctx, tx, w.row.NID, nids)
}
