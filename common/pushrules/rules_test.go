package pushrules

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
)

func load(t *testing.T, content jsontext.Value) *Rules {
	t.Helper()
	r, err := Load(content, "@a:test", Features{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func names(rules []Rule) (out []string) {
	for _, r := range rules {
		out = append(out, r.ID)
	}
	return out
}

func TestDefaults(t *testing.T) {
	r := load(t, nil)
	if len(r.set.Override) != 10 || len(r.set.Underride) != 5 {
		t.Fatalf("%d and %d rules", len(r.set.Override), len(r.set.Underride))
	}
	rule, err := r.Get("override", ".m.rule.invite_for_me")
	if err != nil || string(rule.Conditions[2]) != `{"kind":"event_match","key":"state_key","pattern":"@a:test"}` {
		t.Fatal(rule, err)
	}
}

// TestOrder: rules stand where the spec puts them, and still do after being stored.
func TestOrder(t *testing.T) {
	r := load(t, nil)
	put := func(id, before, after string) {
		t.Helper()
		if err := r.Put("override", before, after, Rule{ID: id, Actions: []jsontext.Value{jsontext.Value(`"notify"`)}}); err != nil {
			t.Fatal(err)
		}
	}
	put("a", "", "")
	put("b", "", "")
	put("c", "", "b")
	put("d", "a", "")
	put("b", "", "a")
	if err := r.SetEnabled("override", ".m.rule.master", true); err != nil {
		t.Fatal(err)
	}
	if err := r.SetActions("underride", ".m.rule.call", nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := fmt.Sprint(names(r.set.Override)[:6]); got != "[.m.rule.master c d a b .m.rule.suppress_notices]" {
			t.Fatal(got)
		}
		if !r.set.Override[0].Enabled || len(r.set.Underride[0].Actions) != 0 {
			t.Fatal("a change of a default rule is lost")
		}
		content, err := r.Content()
		if err != nil {
			t.Fatal(err)
		}
		r = load(t, content)
	}
	if err := r.Delete("override", "c"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Get("override", "c"); !matrixerror.Is(err, "M_NOT_FOUND") {
		t.Fatal(err)
	}
}

// TestThreadRules: the rules about threads are there where they are to be, of a kind
// that users can change but not add to, and go where they are not.
func TestThreadRules(t *testing.T) {
	const id, kind = ".io.element.msc4306.rule.unsubscribed_thread", "postcontent"
	with := Features{ThreadSubscriptions: true}
	r, err := Load(nil, "@a:test", with)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.SetEnabled(kind, id, false); err != nil {
		t.Fatal(err)
	}
	if err := r.Put(kind, "", "", Rule{ID: "mine", Actions: []jsontext.Value{}}); !matrixerror.Is(err, "M_INVALID_PARAM") {
		t.Errorf("a rule of a user is put among them: %v", err)
	}
	stored, err := r.Content()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Load(stored, "@a:test", with)
	if err != nil {
		t.Fatal(err)
	}
	if rule, err := again.Get(kind, id); err != nil || rule.Enabled || len(again.set.PostContent) != 2 {
		t.Errorf("stored as %+v, %v", rule, err)
	}
	for _, content := range []jsontext.Value{nil, stored} {
		text, err := load(t, content).Content()
		if err != nil || strings.Contains(string(text), kind) {
			t.Errorf("where they are not to be, rules are %s, %v", text, err)
		}
	}
}

func TestRefused(t *testing.T) {
	notify := []jsontext.Value{jsontext.Value(`"notify"`)}
	for name, test := range map[string]struct {
		code string
		do   func(*Rules) error
	}{
		"a kind that is none": {"M_INVALID_PARAM", func(r *Rules) error { return r.Put("strange", "", "", Rule{ID: "x", Actions: notify}) }},
		"a default rule's ID": {"M_INVALID_PARAM", func(r *Rules) error { return r.Put("override", "", "", Rule{ID: ".m.rule.x", Actions: notify}) }},
		"no pattern":          {"M_MISSING_PARAM", func(r *Rules) error { return r.Put("content", "", "", Rule{ID: "x", Actions: notify}) }},
		"next to a default":   {"M_NOT_FOUND", func(r *Rules) error { return r.Put("override", ".m.rule.master", "", Rule{ID: "x", Actions: notify}) }},
		"an action of numbers": {"M_BAD_JSON", func(r *Rules) error {
			return r.Put("room", "", "", Rule{ID: "!x", Actions: []jsontext.Value{jsontext.Value("1")}})
		}},
		"deleting a default": {"M_INVALID_PARAM", func(r *Rules) error { return r.Delete("override", ".m.rule.master") }},
		"enabling nothing":   {"M_NOT_FOUND", func(r *Rules) error { return r.SetEnabled("room", "!x", true) }},
	} {
		if err := test.do(load(t, nil)); !matrixerror.Is(err, test.code) {
			t.Errorf("%s: %v, want %s", name, err, test.code)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(`{"global":{"override":[{"rule_id":"x","actions":["notify"]}]}}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		r, err := Load(content, "@a:test", Features{})
		if err != nil {
			return
		}
		if _, err := r.Content(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestCopyRoom(t *testing.T) {
	const mine = `{"global":{"override":[
			{"rule_id":"!old:t","default":false,"enabled":false,"actions":[],"conditions":[{"kind":"event_match","key":"room_id","pattern":"!old:t"},
				{"kind":"event_match","key":"type","pattern":"!old:t"}]}],
		"room":[{"rule_id":"!x:t","default":false,"enabled":true,"actions":[]},{"rule_id":"!old:t","default":false,"enabled":true,"actions":["notify"]}]}}`
	rules := load(t, jsontext.Value(mine))
	if !rules.CopyRoom("!old:t", "!new:t") || rules.CopyRoom("!old:t", "!new:t") || rules.CopyRoom("!none:t", "!other:t") {
		t.Fatal("rules are not copied once")
	}
	muted, err := rules.Get("override", "!new:t")
	if err != nil || muted.Enabled || string(muted.Conditions[0]) != `{"key":"room_id","kind":"event_match","pattern":"!new:t"}` ||
		string(muted.Conditions[1]) != `{"kind":"event_match","key":"type","pattern":"!old:t"}` {
		t.Errorf("%+v, %v", muted, err)
	}
	if got := names(rules.set.Room); !slices.Equal(got, []string{"!x:t", "!new:t", "!old:t"}) || string(rules.set.Room[1].Actions[0]) != `"notify"` {
		t.Errorf("room rules %v", got)
	}
	if before, err := rules.Get("override", "!old:t"); err != nil || !strings.Contains(string(before.Conditions[0]), "!old:t") {
		t.Errorf("the old room's rule became %+v, %v", before, err)
	}
}
