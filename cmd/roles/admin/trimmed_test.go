package admin

import (
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/eventlog/kafka"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// trimUsers lets a stopped installation's log drop all of user.output but the
// last record of each partition, as if its time were over.
func (h *home) trimUsers() {
	h.Helper()
	var log eventlog.Log
	var err error
	if k := h.config.EventLog.Kafka; len(k.Brokers) > 0 {
		log, err = kafka.Open(h.Context(), kafka.Options{Brokers: k.Brokers, TopicPrefix: k.TopicPrefix, Logger: h.run(io.Discard).logger.WithField("test", h.Name())})
	} else {
		log, err = eventlog.OpenEmbedded(h.Context(), filepath.Join(h.config.Global.DataDir, "log.db"), eventlog.EmbeddedOptions{TrimEvery: 10 * time.Millisecond})
	}
	if err != nil {
		h.Fatal(err)
	}
	defer log.Close()
	spec := userapi.UserOutputTopic(0)
	spec.Retention = 0
	if _, err := log.EnsureTopic(h.Context(), spec); err != nil {
		h.Fatal(err)
	}
	for p := range spec.Partitions {
		start, end, err := log.Bounds(h.Context(), spec.Name, p)
		if err == nil {
			err = log.Trim(h.Context(), spec.Name, p, end-1)
		}
		for err == nil && start < end-1 {
			start, _, err = log.Bounds(h.Context(), spec.Name, p)
		}
		if err != nil {
			h.Fatal(err)
		}
	}
}

// TestTrimmedUsers: what user.output has dropped is told again to a view that is
// new: nobody misses anything.
func TestTrimmedUsers(t *testing.T) {
	for name, where := range map[string]func(*home) *home{
		"embedded": func(h *home) *home { return h },
		"cluster":  (*home).inCluster,
	} {
		t.Run(name, func(t *testing.T) {
			h := where(newHome(t))
			l := h.live()
			h.leaveUnread(l.room)
			h.trimUsers()
			err := h.open(func(i *Installation) error { return Rebuild(t.Context(), i, syncConsumer, io.Discard) })
			if err != nil {
				t.Fatal(err)
			}
			h.mustStart()
			l.check(h)
			h.stop()
		})
	}
}
