package syncapi

import (
	"context"
	"math"
	"strings"

	"github.com/matrix-org/dendrite/common/filters"
	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/property"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/syncapi/storage"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// viewer is a user who reads a room otherwise than by /sync.
type viewer struct {
	userID, deviceID string
	roomID           string
	ignored          map[string]struct{}
	changes          []storage.Membership
	// room is the room in memory, where what is there says all that the user may
	// see; else nil.
	room *room
	// member tells whether the user is or was joined.
	member bool
	now    int64 // milliseconds
	// expired is the time before which the room's events have expired.
	expired int64
}

// wants tells whether the viewer wants an event.
func (v *viewer) wants(f *filters.Event, ev *event) bool {
	if _, ignored := v.ignored[ev.Sender()]; ignored && !ev.IsState() {
		return false
	}
	return !expired(ev, v.expired) && f.WantsEvent(ev.Event)
}

// pathID reads an identifier of the path.
func (s *Server) pathID(r *httpapi.Request, name string) (string, error) {
	id := r.PathValue(name)
	if id == "" || len(id) > gomatrixserverlib.MaxIDBytes {
		return "", matrixerror.InvalidParam("%s is not an identifier", name)
	}
	return id, nil
}

// viewer checks that the requester may look into the room at all: members and
// those who were, and everybody where history is world-readable. What of it
// they may see is decided for each event.
func (s *Server) viewer(r *httpapi.Request, roomID string) (*viewer, error) {
	ctx := r.Context()
	s.active(r, false, "")
	if err := s.catchUpRoom(ctx, roomID); err != nil {
		return nil, err
	}
	return s.viewerOf(ctx, r.Device.UserID, r.Device.DeviceID, roomID)
}

// viewerOf is viewer for a room that the view has caught up with.
func (s *Server) viewerOf(ctx context.Context, userID, deviceID, roomID string) (*viewer, error) {
	u, err := s.view.user(ctx, userID)
	if err != nil {
		return nil, err
	}
	defer s.view.release(u)
	v := &viewer{userID: u.id, deviceID: deviceID, roomID: roomID, now: s.now().UnixMilli()}
	u.mu.Lock()
	v.ignored = u.ignored
	if m := u.rooms[roomID]; m != nil {
		v.changes = m.changes
		if len(m.changes) < maxChanges { // else the first ones are not known
			v.room = m.room
		}
	}
	u.mu.Unlock()
	for _, c := range v.changes {
		v.member = v.member || c.Membership == "join"
	}
	if v.member && memberAt(v.changes, math.MaxInt64) != "join" {
		if err := s.forget(ctx, v); err != nil {
			return nil, err
		}
	}
	if !v.member {
		if err := s.mayLook(ctx, v); err != nil {
			return nil, err
		}
	}
	v.expired, err = s.expiredBefore(ctx, v.room, roomID)
	return v, err
}

// forget makes a stranger of who has left and forgotten the room. The user-api is
// asked, which knows at once.
// spec: client-server-api §leaving-rooms
func (s *Server) forget(ctx context.Context, v *viewer) error {
	res, err := userapi.QueryForgotten.Call(ctx, s.caller, &userapi.ForgottenRequest{UserID: v.userID, RoomID: v.roomID})
	if err == nil && res.EventID != "" && res.EventID == v.changes[len(v.changes)-1].EventID {
		v.member, v.changes, v.room = false, nil, nil
	}
	return err
}

// catchUpRoom waits, bounded, until the view has what had happened in the room
// when the request arrived: relations that the client was told are sent.
func (s *Server) catchUpRoom(ctx context.Context, roomID string) error {
	res, err := roomapi.QueryHeads.Call(ctx, s.caller, &roomapi.HeadsRequest{RoomID: roomID})
	if err != nil {
		return err
	}
	want := newVector(len(s.view.shape.rooms), 0, 0, 0)
	if p := s.partition(roomID); p < len(res.Seqs) {
		want.rooms[p] = res.Seqs[p]
	}
	return s.catchUpTo(ctx, want)
}

// mayLook decides for users whom the view does not know as members: it may lag
// behind a join that was answered already.
func (s *Server) mayLook(ctx context.Context, v *viewer) error {
	forbidden := matrixerror.Forbidden("You are not a member of the room")
	if !strings.HasPrefix(v.roomID, "!") {
		return forbidden
	}
	res, err := roomapi.QueryState.Call(ctx, s.caller, &roomapi.StateRequest{RoomID: v.roomID, Keys: []gomatrixserverlib.StateKey{
		{Type: "m.room.history_visibility"}, {Type: typeMember, StateKey: v.userID}}})
	if matrixerror.Is(err, "M_NOT_FOUND") {
		return forbidden // the same answer as for a room that is there
	}
	if err != nil {
		return err
	}
	for _, ev := range res.Events {
		switch ev.Type() {
		case typeMember:
			if ev.Membership() == "join" {
				v.member = true
				v.changes = append(v.changes, storage.Membership{UserID: v.userID, RoomID: v.roomID, Seq: ev.Position.Seq,
					Membership: ev.Membership(), EventID: ev.EventID(), Sender: ev.Sender()})
				return nil
			}
		default:
			if hv, ok := property.Member(ev.Content(), "history_visibility"); ok && string(hv) == `"world_readable"` {
				v.member = true
			}
		}
	}
	if v.member {
		return nil
	}
	return forbidden
}

// shownTo prepares how events are shown to a viewer: with room_id, with what
// other events say of them, and with their aggregations.
func (s *Server) shownTo(ctx context.Context, v *viewer, events []*event) (*shown, error) {
	sh := &shown{
		userID: v.userID, deviceID: v.deviceID, now: v.now, expired: v.expired, withRoomID: true,
		memberAt: func(seq int64) string { return memberAt(v.changes, seq) },
	}
	var err error
	if sh.extra, err = s.lookUp(ctx, v.roomID, events, nil); err != nil {
		return nil, err
	}
	if children, whole := v.children(events); whole {
		if len(children) > 0 {
			err = s.bundleFrom(ctx, v.roomID, events, children, math.MaxInt64, v.ignored, sh)
		}
		return sh, err
	}
	if err := s.bundle(ctx, v.roomID, events, 0, v.ignored, sh); err != nil {
		return nil, err
	}
	return sh, nil
}

// children are the relations to events of a room, if they are in memory.
func (v *viewer) children(events []*event) ([]storage.Relation, bool) {
	if v.room == nil || len(events) == 0 {
		return nil, false
	}
	from := events[0].Position
	for _, ev := range events {
		from = minPosition(from, ev.Position)
	}
	return v.room.childrenFrom(from, math.MaxInt64)
}

// visibleEvent finds an event that the viewer may see: 404 when there is none.
func (s *Server) visibleEvent(ctx context.Context, v *viewer, eventID string) (*event, error) {
	res, err := roomapi.QueryEvents.Call(ctx, s.caller, &roomapi.EventsRequest{RoomID: v.roomID, EventIDs: []string{eventID}, Viewer: v.userID})
	if err != nil {
		return nil, err
	}
	for _, ev := range res.Events {
		if ev.EventID() == eventID && ev.RoomID() == v.roomID && !ev.Outlier && !ev.Rejected && !ev.SoftFailed && !expired(fromStored(ev), v.expired) {
			return fromStored(ev), nil
		}
	}
	return nil, matrixerror.NotFound("Event not found")
}
