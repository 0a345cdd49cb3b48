package config

import "time"

// ClientAPI is the section client_api.
type ClientAPI struct {
	// Writer is how the client-api writes to room.input.
	Writer Writer `yaml:"writer"`
	// DefaultRoomVersion of new rooms; "" means the newest stable one (12).
	DefaultRoomVersion string `yaml:"default_room_version"`
	// MaxInvitesPerCreate bounds the invites of one createRoom; zero means 100.
	MaxInvitesPerCreate int `yaml:"max_invites_per_create"`
	// MaxInitialState bounds initial_state of one createRoom; zero means 200.
	MaxInitialState int `yaml:"max_initial_state"`
	// DirectoryRequiresAdmin lets only server administrators publish rooms in
	// the room directory.
	DirectoryRequiresAdmin bool `yaml:"directory_requires_admin"`
	// PublicRoomsRequireAuth hides the room directory from who has no account.
	PublicRoomsRequireAuth bool `yaml:"public_rooms_require_auth"`
	// DelayedEvents bounds events that are sent later.
	DelayedEvents DelayedEvents `yaml:"delayed_events"`
	// ThreadSubscriptions are what users say of threads.
	ThreadSubscriptions ThreadSubscriptions `yaml:"thread_subscriptions"`
	// SearchAllUsers lets users find everybody who has an account here, not only
	// those they share a room with and those in rooms that are open to all.
	SearchAllUsers bool `yaml:"search_all_users"`
	// Calls is what clients need to call each other.
	Calls Calls `yaml:"calls"`
}

// ThreadSubscriptions is the part thread_subscriptions of client_api: users
// subscribe to threads of which they are to be notified (MSC4306).
type ThreadSubscriptions struct {
	// Disabled refuses them, and takes the push rules about them away.
	Disabled bool `yaml:"disabled"`
}

// Writer bounds the writing to room.input.
type Writer struct {
	// AnswerTimeout is how long a request waits for the room server's verdict
	// before it gives up with 504; zero means 20s. A verdict that does not come
	// is asked for meanwhile.
	AnswerTimeout time.Duration `yaml:"answer_timeout"`
	// MaxInFlight bounds the requests that wait for a verdict at one time; more
	// are answered 503; zero means 10000.
	MaxInFlight int `yaml:"max_in_flight"`
}

// Defaults fills in what was left out.
func (c *ClientAPI) Defaults() {
	if c.MaxInvitesPerCreate == 0 {
		c.MaxInvitesPerCreate = 100
	}
	if c.MaxInitialState == 0 {
		c.MaxInitialState = 200
	}
	c.Writer.Defaults()
	c.Calls.Defaults()
	c.DelayedEvents.Defaults()
}

// Defaults fills in what was left out.
func (c *Writer) Defaults() {
	if c.AnswerTimeout == 0 {
		c.AnswerTimeout = 20 * time.Second
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = 10000
	}
}
