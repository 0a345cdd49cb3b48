package syncapi

import (
	"context"
	"math"
	"slices"
	"strconv"

	"github.com/matrix-org/dendrite/syncapi/storage"
)

const (
	// maxChildren bounds the relations that are read to aggregate for a page.
	maxChildren = 5000
	// maxReferences bounds the references shown of one event.
	maxReferences = 100
)

// relate adds the aggregations of a limited timeline's events. Children come
// after their parents, so where the tail is whole it holds them.
// spec: client-server-api §aggregations-of-child-events
func (a *answer) relate(ctx context.Context, p *part, t *timeline, sh *shown) error {
	if len(t.events) == 0 {
		return nil
	}
	children, whole := p.room.childrenFrom(t.events[0].Position, p.upper)
	if !whole {
		return a.s.bundle(ctx, p.room.id, t.events, p.upper, a.ignored, sh)
	}
	if len(children) == 0 {
		return nil
	}
	return a.s.bundleFrom(ctx, p.room.id, t.events, children, p.upper, a.ignored, sh)
}

func aggregated(relType string) bool {
	return relType == relReplace || relType == relThread || relType == relReference
}

// bundle adds the aggregations of events, reading their relations.
func (s *Server) bundle(ctx context.Context, roomID string, events []*event, upTo int64, ignored map[string]struct{}, sh *shown) error {
	ids := make([]string, 0, len(events))
	for _, ev := range events {
		if !ev.IsState() {
			ids = append(ids, ev.EventID())
		}
	}
	if len(ids) == 0 {
		return nil
	}
	if upTo == 0 {
		upTo = math.MaxInt64
	}
	if err := s.view.awaitRows(ctx, ofRoom(s.partition(roomID))); err != nil {
		return err
	}
	children, err := s.view.store.Children(ctx, roomID, ids, upTo, maxChildren)
	if err != nil || len(children) == 0 {
		return err
	}
	return s.bundleFrom(ctx, roomID, events, children, upTo, ignored, sh)
}

// bundleFrom aggregates relations, oldest first, into the extras of the events.
func (s *Server) bundleFrom(ctx context.Context, roomID string, events []*event, children []storage.Relation, upTo int64, ignored map[string]struct{}, sh *shown) error {
	parents := map[string]*bundleOf{}
	for _, ev := range events {
		if !ev.IsState() {
			parents[ev.EventID()] = &bundleOf{parent: ev}
		}
	}
	want := map[string]*event{}
	for _, c := range children {
		if _, ok := ignored[c.Sender]; ok || c.TS < sh.expired {
			continue
		}
		if b := parents[c.Parent]; b != nil {
			b.add(c, sh.userID)
		}
	}
	for _, b := range parents {
		b.need(want)
	}
	if err := s.fetch(ctx, roomID, want); err != nil {
		return err
	}
	if err := s.nested(ctx, roomID, parents, want, upTo, ignored, sh); err != nil {
		return err
	}
	// Threads last: they show other events with their aggregations.
	for _, threads := range []bool{false, true} {
		for id, b := range parents {
			if (b.latest != "") == threads {
				sh.relate(id, b.append(sh, want))
			}
		}
	}
	return nil
}

// relate notes the aggregations of an event; nil for none.
func (s *shown) relate(id string, relations []byte) {
	if relations == nil {
		return
	}
	if s.extra == nil {
		s.extra = map[string]*extras{}
	}
	if s.extra[id] == nil {
		s.extra[id] = &extras{}
	}
	s.extra[id].relations = relations
}

// nested adds the aggregations of the latest events of threads, which hold no
// threads themselves: the recursion is one level deep.
func (s *Server) nested(ctx context.Context, roomID string, parents map[string]*bundleOf, want map[string]*event, upTo int64, ignored map[string]struct{}, sh *shown) error {
	var latest []*event
	for _, b := range parents {
		if ev := want[b.latest]; ev != nil {
			if _, shown := parents[b.latest]; !shown {
				latest = append(latest, ev)
			}
		}
	}
	if len(latest) == 0 || sh.nested {
		return nil
	}
	inner := *sh
	inner.nested = true
	if err := s.bundle(ctx, roomID, latest, upTo, ignored, &inner); err != nil {
		return err
	}
	sh.extra = inner.extra
	return nil
}

// bundleOf gathers what relates to one event.
type bundleOf struct {
	parent *event
	// replace is the most recent replacement, as far as an index can tell.
	replace      *storage.Relation
	latest       string // event of the thread
	count        int
	participated bool
	references   []string
}

func (b *bundleOf) add(c storage.Relation, userID string) {
	switch c.RelType {
	case relReplace:
		// A redacted event keeps its thread and what refers to it, but no edits.
		// spec: client-server-api §validity-of-replacement-events
		if b.parent.RedactedBy != "" || !c.Usable || c.Sender != b.parent.Sender() || c.Type != b.parent.Type() || b.isReplacement() {
			return
		}
		if b.replace == nil || c.TS > b.replace.TS || c.TS == b.replace.TS && c.EventID > b.replace.EventID {
			b.replace = &c
		}
	case relThread:
		b.latest = c.EventID
		b.count++
		b.participated = b.participated || c.Sender == userID
	case relReference:
		if len(b.references) < maxReferences {
			b.references = append(b.references, c.EventID)
		}
	}
}

// isReplacement tells whether the parent is a replacement itself: those are
// not replaced.
func (b *bundleOf) isReplacement() bool {
	rel, ok := relationOf(b.parent)
	return ok && rel.RelType == relReplace
}

// need notes the events that have to be shown.
func (b *bundleOf) need(want map[string]*event) {
	for _, id := range []string{b.latest, b.replaceID()} {
		if id == "" {
			continue
		}
		if _, ok := want[id]; !ok {
			want[id] = nil
		}
	}
}

func (b *bundleOf) replaceID() string {
	if b.replace == nil {
		return ""
	}
	return b.replace.EventID
}

// append makes the object m.relations; nil when there is nothing in it.
func (b *bundleOf) append(sh *shown, found map[string]*event) []byte {
	inner := *sh
	inner.fields = nil
	out := []byte{'{'}
	if ev := found[b.replaceID()]; ev != nil && ev.RedactedBy == "" {
		out = inner.appendEvent(appendKey(out, relReplace), ev)
	}
	if ev := found[b.latest]; ev != nil {
		out = append(appendKey(out, relThread), `{"latest_event":`...)
		out = inner.appendEvent(out, ev)
		out = strconv.AppendInt(appendKey(out, "count"), int64(b.count), 10)
		out = strconv.AppendBool(appendKey(out, "current_user_participated"), b.participated || b.parent.Sender() == sh.userID)
		out = append(out, '}')
	}
	if len(b.references) > 0 {
		out = append(appendKey(out, relReference), `{"chunk":[`...)
		for _, id := range slices.Clip(b.references) {
			out = append(comma(out), `{"event_id":`...)
			out = append(appendString(out, id), '}')
		}
		out = append(out, `]}`...)
	}
	if len(out) == 1 {
		return nil
	}
	return append(out, '}')
}
