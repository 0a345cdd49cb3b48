package pushrules

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
)

// Limits of what a user may store.
const (
	maxRules     = 1000
	maxRuleBytes = 16 << 10
	maxIDBytes   = 255
)

// Rule is a push rule as clients see it.
// spec: client-server-api §push-rules
type Rule struct {
	ID         string           `json:"rule_id"`
	Default    bool             `json:"default"`
	Enabled    bool             `json:"enabled"`
	Conditions []jsontext.Value `json:"conditions,omitzero"` // override and underride
	Pattern    *string          `json:"pattern,omitzero"`    // content
	Actions    []jsontext.Value `json:"actions"`
}

// ruleset holds the rules of each kind in the order in which they are tried.
type ruleset struct {
	Override []Rule `json:"override"`
	Content  []Rule `json:"content"`
	// PostContent holds default rules only, and none unless there are Features of
	// that kind.
	PostContent []Rule `json:"postcontent,omitzero"`
	Room        []Rule `json:"room"`
	Sender      []Rule `json:"sender"`
	Underride   []Rule `json:"underride"`
}

func (s *ruleset) kind(name string) *[]Rule {
	switch name {
	case "override":
		return &s.Override
	case "content":
		return &s.Content
	case kindPostContent:
		return &s.PostContent
	case "room":
		return &s.Room
	case "sender":
		return &s.Sender
	case "underride":
		return &s.Underride
	}
	return nil
}

// kindPostContent is the kind of rules that users cannot make.
// spec: MSC4306
const kindPostContent = "postcontent"

// Features say which default rules there are beside the specification's.
type Features struct {
	// ThreadSubscriptions are those of MSC4306.
	ThreadSubscriptions bool
}

// Rules are a user's push rules.
type Rules struct{ set ruleset }

func quote(s string) string {
	b, err := jsontext.AppendQuote(nil, s)
	if err != nil {
		return `""` // not UTF-8: no user has such an ID
	}
	return string(b)
}

// Load reads the content of m.push_rules; nil stands for a user who has changed
// nothing. Default rules that it lacks are put in, so that every user has
// those of this release.
func Load(content jsontext.Value, userID string, with Features) (*Rules, error) {
	var known ruleset
	if err := json.Unmarshal([]byte(defaultsOf(userID)), &known); err != nil {
		return nil, err
	}
	if with.ThreadSubscriptions {
		if err := json.Unmarshal([]byte(threadDefaults), &known); err != nil {
			return nil, err
		}
	}
	if content == nil {
		return &Rules{known}, nil
	}
	var doc struct {
		Global ruleset `json:"global"`
	}
	if err := json.Unmarshal(content, &doc); err != nil {
		return nil, err
	}
	for _, kind := range []string{"override", "content", kindPostContent, "room", "sender", "underride"} {
		mine, theirs := doc.Global.kind(kind), known.kind(kind)
		merged := slices.DeleteFunc(slices.Clone(*mine), func(r Rule) bool { return r.Default })
		for _, d := range *theirs {
			if i := index(*mine, d.ID); i >= 0 {
				d.Enabled, d.Actions = (*mine)[i].Enabled, (*mine)[i].Actions
			}
			if d.ID == ".m.rule.master" { // above the user's own
				merged = slices.Insert(merged, 0, d)
			} else {
				merged = append(merged, d)
			}
		}
		*mine = merged
	}
	if len(doc.Global.PostContent) == 0 {
		doc.Global.PostContent = nil
	}
	return &Rules{doc.Global}, nil
}

func index(rules []Rule, id string) int {
	return slices.IndexFunc(rules, func(r Rule) bool { return r.ID == id })
}

// Content is the content of m.push_rules.
func (r *Rules) Content() (jsontext.Value, error) {
	return json.Marshal(map[string]*ruleset{"global": &r.set}, json.FormatNilSliceAsNull(false))
}

// Global is what is below "global".
func (r *Rules) Global() (jsontext.Value, error) { return json.Marshal(&r.set) }

func (r *Rules) find(kind, id string) (*[]Rule, int, error) {
	list := r.set.kind(kind)
	if list == nil {
		return nil, 0, matrixerror.InvalidParam("There is no such kind of push rules")
	}
	i := index(*list, id)
	if i < 0 {
		return list, i, matrixerror.NotFound("There is no such push rule")
	}
	return list, i, nil
}

// Get returns a rule: 404 if there is none.
func (r *Rules) Get(kind, id string) (Rule, error) {
	list, i, err := r.find(kind, id)
	if err != nil {
		return Rule{}, err
	}
	return (*list)[i], nil
}

// Put stores a user's rule: in its old place, or, if before or after name one
// of the user's rules, next to that; a new one comes first.
// spec: client-server-api §put_matrixclientv3pushrulesglobalkindruleid
func (r *Rules) Put(kind, before, after string, rule Rule) error {
	list := r.set.kind(kind)
	if err := check(list, kind, &rule); err != nil {
		return err
	}
	rule.Enabled = true
	rules := slices.Clone(*list)
	at := index(rules, rule.ID)
	if at >= 0 {
		rule.Enabled = rules[at].Enabled
		rules = slices.Delete(rules, at, at+1)
	} else if len(rules) >= maxRules {
		return matrixerror.UserLimit(400, "At most %d push rules of a kind are kept", maxRules)
	} else {
		at = 0
		if kind == "override" {
			at = 1 // below the master rule
		}
	}
	if next := before + after; next != "" {
		i := index(rules, next)
		if i < 0 || rules[i].Default {
			return matrixerror.NotFound("There is no such push rule to put it next to")
		}
		at = i
		if before == "" {
			at = i + 1
		}
	}
	*list = slices.Insert(rules, at, rule)
	return nil
}

// check checks a rule of a user.
func check(list *[]Rule, kind string, rule *Rule) error {
	switch {
	case list == nil || kind == kindPostContent:
		return matrixerror.InvalidParam("There is no such kind of push rules")
	case rule.ID == "" || len(rule.ID) > maxIDBytes || strings.HasPrefix(rule.ID, "."):
		return matrixerror.InvalidParam("A rule's ID has 1 to %d bytes and does not begin with a dot", maxIDBytes)
	case strings.ContainsAny(rule.ID, `/\`):
		return matrixerror.InvalidParam("A rule's ID has no slashes")
	case kind == "content" && rule.Pattern == nil:
		return matrixerror.MissingParam("A content rule needs a pattern")
	}
	if kind != "content" {
		rule.Pattern = nil
	}
	if kind != "override" && kind != "underride" {
		rule.Conditions = nil
	} else if rule.Conditions == nil {
		rule.Conditions = []jsontext.Value{}
	}
	size := 0
	for _, c := range rule.Conditions {
		size += len(c)
		if c.Kind() != '{' {
			return matrixerror.BadJSON("A condition is an object")
		}
	}
	if rule.Pattern != nil {
		size += len(*rule.Pattern)
	}
	if size > maxRuleBytes {
		return matrixerror.TooLarge("The rule is too large")
	}
	return checkActions(rule.Actions)
}

func checkActions(actions []jsontext.Value) error {
	size := 0
	for _, a := range actions {
		size += len(a)
		if a.Kind() != '{' && a.Kind() != '"' {
			return matrixerror.BadJSON("An action is a string or an object")
		}
	}
	if size > maxRuleBytes {
		return matrixerror.TooLarge("The actions are too large")
	}
	return nil
}

// Delete drops a rule of the user's.
func (r *Rules) Delete(kind, id string) error {
	list, i, err := r.find(kind, id)
	if err != nil {
		return err
	}
	if (*list)[i].Default {
		return matrixerror.InvalidParam("Default rules cannot be deleted, only disabled")
	}
	*list = slices.Delete(slices.Clone(*list), i, i+1)
	return nil
}

// SetEnabled turns a rule on or off.
func (r *Rules) SetEnabled(kind, id string, enabled bool) error {
	list, i, err := r.find(kind, id)
	if err == nil {
		(*list)[i].Enabled = enabled
	}
	return err
}

// SetActions changes what a rule does.
func (r *Rules) SetActions(kind, id string, actions []jsontext.Value) error {
	list, i, err := r.find(kind, id)
	if err != nil {
		return err
	}
	if err := checkActions(actions); err != nil {
		return err
	}
	if actions == nil {
		actions = []jsontext.Value{}
	}
	(*list)[i].Actions = actions
	return nil
}
