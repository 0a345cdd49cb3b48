package openapi_test

import (
	"strings"
	"testing"

	"github.com/matrix-org/dendrite/e2e/openapi"
)

func TestCheck(t *testing.T) {
	spec, err := openapi.Load("testdata")
	if err != nil {
		t.Fatal(err)
	}
	room, file := openapi.Operation("GET", "/v3/rooms/{id}/"), openapi.Operation("GET", "/v3/file")
	if !spec.Has(room) || !spec.Has(file) || spec.Has("GET /v3/rooms") {
		t.Fatal("the operations are not those of the file")
	}
	const kind = "application/json"
	for _, test := range []struct {
		name, operation, kind string
		status                int
		body                  string
		fault                 string // a part of what is found; "" for nothing
	}{
		{"a room", room, kind, 200, `{"members":{"@a:x":{"n":1}},"state":{"events":[{"event_id":"$a","more":1}]},"more":{}}`, ""},
		{"by the second description", room, kind + "; charset=utf-8", 200, `{"other":true}`, ""},
		{"a member is missing", room, kind, 200, `{"avatar":"mxc://x/y"}`, "members"},
		{"a type behind two files", room, kind, 200, `{"members":{},"state":{"events":[{"event_id":1}]}}`, "/state/events/0/event_id: got number, want string (event.yaml#"},
		{"a format behind two files", room, kind, 200, `{"members":{},"state":{"events":[{"event_id":"a"}]}}`, "/state/events/0/event_id"},
		{"a member by its pattern", room, kind, 200, `{"members":{"@a:x":{"n":1.5}}}`, "/members/@a:x/n"},
		{"a member of another pattern", room, kind, 200, `{"members":{"b":1}}`, ""},
		{"a URI", room, kind, 200, `{"members":{},"avatar":"https://x/y"}`, "/avatar"},
		{"somebody types", room, kind, 200, `{"members":{},"more":[{"type":"m.typing","content":{"user_ids":["@a:x"]}}]}`, ""},
		{"something types", room, kind, 200, `{"members":{},"more":[{"type":"m.typing","content":{"user_ids":["a"]}}]}`, "/content/user_ids/0"},
		{"an event of a user's that is called so", room, kind, 200, `{"members":{},"more":[{"type":"m.typing","event_id":"$a","content":{}}]}`, ""},
		{"a status that is not described", room, kind, 201, `{}`, "no answer with status 201"},
		{"not JSON", room, kind, 200, `{`, "not JSON"},
		{"not said to be JSON", room, "text/plain", 200, `{"members":{}}`, "text/plain"},
		{"a refusal that a reference describes", room, kind, 404, `{"errcode":"M_NO_ROOM","error":"none"}`, ""},
		{"a refusal that the text names", room, kind, 403, `{"errcode":"M_ODD_ROOM","error":"odd"}`, ""},
		{"a refusal of any endpoint", room, kind, 401, `{"errcode":"M_MISSING_TOKEN","error":"who?"}`, ""},
		{"a refusal of other endpoints", room, kind, 400, `{"errcode":"M_ROOM_IN_USE","error":"taken"}`, "M_ROOM_IN_USE"},
		{"an errcode with another status", room, kind, 400, `{"errcode":"M_MISSING_TOKEN","error":"who?"}`, "400"},
		{"a refusal without an errcode", room, kind, 404, `{"error":"none"}`, "errcode"},
		{"a refusal without a text", room, kind, 404, `{"errcode":"M_NO_ROOM"}`, "error for people"},
		{"a password is asked for", room, kind, 401, `{"flows":[{"stages":["m.login.password"]}],"session":"s"}`, ""},
		{"and was wrong", room, kind, 401, `{"flows":[],"session":"s","errcode":"M_FORBIDDEN","error":"wrong"}`, ""},
		{"and there is no session", room, kind, 401, `{"flows":[]}`, "session"},
		{"a file", file, "image/png", 200, "png", ""},
		{"a part of a file", file, "image/png", 206, "p", ""},
	} {
		faults := spec.Check(test.operation, openapi.Answer{Status: test.status, ContentType: test.kind, Body: []byte(test.body)})
		switch {
		case test.fault == "" && len(faults) > 0:
			t.Errorf("%s: %v", test.name, faults)
		case test.fault != "" && (len(faults) == 0 || !strings.Contains(faults[0].String(), test.fault)):
			t.Errorf("%s: %v, and %q was to be found", test.name, faults, test.fault)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	if _, err := openapi.Load(t.TempDir()); err == nil {
		t.Error("an empty folder is a specification")
	}
}
