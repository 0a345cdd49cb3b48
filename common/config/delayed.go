package config

import "time"

// DelayedEvents is the part delayed_events of client_api: events that clients
// have sent later (MSC4140), as calls do to end for who has gone.
type DelayedEvents struct {
	// Disabled refuses them.
	Disabled bool `yaml:"disabled"`
	// MaxDelay is how much later an event may be sent; zero means 24h.
	MaxDelay time.Duration `yaml:"max_delay"`
	// MaxScheduled is how many events a user may have scheduled; zero means 100.
	MaxScheduled int `yaml:"max_scheduled"`
}

// Defaults fills in what was left out.
func (c *DelayedEvents) Defaults() {
	if c.MaxDelay == 0 {
		c.MaxDelay = 24 * time.Hour
	}
	if c.MaxScheduled == 0 {
		c.MaxScheduled = 100
	}
}

func (c *DelayedEvents) validate(p *problems) {
	if c.MaxDelay < time.Second || c.MaxScheduled < 1 {
		p.add("client_api.delayed_events", "max_delay is less than a second, or max_scheduled less than one; disabled turns them off")
	}
}
