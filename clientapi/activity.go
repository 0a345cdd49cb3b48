package clientapi

import (
	"net/http"
	"strings"
	"time"

	"github.com/matrix-org/dendrite/common/httpapi"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// reporting makes the endpoints report that their user is active, once they
// have done what a user does in a room: send, join, type, read.
// spec: client-server-api §last-active-ago
func (s *Server) reporting(list []httpapi.Endpoint) []httpapi.Endpoint {
	for i, e := range list {
		inRoom := false
		for _, prefix := range []string{"/rooms/", "/join/", "/knock/", "/createRoom"} {
			inRoom = inRoom || strings.HasPrefix(e.Path, v3+prefix)
		}
		if !inRoom || e.Method == http.MethodGet || strings.Contains(e.Path, "/report") {
			continue
		}
		list[i].Handler = func(r *httpapi.Request) (any, error) {
			res, err := e.Handler(r)
			if err == nil && r.Device != nil {
				s.active(r)
			}
			return res, err
		}
	}
	return list
}

// active does not wait until that is written: nobody who is answered reads it.
func (s *Server) active(r *httpapi.Request) {
	err := s.activity.Note(userapi.Activity{UserID: r.Device.UserID, DeviceID: r.Device.DeviceID,
		TS: time.Now().UnixMilli(), IP: r.RemoteIP, Active: true})
	if err != nil {
		s.unreported(err)
	}
}

func (s *Server) unreported(err error) {
	s.logger.WithError(err).Warn("Activity cannot be reported now")
}
