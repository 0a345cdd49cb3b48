package clientapi

import (
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// The presets of createRoom.
const (
	presetPrivate = "private_chat"
	presetTrusted = "trusted_private_chat"
	presetPublic  = "public_chat"
)

// entropyKey is a member of m.room.create whose ID is the room's: without it
// two rooms that one user makes in the same millisecond would be one.
const entropyKey = "org.matrix.dendrite.entropy"

// preset tells which one a request means; "" when it names one that is unknown.
func (r *createRequest) preset() string {
	switch r.Preset {
	case presetPrivate, presetTrusted, presetPublic:
		return r.Preset
	case "":
		if r.Visibility == "public" {
			return presetPublic
		}
		return presetPrivate
	}
	return ""
}

// creationContent makes the content of m.room.create.
// spec: client-server-api §post_matrixclientv3createroom, §mroomcreate
func creationContent(req *createRequest, creator string, version gomatrixserverlib.RoomVersion, entropy string) (jsontext.Value, error) {
	fields := map[string]jsontext.Value{}
	if err := unmarshalObject(req.CreationContent, &fields, "creation_content"); err != nil {
		return nil, err
	}
	rules := version.Rules()
	fields["room_version"] = quote(string(version))
	delete(fields, "creator")
	if rules.CreatorInContent {
		fields["creator"] = quote(creator)
	}
	if rules.RoomIDFromCreate {
		fields[entropyKey] = quote(entropy)
	}
	if rules.CreatorsPrivileged {
		if err := addCreators(fields, req, creator); err != nil {
			return nil, err
		}
	}
	raw, err := json.Marshal(fields)
	if err != nil {
		return nil, matrixerror.BadJSON("creation_content cannot be written: %v", err)
	}
	return versionContent(version, raw)
}

// addCreators checks additional_creators and adds those that are invited to a
// trusted private chat. The creator is not one of them.
func addCreators(fields map[string]jsontext.Value, req *createRequest, creator string) error {
	var creators []string
	if v, ok := fields["additional_creators"]; ok {
		if err := json.Unmarshal(v, &creators); err != nil {
			return matrixerror.BadJSON("additional_creators is not an array of user IDs")
		}
	}
	if req.preset() == presetTrusted {
		creators = append(creators, req.Invite...)
	}
	delete(fields, "additional_creators")
	kept := make([]string, 0, len(creators))
	for _, id := range creators {
		if _, _, err := gomatrixserverlib.ParseUserID(id); err != nil {
			return matrixerror.InvalidParam("additional_creators holds what is not a user ID")
		}
		if id != creator && !slices.Contains(kept, id) {
			kept = append(kept, id)
		}
	}
	if len(kept) == 0 {
		return nil
	}
	raw, err := json.Marshal(kept)
	fields["additional_creators"] = raw
	return err
}

// roomEvents makes the events behind m.room.create, in the order that the
// specification gives.
// spec: client-server-api §post_matrixclientv3createroom
func roomEvents(req *createRequest, creator string, version gomatrixserverlib.RoomVersion, alias string, join memberContent, invites []memberContent) ([]api.InputEvent, error) {
	preset := req.preset()
	if preset == "" {
		return nil, matrixerror.InvalidParam("%.64q is not a preset", req.Preset)
	}
	b := eventList{version: version, sender: creator}
	b.member(creator, join)
	levels, err := powerLevels(req, creator, version)
	if err != nil {
		return nil, err
	}
	b.state("m.room.power_levels", "", levels)
	if alias != "" {
		b.stateOf(typeCanonicalAlias, map[string]any{"alias": alias})
	}
	given, err := givenState(req, alias)
	if err != nil {
		return nil, err
	}
	for _, e := range presetState(preset) {
		if !given[gomatrixserverlib.StateKey{Type: e.typ}] {
			b.stateOf(e.typ, e.content)
		}
	}
	for _, e := range req.InitialState {
		overridden := e.StateKey == "" && (e.Type == "m.room.name" && req.Name != "" || e.Type == "m.room.topic" && req.Topic != "")
		if !overridden {
			b.state(e.Type, e.StateKey, e.Content)
		}
	}
	if req.Name != "" {
		b.stateOf("m.room.name", map[string]any{"name": req.Name})
	}
	if req.Topic != "" {
		b.stateOf("m.room.topic", topicContent(req.Topic))
	}
	for i, userID := range req.Invite {
		b.member(userID, invites[i])
	}
	return b.events, b.err
}

// topicContent is a topic in its plain and its rich form.
// spec: client-server-api §mroomtopic
func topicContent(topic string) map[string]any {
	return map[string]any{
		"topic":   topic,
		"m.topic": map[string]any{"m.text": []map[string]any{{"body": topic, "mimetype": "text/plain"}}},
	}
}

// givenState checks initial_state and tells which entries it holds.
func givenState(req *createRequest, alias string) (map[gomatrixserverlib.StateKey]bool, error) {
	given := make(map[gomatrixserverlib.StateKey]bool, len(req.InitialState))
	for i := range req.InitialState {
		e := &req.InitialState[i]
		if err := checkEventType(e.Type, e.StateKey); err != nil {
			return nil, err
		}
		if e.Content.Kind() != '{' {
			return nil, matrixerror.BadJSON("The content of %.64q in initial_state is not an object", e.Type)
		}
		switch e.Type {
		case "m.room.create", typeMember:
			return nil, matrixerror.New(400, "M_INVALID_ROOM_STATE", "initial_state cannot hold %s", e.Type)
		case typeCanonicalAlias:
			if err := onlyAlias(e.Content, alias); err != nil {
				return nil, err
			}
		}
		given[gomatrixserverlib.StateKey{Type: e.Type, StateKey: e.StateKey}] = true
	}
	return given, nil
}

// onlyAlias refuses aliases that do not point to the room: but for the one
// that is made together with it none can.
func onlyAlias(content jsontext.Value, alias string) error {
	named, err := canonicalAliases(content)
	if err != nil {
		return err
	}
	for _, a := range named {
		if a != alias {
			return matrixerror.New(400, "M_BAD_ALIAS", "Room alias %.255s does not point to the room", a)
		}
	}
	return nil
}

type presetEvent struct {
	typ     string
	content map[string]any
}

// presetState lists the state that a preset stands for.
func presetState(preset string) []presetEvent {
	rule, guests := "invite", "can_join"
	if preset == presetPublic {
		rule, guests = "public", "forbidden"
	}
	return []presetEvent{
		{"m.room.join_rules", map[string]any{"join_rule": rule}},
		{"m.room.history_visibility", map[string]any{"history_visibility": "shared"}},
		{"m.room.guest_access", map[string]any{"guest_access": guests}},
	}
}

// eventList collects protos; the first error stays.
type eventList struct {
	version gomatrixserverlib.RoomVersion
	sender  string
	events  []api.InputEvent
	err     error
}

func (b *eventList) state(typ, stateKey string, content jsontext.Value) {
	if b.err != nil {
		return
	}
	canonical, err := versionContent(b.version, content)
	if err != nil {
		b.err = err
		return
	}
	b.events = append(b.events, api.InputEvent{Proto: &api.Proto{
		Type: typ, StateKey: &stateKey, Sender: b.sender, Content: canonical,
	}})
}

func (b *eventList) stateOf(typ string, content map[string]any) {
	raw, err := json.Marshal(content, json.Deterministic(true))
	if err != nil && b.err == nil {
		b.err = matrixerror.BadJSON("%s cannot be written: %v", typ, err)
	}
	b.state(typ, "", raw)
}

func (b *eventList) member(userID string, content memberContent) {
	if b.err != nil {
		return
	}
	event, err := memberEvent(b.sender, userID, content)
	if err != nil {
		b.err = err
		return
	}
	b.events = append(b.events, event)
}

// unmarshalObject reads an object into out; absent and null leave it empty.
func unmarshalObject(raw jsontext.Value, out *map[string]jsontext.Value, name string) error {
	switch {
	case len(raw) == 0 || raw.Kind() == 'n':
		return nil
	case raw.Kind() != '{':
		return matrixerror.BadJSON("%s is not an object", name)
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return matrixerror.BadJSON("%s cannot be read: %v", name, err)
	}
	return nil
}

// quote makes a JSON string of what is known to be UTF-8; what is not is replaced.
func quote(s string) jsontext.Value {
	quoted, _ := jsontext.AppendQuote(nil, s) // the error only says that it replaced something
	return quoted
}
