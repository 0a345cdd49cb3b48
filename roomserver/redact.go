package roomserver

import (
	"fmt"
	"slices"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
)

// redact strips the event that a redaction names, if it may.
// spec: rooms/v3 §handling-redactions
func (w *work) redact(st *staged) error {
	id := st.event.Redacts()
	known, err := w.find(id)
	if err != nil {
		return err
	}
	target := known[id]
	if target == nil {
		w.trial.early = append(w.trial.early, [2]string{id, st.event.EventID()})
		return nil
	}
	levels := w.PowerLevels()
	// Room versions from 3 on leave it to each server what its own users may do.
	if st.sign && levels != nil && target.event.Sender() != st.event.Sender() && levels.UserLevel(st.event.Sender()) < levels.Redact() {
		return &refusal{status: 403, code: "M_FORBIDDEN", message: "You may not redact the messages of others"}
	}
	applied, err := w.strip(target, st.event.Event, st.event.EventID())
	if applied {
		st.output.Redacts = id
	}
	return err
}

// strip redacts an event, if its redaction may.
func (w *work) strip(target *found, redaction *gomatrixserverlib.Event, by string) (bool, error) {
	levels := w.PowerLevels()
	if levels == nil || !gomatrixserverlib.RedactionApplies(redaction, target.event.Event, levels) {
		return false, nil
	}
	stripped, err := target.event.Redact()
	if err != nil {
		return false, fmt.Errorf("redact %s: %w", target.event.EventID(), err)
	}
	w.trial.redactions = append(w.trial.redactions, redactionOf(target, by, stripped))
	return true, nil
}

func redactionOf(target *found, by string, stripped *gomatrixserverlib.Event) redaction {
	return redaction{target: target.event, staged: target.st, nid: target.nid, by: by, event: stripped}
}

// redactEarly strips an event whose redaction was here before it.
func (w *work) redactEarly(st *staged) error {
	if st.sign {
		return nil // nobody can have known its ID
	}
	var ids []string
	for _, e := range slices.Concat(w.early, w.trial.early) {
		if e[0] == st.event.EventID() {
			ids = append(ids, e[1])
		}
	}
	if w.room != nil {
		err := w.s.store.ReadOne(w.ctx, func(tx *sqldb.Tx) error {
			stored, err := w.s.store.EarlyRedactions(w.ctx, tx, st.event.EventID())
			ids = append(ids, stored...)
			return err
		})
		if err != nil {
			return fmt.Errorf("early redactions: %w", err)
		}
	}
	slices.Sort(ids) // whatever part of them is in this batch
	known, err := w.find(ids...)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if f := known[id]; f != nil {
			if applied, err := w.strip(&found{st: st, event: st.event}, f.event.Event, id); applied || err != nil {
				return err
			}
		}
	}
	return nil
}
