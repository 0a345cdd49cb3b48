package retention

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/config"
)

// Types are the types of the state event by which a room says how long its events
// are kept; the first that is there counts.
// spec: MSC1763 §per-room-retention, §unstable-prefixes
func Types() []string { return []string{"m.room.retention", "org.matrix.msc1763.retention"} }

// Policy is how long events are kept, in milliseconds: no longer than Max, at least
// Min. nil sets no bound.
type Policy struct {
	Min *int64 `json:"min_lifetime,omitzero"`
	Max *int64 `json:"max_lifetime,omitzero"`
}

// Limits are the least and the most that rooms may ask for.
type Limits struct {
	Min *int64 `json:"min,omitzero"`
	Max *int64 `json:"max,omitzero"`
}

// mostLifetime is the largest integer of canonical JSON.
const mostLifetime = 1<<53 - 1

// Parse reads the content of a room's event.
// spec: MSC1763 §per-room-retention
func Parse(content jsontext.Value) (Policy, error) {
	var is struct {
		Min jsontext.Value `json:"min_lifetime"`
		Max jsontext.Value `json:"max_lifetime"`
	}
	if err := json.Unmarshal(content, &is); err != nil {
		return Policy{}, errors.New("the content is not an object")
	}
	var p Policy
	for _, of := range []struct {
		name string
		from jsontext.Value
		to   **int64
	}{{"min_lifetime", is.Min, &p.Min}, {"max_lifetime", is.Max, &p.Max}} {
		if len(of.from) == 0 || of.from.Kind() == 'n' {
			continue
		}
		var n int64
		if err := json.Unmarshal(of.from, &n); err != nil || n < 0 || n > mostLifetime {
			return Policy{}, fmt.Errorf("%s is not a number of milliseconds", of.name)
		}
		*of.to = &n
	}
	if p.Min != nil && p.Max != nil && *p.Min > *p.Max {
		return Policy{}, errors.New("min_lifetime is more than max_lifetime")
	}
	return p, nil
}

// ExpiredBefore is the time before which events have expired; 0 where none do.
func (p Policy) ExpiredBefore(now time.Time) int64 {
	if p.Max == nil {
		return 0
	}
	return max(0, now.UnixMilli()-*p.Max)
}

// Rules are what the server allows. It does not change.
type Rules struct {
	Default *Policy
	Rooms   map[string]Policy
	// MinLimits and MaxLimits are those of the two lifetimes; nil for none.
	MinLimits, MaxLimits *Limits
}

// New makes the rules of a configuration; nil where events are kept whatever rooms
// say.
func New(c config.Retention) *Rules {
	if !c.Enabled {
		return nil
	}
	r := &Rules{Rooms: map[string]Policy{}, MinLimits: limits(c.Limits.MinLifetime), MaxLimits: limits(c.Limits.MaxLifetime)}
	if c.Default != (config.Lifetimes{}) {
		r.Default = &Policy{bound(c.Default.MinLifetime), bound(c.Default.MaxLifetime)}
	}
	for _, room := range c.Rooms {
		r.Rooms[room.RoomID] = Policy{bound(room.MinLifetime), bound(room.MaxLifetime)}
	}
	return r
}

func bound(d time.Duration) *int64 {
	if d == 0 {
		return nil
	}
	ms := d.Milliseconds()
	return &ms
}

func limits(l config.LifetimeLimits) *Limits {
	if l == (config.LifetimeLimits{}) {
		return nil
	}
	return &Limits{bound(l.Min), bound(l.Max)}
}

// Own returns the policy that the server itself has for a room, so that nothing
// else needs to be known of it.
func (r *Rules) Own(roomID string) (Policy, bool) {
	p, ok := r.Rooms[roomID]
	return p, ok
}

// Effective is a room's policy; content is that of its event, nil if it has none. An
// event that says nothing sensible counts as none.
// spec: MSC1763 §defining-the-effective-retention-policy-of-a-room
func (r *Rules) Effective(roomID string, content jsontext.Value) Policy {
	if own, ok := r.Own(roomID); ok {
		return own
	}
	p, err := Policy{}, error(nil)
	if content != nil {
		p, err = Parse(content)
	}
	if content == nil || err != nil {
		if r.Default == nil {
			return Policy{}
		}
		return *r.Default
	}
	p.Min, p.Max = r.MinLimits.apply(p.Min), r.MaxLimits.apply(p.Max)
	if p.Min != nil && p.Max != nil && *p.Max < *p.Min {
		p.Max = p.Min // by the limits: rather too long
	}
	return p
}

// apply brings a lifetime within limits. One that is not said is the least.
func (l *Limits) apply(ms *int64) *int64 {
	switch {
	case l == nil:
		return ms
	case ms == nil:
		return l.Min
	case l.Min != nil && *ms < *l.Min:
		return l.Min
	case l.Max != nil && *ms > *l.Max:
		return l.Max
	}
	return ms
}
