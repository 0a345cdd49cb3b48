package config

import "time"

// Directory is the section directory.
type Directory struct {
	// WaitTimeout is how long a question that must see an acknowledged change
	// waits for the view to have it; zero means 5s.
	WaitTimeout time.Duration `yaml:"wait_timeout"`
}

// Defaults fills in what was left out.
func (c *Directory) Defaults() {
	if c.WaitTimeout == 0 {
		c.WaitTimeout = 5 * time.Second
	}
}
