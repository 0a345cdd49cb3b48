package gomatrixserverlib

import (
	"errors"
	"testing"
)

// hostileEvent makes an event of whatever content; nil if it is no JSON.
func hostileEvent(v RoomVersion, room, id, typ, sender, key string, content []byte) *Event {
	canonical, err := CanonicalJSONLenient(content)
	if err != nil {
		return nil
	}
	json := appendStringMember([]byte(`{"auth_events":[],"prev_events":["`+id+`"],"content":`+string(canonical)), "room_id", room)
	json = appendStringMember(json, "sender", sender)
	if key != "-" {
		json = appendStringMember(json, "state_key", key)
	}
	json = append(appendStringMember(json, "type", typ), '}')
	e, err := ParseStoredEvent(json, v, id)
	if err != nil {
		return nil
	}
	return e
}

// FuzzAuthorise has hostile content in the event and in the room's state: the
// answer is nil or an AuthError, with parsed power levels the same as without.
func FuzzAuthorise(f *testing.F) {
	seeds := []struct{ typ, key, content string }{
		{"m.room.member", "@u:t", `{"membership":"join","join_authorised_via_users_server":"@a:s"}`},
		{"m.room.member", "@x:t", `{"membership":"invite","third_party_invite":{"signed":{"mxid":"@x:t","token":"","signatures":{"s":{"ed25519:1":"AA"}}}}}`},
		{"m.room.member", "@x:t", `{"membership":{"join":[[["\ud83d"]]]}}`},
		{"m.room.power_levels", "", `{"users":{"@a:s":1e999,"@\u0000:s":"1"},"events":[],"ban":-1,"kick":"+1"}`},
		{"m.room.create", "", `{"room_version":"12","additional_creators":[{}],"creator":"@u:t","m.federate":false}`},
		{"m.room.join_rules", "", `{"join_rule":"knock_restricted","allow":{}}`},
		{"m.room.third_party_invite", "", `{"public_key":"AA","public_keys":[[],{"public_key":""}]}`},
		{"m.room.redaction", "-", `{"redacts":5}`}, {"m.room.aliases", "t", `{"aliases":null}`}, {"m.room.message", "-", `[1,2]`}, {"", "@", `"text"`},
	}
	for i, s := range seeds {
		for j := range seeds {
			f.Add(uint8(i+j), s.typ, s.key, []byte(s.content), []byte(seeds[j].content))
		}
	}
	f.Fuzz(func(t *testing.T, version uint8, typ, key string, content, stateContent []byte) {
		v := SupportedRoomVersions()[int(version)%12]
		r := newAuthRoom(t, v, "")
		room, id := r.create.RoomID(), r.create.EventID()
		e := hostileEvent(v, room, id, typ, "@u:t", key, content)
		if e == nil {
			return
		}
		plain := r.state(baseState()...)
		for _, hostile := range []string{"", "m.room.create", "m.room.power_levels", "m.room.join_rules", "m.room.member", "m.room.third_party_invite"} {
			state := make(StateEvents)
			for k, s := range plain {
				state[k] = s
			}
			if x := hostileEvent(v, room, id, hostile, "@u:t", "", stateContent); x != nil && hostile != "" {
				for _, key := range []string{"", "@u:t", key} {
					state[StateKey{hostile, key}] = x
				}
			}
			err := Authorise(e, state)
			var refused *AuthError
			if err != nil && (!errors.As(err, &refused) || refused.Rule == "") {
				t.Fatalf("version %s: %v", v, err)
			}
			levels, levelsErr := NewPowerLevels(v, state.StateEvent("m.room.create", ""), state.StateEvent("m.room.power_levels", ""))
			if levelsErr != nil {
				t.Fatal(levelsErr)
			}
			if again := Authorise(e, &cachedState{StateEvents: state, levels: levels}); (again == nil) != (err == nil) {
				t.Fatalf("version %s: %v without and %v with parsed power levels", v, err, again)
			}
			err = CheckAuthEvents(e, []*Event{r.create}, nil)
			if err != nil && !errors.As(err, &refused) {
				t.Fatalf("version %s: %v", v, err)
			}
			if _, err := AuthKeys(v, typ, "@u:t", e.StateKey(), e.Content()); err != nil {
				t.Fatal(err)
			}
			VisibleToUser(UserView{Event: e, UserID: "@u:t", Visibility: HistoryVisibilityOf(e)})
			ThirdPartyKeys(e)
		}
	})
}

// FuzzPowerLevels changes hostile power levels to other ones: a user below the
// creators never gets above what it had, nor takes it from one of more power.
func FuzzPowerLevels(f *testing.F) {
	seeds := []string{
		`{}`, `{"users":{"@m:t":50,"@a:s":100}}`, `{"users":{"@m:t":"50 ","@a:s":"+100"},"ban":"0x10"}`, `{"users":{"@m:t":50.9}}`,
		`{"users":{"@m:t":60},"events":{"m.room.power_levels":"9"}}`, `{"users_default":1000,"state_default":-1}`, `{"users":null,"events":7}`,
		`{"notifications":{"room":[]},"users":{"m":1}}`, `{"users":{"@m:t":9007199254740993}}`, `{"users":{"@a:s":0,"@m:t":1e2}}`,
	}
	for i, before := range seeds {
		for _, after := range seeds {
			f.Add(uint8(i), []byte(before), []byte(after))
		}
	}
	f.Fuzz(func(t *testing.T, version uint8, before, after []byte) {
		v := SupportedRoomVersions()[int(version)%12]
		r := newAuthRoom(t, v, "")
		room, id := r.create.RoomID(), r.create.EventID()
		old := hostileEvent(v, room, id, "m.room.power_levels", "@a:s", "", before)
		e := hostileEvent(v, room, id, "m.room.power_levels", "@m:t", "", after)
		if old == nil || e == nil {
			return
		}
		state := r.state(member_("@m:t", "@m:t", "join"))
		state[old.Key()] = old
		if Authorise(e, state) != nil {
			return
		}
		was, err := NewPowerLevels(v, r.create, old)
		if err != nil {
			t.Fatal(err)
		}
		is, err := NewPowerLevels(v, r.create, e)
		if err != nil {
			t.Fatal(err)
		}
		power := was.UserLevel("@m:t")
		if power < was.EventLevel("m.room.power_levels", true) {
			t.Fatalf("version %s: sent without the power", v)
		}
		for user, l := range is.content.maps[mapUsers] {
			if l != was.content.maps[mapUsers][user] && (l.kind != levelOK || l.value > power) {
				t.Fatalf("version %s: %s of power %d gave %s %v", v, "@m:t", power, user, l)
			}
		}
		for user, l := range was.content.maps[mapUsers] {
			if l.kind == levelOK && user != "@m:t" && l.value >= power && is.content.maps[mapUsers][user] != l {
				t.Fatalf("version %s: %s lost its power", v, user)
			}
		}
		for i, l := range is.content.levels {
			if l != was.content.levels[i] && (l.kind == levelOK && l.value > power || was.content.levels[i].or(power) > power) {
				t.Fatalf("version %s: %s changed from %v to %v", v, levelName(i), was.content.levels[i], l)
			}
		}
	})
}
