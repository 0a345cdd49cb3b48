package retention

import (
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/config"
)

// TestEffective: the cases of the proposal, in the order of its text.
func TestEffective(t *testing.T) {
	const day = 24 * time.Hour
	limited := config.RetentionLimits{MinLifetime: config.LifetimeLimits{Max: 10 * day}, MaxLifetime: config.LifetimeLimits{Min: day, Max: 100 * day}}
	byDefault := config.Lifetimes{MaxLifetime: 30 * day}
	for name, c := range map[string]struct {
		config  config.Retention
		content string // "" for no event
		want    string
	}{
		"nothing":                     {config.Retention{}, "", `{}`},
		"the default":                 {config.Retention{Default: byDefault}, "", `{"max_lifetime":2592000000}`},
		"the room":                    {config.Retention{Default: byDefault}, `{"max_lifetime":5}`, `{"max_lifetime":5}`},
		"the room, that sets nothing": {config.Retention{Default: byDefault}, `{"max_lifetime":null}`, `{}`},
		"both":                        {config.Retention{}, `{"min_lifetime":1,"max_lifetime":5}`, `{"min_lifetime":1,"max_lifetime":5}`},
		"zero":                        {config.Retention{}, `{"max_lifetime":0}`, `{"max_lifetime":0}`},
		"too short":                   {config.Retention{Limits: limited}, `{"min_lifetime":21600000,"max_lifetime":43200000}`, `{"min_lifetime":21600000,"max_lifetime":86400000}`},
		"too long":                    {config.Retention{Limits: limited}, `{"min_lifetime":1728000000,"max_lifetime":9007199254740991}`, `{"min_lifetime":864000000,"max_lifetime":8640000000}`},
		"within":                      {config.Retention{Limits: limited}, `{"max_lifetime":172800000}`, `{"max_lifetime":172800000}`},
		"not said":                    {config.Retention{Limits: limited}, `{}`, `{"max_lifetime":86400000}`},
		"the server, for this room": {config.Retention{Default: byDefault, Rooms: []config.RoomLifetimes{{RoomID: "!r:test", MinLifetime: day}}},
			`{"max_lifetime":5}`, `{"min_lifetime":86400000}`},
		"limits that cross": {config.Retention{Limits: config.RetentionLimits{MinLifetime: config.LifetimeLimits{Min: 10 * day}, MaxLifetime: config.LifetimeLimits{Max: day}}},
			`{"min_lifetime":1,"max_lifetime":172800000}`, `{"min_lifetime":864000000,"max_lifetime":864000000}`},
		"nonsense counts as nothing": {config.Retention{Default: byDefault}, `{"min_lifetime":6,"max_lifetime":5}`, `{"max_lifetime":2592000000}`},
	} {
		c.config.Enabled = true
		var content jsontext.Value
		if c.content != "" {
			content = jsontext.Value(c.content)
		}
		got, err := json.Marshal(New(c.config).Effective("!r:test", content))
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %s, %v, want %s", name, got, err, c.want)
		}
	}
	if New(config.Retention{Default: byDefault}) != nil {
		t.Error("there are rules where retention is not enabled")
	}
}

func TestParse(t *testing.T) {
	for _, bad := range []string{`[]`, `{"max_lifetime":-1}`, `{"max_lifetime":"1"}`, `{"max_lifetime":1.5}`, `{"min_lifetime":9007199254740992}`,
		`{"min_lifetime":2,"max_lifetime":1}`, `{"max_lifetime":{}}`, `{"max_lifetime":true}`} {
		if p, err := Parse(jsontext.Value(bad)); err == nil {
			t.Errorf("%s is taken for %+v", bad, p)
		}
	}
	p, err := Parse(jsontext.Value(`{"min_lifetime":null,"max_lifetime":1000,"else":1}`))
	if err != nil || p.Min != nil || p.Max == nil || p.ExpiredBefore(time.UnixMilli(5000)) != 4000 || p.ExpiredBefore(time.UnixMilli(10)) != 0 ||
		(Policy{}).ExpiredBefore(time.UnixMilli(5000)) != 0 {
		t.Errorf("%+v, %v", p, err)
	}
}
