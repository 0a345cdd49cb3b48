package clientapi

import (
	"context"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	roomserver "github.com/matrix-org/dendrite/roomserver/api"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

const typeMember = "m.room.member"

// memberContent is the content of m.room.member as this server makes it.
// spec: client-server-api §mroommember
type memberContent struct {
	Membership       string         `json:"membership"`
	DisplayName      string         `json:"displayname,omitzero"`
	AvatarURL        string         `json:"avatar_url,omitzero"`
	Reason           string         `json:"reason,omitzero"`
	IsDirect         bool           `json:"is_direct,omitzero"`
	AuthorisedVia    string         `json:"join_authorised_via_users_server,omitzero"`
	ThirdPartyInvite jsontext.Value `json:"third_party_invite,omitzero"`
}

// maxReason bounds the reason of a membership change, in bytes.
const maxReason = 4096

// memberEvent makes the proto of a member event.
func memberEvent(sender, target string, content memberContent) (roomserver.InputEvent, error) {
	if len(content.Reason) > maxReason {
		return roomserver.InputEvent{}, matrixerror.TooLarge("The reason is longer than %d bytes", maxReason)
	}
	raw, err := json.Marshal(&content, json.Deterministic(true))
	if err != nil {
		return roomserver.InputEvent{}, matrixerror.BadJSON("The membership cannot be written: %v", err)
	}
	return roomserver.InputEvent{Proto: &roomserver.Proto{
		Type: typeMember, StateKey: &target, Sender: sender, Content: raw,
	}}, nil
}

// profiled adds the target's profile to the content. A local user who does not
// exist is 404.
func (s *Server) profiled(ctx context.Context, userID string, content memberContent) (memberContent, error) {
	profile, err := userapi.QueryProfile.Call(ctx, s.caller, &userapi.ProfileRequest{UserID: userID})
	if err != nil {
		return content, err
	}
	content.DisplayName = profile.String("displayname")
	content.AvatarURL = profile.String("avatar_url")
	return content, nil
}

// ownProfile adds the profile of who asks: that which came with the token, or else
// it is asked for.
func (s *Server) ownProfile(ctx context.Context, d *httpapi.Device, content memberContent) (memberContent, error) {
	if d.Profile == nil {
		return s.profiled(ctx, d.UserID, content)
	}
	content.DisplayName, content.AvatarURL = d.Profile.DisplayName, d.Profile.AvatarURL
	return content, nil
}
