package searchapi

import (
	"context"
	"math"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/property"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/searchapi/storage"
	"github.com/matrix-org/dendrite/searchapi/words"
	syncapi "github.com/matrix-org/dendrite/syncapi/api"
)

const (
	// maxHighlights bounds the words that are to be highlighted.
	maxHighlights = 100
	// maxStateBytes bounds the state of all rooms of an answer: beyond it, rooms
	// come without.
	maxStateBytes = 10 << 20
)

// answer is what POST /search answers.
type answer struct {
	Categories struct {
		RoomEvents *roomEvents `json:"room_events,omitzero"`
	} `json:"search_categories"`
}

type roomEvents struct {
	Count      int64                        `json:"count"`
	Highlights []string                     `json:"highlights"`
	Results    []result                     `json:"results"`
	Next       string                       `json:"next_batch,omitzero"`
	Groups     map[string]map[string]*group `json:"groups,omitzero"`
	State      map[string]jsontext.Value    `json:"state,omitzero"`
}

type result struct {
	Rank    float64        `json:"rank"`
	Result  jsontext.Value `json:"result"`
	Context *around        `json:"context,omitzero"`

	found *storage.Found
	room  *syncapi.Reach
}

// around is what is around a result.
type around struct {
	Start    string             `json:"start"`
	End      string             `json:"end"`
	Before   jsontext.Value     `json:"events_before"`
	After    jsontext.Value     `json:"events_after"`
	Profiles map[string]profile `json:"profile_info,omitzero"`
}

type profile struct {
	DisplayName jsontext.Value `json:"displayname,omitzero"`
	AvatarURL   jsontext.Value `json:"avatar_url,omitzero"`
}

type group struct {
	Next    string   `json:"next_batch,omitzero"`
	Order   int      `json:"order"`
	Results []string `json:"results"`
}

// answer answers a query.
func (s *Server) answer(ctx context.Context, q *query) (*answer, error) {
	in, err := s.scope(ctx, q)
	if err != nil {
		return nil, err
	}
	found, err := s.find(ctx, q, in)
	if err != nil {
		return nil, err
	}
	out := &roomEvents{Results: []result{}}
	consumed, err := s.show(ctx, q, in, found.list, out)
	if err != nil {
		return nil, err
	}
	out.Count = q.from.count
	if q.from == (place{below: storage.First}) {
		out.Count = int64(found.count - (consumed - len(out.Results)))
	}
	next, more := found.next(q, consumed, out.Count)
	if more {
		out.Next = next.token(q.byRank)
	}
	for _, key := range q.groups {
		if out.Groups == nil {
			out.Groups = map[string]map[string]*group{}
		}
		out.Groups[key] = q.group(key, in, out, found, consumed)
	}
	out.Highlights = q.highlights(out.Results)
	if q.state {
		if out.State, err = s.states(ctx, q, out.Results); err != nil {
			return nil, err
		}
	}
	a := &answer{}
	a.Categories.RoomEvents = out
	return a, nil
}

// show adds results, as their user is shown them, until the page is full; it returns
// how many of the list that took. What is redacted by now, or not for the user to
// see after all, is passed over.
func (s *Server) show(ctx context.Context, q *query, in *scope, list []storage.Found, out *roomEvents) (consumed int, err error) {
	for consumed < len(list) && len(out.Results) < q.limit {
		part := list[consumed:min(len(list), consumed+q.limit-len(out.Results))]
		req := &syncapi.ShowRequest{UserID: q.userID, DeviceID: q.deviceID, AtLeast: in.heads, Context: q.context}
		for i := range part {
			req.Events = append(req.Events, syncapi.EventRef{RoomID: in.rooms[part[i].RoomNID].RoomID, EventID: part[i].EventID})
		}
		res, err := syncapi.QueryShow.Call(ctx, s.caller, req)
		if err != nil {
			return consumed, err
		}
		for i := range res.Events {
			if shown := &res.Events[i]; len(shown.Event) > 0 {
				out.Results = append(out.Results, resultOf(q, &part[i], in.rooms[part[i].RoomNID], shown))
			}
		}
		consumed += len(part)
	}
	return consumed, nil
}

func resultOf(q *query, f *storage.Found, room *syncapi.Reach, shown *syncapi.Shown) result {
	out := result{Rank: q.rank(f), Result: shown.Event, found: f, room: room}
	if q.context == nil {
		return out
	}
	out.Context = &around{Start: shown.Start, End: shown.End, Before: shown.Before, After: shown.After}
	if q.context.Profiles {
		out.Context.Profiles = map[string]profile{}
		for id, p := range shown.Profiles {
			out.Context.Profiles[id] = profile{p.DisplayName, p.AvatarURL}
		}
	}
	return out
}

// group makes the groups that the results are of, in the order of their first ones.
// A group goes on where some of the rest is of it, or may be; within the page of a
// group only that one does.
func (q *query) group(key string, in *scope, out *roomEvents, found *results, consumed int) map[string]*group {
	of := func(f *storage.Found) string {
		if key == groupSender {
			return f.Sender
		}
		return in.rooms[f.RoomNID].RoomID
	}
	groups := map[string]*group{}
	for i := range out.Results {
		f := out.Results[i].found
		if groups[of(f)] == nil {
			groups[of(f)] = &group{Order: len(groups) + 1}
		}
		groups[of(f)].Results = append(groups[of(f)].Results, f.EventID)
	}
	next, more := found.next(q, consumed, out.Count)
	if !more || q.from.group != "" && q.from.group != key {
		return groups
	}
	left := map[string]struct{}{}
	for i := range found.list[consumed:] {
		left[of(&found.list[consumed+i])] = struct{}{}
	}
	for value, g := range groups {
		if _, some := left[value]; some || found.lowest > 0 {
			next.group, next.value = key, value
			g.Next = next.token(q.byRank)
		}
	}
	return groups
}

// highlights are the query's words, and those of the results that they have found
// in another form.
func (q *query) highlights(list []result) []string {
	out, seen := []string{}, map[string]struct{}{}
	add := func(all []string) {
		for _, w := range all {
			lower := strings.ToLower(w)
			if _, twice := seen[lower]; !twice && len(out) < maxHighlights {
				seen[lower] = struct{}{}
				out = append(out, w)
			}
		}
	}
	add(q.words)
	for i := range list {
		add(words.Matching(shownText(list[i].Result), q.terms, maxHighlights))
	}
	return out
}

// shownText is the text of an event as clients show it.
func shownText(event jsontext.Value) string {
	var e struct {
		Content  contents `json:"content"`
		Unsigned struct {
			Relations struct {
				Replace struct {
					Content contents `json:"content"`
				} `json:"m.replace"`
			} `json:"m.relations"`
		} `json:"unsigned"`
	}
	if json.Unmarshal(event, &e) != nil {
		return ""
	}
	body := e.Content.Body
	if edited, there := property.Member(e.Unsigned.Relations.Replace.Content.NewContent, "body"); there {
		body = edited
	}
	var all []string
	for _, v := range []jsontext.Value{body, e.Content.Name, e.Content.Topic} {
		if t, ok := property.Text(v); ok {
			all = append(all, t)
		}
	}
	return strings.Join(all, " ")
}

// states are the current states of the results' rooms; of rooms that the user has
// left, those of then.
func (s *Server) states(ctx context.Context, q *query, list []result) (map[string]jsontext.Value, error) {
	out, size := map[string]jsontext.Value{}, 0
	senders := map[string][]string{}
	for i := range list {
		senders[list[i].room.RoomID] = append(senders[list[i].room.RoomID], list[i].found.Sender)
	}
	for i := range list {
		room := list[i].room
		if _, there := out[room.RoomID]; there || size > maxStateBytes {
			continue
		}
		form := &roomapi.ClientForm{UserID: q.userID, DeviceID: q.deviceID, Now: q.now}
		req := &roomapi.StateRequest{RoomID: room.RoomID, Client: form}
		if room.SharedTo != math.MaxInt64 {
			req.AtSeq = room.SharedTo
		}
		if q.filter.LazyLoadMembers {
			slices.Sort(senders[room.RoomID])
			req.WithoutMembers, req.Members = true, slices.Compact(senders[room.RoomID])
		}
		res, err := roomapi.QueryState.Call(ctx, s.caller, req)
		if matrixerror.Is(err, "M_NOT_FOUND") {
			continue // purged
		}
		if err != nil {
			return nil, err
		}
		state := res.Rendered
		if state == nil { // a room server of v0.1.0
			state = form.Render(res.Events, nil)
		}
		out[room.RoomID] = state
		size += len(out[room.RoomID])
	}
	return out, nil
}
