package httpapi

// Access says who may call an endpoint.
type Access int

const (
	// Public needs no token; one that is given is ignored.
	Public Access = iota
	// Optional takes a token where there is one: Request.Device may be nil.
	Optional
	// User needs the token of a user who is not a guest and not locked.
	User
	// Guest needs a token; guests may call it too.
	Guest
	// Locked needs a token; users of locked accounts may call it too.
	Locked
	// Admin needs the token of a server administrator.
	Admin
)

// Limit names the rate limit that an endpoint counts against.
type Limit string

// The buckets of rate limits; each has its own rate in the configuration.
const (
	LimitNone         Limit = ""
	LimitRequest      Limit = "request"      // everything else, per user
	LimitMessage      Limit = "message"      // sends, per user
	LimitLogin        Limit = "login"        // per address, and failures per account
	LimitRegistration Limit = "registration" // per address
	LimitJoin         Limit = "join"         // per user
	LimitInvite       Limit = "invite"       // per user
	LimitCreateRoom   Limit = "create_room"  // per user
	LimitUpload       Limit = "upload"       // per user
	LimitDownload     Limit = "download"     // per user, or address
	LimitURLPreview   Limit = "url_preview"  // per user
)

// Endpoint is one row of a component's list of endpoints.
type Endpoint struct {
	// Method is the HTTP method; a GET also serves HEAD.
	Method string
	// Path is a net/http ServeMux path with {names}, below "/": for instance
	// "/_matrix/client/v3/rooms/{roomId}/leave". A path with /v3/ is also
	// served as /r0/.
	Path   string
	Access Access
	Limit  Limit
	// MaxBody bounds the body in bytes; zero means the configured default.
	MaxBody int64
	// Stream says that the handler reads the body by Request.Stream: it may be as
	// long as MaxBody, and need not fit into memory or the time for other bodies.
	Stream  bool
	Handler Handler
}
