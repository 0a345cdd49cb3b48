package mediaapi

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/matrix-org/dendrite/common/telemetry"
)

// metrics count what the role does.
type metrics struct {
	bytes      *prometheus.CounterVec // in, out
	thumbnails *prometheus.CounterVec // made, ahead, too large, no image
	removed    prometheus.Counter
}

func newMetrics(to prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "dendrite_media_bytes_total",
			Help: "Bytes of media that were uploaded (in), or begun to be sent (out)."}, []string{"direction"}),
		thumbnails: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "dendrite_media_thumbnails_total",
			Help: "Thumbnails that were to be made, by outcome: made, too_large, no_image, failed."}, []string{"outcome"}),
		removed: prometheus.NewCounter(prometheus.CounterOpts{Name: "dendrite_media_files_removed_total",
			Help: "Files that nothing needed any more and that were removed."}),
	}
	return m, telemetry.RegisterAll(to, m.bytes, m.thumbnails, m.removed)
}
