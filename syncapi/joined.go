package syncapi

import (
	"context"
	"slices"
	"strconv"
)

// appendJoined appends a joined room: name and object.
func (a *answer) appendJoined(ctx context.Context, body []byte, p *part) ([]byte, error) {
	mark := len(body)
	body = append(appendKey(body, p.room.id), '{')
	empty := len(body)
	t, err := a.timeline(ctx, p)
	if err != nil {
		return nil, err
	}
	state, err := a.stateOf(ctx, p, t)
	if err != nil {
		return nil, err
	}
	if body, err = a.appendHistory(ctx, body, p, t, state); err != nil {
		return nil, err
	}
	if p.fresh || t.membersChanged() {
		if body, err = a.appendSummary(ctx, body, p); err != nil {
			return nil, err
		}
	}
	body = a.appendRoomEphemeral(body, p)
	if body, err = a.appendRoomAccount(ctx, body, p); err != nil {
		return nil, err
	}
	if len(body) == empty && !p.room.readSince(a.since, a.cut, a.u) && p.room.lastPurge() <= p.lower {
		return body[:mark], nil
	}
	if body, err = a.appendUnread(ctx, body, p); err != nil {
		return nil, err
	}
	return append(body, '}'), nil
}

// membersChanged tells whether the membership of anybody may have changed.
func (t *timeline) membersChanged() bool {
	if !t.whole {
		return true
	}
	for _, ev := range t.window {
		for _, c := range ev.changes {
			if c.Type == "m.room.member" {
				return true
			}
		}
	}
	return false
}

// complete finds what other events say of those of a timeline.
func (a *answer) complete(ctx context.Context, p *part, t *timeline, sh *shown) (err error) {
	if sh.extra, err = a.s.lookUp(ctx, p.room.id, t.events, slices.Concat(t.window, a.looked[p.room.id])); err != nil {
		return err
	}
	if t.limited || p.fresh {
		return a.relate(ctx, p, t, sh)
	}
	return nil
}

// appendHistory appends timeline and state of a room, where there is any.
func (a *answer) appendHistory(ctx context.Context, body []byte, p *part, t *timeline, state []*event) ([]byte, error) {
	sh := a.shown(p)
	if len(t.events) > 0 || t.limited || p.fresh {
		if err := a.complete(ctx, p, t, sh); err != nil {
			return nil, err
		}
		body = append(appendKey(body, "timeline"), `{"events":`...)
		body = sh.appendEvents(body, t.events)
		body = append(body, `,"limited":`...)
		body = strconv.AppendBool(body, t.limited)
		body = append(body, `,"prev_batch":`...)
		body = append(appendString(body, timelineToken(t.start)), '}')
	}
	name := "state"
	if a.req.stateAfter {
		name = "state_after"
	}
	if len(state) > 0 || a.req.stateAfter && (len(t.events) > 0 || p.fresh) {
		sh.extra = nil
		body = append(appendKey(body, name), `{"events":`...)
		body = append(sh.appendEvents(body, state), '}')
	}
	return body, nil
}
