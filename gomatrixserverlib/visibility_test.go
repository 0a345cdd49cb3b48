package gomatrixserverlib

import (
	"fmt"
	"testing"
)

func TestHistoryVisibilityOf(t *testing.T) {
	r := newAuthRoom(t, RoomVersionV10, "")
	if HistoryVisibilityOf(nil) != VisibilityShared {
		t.Error("default")
	}
	for content, want := range map[string]HistoryVisibility{
		`{"history_visibility":"world_readable"}`: VisibilityWorldReadable, `{"history_visibility":"invited"}`: VisibilityInvited,
		`{"history_visibility":"joined"}`: VisibilityJoined, `{"history_visibility":"shared"}`: VisibilityShared,
		`{}`: VisibilityShared, `{"history_visibility":["joined"]}`: VisibilityShared, `{"history_visibility":"odd"}`: VisibilityShared,
	} {
		if got := HistoryVisibilityOf(r.line(`m.room.history_visibility @a:s "" ` + content)); got != want {
			t.Errorf("%s: %s", content, got)
		}
	}
}

// visibleWhen says of each visibility what lets one see: membership before, or
// having joined since.
func visibleWhen(visibility HistoryVisibility, membership string, since bool) bool {
	return map[HistoryVisibility]bool{
		VisibilityWorldReadable: true,
		VisibilityShared:        membership == "join" || since,
		"":                      membership == "join" || since,
		VisibilityInvited:       membership == "join" || membership == "invite",
		VisibilityJoined:        membership == "join",
	}[visibility]
}

func TestVisible(t *testing.T) {
	r := newAuthRoom(t, RoomVersionV10, "")
	message := r.line(`m.room.message @a:s - {}`)
	visibilities := []HistoryVisibility{"", VisibilityWorldReadable, VisibilityShared, VisibilityInvited, VisibilityJoined}
	memberships := []string{"", "join", "invite", "leave", "ban", "knock"}
	for _, visibility := range visibilities {
		for _, membership := range memberships {
			for _, since := range []bool{false, true} {
				name := fmt.Sprintf("%s %s %v", visibility, membership, since)
				user := UserView{Event: message, UserID: "@u:t", Visibility: visibility, Membership: membership, JoinedSince: since}
				want := visibleWhen(visibility, membership, since)
				if VisibleToUser(user) != want {
					t.Errorf("%s: user sees: %v", name, !want)
				}
				server := ServerView{Event: message, Server: "t", Visibility: visibility,
					Joined: membership == "join", Invited: membership == "invite", JoinedSince: since}
				if VisibleToServer(server) != want {
					t.Errorf("%s: server sees: %v", name, !want)
				}
				if server.Server = "s"; !VisibleToServer(server) {
					t.Errorf("%s: the sender's server does not see its event", name)
				}
				// The visibility or one's own membership after the event counts too.
				for _, after := range visibilities[1:] {
					user.Event = r.line(`m.room.history_visibility @a:s "" {"history_visibility":"` + string(after) + `"}`)
					server.Event, server.Server = user.Event, "t"
					either := want || visibleWhen(after, membership, since)
					if VisibleToUser(user) != either || VisibleToServer(server) != either {
						t.Errorf("%s, then %s: want %v", name, after, either)
					}
				}
				for _, after := range memberships[1:] {
					user.Event = r.line(member_("@a:s", "@u:t", after))
					server.Event = user.Event
					either := want || visibleWhen(visibility, after, since)
					if VisibleToUser(user) != either || VisibleToServer(server) != either {
						t.Errorf("%s, then %s: want %v", name, after, either)
					}
					user.Event = r.line(member_("@a:s", "@other:x", after))
					if VisibleToUser(user) != want {
						t.Errorf("%s, then another %s: want %v", name, after, want)
					}
				}
			}
		}
	}
}
