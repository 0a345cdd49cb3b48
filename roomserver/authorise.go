package roomserver

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// maxPrevEvents bounds the prev_events of our events.
// spec: rooms/v1 §event-format
const maxPrevEvents = 20

// new handles a record of new events.
func (w *work) new(in *input) error {
	if len(w.trial.row.Extremities) == 0 && in.record.Origin != w.s.serverName {
		return &refusal{status: 404, code: "M_NOT_FOUND", message: "Unknown room"}
	}
	if err := w.findVersion(in.record); err != nil {
		return err
	}
	given, err := w.given(in)
	if err != nil {
		return err
	}
	lines := in.lines
	ids := []string{}
	for i := range in.record.Events {
		e := &in.record.Events[i]
		if err := w.expect(e.Expect); err != nil {
			return err
		}
		if e.Proto != nil {
			id, err := w.proto(in, e, i)
			if err != nil {
				return err
			}
			ids = append(ids, id)
			continue
		}
		if len(lines) == 0 {
			return errTooFewLines
		}
		if err := w.newFull(in, e, lines[0], given); err != nil {
			return err
		}
		ids, lines, given = append(ids, e.EventID), lines[1:], nil
	}
	in.done(ids)
	return nil
}

// errTooFewLines refuses a record that is not whole.
var errTooFewLines = &refusal{status: 400, code: "M_BAD_JSON", message: "The record holds fewer events than it names"}

// done completes the verdict of a record that was taken; its position follows
// when outputs are numbered.
func (in *input) done(ids []string) {
	if in.verdict.Status != api.StatusMissing {
		in.verdict.EventIDs = ids
	}
}

// newFull takes a new event that its writer has completed.
func (w *work) newFull(in *input, e *api.InputEvent, line []byte, given state) error {
	f, err := w.parse(in, e, line)
	if err != nil {
		return err
	}
	v, err := w.receive(f, given)
	if err == nil {
		in.verdict.Events = append(in.verdict.Events, v)
	}
	return err
}

// findVersion makes the room known that a record begins.
func (w *work) findVersion(r *api.InputRecord) error {
	if w.trial.row.ID != "" {
		if r.RoomVersion != "" && r.RoomVersion != w.trial.row.Version {
			return &refusal{status: 400, code: "M_INCOMPATIBLE_ROOM_VERSION", message: "The room has version " + w.trial.row.Version}
		}
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
	w.trial.row.ID, w.trial.row.Version, w.trial.row.Partition = r.RoomID, r.RoomVersion, w.partition
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
	event, err := w.build(in.record, p, index)
	if err != nil {
		return "", err
	}
	f := &full{in: in, input: e, event: event}
	b := before{ref: w.trial.current, named: true}
	if len(w.trial.row.Extremities) > maxPrevEvents {
		if b, err = w.beforeSome(f); err != nil {
			return "", err
		}
	}
	return event.EventID(), w.accept(f, b)
}

// build completes a proto, and authorises it against the current state.
func (w *work) build(r *api.InputRecord, p *api.Proto, index int) (*gomatrixserverlib.Event, error) {
	builder, err := w.builder(r, p, index)
	if err != nil {
		return nil, err
	}
	event, err := builder.Build(w.version)
	switch {
	case errors.Is(err, gomatrixserverlib.ErrTooLarge):
		return nil, &refusal{status: 413, code: "M_TOO_LARGE", message: "The event is too large"}
	case err != nil:
		return nil, &refusal{status: 400, code: "M_BAD_JSON", message: err.Error()}
	}
	return event, w.authorise(event)
}

// beforeSome returns the state before an event of ours that could not name all
// forward extremities, which has to allow it too.
func (w *work) beforeSome(f *full) (before, error) {
	var err error
	if f.prevs, err = w.find(f.event.PrevEventIDs()...); err != nil {
		return before{}, err
	}
	b, err := w.stateBefore(f.prevs, f.event.PrevEventIDs(), nil)
	if err != nil {
		return b, err
	}
	refused, err := w.check(f.event, b)
	if err == nil && refused != nil {
		err = &refusal{status: 403, code: "M_FORBIDDEN", message: refused.Reason, rule: refused.Rule}
	}
	return b, err
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
		Redacts: p.Redacts, OriginServerTS: r.TS, Depth: min(w.trial.row.Depth+1, gomatrixserverlib.MaxDepth),
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
			e := w.event(id)
			if e == nil {
				return nil, w.err
			}
			*hashes = append(*hashes, e.ReferenceHash())
		}
	}
	return b, nil
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
