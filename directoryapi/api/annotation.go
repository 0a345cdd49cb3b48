package api

import (
	"bytes"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Annotation is what an annotating event says of itself.
// spec: client-server-api §event-annotations-and-reactions
type Annotation struct{ EventID, Key string }

// ParseAnnotation reads the relation in an event's content; false when it is
// not a well-formed annotation.
func ParseAnnotation(content jsontext.Value) (Annotation, bool) {
	if !bytes.Contains(content, []byte("m.annotation")) {
		return Annotation{}, false
	}
	var is struct {
		RelatesTo struct {
			RelType string  `json:"rel_type"`
			EventID string  `json:"event_id"`
			Key     *string `json:"key"`
		} `json:"m.relates_to"`
	}
	if json.Unmarshal(content, &is) != nil {
		return Annotation{}, false
	}
	r := is.RelatesTo
	if r.RelType != "m.annotation" || r.EventID == "" || r.Key == nil {
		return Annotation{}, false
	}
	return Annotation{EventID: r.EventID, Key: *r.Key}, true
}
