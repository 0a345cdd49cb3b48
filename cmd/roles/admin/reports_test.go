package admin

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
)

// TestReports: what users have reported is listed and resolved.
func TestReports(t *testing.T) {
	h := newHome(t)
	h.mustStart()
	alice, bob := h.register("alice"), h.register("bob")
	h.call(alice, "POST", "/users/"+url.PathEscape(bob.id)+"/report", object{"reason": "\x1b[31mrude"})
	h.stop()
	show := func(all, asJSON bool) string {
		t.Helper()
		var out bytes.Buffer
		if err := h.open(func(i *Installation) error { return Reports(t.Context(), i, all, asJSON, &out) }); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	if got := show(false, false); !strings.Contains(got, alice.id+` reports the user "`+bob.id+`": "\x1b[31mrude"`) {
		t.Fatal(got)
	}
	var list []struct{ ID, Kind string }
	if err := json.Unmarshal([]byte(show(false, true)), &list); err != nil || len(list) != 1 || list[0].Kind != "user" {
		t.Fatal(list, err)
	}
	if err := h.open(func(i *Installation) error { return ResolveReport(t.Context(), i, "nothing", "") }); err == nil {
		t.Error("a report that is not there was resolved")
	}
	if err := h.open(func(i *Installation) error { return ResolveReport(t.Context(), i, list[0].ID, "talked to bob") }); err != nil {
		t.Fatal(err)
	}
	if got := show(false, false); got != "no reports\n" {
		t.Error(got)
	}
	if got := show(true, false); !strings.Contains(got, `"talked to bob"`) {
		t.Error(got)
	}
}
