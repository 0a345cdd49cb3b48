package syncapi

import (
	"context"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/property"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/syncapi/storage"
)

const (
	typeCreate     = "m.room.create"
	typeEncryption = "m.room.encryption"
	typeSpaceChild = "m.space.child"
)

// bumps tells whether events of a type are activity that people care about.
// spec: MSC4186 §common-fields (bump_stamp)
func bumps(typ string) bool {
	switch typ {
	case typeCreate, "m.room.message", "m.room.encrypted", "m.sticker", "m.call.invite", "m.poll.start", "m.beacon_info":
		return true
	}
	return false
}

// roomAfter is what is to be stored of a room after one more record, which was
// logged at a time. That time, unlike the one that an event says of itself, is
// not for senders to choose.
func roomAfter(room storage.Room, rec *roomapi.OutputRecord, at int64) storage.Room {
	room.RoomID, room.Seq, room.Joined, room.Invited = rec.RoomID, rec.Position.Seq, rec.JoinedCount, rec.InvitedCount
	if rec.Kind == roomapi.OutputHistoryPurged {
		room.Purged = rec.Position.Seq
	}
	shown := rec.Kind == roomapi.OutputEvent || rec.Kind == roomapi.OutputUnrejected && rec.Place == (roomapi.Position{})
	if !shown || rec.SoftFailed {
		return room
	}
	room.Active = max(room.Active, at)
	if bumps(rec.Type) {
		room.Bumped = max(room.Bumped, at)
	}
	return room
}

// roomFacts is what filters of lists ask of a room. It stays when the rest of a
// room is dropped, so that a list costs no questions again and again.
type roomFacts struct {
	known     bool
	encrypted bool
	typ       *string // of m.room.create
	// changes counts records that may have changed them: answers on their way are out of date.
	changes int64
}

// touch drops what a record may have changed. r.mu of the room is held.
func (f *roomFacts) touch(rec *roomapi.OutputRecord) {
	if rec.Kind == roomapi.OutputHistoryPurged {
		return
	}
	if rec.Kind == roomapi.OutputEvent && rec.Redacts == "" && !slices.ContainsFunc(rec.Changes, func(c roomapi.StateChange) bool {
		return c.StateKey == "" && (c.Type == typeCreate || c.Type == typeEncryption)
	}) {
		return
	}
	*f = roomFacts{changes: f.changes + 1}
}

func factKeys() []gomatrixserverlib.StateKey {
	return []gomatrixserverlib.StateKey{{Type: typeCreate}, {Type: typeEncryption}}
}

// findFacts finds the facts of rooms: those not in memory are asked for together.
func (s *Server) findFacts(ctx context.Context, rooms []*room) (map[*room]roomFacts, error) {
	out := make(map[*room]roomFacts, len(rooms))
	q := &questions{s: s, at: map[string]*inquiry{}}
	var unknown []*room
	for _, r := range rooms {
		r.mu.RLock()
		f := r.facts
		r.mu.RUnlock()
		if out[r] = f; f.known {
			continue
		}
		unknown = append(unknown, r)
		req := &roomapi.StateRequest{RoomID: r.id, Keys: factKeys()}
		if _, known := r.knownState(now, req); !known {
			q.state(r, req)
		}
	}
	if len(unknown) == 0 {
		return out, nil
	}
	if err := q.ask(ctx); err != nil {
		return nil, err
	}
	for _, r := range unknown {
		state, err := s.stateNow(ctx, r, factKeys()...)
		if err != nil && !matrixerror.Is(err, "M_NOT_FOUND") { // of others, or purged
			return nil, err
		}
		f := roomFacts{known: true, changes: out[r].changes}
		for key, ev := range state {
			if ev != nil {
				f.add(key.Type, jsontext.Value(ev.Content()))
			}
		}
		r.mu.Lock()
		if r.facts.changes == f.changes {
			r.facts = f
		}
		r.mu.Unlock()
		out[r] = f
	}
	return out, nil
}

// add takes a state event with an empty state key into account.
func (f *roomFacts) add(typ string, content jsontext.Value) {
	switch typ {
	case typeEncryption:
		f.encrypted = true
	case typeCreate:
		if v, ok := property.Member(content, "type"); ok && v.Kind() == '"' {
			if text, err := jsontext.AppendUnquote(nil, v); err == nil {
				typ := string(text)
				f.typ = &typ
			}
		}
	}
}

// strippedFacts are those that an invite or a knock of a room of others tells.
func strippedFacts(stripped string) (f roomFacts) {
	var list []strippedEvent
	if json.Unmarshal([]byte(stripped), &list) != nil {
		return f
	}
	for _, e := range list {
		if e.StateKey != nil && *e.StateKey == "" {
			f.add(e.Type, e.Content)
		}
	}
	return f
}
