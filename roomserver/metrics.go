package roomserver

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	events      *prometheus.CounterVec // by status
	batch       prometheus.Histogram
	parked      prometheus.Counter
	unwanted    prometheus.Counter
	resolutions prometheus.Counter
	conflicts   prometheus.Counter
	// Of rooms that are set aside.
	asideRooms, asideRecords prometheus.Gauge
	asideSeconds             prometheus.Histogram
}

func (m *metrics) register(r prometheus.Registerer) error {
	m.events = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "dendrite_roomserver_records_total", Help: "Records of room.input by verdict."}, []string{"status"})
	m.batch = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "dendrite_roomserver_batch_records", Help: "Records handled together.", Buckets: prometheus.ExponentialBuckets(1, 2, 12)})
	m.parked = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "dendrite_roomserver_parked_total", Help: "Rooms parked because of an internal error."})
	m.unwanted = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "dendrite_roomserver_undecodable_total", Help: "Records of room.input that could not be read."})
	m.resolutions = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "dendrite_roomserver_resolutions_total", Help: "State resolutions of more than one state."})
	m.conflicts = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "dendrite_roomserver_conflicts_total", Help: "Batches refused because room.output holds something else already."})
	m.asideRooms = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "dendrite_roomserver_aside_rooms", Help: "Rooms set aside, of this instance's partitions."})
	m.asideRecords = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "dendrite_roomserver_aside_records", Help: "Records that wait of rooms set aside."})
	m.asideSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "dendrite_roomserver_aside_seconds", Help: "Time to handle what a room was set aside for.", Buckets: prometheus.ExponentialBuckets(0.05, 2, 12)})
	for _, c := range []prometheus.Collector{m.events, m.batch, m.parked, m.unwanted, m.resolutions, m.conflicts, m.asideRooms, m.asideRecords, m.asideSeconds} {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}
