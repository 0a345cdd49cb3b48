package pushrules

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/property"
)

const (
	// maxCompiled bounds the rules of a user that are looked at, maxPattern the
	// patterns in them.
	maxCompiled = 2000
	maxPattern  = 1000
)

// Ruleset is a user's push rules, in the order in which they are tried. It is not
// changed any more and is safe for concurrent use.
// spec: client-server-api §push-rules
type Ruleset struct{ rules []compiled }

// compiled is a rule that can be tried.
type compiled struct {
	room, sender string // rules for a room, for a sender; "" for others
	conditions   []condition
	verdict      Verdict
}

// condition is one of a rule's; the members that its kind has no use for are zero.
type condition struct {
	kind       string
	key        string
	path       []string
	literal    string         // event_match without wildcards, but of the body
	pattern    *regexp.Regexp // event_match otherwise
	value      jsontext.Value // event_property_is, event_property_contains
	compare    string         // room_member_count
	count      int64
	subscribed bool // io.element.msc4306.thread_subscription
	never      bool // what is not understood matches nothing
	// self says that literal, or value, is the ID of whoever's rules these are.
	self bool
}

// threadSubscription is the kind of conditions on whether the user is subscribed to
// the thread that an event is in.
// spec: MSC4306 §new-push-rules
const threadSubscription = "io.element.msc4306.thread_subscription"

// ruleSource is a push rule as it stands in m.push_rules.
type ruleSource struct {
	ID         string `json:"rule_id"`
	Enabled    *bool  `json:"enabled"`
	Pattern    string `json:"pattern"`
	Conditions []struct {
		Kind       string         `json:"kind"`
		Key        string         `json:"key"`
		Pattern    *string        `json:"pattern"`
		Value      jsontext.Value `json:"value"`
		Is         string         `json:"is"`
		Subscribed *bool          `json:"subscribed"`
	} `json:"conditions"`
	Actions []jsontext.Value `json:"actions"`
}

// Compile reads the content of m.push_rules. What cannot be read has no rules.
func Compile(content jsontext.Value) *Ruleset {
	set, _ := compile(content, "")
	return set
}

// CompileFor reads the rules of a user. shared tells that they serve others too,
// whose rules differ in nothing but their own ID (Surroundings.UserID): that each
// place where it stands is one that is known to mean its user.
func CompileFor(content jsontext.Value, userID string) (set *Ruleset, shared bool) {
	set, general := compile(content, userID)
	return set, general == strings.Count(string(content), quote(userID))
}

// compile also returns how many conditions are on whoever's rules they are.
func compile(content jsontext.Value, userID string) (out *Ruleset, general int) {
	var doc struct {
		Global struct {
			Override    []ruleSource `json:"override"`
			Content     []ruleSource `json:"content"`
			PostContent []ruleSource `json:"postcontent"`
			Room        []ruleSource `json:"room"`
			Sender      []ruleSource `json:"sender"`
			Underride   []ruleSource `json:"underride"`
		} `json:"global"`
	}
	out = &Ruleset{}
	if len(content) == 0 || json.Unmarshal(content, &doc) != nil {
		return out, 0
	}
	g := &doc.Global
	for _, kind := range []struct {
		name  string
		rules []ruleSource
	}{{"override", g.Override}, {"content", g.Content}, {kindPostContent, g.PostContent}, {"room", g.Room}, {"sender", g.Sender}, {"underride", g.Underride}} {
		for i := range kind.rules {
			src := &kind.rules[i]
			if src.Enabled != nil && !*src.Enabled || len(out.rules) == maxCompiled {
				continue
			}
			rule := src.compile(kind.name)
			for j := range rule.conditions {
				if rule.conditions[j].generalise(userID) {
					general++
				}
			}
			out.rules = append(out.rules, rule)
		}
	}
	return out, general
}

func (src *ruleSource) compile(kind string) compiled {
	r := compiled{verdict: verdictOf(src.Actions)}
	switch kind {
	case "content":
		r.conditions = []condition{matching("content.body", src.Pattern)}
	case "room":
		r.room = src.ID
	case "sender":
		r.sender = src.ID
	default:
		for _, c := range src.Conditions {
			out := condition{kind: c.Kind, path: property.Path(c.Key), key: c.Key}
			switch c.Kind {
			case "event_match":
				out.never = c.Pattern == nil
				if c.Pattern != nil {
					out = matching(c.Key, *c.Pattern)
				}
			case "event_property_is", "event_property_contains":
				out.setValue(c.Value)
			case "room_member_count":
				out.setCount(c.Is)
			case threadSubscription:
				out.never = c.Subscribed == nil
				out.subscribed = !out.never && *c.Subscribed
			}
			r.conditions = append(r.conditions, out)
		}
	}
	return r
}

// verdictOf reads a rule's actions. Those of old that do nothing are left out.
// spec: client-server-api §actions
func verdictOf(actions []jsontext.Value) Verdict {
	v := Verdict{Actions: []jsontext.Value{}, Tweaks: map[string]jsontext.Value{}}
	for _, action := range actions {
		if string(action) == `"notify"` {
			v.Notify = true
			v.Actions = append(v.Actions, action)
			continue
		}
		name, ok := property.Member(action, "set_tweak")
		tweak, text := property.Text(name)
		if !ok || !text {
			continue
		}
		value, has := property.Member(action, "value")
		if !has {
			value = jsontext.Value("true") // what highlight means without one
		}
		v.Actions = append(v.Actions, action)
		v.Tweaks[tweak] = value
		if tweak == "highlight" {
			v.Highlight = string(value) != "false"
		}
	}
	v.Highlight = v.Highlight && v.Notify
	return v
}

// matching makes an event_match: without regard to case, of the whole value,
// or of words in a body.
func matching(key, pattern string) condition {
	c := condition{kind: "event_match", key: key, path: property.Path(key)}
	switch body := key == "content.body"; {
	case len(pattern) > maxPattern, body && pattern == "":
		c.never = true
	case !body && !strings.ContainsAny(pattern, "*?"):
		c.literal = pattern
	default:
		text := regexp.QuoteMeta(pattern)
		text = strings.ReplaceAll(strings.ReplaceAll(text, `\*`, `.*?`), `\?`, `.`)
		if body {
			text = asWord(text)
		} else {
			text = `(?is)^` + text + `$`
		}
		var err error
		if c.pattern, err = regexp.Compile(text); err != nil {
			c.never = true
		}
	}
	return c
}

// generalise makes a condition on the user's ID one on whoever's rules it is in.
func (c *condition) generalise(userID string) bool {
	value, _ := property.Text(c.value)
	c.self = userID != "" && (c.literal == userID || value == userID)
	return c.self
}

// asWord makes a pattern match where it begins and ends at the bounds of words.
func asWord(pattern string) string {
	return `(?is)(?:^|[^A-Za-z0-9_])` + pattern + `(?:[^A-Za-z0-9_]|$)`
}

// setValue takes a value to compare with, in the form that events have it in.
func (c *condition) setValue(v jsontext.Value) {
	c.never = len(v) == 0 || v.Kind() == '{' || v.Kind() == '['
	if !c.never {
		c.value = v.Clone()
		c.never = c.value.Canonicalize() != nil
	}
}

func (c *condition) setCount(is string) {
	digits := strings.TrimLeft(is, "<>=")
	c.compare = is[:len(is)-len(digits)]
	var err error
	c.count, err = strconv.ParseInt(digits, 10, 64)
	c.never = err != nil
}
