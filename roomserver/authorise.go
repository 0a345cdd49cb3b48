package roomserver

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/roomserver/storage"
)

// maxPrevEvents bounds the prev_events of our events.
// spec: rooms/v1 §event-format
const maxPrevEvents = 20

// new handles a record of new events.
func (w *work) new(in *input) error {
	if err := w.findVersion(in.record); err != nil {
		return err
	}
	lines := in.lines
	var ids []string
	for i := range in.record.Events {
		e := &in.record.Events[i]
		if err := w.expect(e.Expect); err != nil {
			return err
		}
		switch {
		case e.Proto != nil:
			id, err := w.proto(in, e, i)
			if err != nil {
				return err
			}
			ids = append(ids, id)
		case len(lines) == 0:
			return &refusal{status: 400, code: "M_BAD_JSON", message: "The record holds fewer events than it names"}
		default:
			if err := w.full(in, e, lines[0]); err != nil {
				return err
			}
			ids = append(ids, e.EventID)
			lines = lines[1:]
		}
	}
	in.verdict.EventIDs = ids
	in.verdict.Position = api.Position{Partition: w.partition, Seq: w.trial.row.LatestSeq} // unless something is stored
	return nil
}

// findVersion makes the room known that a record begins.
func (w *work) findVersion(r *api.InputRecord) error {
	if w.trial.row.ID != "" {
		return nil
	}
	version := gomatrixserverlib.RoomVersion(r.RoomVersion)
	if version == "" {
		return &refusal{status: 403, code: "M_FORBIDDEN", message: "You are not joined to that room"}
	}
	if version.Rules() == nil {
		return &refusal{status: 400, code: "M_UNSUPPORTED_ROOM_VERSION", message: "This server does not know that room version"}
	}
	w.version = version
	w.trial.row = storage.Room{ID: r.RoomID, Version: r.RoomVersion, Partition: w.partition}
	return nil
}

// expect checks preconditions against the state as it is now.
func (w *work) expect(list []api.Expectation) error {
	for _, x := range list {
		if !slices.Contains(x.Membership, w.membership(x.UserID)) {
			return &refusal{status: x.Status, code: x.Code, message: x.Message}
		}
	}
	return nil
}

func (w *work) membership(userID string) string {
	if e := w.entry(memberKey(userID)); e != nil {
		return e.Membership()
	}
	return ""
}

func memberKey(userID string) gomatrixserverlib.StateKey {
	return gomatrixserverlib.StateKey{Type: "m.room.member", StateKey: userID}
}

// proto completes, authorises and stages an event of ours, and returns its ID.
func (w *work) proto(in *input, e *api.InputEvent, index int) (string, error) {
	p := e.Proto
	if p.Type == "m.room.create" && len(w.trial.row.Extremities) > 0 {
		return "", &refusal{status: 403, code: "M_FORBIDDEN", message: "The room has been created already", rule: "1.1"}
	}
	if p.StateKey != nil && e.UnlessSame {
		if same := w.same(p); same != "" {
			return same, nil
		}
	}
	builder, err := w.builder(in.record, p, index)
	if err != nil {
		return "", err
	}
	event, err := builder.Build(w.version)
	switch {
	case errors.Is(err, gomatrixserverlib.ErrTooLarge):
		return "", &refusal{status: 413, code: "M_TOO_LARGE", message: "The event is too large"}
	case err != nil:
		return "", &refusal{status: 400, code: "M_BAD_JSON", message: err.Error()}
	}
	if err := w.authorise(event); err != nil {
		return "", err
	}
	return event.EventID(), w.stage(in, event, e, true)
}

// same returns the current event of a proto's key if it says the same already.
func (w *work) same(p *api.Proto) string {
	old := w.entry(gomatrixserverlib.StateKey{Type: p.Type, StateKey: *p.StateKey})
	if old == nil || old.Sender() != p.Sender {
		return ""
	}
	content, err := gomatrixserverlib.CanonicalJSON(p.Content)
	if err != nil || string(content) != string(old.Content()) {
		return ""
	}
	return old.EventID()
}

// builder gives a proto its place in the graph.
// spec: server-server-api §auth-events-selection
func (w *work) builder(r *api.InputRecord, p *api.Proto, index int) (*gomatrixserverlib.EventBuilder, error) {
	keys, err := gomatrixserverlib.AuthKeys(w.version, p.Type, p.Sender, p.StateKey, p.Content)
	if err != nil {
		return nil, &refusal{status: 400, code: "M_BAD_JSON", message: err.Error()}
	}
	b := &gomatrixserverlib.EventBuilder{RoomID: w.roomID, Sender: p.Sender, Type: p.Type, StateKey: p.StateKey, Content: p.Content,
		Redacts: p.Redacts, OriginServerTS: r.TS, Depth: w.trial.row.Depth + 1,
		PrevEvents: w.trial.row.Extremities[:min(len(w.trial.row.Extremities), maxPrevEvents)]}
	if p.TS != 0 {
		b.OriginServerTS = p.TS
	}
	for _, key := range keys {
		if e := w.entry(key); e != nil {
			b.AuthEvents = append(b.AuthEvents, e.EventID())
		}
	}
	if !w.version.Rules().GivenEventIDs() {
		return b, nil
	}
	sum := sha256.Sum256([]byte(r.RequestID + "\x00" + strconv.Itoa(index)))
	b.EventID = "$" + hex.EncodeToString(sum[:16]) + ":" + w.s.serverName
	for ids, hashes := range map[*[]string]*[][sha256.Size]byte{&b.PrevEvents: &b.PrevHashes, &b.AuthEvents: &b.AuthHashes} {
		for _, id := range *ids {
			e, err := w.event(id)
			if err != nil {
				return nil, err
			}
			*hashes = append(*hashes, e.ReferenceHash())
		}
	}
	return b, nil
}

// event returns an event that is staged or stored.
func (w *work) event(id string) (*api.StoredEvent, error) {
	for _, st := range w.trial.staged {
		if st.event.EventID() == id {
			return st.event, nil
		}
	}
	if st := w.byID[id]; st != nil {
		return st.event, nil
	}
	found, err := w.s.loadEvents(w.ctx, []string{id})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("event %s is not stored", id)
	}
	return found[0], nil
}

// authorise checks an event of ours against the current state.
func (w *work) authorise(event *gomatrixserverlib.Event) error {
	err := gomatrixserverlib.Authorise(event, w)
	var refused *gomatrixserverlib.AuthError
	switch {
	case errors.As(err, &refused):
		return &refusal{status: 403, code: "M_FORBIDDEN", message: refused.Reason, rule: refused.Rule}
	case err != nil:
		return &refusal{status: 400, code: "M_BAD_JSON", message: err.Error()}
	}
	return nil
}

// full handles an event that its writer has completed and signed: the create
// event of a room whose ID is its hash.
func (w *work) full(in *input, e *api.InputEvent, line []byte) error {
	event, err := gomatrixserverlib.ParseStoredEvent(line, w.version, e.EventID)
	if err != nil || event.RoomID() != w.roomID {
		return &refusal{status: 400, code: "M_BAD_JSON", message: "The event is not what the record says"}
	}
	if len(w.trial.row.Extremities) > 0 || in.record.Origin != w.s.serverName {
		return &refusal{status: 400, code: "M_UNRECOGNIZED", message: "Events of other servers are not taken"}
	}
	if err := w.authorise(event); err != nil {
		return err
	}
	return w.stage(in, event, e, false)
}

// stage adds an accepted event to the end of the timeline.
func (w *work) stage(in *input, event *gomatrixserverlib.Event, e *api.InputEvent, sign bool) error {
	t := w.trial
	st := &staged{work: w, sign: sign, event: &api.StoredEvent{Event: event, Device: e.Device, TxnID: e.TxnID}}
	hv := string(gomatrixserverlib.HistoryVisibilityOf(w.StateEvent("m.room.history_visibility", "")))
	st.output = api.OutputRecord{V: 1, Kind: api.OutputEvent, RoomID: w.roomID, RoomVersion: string(w.version), EventID: event.EventID(),
		Type: event.Type(), StateKey: event.StateKey(), Sender: event.Sender(), TS: event.OriginServerTS(), Origin: in.record.Origin,
		Local: event.SenderServer() == w.s.serverName, Device: e.Device, TxnID: e.TxnID, HistoryVisibility: hv}
	if event.Type() == "m.room.redaction" && event.Redacts() != "" {
		if err := w.redact(st); err != nil {
			return err
		}
	}
	if event.IsState() {
		w.change(st, hv)
	}
	st.output.JoinedCount, st.output.InvitedCount = t.row.Joined, t.row.Invited
	st.event.HistoryVisibility, st.event.HistoryVisibilityBefore = st.output.HistoryVisibility, st.output.HistoryVisibilityBefore
	st.event.ReplacesState = st.output.ReplacesState
	t.row.Depth = max(t.row.Depth, event.Depth())
	t.row.Extremities = []string{event.EventID()}
	t.staged = append(t.staged, st)
	return nil
}

// change makes a state event part of the current state.
func (w *work) change(st *staged, hv string) {
	event, key := st.event.Event, st.event.Key()
	row := api.StateChange{Type: key.Type, StateKey: key.StateKey, EventID: event.EventID()}
	if old := w.entry(key); old != nil {
		row.Replaced, st.output.ReplacesState = old.EventID(), old.EventID()
	}
	st.output.Changes = []api.StateChange{row}
	switch key.Type {
	case "m.room.history_visibility":
		if key.StateKey == "" {
			st.output.HistoryVisibilityBefore = hv
			st.output.HistoryVisibility = string(gomatrixserverlib.HistoryVisibilityOf(event))
		}
	case "m.room.member":
		st.output.MembershipBefore, st.output.Membership = w.membership(key.StateKey), event.Membership()
		w.trial.row.Joined += counts(st.output.Membership, "join") - counts(st.output.MembershipBefore, "join")
		w.trial.row.Invited += counts(st.output.Membership, "invite") - counts(st.output.MembershipBefore, "invite")
	}
	c := &change{key: key, event: st, by: st}
	w.trial.state[key] = c
	w.trial.changes = append(w.trial.changes, c)
}

func counts(membership, as string) int {
	if membership == as {
		return 1
	}
	return 0
}

// redact strips the event that a redaction names, if it may.
// spec: rooms/v3 §handling-redactions
func (w *work) redact(st *staged) error {
	id := st.event.Redacts()
	var target *api.StoredEvent
	var inBatch *staged
	for _, list := range [][]*staged{w.trial.staged, w.layer.staged} {
		for _, other := range list {
			if other.event.EventID() == id {
				target, inBatch = other.event, other
			}
		}
	}
	if target == nil {
		found, err := w.s.loadEvents(w.ctx, []string{id})
		if err != nil {
			return err
		}
		if len(found) == 0 {
			w.trial.early = append(w.trial.early, [2]string{id, st.event.EventID()})
			return nil
		}
		target = found[0]
	}
	levels := w.PowerLevels()
	// Room versions from 3 on leave it to each server what its own users may do.
	if st.sign && levels != nil && target.Sender() != st.event.Sender() && levels.UserLevel(st.event.Sender()) < levels.Redact() {
		return &refusal{status: 403, code: "M_FORBIDDEN", message: "You may not redact the messages of others"}
	}
	if target.RoomID() != w.roomID || levels == nil || !gomatrixserverlib.RedactionApplies(st.event.Event, target.Event, levels) {
		return nil
	}
	stripped, err := target.Redact()
	if err != nil {
		return fmt.Errorf("redact %s: %w", id, err)
	}
	w.trial.redactions = append(w.trial.redactions, redaction{target: target, staged: inBatch, by: st.event.EventID(), event: stripped})
	st.output.Redacts = id
	return nil
}
