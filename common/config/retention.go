package config

import (
	"strings"
	"time"
)

// Retention is the section retention: how long messages are kept.
type Retention struct {
	// Enabled has what rooms say of that, in m.room.retention, and the rest of this
	// section take effect.
	Enabled bool `yaml:"enabled"`
	// Default is for rooms that say nothing.
	Default Lifetimes `yaml:"default"`
	// Limits are those of what rooms may say.
	Limits RetentionLimits `yaml:"limits"`
	// Rooms are rooms for which the server decides, whatever they say.
	Rooms []RoomLifetimes `yaml:"rooms"`
	// Interval is the time between looks for what has expired; zero means 5m.
	Interval time.Duration `yaml:"interval"`
}

// Lifetimes are how long messages are kept: no longer than MaxLifetime, at least
// MinLifetime. Zero sets no bound.
type Lifetimes struct {
	MinLifetime time.Duration `yaml:"min_lifetime"`
	MaxLifetime time.Duration `yaml:"max_lifetime"`
}

// RoomLifetimes are those of a room.
type RoomLifetimes struct {
	RoomID      string        `yaml:"room_id"`
	MinLifetime time.Duration `yaml:"min_lifetime"`
	MaxLifetime time.Duration `yaml:"max_lifetime"`
}

// RetentionLimits bound what rooms may ask for.
type RetentionLimits struct {
	MinLifetime LifetimeLimits `yaml:"min_lifetime"`
	MaxLifetime LifetimeLimits `yaml:"max_lifetime"`
}

// LifetimeLimits are the least and the most of a lifetime; zero sets no bound.
type LifetimeLimits struct {
	Min time.Duration `yaml:"min"`
	Max time.Duration `yaml:"max"`
}

// Defaults fills in what was left out.
func (c *Retention) Defaults() {
	if c.Interval == 0 {
		c.Interval = 5 * time.Minute
	}
}

// minInterval bounds retention.interval: each look asks about all rooms.
const minInterval = 100 * time.Millisecond

func (c *Retention) validate(p *problems) {
	if c.Interval < minInterval {
		p.add("retention.interval", "is less than %s", minInterval)
	}
	p.lifetimes("retention.default", c.Default.MinLifetime, c.Default.MaxLifetime)
	for name, l := range map[string]LifetimeLimits{"min_lifetime": c.Limits.MinLifetime, "max_lifetime": c.Limits.MaxLifetime} {
		if l.Max > 0 && l.Min > l.Max {
			p.add("retention.limits."+name, "min is more than max")
		}
	}
	// spec: MSC1763 §server-defined-retention: policies comply with the limits.
	p.within("retention.default.min_lifetime", c.Default.MinLifetime, c.Limits.MinLifetime)
	p.within("retention.default.max_lifetime", c.Default.MaxLifetime, c.Limits.MaxLifetime)
	seen := map[string]bool{}
	for _, r := range c.Rooms {
		if !strings.HasPrefix(r.RoomID, "!") || seen[r.RoomID] {
			p.add("retention.rooms", "%q is not a room ID, or is given twice", r.RoomID)
		}
		seen[r.RoomID] = true
		if r.MinLifetime < 0 || r.MaxLifetime < 0 {
			p.add("retention.rooms", "%s: is a time before now", r.RoomID)
		}
		p.lifetimes("retention.rooms", r.MinLifetime, r.MaxLifetime)
		p.within("retention.rooms", r.MinLifetime, c.Limits.MinLifetime)
		p.within("retention.rooms", r.MaxLifetime, c.Limits.MaxLifetime)
	}
}

func (p *problems) lifetimes(path string, least, most time.Duration) {
	if most > 0 && least > most {
		p.add(path, "min_lifetime is more than max_lifetime")
	}
}

func (p *problems) within(path string, lifetime time.Duration, l LifetimeLimits) {
	if lifetime > 0 && (lifetime < l.Min || l.Max > 0 && lifetime > l.Max) {
		p.add(path, "%s is not within retention.limits", lifetime)
	}
}
