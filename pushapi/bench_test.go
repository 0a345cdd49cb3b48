package pushapi

import (
	"fmt"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/pushrules"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// BenchmarkJudge judges a message in a room of 10,000 members, all of whom have a
// pusher and the default rules.
func BenchmarkJudge(b *testing.B) {
	s := &Server{people: newPeople(4), rooms: newRooms()}
	var err error
	if s.metrics, err = newMetrics(nil, s); err != nil {
		b.Fatal(err)
	}
	const members = 10_000
	for i := range members {
		id := fmt.Sprintf("@user%d:test", i)
		rules, err := pushrules.Load(nil, id, pushrules.Features{ThreadSubscriptions: true})
		if err != nil {
			b.Fatal(err)
		}
		content, err := rules.Content()
		if err != nil {
			b.Fatal(err)
		}
		s.people.put(&userapi.PushedUser{UserID: id, Pushers: []userapi.Pusher{{ID: id}}, Data: map[string]jsontext.Value{userapi.TypePushRules: content}}, nil)
	}
	if n := len(s.people.rules); n != 1 {
		b.Errorf("%d sets of rules are in memory", n)
	}
	ev, err := (&gomatrixserverlib.EventBuilder{RoomID: room, Type: "m.room.message", Sender: bob, Content: jsontext.Value(`{"body":"hello","msgtype":"m.text"}`),
		OriginServerTS: 1, Depth: 1, PrevEvents: []string{"$x"}, AuthEvents: []string{"$x"}}).Build(testVersion)
	if err != nil {
		b.Fatal(err)
	}
	ids := s.people.ids()
	for b.Loop() {
		j := s.newJudge(ev, &roomapi.OutputRecord{JoinedCount: members})
		for _, id := range ids {
			if v, err := j.of(b.Context(), s.people.get(id)); err != nil || !v.Notify {
				b.Fatal(v, err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/members, "ns/member")
}
