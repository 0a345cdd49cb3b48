package gomatrixserverlib

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
)

// roomState is a state of a test room.
type roomState map[StateKey]*Event

func (s roomState) StateEvent(typ, key string) *Event { return s[StateKey{typ, key}] }

func (s roomState) ids() map[StateKey]string {
	list := make(map[StateKey]string, len(s))
	for key, e := range s {
		list[key] = e.EventID()
	}
	return list
}

// send makes an event of a line (see parseLine) with the auth events that the state
// selects, and the state after it.
func (r *authRoom) send(state roomState, prev *Event, line string) (*Event, roomState) {
	r.t.Helper()
	eventType, sender, key, content := parseLine(line)
	selected, err := AuthKeys(r.v, eventType, sender, key, []byte(content))
	if err != nil {
		r.t.Fatal(err)
	}
	var auth []*Event
	for _, k := range selected {
		if e := state[k]; e != nil {
			auth = append(auth, e)
		}
	}
	e := r.add(eventType, sender, key, content, auth, []*Event{prev})
	after := maps.Clone(state)
	if key != nil {
		after[e.Key()] = e
	}
	return e, after
}

// run sends lines one after the other; each must be allowed.
func (r *authRoom) run(state roomState, lines ...string) (roomState, []*Event) {
	r.t.Helper()
	prev := r.create
	var sent []*Event
	for _, line := range lines {
		e, after := r.send(state, prev, line)
		if err := Authorise(e, state); err != nil {
			r.t.Fatalf("version %s: %s: %v", r.v, line, err)
		}
		prev, state = e, after
		sent = append(sent, e)
	}
	return state, sent
}

// newForkRoom is a public room with creator c, admin a (100), moderator m (50)
// and users u and v.
func newForkRoom(t testing.TB, v RoomVersion) (*authRoom, roomState) {
	r := newAuthRoom(t, v, "")
	creator := `"@c:s":100,`
	if v.Rules().CreatorsPrivileged {
		creator = ""
	}
	state, _ := r.run(roomState{{"m.room.create", ""}: r.create},
		member_("@c:s", "@c:s", "join"),
		`m.room.power_levels @c:s "" {"users":{`+creator+`"@a:s":100,"@m:t":50}}`,
		`m.room.join_rules @c:s "" {"join_rule":"public"}`,
		member_("@a:s", "@a:s", "join"), member_("@m:t", "@m:t", "join"),
		member_("@u:t", "@u:t", "join"), member_("@v:t", "@v:t", "join"))
	return r, state
}

// levelsLine changes the power levels; users is the rest of the users object.
func levelsLine(v RoomVersion, sender, users string) string {
	creator := `"@c:s":100,`
	if v.Rules().CreatorsPrivileged {
		creator = ""
	}
	return `m.room.power_levels ` + sender + ` "" {"users":{` + creator + users + `}}`
}

// mapProvider gives events of a map.
type mapProvider struct {
	events map[string]*Event
	calls  int
	most   int // IDs in one call
}

func (p *mapProvider) Events(ids []string) (map[string]*Event, error) {
	p.calls++
	p.most = max(p.most, len(ids))
	found := make(map[string]*Event, len(ids))
	for _, id := range ids {
		if e := p.events[id]; e != nil {
			found[id] = e
		}
	}
	return found, nil
}

// resolve resolves states in every order of a few and requires one result.
func (r *authRoom) resolve(states ...roomState) map[StateKey]string {
	r.t.Helper()
	sets := make([]map[StateKey]string, len(states))
	for i, s := range states {
		sets[i] = s.ids()
	}
	result, err := ResolveState(r.v, sets, &mapProvider{events: r.events})
	if err != nil {
		r.t.Fatalf("version %s: %v", r.v, err)
	}
	for range sets {
		sets = append(sets[1:], sets[0])
		for _, order := range [][]map[StateKey]string{sets, reversed(sets)} {
			again, err := ResolveState(r.v, order, &indexProvider{mapProvider{events: r.events}})
			if err != nil {
				r.t.Fatalf("version %s: %v", r.v, err)
			}
			if !maps.Equal(result, again) {
				r.t.Fatalf("version %s: the order, or an index, changes the result:\n%v\n%v", r.v, result, again)
			}
		}
	}
	return result
}

func reversed(sets []map[StateKey]string) []map[StateKey]string {
	sets = slices.Clone(sets)
	slices.Reverse(sets)
	return sets
}

func requireState(t *testing.T, v RoomVersion, result map[StateKey]string, typ, key string, want *Event) {
	t.Helper()
	id := ""
	if want != nil {
		id = want.EventID()
	}
	if got := result[StateKey{typ, key}]; got != id {
		t.Errorf("version %s: %s %q is %q, want %q", v, typ, key, got, id)
	}
}

// A ban wins against what the banned moderator does at the same time.
func TestResolveBanAgainstPowerLevels(t *testing.T) {
	for _, v := range SupportedRoomVersions()[1:] {
		r, base := newForkRoom(t, v)
		mine, _ := r.run(base, levelsLine(v, "@m:t", `"@a:s":100,"@m:t":50,"@u:t":50`), `m.room.topic @u:t "" {"topic":"u"}`)
		banned, sent := r.run(base, member_("@a:s", "@m:t", "ban"), `m.room.name @a:s "" {"name":"a"}`)
		result := r.resolve(mine, banned)
		requireState(t, v, result, "m.room.member", "@m:t", sent[0])
		requireState(t, v, result, "m.room.power_levels", "", base[StateKey{"m.room.power_levels", ""}])
		requireState(t, v, result, "m.room.name", "", sent[1])
		// u had the power by what was undone only.
		requireState(t, v, result, "m.room.topic", "", nil)
	}
}

// A demotion by the stronger one wins; what both forks did else stays.
func TestResolveDemotion(t *testing.T) {
	for _, v := range SupportedRoomVersions()[1:] {
		r, base := newForkRoom(t, v)
		strong, demotion := r.run(base, levelsLine(v, "@a:s", `"@a:s":100,"@m:t":0`), member_("@v:t", "@v:t", "leave"))
		weak, _ := r.run(base, `m.room.topic @m:t "" {"topic":"m"}`, levelsLine(v, "@m:t", `"@a:s":100,"@m:t":50,"@u:t":50`),
			`m.room.join_rules @m:t "" {"join_rule":"invite"}`)
		result := r.resolve(strong, weak)
		requireState(t, v, result, "m.room.power_levels", "", demotion[0])
		requireState(t, v, result, "m.room.join_rules", "", base[StateKey{"m.room.join_rules", ""}])
		requireState(t, v, result, "m.room.topic", "", nil)
		requireState(t, v, result, "m.room.member", "@v:t", demotion[1])
	}
}

// Topics based on newer power levels come later whatever their clocks say.
func TestResolveMainline(t *testing.T) {
	for _, v := range SupportedRoomVersions()[1:] {
		r, base := newForkRoom(t, v)
		newer, sent := r.run(base, levelsLine(v, "@a:s", `"@a:s":100,"@m:t":50,"@u:t":1`), `m.room.topic @a:s "" {"topic":"newer"}`)
		r.now += 1000
		older, _ := r.run(base, `m.room.topic @m:t "" {"topic":"late"}`)
		result := r.resolve(newer, older)
		want := sent[1]
		requireState(t, v, result, "m.room.topic", "", want)
		// Without that the later one wins.
		first, _ := r.run(base, `m.room.name @m:t "" {"name":"first"}`)
		second, names := r.run(base, `m.room.name @m:t "" {"name":"second"}`)
		requireState(t, v, r.resolve(first, second), "m.room.name", "", names[0])
	}
}

// MSC4297, problem A: who set the join rules has left, and one state has
// outdated join rules. Up to version 11 the room loses them.
func TestResolveStaleStateOfOneWhoLeft(t *testing.T) {
	for _, v := range SupportedRoomVersions()[1:] {
		r, base := newForkRoom(t, v)
		state, sent := r.run(base, `m.room.join_rules @a:s "" {"join_rule":"public","a":1}`,
			`m.room.join_rules @a:s "" {"join_rule":"invite"}`, member_("@a:s", "@a:s", "leave"))
		stale := maps.Clone(state)
		stale[StateKey{"m.room.join_rules", ""}] = sent[0]
		want := sent[1]
		if v != RoomVersionV12 {
			want = nil
		}
		requireState(t, v, r.resolve(state, stale), "m.room.join_rules", "", want)
	}
}

// MSC4297, problem B: one state has outdated power levels, and both auth
// chains have what is in between. Up to version 11 the room falls back.
func TestResolveStalePowerLevels(t *testing.T) {
	for _, v := range SupportedRoomVersions()[1:] {
		r, base := newForkRoom(t, v)
		state, sent := r.run(base, levelsLine(v, "@a:s", `"@a:s":100,"@m:t":50`),
			levelsLine(v, "@a:s", `"@a:s":100,"@m:t":50,"@u:t":90`),
			levelsLine(v, "@u:t", `"@a:s":100,"@m:t":50,"@u:t":90,"@v:t":80`),
			`m.room.topic @v:t "" {}`)
		stale := maps.Clone(state)
		stale[StateKey{"m.room.power_levels", ""}] = sent[0]
		want := sent[2]
		if v != RoomVersionV12 {
			want = sent[0]
		}
		requireState(t, v, r.resolve(state, stale), "m.room.power_levels", "", want)
	}
}

// A creator of version 12 stands above every admin.
func TestResolveCreatorWins(t *testing.T) {
	r, base := newForkRoom(t, RoomVersionV12)
	admin, _ := r.run(base, levelsLine(r.v, "@a:s", `"@a:s":100,"@u:t":100`), member_("@a:s", "@m:t", "ban"))
	creator, sent := r.run(base, levelsLine(r.v, "@c:s", `"@a:s":0`))
	result := r.resolve(admin, creator)
	requireState(t, r.v, result, "m.room.power_levels", "", sent[0])
	requireState(t, r.v, result, "m.room.member", "@m:t", base[StateKey{"m.room.member", "@m:t"}])
}

func TestResolveV1(t *testing.T) {
	r, base := newForkRoom(t, RoomVersionV1)
	// Power levels: ascending depth, each allowed by the one before.
	first, one := r.run(base, levelsLine(r.v, "@a:s", `"@a:s":100,"@m:t":0`))
	second, _ := r.run(base, levelsLine(r.v, "@m:t", `"@a:s":100,"@m:t":50,"@u:t":1`))
	requireState(t, r.v, r.resolve(first, second), "m.room.power_levels", "", one[0])
	third, three := r.run(base, levelsLine(r.v, "@a:s", `"@a:s":100,"@m:t":50,"@v:t":2`))
	requireState(t, r.v, r.resolve(first, third), "m.room.power_levels", "", three[0])
	requireState(t, r.v, r.resolve(first, second, third), "m.room.power_levels", "", one[0])

	// Others: the deepest that the resolved state allows.
	x, topics := r.run(base, `m.room.topic @a:s "" {"topic":"a"}`)
	y, _ := r.run(first, levelsLine(r.v, "@a:s", `"@a:s":100,"@m:t":0,"@v:t":3`))
	later, deeper := r.run(base, `m.room.topic @m:t "" {"topic":"m"}`)
	requireState(t, r.v, r.resolve(x, later), "m.room.topic", "", deeper[0])
	demoted := maps.Clone(y)
	demoted[StateKey{"m.room.topic", ""}] = topics[0]
	after := maps.Clone(demoted)
	after[StateKey{"m.room.topic", ""}] = deeper[0]
	requireState(t, r.v, r.resolve(demoted, after), "m.room.topic", "", topics[0])

	// A state without a key does not disagree about it.
	without := maps.Clone(base)
	delete(without, StateKey{"m.room.member", "@u:t"})
	requireState(t, r.v, r.resolve(base, without), "m.room.member", "@u:t", base[StateKey{"m.room.member", "@u:t"}])

	// Power levels come first: without them a may not ban.
	banned1, bans := r.run(base, member_("@a:s", "@u:t", "ban"))
	requireState(t, r.v, r.resolve(first, banned1), "m.room.member", "@u:t", bans[0])

	// Members: a ban at the same depth as a profile change, by hash of the ID.
	join, _ := r.run(base, `m.room.member @u:t @u:t {"membership":"join","displayname":"U"}`)
	ban, banned := r.run(base, member_("@a:s", "@u:t", "ban"))
	requireState(t, r.v, r.resolve(join, ban), "m.room.member", "@u:t", banned[0])
}

func TestSortV1(t *testing.T) {
	r := &resolution{events: map[string]*Event{
		"$a": {id: "$a", depth: 5}, "$b": {id: "$b", depth: 5}, "$c": {id: "$c", depth: 4}, "$d": {id: "$d", depth: 6},
	}}
	got := r.sortV1([]string{"$d", "$b", "$a", "$c"})
	if again := r.sortV1([]string{"$a", "$c", "$d", "$b"}); !slices.Equal(got, again) {
		t.Errorf("%v and %v", got, again)
	}
	// sha1sum says c1... of $a and 77... of $b.
	if want := []string{"$c", "$a", "$b", "$d"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestIsPowerEvent(t *testing.T) {
	r := newAuthRoom(t, RoomVersionV10, "")
	for line, want := range map[string]bool{
		`m.room.power_levels @a:s ""`: true, `m.room.join_rules @a:s ""`: true, `m.room.power_levels @a:s -`: false,
		member_("@a:s", "@u:t", "ban"): true, member_("@a:s", "@u:t", "leave"): true, member_("@u:t", "@u:t", "leave"): false,
		member_("@a:s", "@u:t", "invite"): false, member_("@u:t", "@u:t", "join"): false, `m.room.topic @a:s ""`: false,
		`m.room.member @a:s - {"membership":"ban"}`: false,
	} {
		if got := isPowerEvent(r.line(line)); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
}

func TestMissingEventsErrorIsShort(t *testing.T) {
	err := &MissingEventsError{EventIDs: slices.Repeat([]string{"$e"}, 1000)}
	if text := err.Error(); len(text) > 100 || !strings.Contains(text, "990 more") {
		t.Errorf("%s", text)
	}
}

// A provider that gives events of another room version is at fault.
func TestResolveOtherVersion(t *testing.T) {
	r, base := newForkRoom(t, RoomVersionV10)
	x, _ := r.run(base, `m.room.topic @a:s "" {}`)
	_, err := ResolveState(RoomVersionV11, []map[StateKey]string{base.ids(), x.ids()}, &mapProvider{events: r.events})
	if !errors.Is(err, ErrBadEvent) {
		t.Errorf("got %v", err)
	}
}

func TestResolveTrivial(t *testing.T) {
	for _, v := range SupportedRoomVersions() {
		_, base := newForkRoom(t, v)
		p := &mapProvider{}
		if got, err := ResolveState(v, nil, p); err != nil || got == nil || len(got) != 0 {
			t.Errorf("no states: %v, %v", got, err)
		}
		for n := 1; n < 4; n++ {
			sets := slices.Repeat([]map[StateKey]string{base.ids()}, n)
			got, err := ResolveState(v, sets, p)
			if err != nil || !maps.Equal(got, sets[0]) {
				t.Errorf("%d equal states: %v, %v", n, got, err)
			}
			got[StateKey{"x", ""}] = "y" // ours
			if len(sets[0]) == len(got) {
				t.Error("the result is one of the states")
			}
		}
		if p.calls != 0 {
			t.Errorf("%d loads without a conflict", p.calls)
		}
	}
	if _, err := ResolveState("13", nil, nil); !errors.Is(err, ErrUnsupportedRoomVersion) {
		t.Errorf("unknown version: %v", err)
	}
}

func TestResolveMissingEvents(t *testing.T) {
	for _, v := range SupportedRoomVersions() {
		r, base := newForkRoom(t, v)
		x, sent := r.run(base, `m.room.topic @a:s "" {"topic":"a"}`)
		y, _ := r.run(base, `m.room.topic @m:t "" {"topic":"m"}`)
		for _, gone := range []*Event{sent[0], base[StateKey{"m.room.power_levels", ""}], base[StateKey{"m.room.member", "@a:s"}]} {
			events := maps.Clone(r.events)
			delete(events, gone.EventID())
			_, err := ResolveState(v, []map[StateKey]string{x.ids(), y.ids()}, &mapProvider{events: events})
			var missing *MissingEventsError
			if !errors.As(err, &missing) || !slices.Equal(missing.EventIDs, []string{gone.EventID()}) {
				t.Errorf("version %s, without %s: %v", v, gone.Type(), err)
			}
		}
		failing := errors.New("no database")
		if _, err := ResolveState(v, []map[StateKey]string{x.ids(), y.ids()}, failingProvider{failing}); !errors.Is(err, failing) {
			t.Errorf("version %s: %v", v, err)
		}
	}
}

type failingProvider struct{ err error }

func (p failingProvider) Events([]string) (map[string]*Event, error) { return nil, p.err }

func TestResolveTrace(t *testing.T) {
	for _, v := range SupportedRoomVersions() {
		r, base := newForkRoom(t, v)
		x, _ := r.run(base, levelsLine(v, "@m:t", `"@a:s":100,"@m:t":50,"@u:t":50`))
		y, sent := r.run(base, member_("@a:s", "@m:t", "ban"))
		result, trace, err := ResolveStateTrace(v, []map[StateKey]string{x.ids(), y.ids()}, &mapProvider{events: r.events})
		if err != nil {
			t.Fatal(err)
		}
		if len(trace.Candidates) != 2 || len(trace.Candidates[StateKey{"m.room.member", "@m:t"}]) != 2 || trace.Algorithm != v.Rules().StateRes {
			t.Errorf("version %s: %+v", v, trace)
		}
		taken := make(map[StateKey]string)
		refused := 0
		for _, s := range trace.Steps {
			if s.Refused == "" {
				taken[s.Key] = s.EventID
			} else {
				refused++
			}
		}
		for key := range trace.Candidates {
			if taken[key] != "" && taken[key] != result[key] {
				t.Errorf("version %s: the trace has %s at %v, the result %s", v, taken[key], key, result[key])
			}
		}
		if v != RoomVersionV1 && (refused == 0 || taken[sent[0].Key()] != sent[0].EventID()) {
			t.Errorf("version %s: steps %+v", v, trace.Steps)
		}
	}
}

// rejectingProvider says that some events were rejected.
type rejectingProvider struct {
	mapProvider
	rejected map[string]bool
}

func (p *rejectingProvider) Rejected(id string) bool { return p.rejected[id] }

// An auth event that was rejected does not fill a gap in the state.
func TestResolveRejectedAuthEvent(t *testing.T) {
	for _, v := range SupportedRoomVersions()[1:] {
		r, base := newForkRoom(t, v)
		joined, sent := r.run(base, member_("@w:t", "@w:t", "join"), levelsLine(v, "@a:s", `"@a:s":100,"@m:t":50,"@w:t":50`),
			`m.room.topic @w:t "" {"topic":"w"}`)
		delete(joined, StateKey{"m.room.member", "@w:t"}) // so that it is needed from the topic's auth events
		sets := []map[StateKey]string{base.ids(), joined.ids()}
		p := &rejectingProvider{mapProvider: mapProvider{events: r.events}}
		for _, rejected := range []bool{false, true} {
			p.rejected = map[string]bool{sent[0].EventID(): rejected}
			// The join is in the auth difference and would be replayed: make it
			// part of what all have in common.
			shared := &sharedIndex{rejectingProvider: p}
			result, err := ResolveState(v, sets, shared)
			if err != nil {
				t.Fatal(err)
			}
			want := sent[2]
			if rejected {
				want = nil
			}
			requireState(t, v, result, "m.room.topic", "", want)
		}
	}
}

// sharedIndex says that auth chains do not differ.
type sharedIndex struct{ *rejectingProvider }

func (*sharedIndex) AuthDifference([][]string, []string) ([]string, error) { return nil, nil }
func (*sharedIndex) ConflictedSubgraph([]string) ([]string, error)         { return nil, nil }

// Events that authorise each other cannot have been accepted: an error, no
// endless loop.
func TestResolveCycle(t *testing.T) {
	r, base := newForkRoom(t, RoomVersionV2)
	loop := func(id, other string) *Event {
		b := r.builder("m.room.power_levels", "@a:s", ptr(""), `{}`, nil, nil)
		b.EventID, b.AuthEvents, b.AuthHashes = id, []string{other}, make([][32]byte, 1)
		e := mustBuild(t, r.v, b)
		r.events[id] = e
		return e
	}
	x, y := maps.Clone(base), maps.Clone(base)
	x[StateKey{"m.room.power_levels", ""}] = loop("$x:s", "$y:s")
	y[StateKey{"m.room.power_levels", ""}] = loop("$y:s", "$x:s")
	_, err := ResolveState(r.v, []map[StateKey]string{x.ids(), y.ids()}, &mapProvider{events: r.events})
	if !errors.Is(err, errAuthCycle) {
		t.Errorf("got %v", err)
	}
}
