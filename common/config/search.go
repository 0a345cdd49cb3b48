package config

import "time"

// Search is the section search: the search for messages.
type Search struct {
	// Enabled has messages indexed and found.
	Enabled bool `yaml:"enabled"`
	// WaitTimeout is how long a search waits for the index to have what happened
	// before; zero means 5s.
	WaitTimeout time.Duration `yaml:"wait_timeout"`
	// MaxAtOnce bounds the searches of an instance at one time; zero means 8.
	MaxAtOnce int `yaml:"max_at_once"`
}

// Defaults fills in what was left out.
func (c *Search) Defaults() {
	if c.WaitTimeout == 0 {
		c.WaitTimeout = 5 * time.Second
	}
	if c.MaxAtOnce == 0 {
		c.MaxAtOnce = 8
	}
}
