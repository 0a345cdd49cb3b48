package searchapi

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/matrix-org/dendrite/common/matrixerror"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/searchapi/storage"
	syncapi "github.com/matrix-org/dendrite/syncapi/api"
)

const (
	// maxRanked bounds the results that are counted, and ranked against each other.
	maxRanked = 10_000
	// maxExamined bounds the events with the words that are looked at for a page;
	// most may be others' to see.
	maxExamined = 100_000
	// fewRooms is how many rooms are looked for by a term of their own. More would
	// cost more than looking at events of other rooms.
	fewRooms = 50
	// firstLook and longLook are how many events are read from the index at once.
	firstLook = 500
	longLook  = 5000
)

// scope is what a user may find.
type scope struct {
	heads   []int64
	rooms   map[int64]*syncapi.Reach // by the rooms' numbers
	ignored []string
}

// scope finds what a query's user may find, as of when it is called.
func (s *Server) scope(ctx context.Context, q *query) (*scope, error) {
	heads, err := roomapi.Heads(ctx, s.caller, false)
	if err != nil {
		return nil, err
	}
	waiting, cancel := context.WithTimeout(ctx, s.config.WaitTimeout)
	defer cancel()
	if err := s.await(waiting, heads); err != nil {
		if ctx.Err() == nil && waiting.Err() != nil {
			err = matrixerror.Unavailable(retryLater, "The index of messages has not caught up yet")
		}
		return nil, err
	}
	reach, err := syncapi.QueryReach.Call(ctx, s.caller, &syncapi.ReachRequest{UserID: q.userID, AtLeast: heads})
	if err != nil {
		return nil, err
	}
	byID := map[string]*syncapi.Reach{}
	for i := range reach.Rooms {
		r := &reach.Rooms[i]
		if q.filter.WantsRoom(r.RoomID) && (q.from.group != groupRoom || q.from.value == r.RoomID) {
			byID[r.RoomID] = r
		}
	}
	numbers, err := s.db.RoomNumbers(ctx, slices.Sorted(maps.Keys(byID)))
	if err != nil {
		return nil, err
	}
	out := &scope{heads: heads, rooms: map[int64]*syncapi.Reach{}, ignored: reach.Ignored}
	for id, nid := range numbers {
		out.rooms[nid] = byID[id]
	}
	return out, nil
}

// wants tells whether an event that has the words is a result.
func (q *query) wants(in *scope, f *storage.Found) bool {
	room := in.rooms[f.RoomNID]
	if room == nil || !room.Sees(levels()[f.Level], f.Seq) || q.from.group == groupSender && q.from.value != f.Sender {
		return false
	}
	if q.keys != nil && !slices.Contains(q.keys, f.Key) || q.filter.ContainsURL != nil && *q.filter.ContainsURL != f.HasURL {
		return false
	}
	typ := [...]string{storage.KeyBody: "m.room.message", storage.KeyName: "m.room.name", storage.KeyTopic: "m.room.topic"}[f.Key]
	if !q.filter.Wants(typ, f.Sender) {
		return false
	}
	_, ignored := slices.BinarySearch(in.ignored, f.Sender)
	return !ignored || f.Key != storage.KeyBody
}

// results are what was found, in their order, from where the page begins.
type results struct {
	list []storage.Found
	// count is how many there are, those of pages before included, as far as was
	// looked.
	count int
	// lowest is the last event that was looked at, if there may be more below it;
	// else 0.
	lowest int64
	// from is where the page began, once what comes later cannot change that.
	from place
}

// find looks for results.
func (s *Server) find(ctx context.Context, q *query, in *scope) (*results, error) {
	out := &results{from: q.from}
	if len(q.terms) == 0 || len(in.rooms) == 0 {
		return out, nil
	}
	var rooms []int64
	if len(in.rooms) <= fewRooms {
		rooms = slices.Sorted(maps.Keys(in.rooms))
	}
	below := q.from.below
	if q.from.after > 0 && !q.byRank {
		below = q.from.after
	}
	for examined, look := 0, firstLook; ; look = longLook {
		look = min(look, s.examines-examined)
		found, err := s.db.Find(ctx, q.lists(), rooms, below, look)
		if err != nil {
			return nil, err
		}
		s.metrics.examined.Add(float64(len(found)))
		examined += len(found)
		if q.byRank && out.from.below == storage.First && len(found) > 0 {
			out.from.below = found[0].NID + 1
		}
		if last := s.sift(q, in, found, out); last > 0 {
			below = last
		}
		switch {
		case out.count == s.ranks, examined == s.examines:
			out.lowest = below
		case len(found) == look:
			continue
		}
		if q.byRank {
			slices.SortStableFunc(out.list, func(a, b storage.Found) int { return cmp.Compare(a.Words, b.Words) })
		}
		return out, nil
	}
}

// sift adds what is a result to the results, until these are enough; it returns the
// last event that it looked at.
func (s *Server) sift(q *query, in *scope, found []storage.Found, out *results) (last int64) {
	for i := range found {
		f := &found[i]
		last = f.NID
		if !q.wants(in, f) {
			continue
		}
		if out.count++; !q.from.passed(f, q.byRank) {
			out.list = append(out.list, *f)
		}
		if out.count == s.ranks {
			break
		}
	}
	return last
}

// next is the place behind so many results; false if there is nothing behind them.
func (r *results) next(q *query, consumed int, count int64) (p place, ok bool) {
	p = r.from
	p.count = count
	switch {
	case consumed < len(r.list) && consumed > 0:
		last := &r.list[consumed-1]
		p.after = last.NID
		if q.byRank {
			p.words = int64(last.Words)
		}
		return p, true
	case r.lowest > 0:
		p.below, p.after, p.words = r.lowest, 0, 0
		return p, true
	}
	return p, false
}
