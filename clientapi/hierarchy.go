package clientapi

import (
	"context"
	"encoding/base64"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	directory "github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// Bounds of a walk through a space.
const (
	defaultHierarchyPage = 50
	maxHierarchyPage     = 100
	// maxHierarchyDepth is how many levels below the first room are looked at.
	maxHierarchyDepth = 20
	// maxVisits bounds the rooms looked at: each page walks anew from the
	// beginning, so that any instance can answer it.
	maxVisits = 5000
	// maxChildren bounds the children of one space.
	maxChildren = 1000
	// hierarchyTime is after which a page ends, with less in it than asked for.
	hierarchyTime = 5 * time.Second
	maxWalkToken  = 1024
)

// hierarchyRoom is a room of an answer.
type hierarchyRoom struct {
	roomSummary
	ChildrenState []strippedChild `json:"children_state"`
}

type hierarchyResponse struct {
	Rooms     []*hierarchyRoom `json:"rooms"`
	NextBatch string           `json:"next_batch,omitzero"`
}

// walkToken says where a page ended, and what must not change from page to page.
type walkToken struct {
	RoomID    string `json:"r"`
	MaxDepth  int    `json:"d"`
	Suggested bool   `json:"s,omitzero"`
	// Last is the room that was shown last, the Count-th of all.
	Last  string `json:"l"`
	Count int    `json:"n"`
}

func (t walkToken) String() (string, error) {
	text, err := json.Marshal(t)
	return base64.RawURLEncoding.EncodeToString(text), err
}

func parseWalkToken(s string) (t walkToken, err error) {
	text, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err == nil && len(s) <= maxWalkToken {
		err = json.Unmarshal(text, &t, json.RejectUnknownMembers(true))
	}
	if err != nil || len(s) > maxWalkToken || t.Count < 1 || t.Last == "" || t.MaxDepth < 0 || t.MaxDepth > maxHierarchyDepth {
		return t, matrixerror.InvalidParam("from is not a token of this endpoint")
	}
	return t, nil
}

// getHierarchy serves GET /rooms/{roomId}/hierarchy.
// spec: client-server-api §get_matrixclientv1roomsroomidhierarchy
func (s *Server) getHierarchy(r *httpapi.Request) (any, error) {
	ctx := r.Context()
	want, limit, err := hierarchyRequest(r)
	if err != nil {
		return nil, err
	}
	rooms, err := s.roomsOf(ctx, r.Device.UserID, nil)
	if err != nil {
		return nil, err
	}
	w := &walk{s: s, userID: r.Device.UserID, walkToken: want, limit: limit, until: time.Now().Add(hierarchyTime),
		membership: map[string]string{}, seen: map[string]int{}, rooms: []*hierarchyRoom{}}
	for _, room := range rooms {
		w.membership[room.RoomID] = room.Membership
	}
	known, err := s.describe(ctx, []string{want.RoomID})
	if err != nil {
		return nil, err
	}
	root := known[want.RoomID]
	if root == nil {
		return nil, errNoHierarchy()
	}
	w.skipping = want.Count > 0
	if err := w.visit(ctx, root, 0); err != nil {
		return nil, err
	}
	if w.skipping && !w.lost { // the room where the last page ended is gone from the tree
		if err := w.again(ctx, root); err != nil {
			return nil, err
		}
	}
	if !w.began {
		return nil, errNoHierarchy()
	}
	out := &hierarchyResponse{Rooms: w.rooms}
	if w.more {
		out.NextBatch, err = walkToken{RoomID: want.RoomID, MaxDepth: want.MaxDepth, Suggested: want.Suggested, Last: w.last, Count: w.count}.String()
	}
	return out, err
}

func errNoHierarchy() error { return matrixerror.Forbidden("You are not allowed to view this room") }

// hierarchyRequest reads what is asked for.
func hierarchyRequest(r *httpapi.Request) (want walkToken, limit int, err error) {
	roomID, err := pathRoomID(r)
	if err != nil {
		return want, 0, err
	}
	suggested, err := r.QueryBool("suggested_only", false)
	if err != nil {
		return want, 0, err
	}
	n, err := r.QueryInt("limit", defaultHierarchyPage)
	if err != nil {
		return want, 0, err
	}
	depth, err := r.QueryInt("max_depth", maxHierarchyDepth)
	if err != nil {
		return want, 0, err
	}
	if n < 1 || depth < 0 {
		return want, 0, matrixerror.InvalidParam("limit has to be above zero, and max_depth not below")
	}
	want = walkToken{RoomID: roomID, MaxDepth: int(min(depth, maxHierarchyDepth)), Suggested: suggested}
	limit = int(min(n, maxHierarchyPage))
	from := r.QueryString("from")
	if from == "" {
		return want, limit, nil
	}
	token, err := parseWalkToken(from)
	if err != nil {
		return want, 0, err
	}
	given := r.Query()
	if token.RoomID != roomID || given.Has("suggested_only") && token.Suggested != suggested || given.Has("max_depth") && token.MaxDepth != want.MaxDepth {
		return want, 0, matrixerror.InvalidParam("from is a token of another request: room, suggested_only and max_depth cannot change")
	}
	return token, limit, nil
}

// describe looks rooms up in the directory, which knows what they look like.
func (s *Server) describe(ctx context.Context, ids []string) (map[string]*directory.Room, error) {
	res, err := directory.QueryRooms.Call(ctx, s.caller, &directory.RoomsRequest{RoomIDs: ids})
	if err != nil {
		return nil, err
	}
	out := make(map[string]*directory.Room, len(res.Rooms))
	for i := range res.Rooms {
		out[res.Rooms[i].RoomID] = &res.Rooms[i]
	}
	return out, nil
}

// walk is one page's way through a space, depth first.
type walk struct {
	s      *Server
	userID string
	walkToken
	limit int
	until time.Time
	// membership is the user's, by room.
	membership map[string]string
	// seen has the lowest depth at which a room was come by.
	seen   map[string]int
	visits int
	// skipping is set until the place is reached where the last page ended; lost
	// says that this is found by counting, since the room is not there any more.
	skipping, lost bool
	began          bool // the first room may be seen
	rooms          []*hierarchyRoom
	// last and count are of what was passed, with what other pages have shown.
	last  string
	count int
	more  bool // the page ended before the tree did
}

// again walks a second time, and takes the count of rooms for where the page
// before ended.
func (w *walk) again(ctx context.Context, root *directory.Room) error {
	w.lost, w.count, w.last = true, 0, ""
	w.visits = 0
	clear(w.seen)
	return w.visit(ctx, root, 0)
}

// visit shows a room, if the user may know of it, and then its children. A room
// that comes again, as in a loop, is not shown again; nearer to the beginning
// its children may be within the depth now.
func (w *walk) visit(ctx context.Context, room *directory.Room, depth int) error {
	before, again := w.seen[room.RoomID]
	w.visits++
	if w.more || again && before <= depth || w.visits > maxVisits {
		return nil
	}
	w.seen[room.RoomID] = depth
	summary := &roomSummary{publicRoom: asPublic(room), Encryption: room.Encryption, Version: room.Version, Membership: w.membership[room.RoomID]}
	open, err := w.s.maySummarise(ctx, room, summary, w.userID)
	if err != nil && !matrixerror.Is(err, "M_NOT_FOUND") {
		return err
	}
	// Who is banned may not join, whatever the join rule is.
	if err != nil || !open || summary.Membership == "ban" && !room.WorldReadable {
		return nil
	}
	summary.Membership = "" // the answer has no place for it
	w.began = true
	if !again && !w.skipping && (len(w.rooms) >= w.limit || len(w.rooms) > 0 && time.Now().After(w.until)) {
		w.more = true
		return nil
	}
	children := []strippedChild{}
	if room.Type == typeSpace {
		if children, err = w.s.children(ctx, room.RoomID, w.Suggested); err != nil {
			return err
		}
	}
	if !again {
		w.show(&hierarchyRoom{roomSummary: *summary, ChildrenState: children})
	}
	if depth >= w.MaxDepth || len(children) == 0 {
		return nil
	}
	return w.descend(ctx, children, depth+1)
}

// show puts a room on the page, or passes it where an earlier page has it.
func (w *walk) show(room *hierarchyRoom) {
	w.count++
	w.last = room.RoomID
	if !w.skipping {
		w.rooms = append(w.rooms, room)
		return
	}
	if w.lost && w.count >= w.Count || !w.lost && w.last == w.Last {
		w.skipping = false
	}
}

// descend visits children, in their order.
func (w *walk) descend(ctx context.Context, children []strippedChild, depth int) error {
	ids := make([]string, 0, len(children))
	for i := range children {
		if before, again := w.seen[children[i].StateKey]; !again || before > depth {
			ids = append(ids, children[i].StateKey)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	known, err := w.s.describe(ctx, ids)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if known[id] == nil {
			continue // no server of others is asked yet
		}
		if err := w.visit(ctx, known[id], depth); err != nil {
			return err
		}
	}
	return nil
}

const (
	typeSpace      = "m.space" // of m.room.create
	typeSpaceChild = "m.space.child"
)

// strippedChild is an m.space.child event as answers hold it.
type strippedChild struct {
	Type           string         `json:"type"`
	StateKey       string         `json:"state_key"`
	Content        jsontext.Value `json:"content"`
	Sender         string         `json:"sender"`
	OriginServerTS int64          `json:"origin_server_ts"`

	order string // "" sorts last: it is not a valid one
}

// children are those of a space in the order in which they are shown.
func (s *Server) children(ctx context.Context, roomID string, suggestedOnly bool) ([]strippedChild, error) {
	state, err := api.QueryState.Call(ctx, s.caller, &api.StateRequest{RoomID: roomID, Types: []string{typeSpaceChild}})
	if err != nil {
		return nil, hideUnknown(err)
	}
	out := make([]strippedChild, 0, len(state.Events))
	for _, e := range state.Events {
		var content struct {
			Via       []string       `json:"via"`
			Suggested jsontext.Value `json:"suggested"`
			Order     jsontext.Value `json:"order"`
		}
		child := *e.StateKey()
		if json.Unmarshal(e.Content(), &content) != nil || len(content.Via) == 0 || checkRoomID(child) != nil {
			continue // it was removed, or is none
		}
		if suggestedOnly && string(content.Suggested) != "true" {
			continue
		}
		out = append(out, strippedChild{Type: typeSpaceChild, StateKey: child, Content: e.Content(), Sender: e.Sender(),
			OriginServerTS: e.OriginServerTS(), order: childOrder(content.Order)})
	}
	slices.SortFunc(out, compareChildren)
	return out[:min(len(out), maxChildren)], nil
}

// maxOrder bounds the order of a child, in characters.
const maxOrder = 50

// childOrder reads the order of a child; "" where it is not valid.
// spec: client-server-api §mspacechild
func childOrder(raw jsontext.Value) string {
	var order string
	if len(raw) == 0 || json.Unmarshal(raw, &order) != nil || len(order) > maxOrder {
		return ""
	}
	for _, c := range []byte(order) {
		if c < 0x20 || c > 0x7e {
			return ""
		}
	}
	return order
}

// compareChildren orders children of a space.
// spec: client-server-api §ordering-of-children-within-a-space
func compareChildren(a, b strippedChild) int {
	switch {
	case a.order != "" && b.order == "":
		return -1
	case a.order == "" && b.order != "":
		return 1
	case a.order != b.order:
		if a.order < b.order {
			return -1
		}
		return 1
	case a.OriginServerTS != b.OriginServerTS:
		if a.OriginServerTS < b.OriginServerTS {
			return -1
		}
		return 1
	case a.StateKey < b.StateKey:
		return -1
	}
	return 1
}
