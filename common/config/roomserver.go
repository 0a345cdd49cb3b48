package config

import "time"

// RoomServer is the section room_server.
type RoomServer struct {
	// CacheBytes bounds the rooms and the events held in memory, roughly; default 128 MiB.
	CacheBytes int64 `yaml:"cache_bytes"`
	// TransactionLifetime is how long (by the records' own times) a client's
	// retry of an accepted request gives the same answer; default 168h.
	TransactionLifetime time.Duration `yaml:"transaction_lifetime"`
}

// Defaults fills in what was not given.
func (c *RoomServer) Defaults() {
	if c.CacheBytes == 0 {
		c.CacheBytes = 128 << 20
	}
	if c.TransactionLifetime == 0 {
		c.TransactionLifetime = 7 * 24 * time.Hour
	}
}
