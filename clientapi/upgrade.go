package clientapi

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	directory "github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// maxAdditionalCreators bounds the creators of an upgraded room.
const maxAdditionalCreators = 100

// upgrade serves POST /rooms/{roomId}/upgrade.
// spec: client-server-api §room-upgrades
//
// It is a job of several steps, each idempotent, over a row that says what the
// new room is made from: a retry, or resumeUpgrades after a crash, goes on with
// the same new room.
func (s *Server) upgrade(r *httpapi.Request) (any, error) {
	if err := notSuspended(r.Device); err != nil {
		return nil, err
	}
	roomID, err := pathRoomID(r)
	if err != nil {
		return nil, err
	}
	var req struct {
		NewVersion string   `json:"new_version"`
		Creators   []string `json:"additional_creators"`
	}
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	if req.NewVersion == "" {
		return nil, matrixerror.MissingParam("new_version is missing")
	}
	if gomatrixserverlib.RoomVersion(req.NewVersion).Rules() == nil {
		return nil, matrixerror.New(400, "M_UNSUPPORTED_ROOM_VERSION", "This server does not know that room version")
	}
	if len(req.Creators) > maxAdditionalCreators {
		return nil, matrixerror.InvalidParam("A room can have at most %d additional creators", maxAdditionalCreators)
	}
	ctx := context.WithoutCancel(r.Context())
	up, err := s.beginUpgrade(ctx, r.Device, roomID, req.NewVersion, req.Creators)
	if err != nil {
		return nil, err
	}
	newID, err := s.runUpgrade(ctx, up)
	if err != nil {
		return nil, err
	}
	return struct {
		Replacement string `json:"replacement_room"`
	}{newID}, nil
}

// beginUpgrade checks that the user may upgrade the room and stores the job.
func (s *Server) beginUpgrade(ctx context.Context, d *httpapi.Device, roomID, version string, creators []string) (*directory.Upgrade, error) {
	powers, err := s.powersIn(ctx, roomID, d.UserID)
	if err != nil {
		return nil, unknownRoom(err)
	}
	if !powers.maySend(typeTombstone) {
		return nil, matrixerror.Forbidden("You cannot upgrade this room")
	}
	room, err := api.QueryRoom.Call(ctx, s.caller, &api.RoomRequest{RoomID: roomID})
	if err != nil {
		return nil, unknownRoom(err)
	}
	begin := directory.Upgrade{
		RoomID: roomID, UserID: d.UserID, Version: version, Creators: creators,
		Seed: rand.Text(), TS: time.Now().UnixMilli(),
	}
	if len(room.ForwardExtremities) > 0 {
		begin.EventID = room.ForwardExtremities[0]
	}
	res, err := directory.BeginUpgrade.Call(ctx, s.caller, &directory.BeginUpgradeRequest{Upgrade: begin})
	if err != nil {
		return nil, err
	}
	return &res.Upgrade, nil
}

// runUpgrade takes all steps of an upgrade and returns the new room's ID. What
// is refused for good ends the upgrade.
func (s *Server) runUpgrade(ctx context.Context, up *directory.Upgrade) (string, error) {
	newID, err := s.upgradeSteps(ctx, up)
	if passes(err) {
		return "", err // may be tried again
	}
	if _, ferr := directory.FinishUpgrade.Call(ctx, s.caller, &directory.FinishUpgradeRequest{RoomID: up.RoomID}); ferr != nil {
		s.logger.WithError(ferr).WithField("room_id", up.RoomID).Warn("an upgrade that is over will be looked at again")
	}
	return newID, err
}

func (s *Server) upgradeSteps(ctx context.Context, up *directory.Upgrade) (string, error) {
	old, err := s.stateToCopy(ctx, up.RoomID)
	if err != nil {
		return "", err
	}
	plan, err := s.planUpgrade(ctx, up, old)
	if err != nil {
		return "", err
	}
	_, err = s.writer.Append(ctx, &api.InputRecord{
		RequestID: stepID(up, "create"), TS: plan.ts, RoomID: plan.id, RoomVersion: string(plan.version), Events: plan.events,
	}, plan.lines...)
	if err != nil {
		return "", err
	}
	if _, err := directory.MoveAliases.Call(ctx, s.caller, &directory.MoveAliasesRequest{From: up.RoomID, To: plan.id}); err != nil {
		return "", err
	}
	if err := s.closeRoom(ctx, up, old, plan.id); err != nil {
		return "", err
	}
	s.carryOver(ctx, up.UserID, plan.id) // who has joined with it
	return plan.id, nil
}

// stepID is the request ID of a step of an upgrade.
func stepID(up *directory.Upgrade, step string) string {
	return hashedID([]byte("upgrade\x00" + up.RoomID + "\x00" + up.Seed + "\x00" + step))
}

// oldRoom is what is copied from the room that is upgraded.
type oldRoom struct {
	version gomatrixserverlib.RoomVersion
	create  *gomatrixserverlib.Event
	levels  *gomatrixserverlib.Event // nil for none
	state   map[gomatrixserverlib.StateKey]*api.StoredEvent
}

// copiedTypes are the types that go to the new room, in the order in which
// they are sent there; power levels and aliases are seen to apart.
// spec: client-server-api §room-upgrades
var copiedTypes = [...]string{
	"m.room.join_rules", "m.room.history_visibility", "m.room.guest_access",
	"m.room.encryption", "m.room.server_acl", "m.room.name", "m.room.avatar", "m.room.topic",
}

// stateToCopy reads the old room's state as far as it is copied.
func (s *Server) stateToCopy(ctx context.Context, roomID string) (*oldRoom, error) {
	keys := []gomatrixserverlib.StateKey{{Type: "m.room.create"}, {Type: "m.room.power_levels"}, {Type: typeCanonicalAlias}}
	for _, typ := range copiedTypes {
		keys = append(keys, gomatrixserverlib.StateKey{Type: typ})
	}
	res, err := api.QueryState.Call(ctx, s.caller, &api.StateRequest{RoomID: roomID, Keys: keys})
	if err != nil {
		return nil, unknownRoom(err)
	}
	old := &oldRoom{version: res.RoomVersion, state: make(map[gomatrixserverlib.StateKey]*api.StoredEvent, len(res.Events))}
	for _, e := range res.Events {
		switch e.Type() {
		case "m.room.create":
			old.create = e.Event
		case "m.room.power_levels":
			old.levels = e.Event
		default:
			old.state[e.Key()] = e
		}
	}
	if old.create == nil {
		return nil, matrixerror.NotFound("The room has not begun")
	}
	return old, nil
}

// planUpgrade makes the events of the new room: the same each time but for what
// has changed in the old room since, which the room server then ignores.
func (s *Server) planUpgrade(ctx context.Context, up *directory.Upgrade, old *oldRoom) (*newRoom, error) {
	join, err := s.profiled(ctx, up.UserID, memberContent{Membership: "join"})
	if err != nil {
		return nil, err
	}
	return s.upgradePlan(up, old, join)
}

func (s *Server) upgradePlan(up *directory.Upgrade, old *oldRoom, join memberContent) (*newRoom, error) {
	plan := &newRoom{version: gomatrixserverlib.RoomVersion(up.Version), ts: up.TS}
	content, err := successorContent(up, old)
	if err != nil {
		return nil, err
	}
	if err := s.begin(plan, up.UserID, content, up.Seed); err != nil {
		return nil, err
	}
	first, last, err := upgradedLevels(up, old)
	if err != nil {
		return nil, err
	}
	b := eventList{version: plan.version, sender: up.UserID}
	b.member(up.UserID, join)
	b.state("m.room.power_levels", "", first)
	if e := old.state[gomatrixserverlib.StateKey{Type: typeCanonicalAlias}]; e != nil {
		b.state(typeCanonicalAlias, "", e.Content())
	}
	for _, typ := range copiedTypes {
		e := old.state[gomatrixserverlib.StateKey{Type: typ}]
		if e == nil {
			continue
		}
		content := e.Content()
		if typ == "m.room.join_rules" {
			content = joinRulesFor(plan.version, content)
		}
		b.state(typ, "", content)
	}
	if last != nil {
		b.state("m.room.power_levels", "", last)
	}
	plan.events = append(plan.events, b.events...)
	return plan, b.err
}

// successorContent makes the m.room.create of the new room.
// spec: client-server-api §room-upgrades
func successorContent(up *directory.Upgrade, old *oldRoom) (jsontext.Value, error) {
	from := map[string]jsontext.Value{}
	if err := json.Unmarshal(old.create.Content(), &from); err != nil {
		return nil, matrixerror.New(400, "M_INVALID_ROOM_STATE", "The room's first event cannot be read")
	}
	content := map[string]jsontext.Value{}
	for _, key := range []string{"type", "m.federate"} {
		if v, ok := from[key]; ok {
			content[key] = v
		}
	}
	version := gomatrixserverlib.RoomVersion(up.Version)
	predecessor := map[string]string{"room_id": up.RoomID}
	if !version.Rules().RoomIDFromCreate && up.EventID != "" {
		predecessor["event_id"] = up.EventID
	}
	raw, err := json.Marshal(predecessor, json.Deterministic(true))
	if err != nil {
		return nil, err
	}
	content["predecessor"] = raw
	req := &createRequest{}
	if version.Rules().CreatorsPrivileged && len(up.Creators) > 0 {
		if content["additional_creators"], err = json.Marshal(up.Creators); err != nil {
			return nil, matrixerror.BadJSON("additional_creators cannot be written: %v", err)
		}
	}
	if req.CreationContent, err = json.Marshal(content, json.Deterministic(true)); err != nil {
		return nil, err
	}
	return creationContent(req, up.UserID, version, up.Seed)
}

// joinRulesFor replaces a join rule that the version does not have by the
// stricter "invite".
func joinRulesFor(v gomatrixserverlib.RoomVersion, content jsontext.Value) jsontext.Value {
	var is struct {
		JoinRule string `json:"join_rule"`
	}
	rules := v.Rules()
	if json.Unmarshal(content, &is) != nil {
		return jsontext.Value(`{"join_rule":"invite"}`)
	}
	known := true
	switch is.JoinRule {
	case "knock":
		known = rules.KnockAllowed
	case "restricted":
		known = rules.RestrictedAllowed
	case "knock_restricted":
		known = rules.KnockRestrictedAllowed
	}
	if !known {
		return jsontext.Value(`{"join_rule":"invite"}`)
	}
	return content
}
