package syncapi

import (
	"context"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/httpapi"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

const (
	// activityEvery is how often a device is reported at most.
	activityEvery = 30 * time.Second
	// maxActivity bounds the devices remembered.
	maxActivity = 50_000
)

// activity remembers which devices were reported lately.
type activity struct {
	mu   sync.Mutex
	last map[activityKey]time.Time
}

type activityKey struct {
	user, device, presence string
	syncing                bool
}

func newActivity() *activity { return &activity{last: map[activityKey]time.Time{}} }

// due tells whether a device is to be reported now.
func (a *activity) due(key activityKey, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.last[key]) < activityEvery {
		return false
	}
	if len(a.last) >= maxActivity {
		for k, at := range a.last {
			if now.Sub(at) >= activityEvery {
				delete(a.last, k)
			}
		}
		if len(a.last) >= maxActivity {
			clear(a.last)
		}
	}
	a.last[key] = now
	return true
}

// active reports that a device is heard of, on user.activity: whether it
// syncs, and the presence that it asks for. A report that fails is missed by
// nobody for long: the next request makes another.
func (s *Server) active(r *httpapi.Request, syncing bool, presence string) {
	now := s.now()
	d := r.Device
	if !s.seen.due(activityKey{d.UserID, d.DeviceID, presence, syncing}, now) {
		return
	}
	value, err := json.Marshal(userapi.Activity{V: 1, UserID: d.UserID, DeviceID: d.DeviceID, TS: now.UnixMilli(), IP: r.RemoteIP, Syncing: syncing, Presence: presence})
	if err == nil {
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		_, err = s.output.Append(ctx, eventlog.Message{Topic: userapi.TopicUserActivity,
			Partition: eventlog.PartitionFor(d.UserID, userapi.ActivityPartitions), Key: []byte(d.UserID), Value: value})
	}
	if err != nil && r.Context().Err() == nil {
		s.log.WithError(err).Warn("Cannot report activity")
	}
}
