package clientapi

import (
	"crypto/hmac"
	"crypto/sha1" // the protocol's choice
	"encoding/base64"
	"strconv"
	"time"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/httpapi"
)

// callEndpoints list what clients need to call each other.
func (s *Server) callEndpoints() []httpapi.Endpoint {
	return []httpapi.Endpoint{
		{Method: "GET", Path: v3 + "/voip/turnServer", Access: httpapi.User, Limit: httpapi.LimitRequest, Handler: s.getTURNServer},
		{Method: "GET", Path: unstable + "/org.matrix.msc4143/rtc/transports", Access: httpapi.Guest, Limit: httpapi.LimitRequest, Handler: s.getRTCTransports},
	}
}

// unstable is the prefix of what proposals have not settled yet.
const unstable = "/_matrix/client/unstable"

type turnServer struct {
	Username string   `json:"username"`
	Password string   `json:"password"`
	URIs     []string `json:"uris"`
	TTL      int64    `json:"ttl"` // seconds
}

// getTURNServer serves GET /voip/turnServer.
// spec: client-server-api §get_matrixclientv3voipturnserver
func (s *Server) getTURNServer(r *httpapi.Request) (any, error) {
	if len(s.config.Calls.TURNURIs) == 0 {
		return nil, errNotServed()
	}
	return turnCredentials(s.config.Calls, r.Device.UserID, time.Now()), nil
}

// turnCredentials makes a name that says until when it is good, and its MAC for
// a password: the TURN server makes the same, so nothing is stored.
func turnCredentials(c config.Calls, userID string, now time.Time) *turnServer {
	out := &turnServer{Username: c.TURNUsername, Password: c.TURNPassword, URIs: c.TURNURIs, TTL: int64(c.TURNLifetime / time.Second)}
	if c.TURNSecret == "" {
		return out
	}
	out.Username = strconv.FormatInt(now.Add(c.TURNLifetime).Unix(), 10) + ":" + userID
	mac := hmac.New(sha1.New, []byte(c.TURNSecret))
	mac.Write([]byte(out.Username))
	out.Password = base64.StdEncoding.EncodeToString(mac.Sum(nil))
	return out
}

// rtcTransport is a way for the media of a call of many.
type rtcTransport struct {
	Type string `json:"type"`
	URL  string `json:"livekit_service_url"`
}

func (s *Server) rtcTransports() []rtcTransport {
	out := []rtcTransport{}
	for _, url := range s.config.Calls.LiveKitServiceURLs {
		out = append(out, rtcTransport{Type: "livekit", URL: url})
	}
	return out
}

// getRTCTransports serves GET /rtc/transports of MSC4143.
func (s *Server) getRTCTransports(*httpapi.Request) (any, error) {
	return map[string][]rtcTransport{"rtc_transports": s.rtcTransports()}, nil
}
