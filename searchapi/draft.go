package searchapi

import (
	"context"
	"maps"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/property"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/searchapi/storage"
	"github.com/matrix-org/dendrite/searchapi/words"
)

// draft is what a batch comes to, in steps: after each a room is purged.
type draft struct {
	partition               func(string) int
	steps                   []*step
	indexed, edits, removed int
}

// step is what becomes of the index together, and the room that is purged then.
type step struct {
	changes   *storage.Changes
	purged    string
	partition int
}

func newDraft(partition func(string) int) *draft {
	return &draft{partition: partition, steps: []*step{{changes: storage.NewChanges(partition)}}}
}

func (s *step) write(ctx context.Context, tx *sqldb.Tx, db *storage.Database) error {
	if !s.changes.Empty() {
		if err := db.Apply(ctx, tx, s.changes); err != nil {
			return err
		}
		if err := db.Bury(ctx, tx, s.changes.Gone); err != nil {
			return err
		}
	}
	if s.purged == "" {
		return nil
	}
	return db.Purge(ctx, tx, s.partition, s.purged)
}

// forget takes back what was added of a partition, whose history is to be read.
func (d *draft) forget(partition int) {
	for _, s := range d.steps {
		maps.DeleteFunc(s.changes.Events, func(_ string, e storage.Event) bool { return d.partition(e.RoomID) == partition })
		maps.DeleteFunc(s.changes.Edits, func(_ string, e storage.Edit) bool { return d.partition(e.RoomID) == partition })
	}
}

func (d *draft) last() *storage.Changes { return d.steps[len(d.steps)-1].changes }

// take adds a record.
func (d *draft) take(rec *roomapi.OutputRecord, lines [][]byte) error {
	switch rec.Kind {
	case roomapi.OutputPurged:
		if rec.RoomID != "" {
			at := d.steps[len(d.steps)-1]
			at.purged, at.partition = rec.RoomID, rec.Position.Partition
			d.steps = append(d.steps, &step{changes: storage.NewChanges(d.partition)})
			d.removed++
		}
		return nil
	case roomapi.OutputHistoryPurged:
		for _, id := range rec.PurgedIDs() {
			d.drop(id, rec.Position.Partition)
		}
		return nil
	case roomapi.OutputEvent, roomapi.OutputBackfilled, roomapi.OutputUnrejected:
	default:
		return nil // no event of a timeline
	}
	if rec.SoftFailed {
		return nil
	}
	if rec.Redacts != "" {
		d.drop(rec.Redacts, rec.Position.Partition)
	}
	if keyOf(rec.Type, rec.StateKey) == 0 || len(lines) == 0 {
		return nil
	}
	ev, err := gomatrixserverlib.ParseStoredEvent(lines[0], gomatrixserverlib.RoomVersion(rec.RoomVersion), rec.EventID)
	if err != nil {
		return err
	}
	place := rec.Position
	if rec.Place != (roomapi.Position{}) {
		place = rec.Place
	}
	d.add(ev, place.Seq, rec.HistoryVisibility)
	return nil
}

// drop notes that an event has no text any more.
func (d *draft) drop(eventID string, partition int) {
	c := d.last()
	delete(c.Events, eventID)
	delete(c.Edits, eventID)
	c.Gone[eventID] = partition
	d.removed++
}

// add adds an event of a type that is indexed; it tells whether it has a text.
func (d *draft) add(ev *gomatrixserverlib.Event, seq int64, visibility string) bool {
	t, ok := textOf(ev)
	if !ok {
		return false
	}
	c := d.last()
	c.Texts[ev.EventID()] = words.Terms(t.text)
	if t.replaces != "" {
		c.Edits[ev.EventID()] = storage.Edit{EditID: ev.EventID(), ParentID: t.replaces, RoomID: ev.RoomID(), Sender: ev.Sender(), TS: ev.OriginServerTS()}
		d.edits++
		return true
	}
	c.Events[ev.EventID()] = storage.Event{EventID: ev.EventID(), RoomID: ev.RoomID(), Sender: ev.Sender(), TS: ev.OriginServerTS(), Seq: seq,
		Key: keyOf(ev.Type(), ev.StateKey()), Level: levelOf(visibility), HasURL: t.hasURL}
	d.indexed++
	return true
}

// keyOf is the text of an event that is indexed, by its type; 0 for none.
// spec: client-server-api §search-categories
func keyOf(typ string, stateKey *string) storage.Key {
	switch {
	case stateKey == nil:
		if typ == "m.room.message" {
			return storage.KeyBody
		}
	case *stateKey != "":
	case typ == "m.room.name":
		return storage.KeyName
	case typ == "m.room.topic":
		return storage.KeyTopic
	}
	return 0
}

// The history visibilities, as they are stored.
func levels() []gomatrixserverlib.HistoryVisibility {
	return []gomatrixserverlib.HistoryVisibility{gomatrixserverlib.VisibilityWorldReadable, gomatrixserverlib.VisibilityShared,
		gomatrixserverlib.VisibilityInvited, gomatrixserverlib.VisibilityJoined}
}

func levelOf(visibility string) int64 {
	for i, v := range levels() {
		if string(v) == visibility {
			return int64(i)
		}
	}
	return 1 // what is not understood is shared
}

// text is what an event is found by.
type text struct {
	text   string
	hasURL bool
	// replaces is the event whose text it is.
	replaces string
}

// contents are the members of contents that matter here.
type contents struct {
	Body       jsontext.Value `json:"body"`
	Name       jsontext.Value `json:"name"`
	Topic      jsontext.Value `json:"topic"`
	Rich       jsontext.Value `json:"m.topic"`
	URL        jsontext.Value `json:"url"`
	NewContent jsontext.Value `json:"m.new_content"`
	RelatesTo  jsontext.Value `json:"m.relates_to"`
}

// textOf reads the text of an event of a type that is indexed; false where it has
// none, as when it is redacted.
func textOf(ev *gomatrixserverlib.Event) (out text, ok bool) {
	var c contents
	if ev.Redacted() || json.Unmarshal(ev.Content(), &c, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) != nil {
		return text{}, false
	}
	out.hasURL = len(c.URL) > 0
	switch keyOf(ev.Type(), ev.StateKey()) {
	case storage.KeyName:
		out.text, ok = property.Text(c.Name)
	case storage.KeyTopic:
		plain, simple := property.Text(c.Topic)
		rich, extended := richTopic(c.Rich)
		out.text, ok = plain+" "+rich, simple || extended
	case storage.KeyBody:
		if out.replaces = replaced(&c); out.replaces != "" {
			body, _ := property.Member(c.NewContent, "body")
			out.text, ok = property.Text(body)
			return out, ok
		}
		out.text, ok = property.Text(c.Body)
	}
	return out, ok
}

// replaced is the event that a message replaces; "" for none.
// spec: client-server-api §event-replacements
func replaced(c *contents) string {
	if len(c.NewContent) == 0 || c.NewContent.Kind() != '{' {
		return ""
	}
	if property.TextOf(c.RelatesTo, "rel_type") != "m.replace" {
		return ""
	}
	id := property.TextOf(c.RelatesTo, "event_id")
	if len(id) > gomatrixserverlib.MaxIDBytes {
		return ""
	}
	return id
}

// richTopic is the plain text of m.topic.
// spec: client-server-api §mroomtopic
func richTopic(v jsontext.Value) (string, bool) {
	list, _ := property.Member(v, "m.text")
	var forms []jsontext.Value
	if len(list) == 0 || json.Unmarshal(list, &forms) != nil {
		return "", false
	}
	for _, form := range forms {
		typ, typed := property.Member(form, "mimetype")
		if kind, _ := property.Text(typ); !typed || kind == "text/plain" {
			body, _ := property.Member(form, "body")
			return property.Text(body)
		}
	}
	return "", false
}
