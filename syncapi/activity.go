package syncapi

import (
	"github.com/matrix-org/dendrite/common/httpapi"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// active reports that a device is heard of, on user.activity: whether it
// syncs, and the presence that it asks for.
func (s *Server) active(r *httpapi.Request, syncing bool, presence string) {
	d := r.Device
	err := s.seen.Report(r.Context(), userapi.Activity{UserID: d.UserID, DeviceID: d.DeviceID, TS: s.now().UnixMilli(),
		IP: r.RemoteIP, Syncing: syncing, Presence: presence})
	if err != nil && r.Context().Err() == nil {
		s.log.WithError(err).Warn("Cannot report activity")
	}
}
