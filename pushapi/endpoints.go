package pushapi

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/property"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// Bounds of what clients say of pushers, in bytes.
// spec: client-server-api §post_matrixclientv3pushersset
const (
	maxPushkey = 512
	maxAppID   = 64
	maxText    = 512
	maxData    = 8 << 10
	// notifyPath is that of all gateways.
	notifyPath = "/_matrix/push/v1/notify"
	// reachWait bounds how long a change waits to be known here.
	reachWait = 5 * time.Second
)

// Endpoints are the public endpoints that the push-server serves.
func (s *Server) Endpoints() []httpapi.Endpoint {
	const v3 = "/_matrix/client/v3"
	return []httpapi.Endpoint{
		{Method: http.MethodGet, Path: v3 + "/pushers", Access: httpapi.User, Limit: httpapi.LimitRequest, Handler: s.getPushers},
		{Method: http.MethodPost, Path: v3 + "/pushers/set", Access: httpapi.User, Limit: httpapi.LimitRequest, Handler: s.setPusher},
	}
}

// shownPusher is a pusher as its user sees it.
type shownPusher struct {
	Pushkey    string         `json:"pushkey"`
	Kind       string         `json:"kind"`
	AppID      string         `json:"app_id"`
	AppName    string         `json:"app_display_name"`
	DeviceName string         `json:"device_display_name"`
	ProfileTag string         `json:"profile_tag,omitzero"`
	Lang       string         `json:"lang"`
	Data       jsontext.Value `json:"data"`
}

// getPushers serves GET /pushers.
func (s *Server) getPushers(r *httpapi.Request) (any, error) {
	res, err := userapi.QueryPushers.Call(r.Context(), s.caller, &userapi.PushersRequest{UserID: r.Device.UserID})
	if err != nil {
		return nil, err
	}
	list := make([]shownPusher, len(res.Pushers))
	for i, p := range res.Pushers {
		list[i] = shownPusher{p.Pushkey, p.Kind, p.AppID, p.AppName, p.DeviceName, p.ProfileTag, p.Lang, p.Data}
	}
	return map[string]any{"pushers": list}, nil
}

// pusherBody is what POST /pushers/set takes.
type pusherBody struct {
	Kind       jsontext.Value `json:"kind"`
	AppID      *string        `json:"app_id"`
	Pushkey    *string        `json:"pushkey"`
	AppName    *string        `json:"app_display_name"`
	DeviceName *string        `json:"device_display_name"`
	ProfileTag string         `json:"profile_tag"`
	Lang       *string        `json:"lang"`
	Data       jsontext.Value `json:"data"`
	Append     bool           `json:"append"`
}

// setPusher serves POST /pushers/set. It answers once it is known here what the
// user has now, so that what is sent after that is told of.
func (s *Server) setPusher(r *httpapi.Request) (any, error) {
	var body pusherBody
	if err := r.Decode(&body); err != nil {
		return nil, err
	}
	if err := body.check(s.config.AnyURL); err != nil {
		return nil, err
	}
	var res *userapi.WriteResponse
	var err error
	if body.Kind.Kind() == 'n' {
		res, err = userapi.DropPusher.Call(r.Context(), s.caller, &userapi.DropPusherRequest{UserID: r.Device.UserID, AppID: *body.AppID, Pushkey: *body.Pushkey})
	} else {
		res, err = userapi.PutPusher.Call(r.Context(), s.caller, &userapi.PutPusherRequest{UserID: r.Device.UserID, Append: body.Append, Pusher: userapi.Pusher{
			DeviceID: r.Device.DeviceID, Kind: "http", AppID: *body.AppID, Pushkey: *body.Pushkey, AppName: *body.AppName, DeviceName: *body.DeviceName,
			ProfileTag: body.ProfileTag, Lang: *body.Lang, Data: body.Data}})
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), reachWait)
	defer cancel()
	s.people.reach(ctx, res.Partition, res.Seq) // it is stored, and comes to be known
	return nil, r.Context().Err()
}

// check finds what is wrong with a request.
func (b *pusherBody) check(anyURL bool) error {
	switch {
	case len(b.Kind) == 0 || b.AppID == nil || b.Pushkey == nil:
		return matrixerror.MissingParam("kind, app_id and pushkey are needed")
	case *b.AppID == "" || len(*b.AppID) > maxAppID || *b.Pushkey == "" || len(*b.Pushkey) > maxPushkey:
		return matrixerror.InvalidParam("app_id has 1 to %d bytes, pushkey 1 to %d", maxAppID, maxPushkey)
	case b.Kind.Kind() == 'n':
		return nil
	case b.AppName == nil || b.DeviceName == nil || b.Lang == nil || len(b.Data) == 0:
		return matrixerror.MissingParam("app_display_name, device_display_name, lang and data are needed")
	case b.Data.Kind() != '{':
		return matrixerror.InvalidParam("data is an object")
	case max(len(*b.AppName), len(*b.DeviceName), len(b.ProfileTag), len(*b.Lang)) > maxText || len(b.Data) > maxData:
		return matrixerror.TooLarge("A pusher's texts have at most %d bytes, its data %d", maxText, maxData)
	}
	switch kind, _ := property.Text(b.Kind); kind {
	case "http":
		return b.checkURL(anyURL)
	case "email":
		return matrixerror.New(http.StatusBadRequest, "M_THREEPID_NOT_FOUND", "No mail is sent here, so no address can be notified")
	}
	return matrixerror.InvalidParam("The only kind of pushers is http")
}

// checkURL checks where the gateway is.
func (b *pusherBody) checkURL(anyURL bool) error {
	value, there := property.Member(b.Data, "url")
	text, _ := property.Text(value)
	if !there {
		return matrixerror.MissingParam("data.url is needed")
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		return matrixerror.InvalidParam("data.url is not a URL")
	}
	if !anyURL && (u.Scheme != "https" || u.Path != notifyPath || u.RawPath != "") {
		return matrixerror.InvalidParam("data.url is not https://…%s", notifyPath)
	}
	return nil
}
