package syncapi

import (
	"bytes"
	"cmp"
	"context"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	// maxRules bounds the rules of a user that are looked at, maxPattern the
	// patterns in them.
	maxRules   = 2000
	maxPattern = 1000
	// maxBody is how much of a body is searched for words.
	maxBody = 32 << 10
)

// ruleset is a user's push rules, in the order in which they are tried.
// spec: client-server-api §push-rules
type ruleset struct{ rules []rule }

type rule struct {
	room, sender      string // rules for a room, for a sender; "" for others
	conditions        []condition
	notify, highlight bool
}

// condition is one of a rule's; the members that its kind has no use for are zero.
type condition struct {
	kind    string
	path    []string
	literal string         // event_match without wildcards, but of the body
	pattern *regexp.Regexp // event_match otherwise
	value   jsontext.Value // event_property_is, event_property_contains
	key     string         // sender_notification_permission
	compare string         // room_member_count
	count   int64
	never   bool // what is not understood matches nothing
}

// surroundings is what rules ask about a room.
type surroundings struct {
	members     func() int64
	displayName func(context.Context) (string, error)
	mayNotify   func(ctx context.Context, sender, key string) (bool, error)
}

// ruleSource is a push rule as it stands in m.push_rules.
type ruleSource struct {
	ID         string `json:"rule_id"`
	Enabled    *bool  `json:"enabled"`
	Pattern    string `json:"pattern"`
	Conditions []struct {
		Kind    string         `json:"kind"`
		Key     string         `json:"key"`
		Pattern string         `json:"pattern"`
		Value   jsontext.Value `json:"value"`
		Is      string         `json:"is"`
	} `json:"conditions"`
	Actions []jsontext.Value `json:"actions"`
}

// parseRules reads the content of m.push_rules. What cannot be read has no rules.
func parseRules(content jsontext.Value) *ruleset {
	var doc struct {
		Global struct {
			Override  []ruleSource `json:"override"`
			Content   []ruleSource `json:"content"`
			Room      []ruleSource `json:"room"`
			Sender    []ruleSource `json:"sender"`
			Underride []ruleSource `json:"underride"`
		} `json:"global"`
	}
	out := &ruleset{}
	if len(content) == 0 || json.Unmarshal(content, &doc) != nil {
		return out
	}
	g := &doc.Global
	for _, kind := range []struct {
		name  string
		rules []ruleSource
	}{{"override", g.Override}, {"content", g.Content}, {"room", g.Room}, {"sender", g.Sender}, {"underride", g.Underride}} {
		for i := range kind.rules {
			src := &kind.rules[i]
			if src.Enabled != nil && !*src.Enabled || len(out.rules) == maxRules {
				continue
			}
			out.rules = append(out.rules, src.compile(kind.name))
		}
	}
	return out
}

func (src *ruleSource) compile(kind string) rule {
	r := rule{}
	switch kind {
	case "content":
		r.conditions = []condition{matching("content.body", src.Pattern)}
	case "room":
		r.room = src.ID
	case "sender":
		r.sender = src.ID
	default:
		for _, c := range src.Conditions {
			out := condition{kind: c.Kind, path: splitPath(c.Key), value: c.Value, key: c.Key}
			switch c.Kind {
			case "event_match":
				out = matching(c.Key, c.Pattern)
			case "room_member_count":
				out.setCount(c.Is)
			}
			r.conditions = append(r.conditions, out)
		}
	}
	for _, action := range src.Actions {
		if string(action) == `"notify"` {
			r.notify = true
		}
		if tweak, ok := member(action, "set_tweak"); ok && string(tweak) == `"highlight"` {
			value, has := member(action, "value")
			r.highlight = !has || string(value) != "false"
		}
	}
	return r
}

// matching makes an event_match: without regard to case, of the whole value,
// or of words in a body.
func matching(key, pattern string) condition {
	c := condition{kind: "event_match", path: splitPath(key)}
	if pattern == "" || len(pattern) > maxPattern {
		c.never = true
		return c
	}
	if key != "content.body" && !strings.ContainsAny(pattern, "*?") {
		c.literal = pattern
		return c
	}
	text := regexp.QuoteMeta(pattern)
	text = strings.ReplaceAll(strings.ReplaceAll(text, `\*`, `.*?`), `\?`, `.`)
	if key == "content.body" {
		text = `(?is)(?:^|[^A-Za-z0-9_])` + text + `(?:[^A-Za-z0-9_]|$)`
	} else {
		text = `(?is)^` + text + `$`
	}
	var err error
	if c.pattern, err = regexp.Compile(text); err != nil {
		c.never = true
	}
	return c
}

func (c *condition) setCount(is string) {
	digits := strings.TrimLeft(is, "<>=")
	c.compare = is[:len(is)-len(digits)]
	var err error
	c.count, err = strconv.ParseInt(digits, 10, 64)
	c.never = err != nil
}

// judge finds the first rule that matches an event, and what it says.
func (r *ruleset) judge(ctx context.Context, ev *event, in *surroundings) (notify, highlight bool, err error) {
	for i := range r.rules {
		ok, err := r.rules[i].matches(ctx, ev, in)
		if err != nil {
			return false, false, err
		}
		if ok {
			return r.rules[i].notify, r.rules[i].notify && r.rules[i].highlight, nil
		}
	}
	return false, false, nil
}

func (r *rule) matches(ctx context.Context, ev *event, in *surroundings) (bool, error) {
	if r.room != "" && r.room != ev.RoomID() || r.sender != "" && r.sender != ev.Sender() {
		return false, nil
	}
	for i := range r.conditions {
		if ok, err := r.conditions[i].holds(ctx, ev, in); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

func (c *condition) holds(ctx context.Context, ev *event, in *surroundings) (bool, error) {
	if c.never {
		return false, nil
	}
	switch c.kind {
	case "event_match":
		text, ok := textAt(ev, c.path)
		switch {
		case !ok:
			return false, nil
		case c.pattern != nil:
			return c.pattern.MatchString(text[:min(len(text), maxBody)]), nil
		}
		return strings.EqualFold(text, c.literal), nil
	case "event_property_is":
		return simple(c.value) && bytes.Equal(valueAt(ev, c.path), c.value), nil
	case "event_property_contains":
		return simple(c.value) && contains(valueAt(ev, c.path), c.value), nil
	case "room_member_count":
		return c.counts(in.members()), nil
	case "contains_display_name":
		return c.named(ctx, ev, in)
	case "sender_notification_permission":
		return in.mayNotify(ctx, ev.Sender(), c.key)
	}
	return false, nil
}

// named tells whether the body holds the user's display name as a word.
func (c *condition) named(ctx context.Context, ev *event, in *surroundings) (bool, error) {
	body, ok := textAt(ev, []string{"content", "body"})
	if !ok {
		return false, nil
	}
	name, err := in.displayName(ctx)
	if err != nil || name == "" {
		return false, err
	}
	text := `(?is)(?:^|[^A-Za-z0-9_])` + regexp.QuoteMeta(name) + `(?:[^A-Za-z0-9_]|$)`
	return regexp.MatchString(text, body[:min(len(body), maxBody)])
}

func (c *condition) counts(members int64) bool {
	order := cmp.Compare(members, c.count)
	switch c.compare {
	case "", "==":
		return order == 0
	case "<":
		return order < 0
	case ">":
		return order > 0
	case "<=":
		return order <= 0
	case ">=":
		return order >= 0
	}
	return false
}

// simple tells whether a value is one that properties are compared with.
func simple(v jsontext.Value) bool { return len(v) > 0 && v.Kind() != '{' && v.Kind() != '[' }

// contains tells whether an array holds the value.
func contains(array, value jsontext.Value) bool {
	d := jsontext.NewDecoder(newReader(array))
	if tok, err := d.ReadToken(); err != nil || tok.Kind() != '[' {
		return false
	}
	for {
		v, err := d.ReadValue()
		if err != nil {
			return false
		}
		if bytes.Equal(v, value) {
			return true
		}
	}
}

// valueAt finds a property of an event by its path; nil when it is absent.
// Both sides of comparisons are canonical JSON, so bytes can be compared.
func valueAt(ev *event, path []string) jsontext.Value {
	switch {
	case path[0] == "content" && len(path) > 1:
		at := ev.Content()
		for _, name := range path[1:] {
			if !bytes.Contains(at, []byte(name)) && !bytes.ContainsRune(at, '\\') {
				return nil // cheaper than to look, and the usual case
			}
			var ok bool
			if at, ok = member(at, name); !ok {
				return nil
			}
		}
		return at
	case len(path) == 1:
		if text, ok := header(ev, path[0]); ok {
			return appendString(nil, text)
		}
	}
	return nil
}

// textAt finds a property that is a string.
func textAt(ev *event, path []string) (string, bool) {
	if len(path) == 1 {
		return header(ev, path[0])
	}
	v := valueAt(ev, path)
	if v.Kind() != '"' {
		return "", false
	}
	text, err := jsontext.AppendUnquote(nil, v)
	return string(text), err == nil
}

// header is a property of the event that is a string, outside of its content.
func header(ev *event, name string) (string, bool) {
	switch name {
	case "type":
		return ev.Type(), true
	case "sender":
		return ev.Sender(), true
	case "room_id":
		return ev.RoomID(), true
	case "event_id":
		return ev.EventID(), true
	case "state_key":
		if key := ev.StateKey(); key != nil {
			return *key, true
		}
	}
	return "", false
}
