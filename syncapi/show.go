package syncapi

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/matrix-org/dendrite/common/filters"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/property"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/syncapi/api"
)

// showAtOnce is how many rooms of a request are read at a time.
const showAtOnce = 4

// queryShow shows events as they stand in other answers, room by room.
func (s *Server) queryShow(ctx context.Context, r *api.ShowRequest) (*api.ShowResponse, error) {
	if len(r.Events) > api.MaxShown {
		return nil, matrixerror.InvalidParam("At most %d events at once", api.MaxShown)
	}
	if err := s.catchUpTo(ctx, &vector{rooms: r.AtLeast}); err != nil {
		return nil, err
	}
	rooms := map[string][]int{}
	for i, ref := range r.Events {
		rooms[ref.RoomID] = append(rooms[ref.RoomID], i)
	}
	res := &api.ShowResponse{Events: make([]api.Shown, len(r.Events))}
	_, err := s.limited(ctx, func(ctx context.Context) ([]byte, error) {
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(showAtOnce)
		for id, places := range rooms {
			group.Go(func() error { return s.showRoom(ctx, r, id, places, res.Events) })
		}
		return nil, group.Wait()
	})
	return res, err
}

// showRoom fills in the places of a room's events; what the user may not see, does
// not want to see, or is redacted, stays empty.
func (s *Server) showRoom(ctx context.Context, r *api.ShowRequest, roomID string, places []int, out []api.Shown) error {
	v, err := s.viewerOf(ctx, r.UserID, r.DeviceID, roomID)
	if matrixerror.Is(err, "M_FORBIDDEN") {
		return nil
	}
	if err != nil {
		return err
	}
	ids := make([]string, len(places))
	for i, place := range places {
		ids[i] = r.Events[place].EventID
	}
	found, err := roomapi.QueryEvents.Call(ctx, s.caller, &roomapi.EventsRequest{RoomID: roomID, EventIDs: ids, Viewer: v.userID})
	if matrixerror.Is(err, "M_NOT_FOUND") {
		return nil // purged
	}
	if err != nil {
		return err
	}
	byID := map[string]*event{}
	var events []*event
	none := &filters.Event{}
	for _, stored := range found.Events {
		if ev := fromStored(stored); stored.RedactedBy == "" && v.wants(none, ev) {
			byID[ev.EventID()] = ev
			events = append(events, ev)
		}
	}
	sh, err := s.shownTo(ctx, v, events)
	if err != nil {
		return err
	}
	for _, place := range places {
		ev := byID[r.Events[place].EventID]
		if ev == nil {
			continue
		}
		out[place].Event = sh.appendEvent(nil, ev)
		if r.Context != nil {
			if err := s.showContext(ctx, v, r.Context, ev, &out[place]); err != nil {
				return err
			}
		}
	}
	return nil
}

// showContext adds what is around an event.
func (s *Server) showContext(ctx context.Context, v *viewer, r *api.ContextRequest, ev *event, out *api.Shown) error {
	older, newer, err := s.around(ctx, v, &filters.Event{}, ev, min(r.Before, maxContext), min(r.After, maxContext))
	if err != nil {
		return err
	}
	all := append(append([]*event{ev}, older.events...), newer.events...)
	sh, err := s.shownTo(ctx, v, all[1:])
	if err != nil {
		return err
	}
	out.Before, out.After = sh.appendEvents(nil, older.events), sh.appendEvents(nil, newer.events)
	out.Start, out.End = timelineToken(older.next), timelineToken(newer.next)
	if !r.Profiles {
		return nil
	}
	members, err := s.membersAt(ctx, v.roomID, all)
	if err != nil {
		return err
	}
	out.Profiles = make(map[string]api.Profile, len(members))
	for _, m := range members {
		var p api.Profile
		p.DisplayName, _ = property.Member(m.Content(), "displayname")
		p.AvatarURL, _ = property.Member(m.Content(), "avatar_url")
		out.Profiles[*m.StateKey()] = p
	}
	return nil
}

// around reads what is before and after an event.
func (s *Server) around(ctx context.Context, v *viewer, f *filters.Event, ev *event, back, on int) (older, newer *page, err error) {
	if older, err = s.page(ctx, v, f, history{from: before(ev.Position), backwards: true, limit: back}); err != nil {
		return nil, nil, err
	}
	newer, err = s.page(ctx, v, f, history{from: ev.Position, limit: on})
	return older, newer, err
}
