package clientapi

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	directory "github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// createRequest is the body of POST /createRoom.
// spec: client-server-api §post_matrixclientv3createroom
type createRequest struct {
	Visibility                string         `json:"visibility"`
	RoomAliasName             string         `json:"room_alias_name"`
	Name                      string         `json:"name"`
	Topic                     string         `json:"topic"`
	Invite                    []string       `json:"invite"`
	Invite3PID                []struct{}     `json:"invite_3pid"`
	RoomVersion               string         `json:"room_version"`
	CreationContent           jsontext.Value `json:"creation_content"`
	InitialState              []initialState `json:"initial_state"`
	Preset                    string         `json:"preset"`
	IsDirect                  bool           `json:"is_direct"`
	PowerLevelContentOverride jsontext.Value `json:"power_level_content_override"`
}

// initialState is one event of initial_state.
type initialState struct {
	Type     string         `json:"type"`
	StateKey string         `json:"state_key"`
	Content  jsontext.Value `json:"content"`
}

// newRoom is a room about to be made: the events of its record in order.
type newRoom struct {
	id      string
	version gomatrixserverlib.RoomVersion
	ts      int64
	events  []api.InputEvent
	lines   [][]byte // of full events: the m.room.create of version 12
	alias   string   // "" for none
	public  bool
}

// createRoom serves POST /createRoom. All the room's events are one record, so
// it comes to be whole or not at all; its alias is reserved first and given
// back when the room is refused.
func (s *Server) createRoom(r *httpapi.Request) (any, error) {
	if err := notSuspended(r.Device); err != nil {
		return nil, err
	}
	var req createRequest
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	// Once begun it is not given up because the client went away: what is
	// reserved is either used or given back.
	ctx := context.WithoutCancel(r.Context())
	version, err := s.checkCreate(ctx, r.Device, &req)
	if err != nil {
		return nil, err
	}
	plan, err := s.planRoom(ctx, r.Device, &req, version)
	if err != nil {
		return nil, err
	}
	if err := s.makeRoom(ctx, r.Device.UserID, plan); err != nil {
		return nil, err
	}
	return &roomIDResponse{RoomID: plan.id}, nil
}

// checkCreate checks what can be said without making events.
func (s *Server) checkCreate(ctx context.Context, d *httpapi.Device, req *createRequest) (gomatrixserverlib.RoomVersion, error) {
	version := gomatrixserverlib.RoomVersion(req.RoomVersion)
	if version == "" {
		version = s.defaultRoomVersion()
	}
	switch {
	case version.Rules() == nil:
		return "", matrixerror.New(400, "M_UNSUPPORTED_ROOM_VERSION", "This server does not know room version %.32q", req.RoomVersion)
	case len(req.Invite3PID) > 0:
		return "", errThirdParty()
	case len(req.Invite) > s.config.MaxInvitesPerCreate:
		return "", matrixerror.InvalidParam("At most %d users can be invited while creating a room", s.config.MaxInvitesPerCreate)
	case len(req.InitialState) > s.config.MaxInitialState:
		return "", matrixerror.InvalidParam("At most %d events of initial_state are taken", s.config.MaxInitialState)
	case req.Visibility != "" && req.Visibility != "public" && req.Visibility != "private":
		return "", matrixerror.InvalidParam("visibility is public or private")
	case req.Visibility == "public" && s.config.DirectoryRequiresAdmin && !d.IsAdmin:
		return "", matrixerror.Forbidden("Only administrators may publish rooms on this server")
	}
	if req.RoomAliasName != "" {
		if err := s.checkOwnAlias(s.fullAlias(req.RoomAliasName)); err != nil {
			return "", err
		}
	}
	seen := make(map[string]bool, len(req.Invite))
	kept := req.Invite[:0]
	for _, userID := range req.Invite {
		if userID == d.UserID || seen[userID] {
			continue
		}
		if err := s.checkInvitee(ctx, d.UserID, userID); err != nil {
			return "", err
		}
		seen[userID] = true
		kept = append(kept, userID)
	}
	req.Invite = kept
	return version, nil
}

func (s *Server) defaultRoomVersion() gomatrixserverlib.RoomVersion {
	if v := s.config.DefaultRoomVersion; v != "" {
		return gomatrixserverlib.RoomVersion(v)
	}
	return gomatrixserverlib.DefaultRoomVersion
}

func (s *Server) fullAlias(localpart string) string { return "#" + localpart + ":" + s.serverName }

// planRoom makes the events of the room.
func (s *Server) planRoom(ctx context.Context, d *httpapi.Device, req *createRequest, version gomatrixserverlib.RoomVersion) (*newRoom, error) {
	plan := &newRoom{
		version: version,
		ts:      time.Now().UnixMilli(),
		public:  req.Visibility == "public",
	}
	if req.RoomAliasName != "" {
		plan.alias = s.fullAlias(req.RoomAliasName)
	}
	seed := rand.Text()
	content, err := creationContent(req, d.UserID, version, seed)
	if err != nil {
		return nil, err
	}
	if err := s.begin(plan, d.UserID, content, seed); err != nil {
		return nil, err
	}
	creator, err := s.ownProfile(ctx, d, memberContent{Membership: "join"})
	if err != nil {
		return nil, err
	}
	invited := make([]memberContent, len(req.Invite))
	for i, userID := range req.Invite {
		if invited[i], err = s.profiled(ctx, userID, memberContent{Membership: "invite", IsDirect: req.IsDirect}); err != nil {
			return nil, err
		}
	}
	rest, err := roomEvents(req, d.UserID, version, plan.alias, creator, invited)
	if err != nil {
		return nil, err
	}
	plan.events = append(plan.events, rest...)
	return plan, nil
}

// begin gives the room its m.room.create and thereby its ID. Where the ID is
// the hash of that event (version 12) the event is made and signed here; before,
// the ID is made from seed and the room server makes the event. The same
// arguments make the same room.
// spec: rooms/v12 §room-ids-as-hashes-of-the-create-event
func (s *Server) begin(plan *newRoom, creator string, content jsontext.Value, seed string) error {
	key := ""
	if !plan.version.Rules().RoomIDFromCreate {
		plan.id = "!" + seed[:18] + ":" + s.serverName
		plan.events = []api.InputEvent{{Proto: &api.Proto{Type: "m.room.create", StateKey: &key, Sender: creator, Content: content}}}
		return nil
	}
	builder := gomatrixserverlib.EventBuilder{
		Sender: creator, Type: "m.room.create", StateKey: &key,
		Content: content, OriginServerTS: plan.ts, Depth: 1,
	}
	built, err := builder.Build(plan.version)
	if err != nil {
		return matrixerror.New(400, "M_INVALID_ROOM_STATE", "The room's first event cannot be made: %v", err)
	}
	signed, err := built.Sign(s.serverName, s.keys[0])
	if err != nil {
		return err
	}
	plan.id = signed.RoomID()
	plan.events = []api.InputEvent{{EventID: signed.EventID()}}
	plan.lines = [][]byte{signed.JSON()}
	return nil
}

// makeRoom reserves, logs, and gives back what was reserved if the room was
// refused. When the verdict is not known the reservation stays: the room may
// yet come.
func (s *Server) makeRoom(ctx context.Context, creator string, plan *newRoom) error {
	if plan.alias != "" {
		_, err := directory.PutAlias.Call(ctx, s.caller, &directory.PutAliasRequest{Alias: plan.alias, RoomID: plan.id, Creator: creator})
		if matrixerror.Is(err, "M_ROOM_IN_USE") {
			return matrixerror.New(400, "M_ROOM_IN_USE", "Room alias %s is taken", plan.alias)
		}
		if err != nil {
			return err
		}
	}
	if plan.public {
		_, err := directory.SetPublished.Call(ctx, s.caller, &directory.SetPublishedRequest{RoomID: plan.id, Published: true})
		if err != nil {
			s.giveBack(ctx, &newRoom{id: plan.id, alias: plan.alias})
			return err
		}
	}
	_, err := s.writer.Append(ctx, &api.InputRecord{
		TS: plan.ts, RoomID: plan.id, RoomVersion: string(plan.version), Events: plan.events,
	}, plan.lines...)
	if err == nil {
		return nil
	}
	refused := matrixerror.From(err)
	if refused == nil || refused.Status >= 500 {
		return err
	}
	s.giveBack(ctx, plan)
	if refused.Status == 403 && refused.Code == "M_FORBIDDEN" {
		return matrixerror.New(400, "M_INVALID_ROOM_STATE", "The room would break its own rules: %s", refused.Message)
	}
	return err
}

// giveBack removes what was reserved for a room that was refused.
func (s *Server) giveBack(ctx context.Context, plan *newRoom) {
	if plan.alias != "" {
		s.unreserved(ctx, plan.alias, plan.id)
	}
	if !plan.public {
		return
	}
	_, err := directory.SetPublished.Call(ctx, s.caller, &directory.SetPublishedRequest{RoomID: plan.id})
	if err != nil {
		s.logger.WithError(err).WithField("room_id", plan.id).Error("a room that was refused is still marked as published")
	}
}
