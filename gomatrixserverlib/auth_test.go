package gomatrixserverlib

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// authRoom builds the events of a room for tests of authorisation and state
// resolution. All its state that lasts is in events.
type authRoom struct {
	t      testing.TB
	v      RoomVersion
	create *Event
	events map[string]*Event
	now    int64
}

const authCreator = "@c:s"

func newAuthRoom(t testing.TB, v RoomVersion, content string) *authRoom {
	r := &authRoom{t: t, v: v, events: make(map[string]*Event), now: 1000}
	r.create = r.add("m.room.create", authCreator, ptr(""), createContent(v, content), nil, nil)
	return r
}

func ptr(s string) *string { return &s }

// createContent completes the content of a create event; extra begins with a
// comma.
func createContent(v RoomVersion, extra string) string {
	content := `{"room_version":"` + string(v) + `"`
	if v.Rules().CreatorInContent {
		content += `,"creator":"` + authCreator + `"`
	}
	return content + extra + "}"
}

func ids(events []*Event) []string {
	list := make([]string, len(events))
	for i, e := range events {
		list[i] = e.EventID()
	}
	return list
}

// builder makes a builder of an event that is later than all before.
func (r *authRoom) builder(typ, sender string, key *string, content string, auth, prev []*Event) *EventBuilder {
	r.now++
	b := &EventBuilder{
		Sender: sender, Type: typ, StateKey: key, Content: jsontext.Value(content),
		OriginServerTS: r.now, Depth: r.now, AuthEvents: ids(auth), PrevEvents: ids(prev),
	}
	if r.create != nil {
		b.RoomID = r.create.RoomID()
	} else if !r.v.Rules().RoomIDFromCreate {
		b.RoomID = "!room:s"
	}
	if r.v.Rules().GivenEventIDs() {
		b.EventID = "$" + strconv.FormatInt(r.now, 10) + ":" + domainOf(sender)
		b.AuthHashes = make([][sha256.Size]byte, len(auth))
		b.PrevHashes = make([][sha256.Size]byte, len(prev))
	}
	return b
}

func (r *authRoom) add(typ, sender string, key *string, content string, auth, prev []*Event) *Event {
	r.t.Helper()
	e := mustBuild(r.t, r.v, r.builder(typ, sender, key, content, auth, prev))
	r.events[e.EventID()] = e
	return e
}

// parseLine reads "type sender state-key content", where - is no state key, "" the
// empty one, and the content may be left out.
func parseLine(line string) (eventType, sender string, key *string, content string) {
	f := strings.SplitN(line, " ", 4)
	key = &f[2]
	switch f[2] {
	case "-":
		key = nil
	case `""`:
		key = ptr("")
	}
	if len(f) == 4 {
		return f[0], f[1], key, f[3]
	}
	return f[0], f[1], key, "{}"
}

// line makes an event of a line (see parseLine).
func (r *authRoom) line(line string) *Event {
	r.t.Helper()
	eventType, sender, key, content := parseLine(line)
	if eventType == "m.room.create" {
		return r.create
	}
	return r.add(eventType, sender, key, content, nil, []*Event{r.create, r.create})
}

func member_(sender, target, membership string) string {
	return "m.room.member " + sender + " " + target + ` {"membership":"` + membership + `"}`
}

// baseState has a creator c, an admin a (100), a moderator m (50), a user u, a
// banned user b, an invited user i, one who knocks k, one who left l.
func baseState() []string {
	return []string{
		member_(authCreator, authCreator, "join"), member_("@a:s", "@a:s", "join"),
		member_("@m:t", "@m:t", "join"), member_("@u:t", "@u:t", "join"), member_("@v:t", "@v:t", "join"),
		member_("@a:s", "@b:t", "ban"), member_("@a:s", "@i:t", "invite"),
		member_("@k:t", "@k:t", "knock"), member_("@l:t", "@l:t", "leave"),
		`m.room.power_levels @a:s "" {"users":{"@a:s":100,"@m:t":50}}`,
		`m.room.join_rules @a:s "" {"join_rule":"invite"}`,
	}
}

func (r *authRoom) state(lines ...string) StateEvents {
	state := NewStateEvents(r.create)
	for _, line := range lines {
		if without, ok := strings.CutPrefix(line, "without "); ok {
			typ, key, _ := strings.Cut(without, " ")
			delete(state, StateKey{typ, key})
			continue
		}
		e := r.line(line)
		state[e.Key()] = e
	}
	return state
}

// ruleFor reads "1:5.2.3 6:4.2.3 12:-": from version 1 on that rule, from
// version 12 on allowed. Without a colon it holds for all versions.
func ruleFor(v RoomVersion, want string) string {
	n, _ := strconv.Atoi(string(v))
	rule := ""
	for part := range strings.FieldsSeq(want) {
		from, r, ok := strings.Cut(part, ":")
		if !ok {
			return from
		}
		if f, _ := strconv.Atoi(from); f <= n {
			rule = r
		}
	}
	return rule
}

// requireRule checks what Authorise said; "-" is allowed.
func requireRule(t *testing.T, err error, want string) {
	t.Helper()
	got := "-"
	if err != nil {
		var refused *AuthError
		if !errors.As(err, &refused) {
			t.Fatalf("want an AuthError, got %v", err)
		}
		got = refused.Rule
		if refused.Reason == "" || !strings.Contains(err.Error(), refused.Rule) {
			t.Errorf("poor error %q", err)
		}
	}
	if got != want {
		t.Errorf("got rule %q (%v), want %q", got, err, want)
	}
}

type authCase struct {
	name  string
	event string   // see line
	state []string // changes to baseState
	want  string   // see ruleFor; empty: the version does not have the case
}

func runAuthCases(t *testing.T, cases []authCase) {
	for _, v := range SupportedRoomVersions() {
		for _, c := range cases {
			want := ruleFor(v, c.want)
			if want == "" {
				continue
			}
			t.Run("v"+string(v)+"/"+c.name, func(t *testing.T) {
				r := newAuthRoom(t, v, "")
				state := r.state(append(baseState(), c.state...)...)
				requireRule(t, Authorise(r.line(c.event), state), want)
			})
		}
	}
}

func TestAuthoriseOrdinary(t *testing.T) {
	const open = `m.room.power_levels @a:s "" {"state_default":0,"users":{"@a:s":100,"@m:t":50}}`
	runAuthCases(t, []authCase{
		{"message", `m.room.message @u:t - {}`, nil, "-"},
		{"message of outsider", `m.room.message @x:t - {}`, nil, "1:6 6:5 12:6"},
		{"message of invited", `m.room.message @i:t - {}`, nil, "1:6 6:5 12:6"},
		{"message of banned", `m.room.message @b:t - {}`, nil, "1:6 6:5 12:6"},
		{"state needs 50", `m.room.topic @u:t ""`, nil, "1:8 6:7 12:8"},
		{"state by moderator", `m.room.topic @m:t ""`, nil, "-"},
		{"listed type", `m.x @u:t - {}`, []string{`m.room.power_levels @a:s "" {"events":{"m.x":1}}`}, "1:8 6:7 12:8"},
		{"listed type below default", `m.x @u:t ""`, []string{`m.room.power_levels @a:s "" {"events":{"m.x":0}}`}, "-"},
		{"events_default", `m.x @u:t - {}`, []string{`m.room.power_levels @a:s "" {"events_default":1}`}, "1:8 6:7 12:8"},
		{"users_default", `m.x @u:t ""`, []string{`m.room.power_levels @a:s "" {"users_default":50}`}, "-"},
		{"no power levels, creator", `m.room.topic @c:s ""`, []string{"without m.room.power_levels "}, "-"},
		{"no power levels, others", `m.room.topic @a:s ""`, []string{"without m.room.power_levels "}, "1:8 6:7 12:8"},
		{"creator not listed", `m.room.topic @c:s ""`, nil, "1:8 6:7 12:-"},
		{"own state key", `m.x @u:t @u:t`, []string{open}, "-"},
		{"other's state key", `m.x @u:t @v:t`, []string{open}, "1:9 6:8 12:9"},
		{"other's state key by admin", `m.x @a:s @v:t`, nil, "1:9 6:8 12:9"},
		{"third-party invite", `m.room.third_party_invite @u:t token`, nil, "-"},
		{"third-party invite without power", `m.room.third_party_invite @u:t token`,
			[]string{`m.room.power_levels @a:s "" {"invite":1}`}, "1:7.1 6:6.1 12:7.1"},
		{"third-party invite needs no state power", `m.room.third_party_invite @u:t @tok`,
			[]string{`m.room.power_levels @a:s "" {"invite":0,"state_default":100}`}, "-"},
		{"aliases of own server", `m.room.aliases @u:t t`, nil, "1:- 6:7 12:8"},
		{"aliases by outsider", `m.room.aliases @x:t t`, nil, "1:- 6:5 12:6"},
		{"aliases of other server", `m.room.aliases @a:s t`, nil, "1:4.2 6:-"},
		{"aliases without state key", `m.room.aliases @a:s -`, nil, "1:4.1 6:-"},
		{"redaction", `m.room.redaction @u:t - {}`, nil, "1:11.3 3:-"},
		{"redaction by moderator", `m.room.redaction @m:t - {}`, nil, "-"},
		{"redaction level is no matter", `m.room.redaction @m:t - {}`,
			[]string{`m.room.power_levels @a:s "" {"redact":51,"users":{"@m:t":50}}`}, "1:11.3 3:-"},
	})
}

func TestAuthoriseRedactionOfOwnServer(t *testing.T) {
	for _, v := range []RoomVersion{RoomVersionV1, RoomVersionV2} {
		r := newAuthRoom(t, v, "")
		state := r.state(baseState()...)
		for target, want := range map[string]string{"$x:t": "-", "$x:s": "11.3"} {
			b := r.builder("m.room.redaction", "@u:t", nil, "{}", nil, []*Event{r.create})
			b.Redacts = target
			requireRule(t, Authorise(mustBuild(t, v, b), state), want)
		}
	}
}

func TestAuthoriseFederate(t *testing.T) {
	for _, v := range SupportedRoomVersions() {
		for content, want := range map[string]string{
			`,"m.federate":false`: ruleFor(v, "1:3 12:4"), `,"m.federate":true`: "-",
			`,"m.federate":"false"`: "-", `,"m.federate":null`: "-",
		} {
			r := newAuthRoom(t, v, content)
			state := r.state(baseState()...)
			requireRule(t, Authorise(r.line("m.room.message @u:t - {}"), state), want)
			requireRule(t, Authorise(r.line("m.room.message @a:s - {}"), state), "-")
		}
	}
}

func TestAuthoriseNeedsCreate(t *testing.T) {
	for _, v := range SupportedRoomVersions() {
		r := newAuthRoom(t, v, "")
		state := r.state(baseState()...)
		delete(state, StateKey{"m.room.create", ""})
		e := r.line("m.room.message @u:t - {}")
		requireRule(t, Authorise(e, state), ruleFor(v, "1:2.4 12:2"))
		other := newAuthRoom(t, v, `,"x":1`)
		state[StateKey{"m.room.create", ""}] = other.create
		if v.Rules().RoomIDFromCreate {
			requireRule(t, Authorise(e, state), "2")
		}
	}
}

func TestAuthoriseCreate(t *testing.T) {
	cases := []struct{ content, want string }{
		{`{"room_version":"V","creator":"@c:s"}`, "-"},
		{`{"room_version":"V"}`, "1:1.4 11:-"},
		{`{"creator":"@c:s"}`, "1:- 2:1.3"},
		{`{"room_version":"nonsense","creator":"@c:s"}`, "1.3"},
		{`{"room_version":5,"creator":"@c:s"}`, "1.3"},
		{`{"room_version":{"a":[]},"creator":"@c:s"}`, "1.3"},
		{`{"room_version":null,"creator":"@c:s"}`, "1.3"},
		{`{"room_version":"V","creator":null}`, "-"},
		{`{"room_version":"V","creator":"","additional_creators":["@d:t","@Odd Ä:t","@:t"]}`, "-"},
		{`{"room_version":"V","creator":"","additional_creators":[]}`, "-"},
		{`{"room_version":"V","creator":"","additional_creators":null}`, "1:- 12:1.4"},
		{`{"room_version":"V","creator":"","additional_creators":"@d:t"}`, "1:- 12:1.4"},
		{`{"room_version":"V","creator":"","additional_creators":{"@d:t":1}}`, "1:- 12:1.4"},
		{`{"room_version":"V","creator":"","additional_creators":["@d:t",1]}`, "1:- 12:1.4"},
		{`{"room_version":"V","creator":"","additional_creators":["d:t"]}`, "1:- 12:1.4"},
		{`{"room_version":"V","creator":"","additional_creators":["@d"]}`, "1:- 12:1.4"},
	}
	for _, v := range SupportedRoomVersions() {
		for _, c := range cases {
			r := &authRoom{t: t, v: v, events: map[string]*Event{}, now: 1}
			content := strings.ReplaceAll(c.content, `"V"`, `"`+string(v)+`"`)
			t.Run("v"+string(v)+content, func(t *testing.T) {
				e := r.add("m.room.create", authCreator, ptr(""), content, nil, nil)
				requireRule(t, Authorise(e, StateEvents{}), ruleFor(v, c.want))
			})
		}
		r := newAuthRoom(t, v, "")
		again := mustBuild(t, v, func() *EventBuilder {
			b := r.builder("m.room.create", authCreator, ptr(""), createContent(v, ""), nil, []*Event{r.create})
			if v.Rules().RoomIDFromCreate {
				b.RoomID = ""
			}
			return b
		}())
		requireRule(t, Authorise(again, r.state()), "1.1")
		keyed := &authRoom{t: t, v: v, events: map[string]*Event{}, now: 1}
		requireRule(t, Authorise(keyed.add("m.room.create", authCreator, ptr("x"), createContent(v, ""), nil, nil), StateEvents{}), "1")
		foreign := &authRoom{t: t, v: v, events: map[string]*Event{}, now: 1}
		e := foreign.add("m.room.create", "@c:elsewhere", ptr(""), createContent(v, ""), nil, nil)
		requireRule(t, Authorise(e, StateEvents{}), ruleFor(v, "1:1.2 12:-"))
	}
	withRoom := fmt.Sprintf(`{"auth_events":[],"content":%s,"depth":1,"hashes":{"sha256":"x"},"origin_server_ts":1,`+
		`"prev_events":[],"room_id":"!x:s","sender":"@c:s","signatures":{},"state_key":"","type":"m.room.create"}`, createContent("12", ""))
	e, err := ParseStoredEvent([]byte(withRoom), RoomVersionV12, "")
	if err != nil {
		t.Fatal(err)
	}
	requireRule(t, Authorise(e, StateEvents{}), "1.2")
}
