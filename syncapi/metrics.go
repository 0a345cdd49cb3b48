package syncapi

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// register publishes what the view holds.
func (s *Server) register(r prometheus.Registerer) error {
	gauge := func(name, help string, read func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "dendrite", Subsystem: "syncapi", Name: name, Help: help}, read)
	}
	v := s.view
	for _, c := range []prometheus.Collector{
		gauge("cached_bytes", "Bytes of recent events and receipts in memory.", func() float64 {
			v.mu.Lock()
			defer v.mu.Unlock()
			return float64(v.bytes)
		}),
		gauge("cached_rooms", "Rooms in memory.", func() float64 {
			v.mu.Lock()
			defer v.mu.Unlock()
			return float64(len(v.rooms))
		}),
		gauge("cached_users", "Users in memory.", func() float64 {
			v.mu.Lock()
			defer v.mu.Unlock()
			return float64(len(v.users))
		}),
		gauge("waiting_requests", "Long polls that wait for something to tell.", func() float64 { return float64(s.waiting.Load()) }),
		gauge("connection_bytes", "Bytes of what clients of sliding sync were told, in memory.", func() float64 {
			s.conns.mu.Lock()
			defer s.conns.mu.Unlock()
			return float64(s.conns.bytes)
		}),
		gauge("lag_records", "Records of all topics that are not applied yet.", s.feed.lag),
		gauge("applied_records", "Positions of room.output applied, over all partitions.", func() float64 {
			var n int64
			for _, seq := range v.applied.Load().rooms {
				n += seq
			}
			return float64(n)
		}),
	} {
		if err := r.Register(c); err != nil {
			return fmt.Errorf("syncapi: metrics: %w", err)
		}
	}
	return nil
}
