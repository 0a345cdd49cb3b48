package api

import "github.com/matrix-org/dendrite/common/rpc"

// Service is the directory-api's name in rpc.
const Service = "directoryapi"

// The methods of the directory-api. Aliases and published flags are rows and
// change at once; the rest is a view of room.output.
var (
	// QueryAlias resolves a local alias: 404 M_NOT_FOUND when there is none.
	QueryAlias = rpc.NewMethod[AliasRequest, AliasResponse](Service, "alias").Harmless()
	// QueryAliases lists the local aliases of a room.
	QueryAliases = rpc.NewMethod[AliasesRequest, AliasesResponse](Service, "aliases").Harmless()
	// PutAlias makes an alias: 409 M_ROOM_IN_USE when it exists for another room.
	PutAlias = rpc.NewMethod[PutAliasRequest, PutAliasResponse](Service, "put_alias")
	// DeleteAlias removes an alias: 404 M_NOT_FOUND when there is none.
	DeleteAlias = rpc.NewMethod[DeleteAliasRequest, DeleteAliasResponse](Service, "delete_alias")
	// MoveAliases gives the aliases and the published flag of a room to another one.
	MoveAliases = rpc.NewMethod[MoveAliasesRequest, MoveAliasesResponse](Service, "move_aliases")
	// QueryPublished tells whether a room is in the published directory.
	QueryPublished = rpc.NewMethod[PublishedRequest, PublishedResponse](Service, "published").Harmless()
	// SetPublished puts a room into the published directory, or takes it out.
	SetPublished = rpc.NewMethod[SetPublishedRequest, SetPublishedResponse](Service, "set_published")
	// QueryPublicRooms lists the published directory.
	QueryPublicRooms = rpc.NewMethod[PublicRoomsRequest, PublicRoomsResponse](Service, "public_rooms").Harmless()
	// QueryRooms describes rooms; those that are unknown are left out.
	QueryRooms = rpc.NewMethod[RoomsRequest, RoomsResponse](Service, "rooms").Harmless()
	// QueryUserRooms lists a local user's rooms.
	QueryUserRooms = rpc.NewMethod[UserRoomsRequest, UserRoomsResponse](Service, "user_rooms").Harmless()
	// QueryAnnotation finds an annotation that a local user has sent.
	QueryAnnotation = rpc.NewMethod[AnnotationRequest, AnnotationResponse](Service, "annotation").Harmless()
)

// AliasRequest names an alias of this server.
type AliasRequest struct{ Alias string }

// AliasResponse tells where it points and who made it.
type AliasResponse struct{ RoomID, Creator string }

// AliasesRequest names a room.
type AliasesRequest struct{ RoomID string }

// AliasesResponse holds its aliases on this server, sorted.
type AliasesResponse struct{ Aliases []string }

// PutAliasRequest makes an alias of this server. For the same room and creator
// it may be repeated.
type PutAliasRequest struct{ Alias, RoomID, Creator string }

// PutAliasResponse has no members.
type PutAliasResponse struct{}

// DeleteAliasRequest removes an alias. A RoomID that is not "" must be the
// alias's, or nothing is removed: who gives a reservation back names it.
type DeleteAliasRequest struct{ Alias, RoomID string }

// DeleteAliasResponse has no members.
type DeleteAliasResponse struct{}

// MoveAliasesRequest is a step of a room upgrade; it may be repeated.
type MoveAliasesRequest struct{ From, To string }

// MoveAliasesResponse has no members.
type MoveAliasesResponse struct{}

// PublishedRequest names a room.
type PublishedRequest struct{ RoomID string }

// PublishedResponse answers it; a room never heard of is not published.
type PublishedResponse struct{ Published bool }

// SetPublishedRequest changes a room's visibility in the published directory.
type SetPublishedRequest struct {
	RoomID    string
	Published bool
}

// SetPublishedResponse has no members.
type SetPublishedResponse struct{}

// Room is a room as the directory shows it. Strings are "" where the room's
// state does not say.
type Room struct {
	RoomID         string
	Version        string
	Type           string // of m.room.create
	Name           string
	Topic          string // plain text
	CanonicalAlias string
	AvatarURL      string
	JoinRule       string
	Encryption     string // algorithm of m.room.encryption
	WorldReadable  bool
	GuestCanJoin   bool
	Federate       bool // m.federate of m.room.create
	JoinedCount    int
	// Replaced names the room that a tombstone points to.
	Replaced  string
	Published bool
}

// PublicRoomsRequest asks for a page of the published directory, the rooms
// with the most members first.
type PublicRoomsRequest struct {
	// Limit is at most 500; zero means 100.
	Limit int
	// Since is a token of an earlier answer: 400 M_INVALID_PARAM when it is not.
	Since string
	// Search is looked for in name, topic and canonical alias.
	Search string
	// Types limits the rooms to these types, "" being those without; nil: all.
	Types []string
	// AtLeast is that of UserRoomsRequest.
	AtLeast []int64
}

// PublicRoomsResponse is a page.
type PublicRoomsResponse struct {
	Rooms      []Room
	Next, Prev string // "" at the ends
	Total      int    // of all that match
}

// RoomsRequest names rooms, at most 1,000.
type RoomsRequest struct {
	RoomIDs []string
	// AtLeast is that of UserRoomsRequest.
	AtLeast []int64
}

// RoomsResponse describes those that are known.
type RoomsResponse struct{ Rooms []Room }

// UserRoomsRequest asks for a local user's rooms.
type UserRoomsRequest struct {
	UserID string
	// Membership limits the answer, for instance to join; nil: all that the
	// user has not forgotten or never had.
	Membership []string
	// AtLeast waits, bounded, until the view has applied these Seqs of the
	// partitions of room.output (as QueryHeads or a verdict's position gives
	// them): 503 when it takes too long. nil does not wait.
	AtLeast []int64
}

// RoutingKey implements rpc.Routed.
func (r *UserRoomsRequest) RoutingKey() string { return r.UserID }

// UserRoomsResponse holds them, sorted by room ID.
type UserRoomsResponse struct{ Rooms []UserRoom }

// UserRoom is a user's membership of a room.
type UserRoom struct {
	RoomID, Membership string
	// EventID is the member event.
	EventID string
}

// AnnotationRequest asks whether a local user has annotated an event already
// and not redacted that.
// spec: client-server-api §avoiding-duplicate-annotations
type AnnotationRequest struct {
	RoomID, EventID   string // of the annotated event
	Sender, Type, Key string // of the annotation
	// AtLeast is that of UserRoomsRequest.
	AtLeast []int64
}

// RoutingKey implements rpc.Routed.
func (r *AnnotationRequest) RoutingKey() string { return r.RoomID }

// AnnotationResponse holds the annotation's event ID; "" when there is none.
type AnnotationResponse struct{ EventID string }
