package syncapi

import (
	"bytes"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/common/property"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/syncapi/storage"
)

// relatesTo is the relation that an event's content states.
type relatesTo struct {
	RelType string `json:"rel_type"`
	EventID string `json:"event_id"`
}

// relationOf finds what an event relates to.
// spec: client-server-api §forming-relationships-between-events
func relationOf(ev *event) (storage.Relation, bool) {
	content := ev.Content()
	if ev.IsState() || !bytes.Contains(content, []byte(`"m.relates_to"`)) {
		return storage.Relation{}, false
	}
	raw, ok := property.Member(content, "m.relates_to")
	if !ok || raw.Kind() != '{' {
		return storage.Relation{}, false
	}
	var to relatesTo
	if json.Unmarshal(raw, &to) != nil || to.RelType == "" || to.EventID == "" ||
		len(to.RelType) > gomatrixserverlib.MaxIDBytes || len(to.EventID) > gomatrixserverlib.MaxIDBytes {
		return storage.Relation{}, false // malformed relations are no relations
	}
	usable := true
	if to.RelType == relReplace && ev.Type() != "m.room.encrypted" {
		_, usable = property.Member(content, "m.new_content")
	}
	return storage.Relation{
		RoomID: ev.RoomID(), Parent: to.EventID, RelType: to.RelType, EventID: ev.EventID(), Type: ev.Type(), Sender: ev.Sender(),
		TS: ev.OriginServerTS(), Seq: ev.Position.Seq, Sub: ev.Position.Sub, Usable: usable,
	}, true
}

const (
	relReplace   = "m.replace"
	relThread    = "m.thread"
	relReference = "m.reference"
)
