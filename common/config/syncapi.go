package config

import "time"

// SyncAPI is the section sync_api.
type SyncAPI struct {
	// CacheBytes bounds what is kept of rooms in memory, recent events and state; 0 means 64 MiB.
	CacheBytes int64 `yaml:"cache_bytes"`
	// CachedUsers bounds the users kept in memory beyond those who wait for
	// something; 0 means 10,000.
	CachedUsers int `yaml:"cached_users"`
	// MaxTimeout bounds how long a /sync waits for news; 0 means 2 minutes.
	MaxTimeout time.Duration `yaml:"max_timeout"`
	// MaxLag is how long a request waits for the view to see what it must see,
	// before it is answered 503; 0 means 10 seconds.
	MaxLag time.Duration `yaml:"max_lag"`
	// MaxBuilding bounds the answers built at the same time; 0 means 64.
	MaxBuilding int `yaml:"max_building"`
}

// Defaults returns the section with defaults for what is not set.
func (c SyncAPI) Defaults() SyncAPI {
	if c.CacheBytes <= 0 {
		c.CacheBytes = 64 << 20
	}
	if c.CachedUsers <= 0 {
		c.CachedUsers = 10_000
	}
	if c.MaxTimeout <= 0 {
		c.MaxTimeout = 2 * time.Minute
	}
	if c.MaxLag <= 0 {
		c.MaxLag = 10 * time.Second
	}
	if c.MaxBuilding <= 0 {
		c.MaxBuilding = 64
	}
	return c
}
