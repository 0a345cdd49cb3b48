package syncapi

import (
	"context"
	"slices"

	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/syncapi/storage"
)

// maxThreadUpdates bounds the threads that are told at once.
const maxThreadUpdates = 100

// threadUpdate is a thread in which something was said.
type threadUpdate struct {
	in   *threadsIn
	root string
	// pos and ts are those of the last event, first the Seq of the first one.
	pos   roomapi.Position
	ts    int64
	first int64
}

// threadsIn is a joined room, and between which Seqs its threads are asked for.
type threadsIn struct {
	room           *room
	changes        []storage.Membership
	lower, upper   int64
	from           int64 // after which no thread's last event is
	joinedSince    int64
	expired        *int64 // the time before which its events have expired; nil: none, or not known
	presentedSince int64  // from which Seq on the client is given the timeline; 0: none of it
}

// more tells whether there is more to the thread than the last event.
func (t *threadUpdate) more() bool { return t.first < t.pos.Seq }

// threadUpdates finds the threads of rooms in which something was said, last first:
// within a partition of room.output in the order of Seqs, between partitions in that
// of the events' times, so that rest, a vector, says where to go on. It is nil where
// these are all.
func (s *Server) threadUpdates(ctx context.Context, rooms []*threadsIn, limit int) (out []threadUpdate, rest *vector, err error) {
	all, err := s.threadsAsked(ctx, rooms, limit)
	if err != nil {
		return nil, nil, err
	}
	for _, list := range all {
		slices.SortFunc(list, func(a, b threadUpdate) int { return b.pos.Compare(a.pos) })
	}
	for {
		newest := -1
		for p, list := range all {
			if len(list) > 0 && (newest < 0 || list[0].ts > all[newest][0].ts) {
				newest = p
			}
		}
		if newest < 0 {
			return out, nil, nil
		}
		if len(out) == limit {
			break
		}
		out, all[newest] = append(out, all[newest][0]), all[newest][1:]
	}
	rest = newVector(len(s.view.shape.rooms), len(s.view.shape.users), 0, 0)
	for p, list := range all {
		if len(list) > 0 {
			rest.rooms[p] = list[0].pos.Seq
		}
	}
	return out, rest, nil
}

// unexpired are the threads in which something was said that is still shown.
func (s *Server) unexpired(ctx context.Context, list []threadUpdate) ([]threadUpdate, error) {
	if s.retention == nil {
		return list, nil
	}
	out := list[:0]
	for _, t := range list {
		if t.in.expired == nil {
			before, err := s.expiredBefore(ctx, t.in.room, t.in.room.id)
			if err != nil {
				return nil, err
			}
			t.in.expired = &before
		}
		if t.ts >= *t.in.expired {
			out = append(out, t)
		}
	}
	return out, nil
}

// threadBounds are what rooms of a partition are asked for together.
type threadBounds struct {
	partition          int
	lower, upper, from int64
}

// threadsAsked finds them by partition: in memory, where that reaches back far
// enough, else among the rows; of those more than limit only if they are in memory.
func (s *Server) threadsAsked(ctx context.Context, rooms []*threadsIn, limit int) ([][]threadUpdate, error) {
	out := make([][]threadUpdate, len(s.view.shape.rooms))
	byID, rows := map[string]*threadsIn{}, map[threadBounds][]string{}
	for _, in := range rooms {
		p := in.room.partition
		if in.room.last() <= in.lower || min(in.upper, in.from) <= in.lower {
			continue
		}
		if children, whole := in.room.childrenFrom(roomapi.Position{Partition: p, Seq: in.lower}, in.upper); whole {
			list, err := s.unexpired(ctx, slices.DeleteFunc(in.updates(children), threadUpdate.isToldElsewhere))
			if err != nil {
				return nil, err
			}
			out[p] = append(out[p], list...)
			continue
		}
		byID[in.room.id] = in
		key := threadBounds{p, in.lower, in.upper, in.from}
		rows[key] = append(rows[key], in.room.id)
	}
	for key, ids := range rows {
		list, err := s.threadRows(ctx, key, ids, byID, limit)
		if err != nil {
			return nil, err
		}
		out[key.partition] = append(out[key.partition], list...)
	}
	return out, nil
}

// threadRows finds them among the rows: more than limit, or all there are. What the
// client is not to be told does not count.
func (s *Server) threadRows(ctx context.Context, b threadBounds, ids []string, byID map[string]*threadsIn, limit int) (out []threadUpdate, err error) {
	if err := s.view.awaitRows(ctx, ofRoom(b.partition)); err != nil {
		return nil, err
	}
	for {
		list, err := s.view.store.ThreadUpdates(ctx, ids, b.lower, b.upper, b.from, limit+1)
		if err != nil {
			return nil, err
		}
		var told []threadUpdate
		for _, t := range list {
			in := byID[t.RoomID]
			is := threadUpdate{in: in, root: t.Root, ts: t.TS, first: max(t.First, in.joinedSince+1),
				pos: roomapi.Position{Partition: b.partition, Seq: t.Last}}
			if t.Last > in.joinedSince && !is.isToldElsewhere() {
				told = append(told, is)
			}
		}
		if told, err = s.unexpired(ctx, told); err != nil {
			return nil, err
		}
		if out = append(out, told...); len(out) > limit || len(list) <= limit {
			return out, nil
		}
		b.from = list[len(list)-1].Last - 1 // the next ones
	}
}

// updates gathers relations, oldest first, by threads.
func (in *threadsIn) updates(children []storage.Relation) []threadUpdate {
	threads := map[string]*threadUpdate{}
	for _, c := range children {
		if c.RelType != relThread || c.Seq <= in.lower || c.Seq <= in.joinedSince {
			continue
		}
		t := threads[c.Parent]
		if t == nil {
			t = &threadUpdate{in: in, root: c.Parent, first: c.Seq}
			threads[c.Parent] = t
		}
		t.pos, t.ts = roomapi.Position{Partition: in.room.partition, Seq: c.Seq, Sub: c.Sub}, c.TS
	}
	out := make([]threadUpdate, 0, len(threads))
	for _, t := range threads {
		out = append(out, *t)
	}
	return out
}

// isToldElsewhere tells whether the client is given all that was said in the thread
// with the room's timeline, or was told of it on a page before.
func (t threadUpdate) isToldElsewhere() bool {
	return t.in.presentedSince > 0 && t.first >= t.in.presentedSince || t.pos.Seq > t.in.from
}

// appendThreadUpdates appends updates by room and thread, with the roots, where they
// are wanted and the user may see them.
func (s *Server) appendThreadUpdates(ctx context.Context, body []byte, list []threadUpdate, v viewer, roots bool) ([]byte, error) {
	byRoom := map[*threadsIn][]threadUpdate{}
	var order []*threadsIn
	for _, t := range list {
		if byRoom[t.in] == nil {
			order = append(order, t.in)
		}
		byRoom[t.in] = append(byRoom[t.in], t)
	}
	body = append(body, '{')
	for _, in := range order {
		body = append(appendKey(body, in.room.id), '{')
		found, sh, err := map[string]*event{}, (*shown)(nil), error(nil)
		if roots {
			of := v
			of.roomID, of.changes = in.room.id, in.changes
			if in.expired != nil {
				of.expired = *in.expired
			}
			if found, sh, err = s.rootsOf(ctx, &of, byRoom[in]); err != nil {
				return nil, err
			}
		}
		for _, t := range byRoom[in] {
			body = append(appendKey(body, t.root), '{')
			if ev := found[t.root]; ev != nil {
				body = sh.appendEvent(appendKey(body, "thread_root"), ev)
			}
			if t.more() {
				body = appendString(appendKey(body, "prev_batch"), timelineToken(before(t.pos)))
			}
			body = append(body, '}')
		}
		body = append(body, '}')
	}
	return append(body, '}'), nil
}

// rootsOf finds the roots of threads of a room, and how they are shown.
func (s *Server) rootsOf(ctx context.Context, v *viewer, list []threadUpdate) (map[string]*event, *shown, error) {
	ids := make([]string, len(list))
	for i, t := range list {
		ids[i] = t.root
	}
	roots, err := s.threadRoots(ctx, v, ids)
	if err != nil {
		return nil, nil, err
	}
	sh, err := s.shownTo(ctx, v, roots)
	if err != nil {
		return nil, nil, err
	}
	sh.withRoomID = false
	found := map[string]*event{}
	for _, ev := range roots {
		found[ev.EventID()] = ev
	}
	return found, sh, nil
}
