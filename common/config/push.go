package config

import (
	"net/netip"
	"time"
)

// Push is the section push: notifications through push gateways.
type Push struct {
	// AnyURL allows gateways at other URLs than https://…/_matrix/push/v1/notify.
	AnyURL bool `yaml:"any_url"`
	// AllowRanges are exceptions from federation.deny_ranges, whose addresses are
	// never connected to: of a gateway in one's own network.
	AllowRanges []string `yaml:"allow_ranges"`
	// Timeout bounds a request to a gateway; zero means 10s.
	Timeout time.Duration `yaml:"timeout"`
	// MaxAtOnce bounds the requests of an instance at one time; zero means 64.
	MaxAtOnce int `yaml:"max_at_once"`
	// MaxPerGateway bounds those to one gateway; zero means 16.
	MaxPerGateway int `yaml:"max_per_gateway"`
	// MaxWaiting bounds the notifications that wait for a pusher whose gateway is
	// away, or slower than they come, the newest being kept; zero means 100.
	MaxWaiting int `yaml:"max_waiting"`
	// Lifetime is how long they wait; zero means 24h.
	Lifetime time.Duration `yaml:"lifetime"`
}

// Allowed returns AllowRanges, which Validate has checked, as ranges.
func (c *Push) Allowed() []netip.Prefix { return parsed(c.AllowRanges) }

// Defaults fills in what was left out.
func (c *Push) Defaults() {
	for _, o := range []struct {
		value     *int
		otherwise int
	}{{&c.MaxAtOnce, 64}, {&c.MaxPerGateway, 16}, {&c.MaxWaiting, 100}} {
		if *o.value == 0 {
			*o.value = o.otherwise
		}
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if c.Lifetime == 0 {
		c.Lifetime = 24 * time.Hour
	}
}

func (c *Push) validate(p *problems) { p.ranges("push.allow_ranges", c.AllowRanges) }
