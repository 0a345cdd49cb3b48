package api

import (
	"fmt"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/common/rpc"
)

// The methods around threads that users subscribe to.
// spec: MSC4306
var (
	// PutThreadSubscription begins or ends a subscription. 409
	// IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION when a client begins it by
	// itself for what the user knew who ended it.
	PutThreadSubscription = rpc.NewMethod[PutThreadSubscriptionRequest, WriteResponse](Service, "put_thread_subscription")
	// QueryThreadSubscriptions returns what a user has said of threads, last first.
	QueryThreadSubscriptions = rpc.NewMethod[ThreadSubscriptionsRequest, ThreadSubscriptionsResponse](Service, "thread_subscriptions").Harmless()
	// QueryThreadsOf returns what many users have said of threads, by user, room and
	// thread.
	QueryThreadsOf = rpc.NewMethod[ThreadsOfRequest, ThreadsOfResponse](Service, "threads_of").Harmless()
)

// ThreadState is what a user has to do with a thread. Automatic says that a client
// began the subscription by itself.
type ThreadState struct {
	Subscribed bool `json:"subscribed"`
	Automatic  bool `json:"automatic,omitzero"`
}

// PutThreadSubscriptionRequest changes a user's subscription to a thread.
type PutThreadSubscriptionRequest struct {
	UserID, RoomID, ThreadID string
	ThreadState
	// At is a Seq of room.output: of an automatic subscription that of the event for
	// which it begins, of the end of one the room's last.
	At int64
}

// ThreadSubscription is a user's subscription to a thread, or the end of one.
type ThreadSubscription struct {
	RoomID, ThreadID string
	ThreadState
	// Seq is that of the last change on user.output.
	Seq int64
	// Past has the last changes, oldest first.
	Past []ThreadChange
}

// ThreadChange says what a subscription was from a time on, in milliseconds.
type ThreadChange struct {
	TS         int64 `json:"ts"`
	Subscribed bool  `json:"subscribed,omitzero"`
}

// ThreadSubscriptionsRequest asks for a user's, of one thread if that is named.
type ThreadSubscriptionsRequest struct {
	UserID, RoomID, ThreadID string
	// After and Before bound the Seqs: (After, Before); 0 is no bound.
	After, Before int64
	// Limit bounds their number; 0 means all.
	Limit int
}

// ThreadSubscriptionsResponse holds them, those changed last first.
type ThreadSubscriptionsResponse struct{ Subscriptions []ThreadSubscription }

// ThreadsOfRequest asks for a page, behind that which the last one of the page
// before names.
type ThreadsOfRequest struct {
	UserIDs []string
	After   ThreadOf
	Limit   int
}

// ThreadsOfResponse is a page; one that is not full is the last.
type ThreadsOfResponse struct{ Threads []ThreadOf }

// ThreadOf is a thread of which a user has said something.
type ThreadOf struct {
	UserID, RoomID, ThreadID string
	Subscribed               bool
	Seq                      int64
}

// ChangeOfThread is the change that tells of a thread.
func ChangeOfThread(userID, roomID, threadID string, is ThreadState) (UserChange, error) {
	content, err := json.Marshal(is)
	if err != nil {
		return UserChange{}, fmt.Errorf("userapi: encoding a subscription: %w", err)
	}
	return UserChange{UserID: userID, Kind: ChangeThread, RoomID: roomID, EventID: threadID, Content: content}, nil
}

// ThreadStateOf reads what a ChangeThread says.
func ThreadStateOf(c *UserChange) (is ThreadState, err error) {
	if err = json.Unmarshal(c.Content, &is); err != nil {
		err = fmt.Errorf("userapi: a subscription of %s: %w", c.UserID, err)
	}
	return is, err
}
