package clientapi

import (
	"context"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	directory "github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

const typeCanonicalAlias = "m.room.canonical_alias"

// maxAltAliases bounds the aliases of one event that are looked up.
const maxAltAliases = 100

// canonicalAliases are the aliases that the content of an
// m.room.canonical_alias event names, the main one first, each once.
func canonicalAliases(content jsontext.Value) ([]string, error) {
	var c struct {
		Alias      *string  `json:"alias"`
		AltAliases []string `json:"alt_aliases"`
	}
	if err := json.Unmarshal(content, &c); err != nil {
		return nil, matrixerror.BadJSON("alias must be a string and alt_aliases an array of strings")
	}
	if len(c.AltAliases) > maxAltAliases {
		return nil, matrixerror.InvalidParam("A room can show at most %d alt_aliases", maxAltAliases)
	}
	var all []string
	if c.Alias != nil && *c.Alias != "" {
		all = append(all, *c.Alias)
	}
	for _, a := range c.AltAliases {
		if !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all, nil
}

// checkCanonicalAlias checks the aliases that the event would add: they must be
// well-formed and point to the room. Those that are there already, or go, are
// not looked at.
// spec: client-server-api §put_matrixclientv3roomsroomidstateeventtypestatekey
func (s *Server) checkCanonicalAlias(ctx context.Context, roomID string, content jsontext.Value) error {
	wanted, err := canonicalAliases(content)
	if err != nil || len(wanted) == 0 {
		return err
	}
	var existing []string
	old, err := s.currentContent(ctx, roomID, typeCanonicalAlias, "")
	if err != nil {
		return hideUnknown(err)
	}
	if old != nil {
		if existing, err = canonicalAliases(old); err != nil {
			existing = nil // what is there is not well-formed: nothing is exempt
		}
	}
	for _, alias := range wanted {
		if slices.Contains(existing, alias) {
			continue
		}
		if err := s.checkPointsTo(ctx, alias, roomID); err != nil {
			return err
		}
	}
	return nil
}

// checkPointsTo is 400 M_BAD_ALIAS unless the alias is the room's.
func (s *Server) checkPointsTo(ctx context.Context, alias, roomID string) error {
	if _, _, err := gomatrixserverlib.ParseRoomAlias(alias); err != nil {
		return matrixerror.InvalidParam("Room alias invalid")
	}
	target, err := s.resolveAlias(ctx, alias)
	if err != nil && !matrixerror.Is(err, "M_NOT_FOUND") {
		return err
	}
	if target != roomID {
		return matrixerror.New(400, "M_BAD_ALIAS", "Room alias %s does not point to the room", alias)
	}
	return nil
}

// dropCanonicalAlias takes an alias that is gone out of the room's event. The
// alias is removed whether this succeeds or not.
// spec: client-server-api §delete_matrixclientv3directoryroomroomalias
func (s *Server) dropCanonicalAlias(ctx context.Context, d *httpapi.Device, roomID, alias string) {
	logger := s.logger.WithField("room_id", roomID)
	old, err := s.currentContent(ctx, roomID, typeCanonicalAlias, "")
	if err != nil {
		logger.WithError(err).Warn("cannot read the canonical alias of a room whose alias was removed")
		return
	}
	content, changed := withoutAlias(old, alias)
	if !changed {
		return
	}
	key := ""
	proto := &api.Proto{Type: typeCanonicalAlias, StateKey: &key, Sender: d.UserID, Content: content}
	if _, err := s.appendEvent(ctx, d, roomID, "", "", proto); err != nil {
		logger.WithError(err).Info("a removed alias stays in the room's canonical alias event")
	}
}

// withoutAlias removes an alias from the content of a canonical alias event.
func withoutAlias(content jsontext.Value, alias string) (jsontext.Value, bool) {
	var fields map[string]jsontext.Value
	if content == nil || json.Unmarshal(content, &fields) != nil {
		return nil, false
	}
	changed := false
	var main string
	if v, ok := fields["alias"]; ok && json.Unmarshal(v, &main) == nil && main == alias {
		delete(fields, "alias")
		changed = true
	}
	var alt []string
	if v, ok := fields["alt_aliases"]; ok && json.Unmarshal(v, &alt) == nil && slices.Contains(alt, alias) {
		rest := slices.DeleteFunc(alt, func(a string) bool { return a == alias })
		encoded, err := json.Marshal(rest)
		if err != nil {
			return nil, false
		}
		fields["alt_aliases"] = encoded
		changed = true
	}
	if !changed {
		return nil, false
	}
	out, err := json.Marshal(fields, json.Deterministic(true))
	return out, err == nil
}

// unreserved releases an alias that was reserved for a room that was not made.
func (s *Server) unreserved(ctx context.Context, alias, roomID string) {
	_, err := directory.DeleteAlias.Call(ctx, s.caller, &directory.DeleteAliasRequest{Alias: alias, RoomID: roomID})
	if err != nil && !matrixerror.Is(err, "M_NOT_FOUND") {
		s.logger.WithError(err).WithField("room_alias", alias).Error("an alias that was reserved for a room that was refused is still there")
	}
}
