package directoryapi

import (
	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
)

// patch changes what is known of a room.
type patch func(*api.Room)

// watchedTypes returns how an entry of the state changes what is known of its
// room; false for all but a few. The event is nil when the entry was removed.
//
// Content is what members made it: what has not the form it should have counts
// as missing.
func watchedTypes(typ, stateKey string) (func(*gomatrixserverlib.Event) patch, bool) {
	if stateKey != "" {
		return nil, false
	}
	switch typ {
	case "m.room.create":
		return createPatch, true
	case "m.room.name":
		return text("name", func(r *api.Room, v string) { r.Name = v }), true
	case "m.room.topic":
		return topicPatch, true
	case "m.room.canonical_alias":
		return text("alias", func(r *api.Room, v string) { r.CanonicalAlias = v }), true
	case "m.room.avatar":
		return text("url", func(r *api.Room, v string) { r.AvatarURL = v }), true
	case "m.room.join_rules":
		return text("join_rule", func(r *api.Room, v string) { r.JoinRule = v }), true
	case "m.room.encryption":
		return text("algorithm", func(r *api.Room, v string) { r.Encryption = v }), true
	case "m.room.tombstone":
		return text("replacement_room", func(r *api.Room, v string) { r.Replaced = v }), true
	case "m.room.history_visibility":
		return text("history_visibility", func(r *api.Room, v string) { r.WorldReadable = v == "world_readable" }), true
	case "m.room.guest_access":
		return text("guest_access", func(r *api.Room, v string) { r.GuestCanJoin = v == "can_join" }), true
	}
	return nil, false
}

// text reads one member of the content that is a string.
func text(key string, set func(*api.Room, string)) func(*gomatrixserverlib.Event) patch {
	return func(e *gomatrixserverlib.Event) patch {
		value := ""
		if e != nil {
			var fields map[string]any
			if json.Unmarshal(e.Content(), &fields) == nil {
				value, _ = fields[key].(string)
			}
		}
		return func(r *api.Room) { set(r, value) }
	}
}

func createPatch(e *gomatrixserverlib.Event) patch {
	var typ string
	federate := true
	if e != nil {
		var fields map[string]any
		if json.Unmarshal(e.Content(), &fields) == nil {
			typ, _ = fields["type"].(string)
			if f, ok := fields["m.federate"].(bool); ok {
				federate = f
			}
		}
	}
	return func(r *api.Room) { r.Type, r.Federate = typ, federate }
}

// topicPatch reads the plain text of a topic: that of m.topic where there is
// one, else topic.
// spec: client-server-api §mroomtopic
func topicPatch(e *gomatrixserverlib.Event) patch {
	topic := ""
	if e != nil {
		topic = plainTopic(e)
	}
	return func(r *api.Room) { r.Topic = topic }
}

func plainTopic(e *gomatrixserverlib.Event) string {
	var plain struct {
		Topic string `json:"topic"`
	}
	if json.Unmarshal(e.Content(), &plain) != nil {
		plain.Topic = ""
	}
	var rich struct {
		Topic struct {
			Text []struct {
				Body     string  `json:"body"`
				MIMEType *string `json:"mimetype"`
			} `json:"m.text"`
		} `json:"m.topic"`
	}
	if json.Unmarshal(e.Content(), &rich) != nil {
		return plain.Topic
	}
	for _, t := range rich.Topic.Text {
		if t.MIMEType == nil || *t.MIMEType == "text/plain" {
			return t.Body
		}
	}
	return plain.Topic
}
