package api

import (
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/eventlog"
)

// TopicUserOutput carries every change of a user's data, keyed by user ID:
// UserChange records in order of their Seq in each partition, published from
// the outbox rows of the transactions that made them (design rule 10).
const TopicUserOutput = "user.output"

// TopicEphemeral carries typing and presence for who listens now: Ephemeral records.
const TopicEphemeral = "ephemeral"

// TopicUserActivity carries Activity records, keyed by user ID (typing by room
// ID), from whoever serves a user's requests to the instances of the user-api.
const TopicUserActivity = "user.activity"

// Partitions of the topics above, unless configured otherwise.
const (
	UserOutputPartitions = 4
	EphemeralPartitions  = 1
	ActivityPartitions   = 4
)

// UserOutputRetention is how long records of user.output are kept. A reader that
// was away for longer asks for what is current (Resync).
const UserOutputRetention = 7 * 24 * time.Hour

// UserOutputTopic describes user.output; zero partitions means
// UserOutputPartitions.
func UserOutputTopic(partitions int) eventlog.TopicSpec {
	if partitions == 0 {
		partitions = UserOutputPartitions
	}
	return eventlog.TopicSpec{Name: TopicUserOutput, Partitions: partitions, Durability: eventlog.Derived, Retention: UserOutputRetention}
}

// ChangeKind says what a UserChange changed.
type ChangeKind string

// The kinds of changes.
const (
	ChangeAccountData ChangeKind = "account_data" // RoomID ("" for global), Type, Content (null when deleted)
	ChangeReceipt     ChangeKind = "receipt"      // RoomID, Type, Receipt
	ChangePushRules   ChangeKind = "push_rules"   // Content is the m.push_rules event's content
	ChangeProfile     ChangeKind = "profile"      // Content is the whole profile
	ChangeDevices     ChangeKind = "devices"      // DeviceID was made, renamed or deleted
	ChangeDeactivated ChangeKind = "deactivated"
	ChangeAccount     ChangeKind = "account"   // it was locked or suspended, or is not any more
	ChangeToDevice    ChangeKind = "to_device" // DeviceIDs have a message each, of this Seq
	// ChangeDeviceKeys says what DeviceID has left now: OneTimeKeys, UnusedFallback.
	ChangeDeviceKeys ChangeKind = "device_keys"
	// ChangeDeviceList says that others have to ask anew for the user's keys: those
	// of devices or for cross-signing.
	ChangeDeviceList ChangeKind = "device_list"
	// ChangeSignatures says that the user has signed keys of Target, which only
	// the user sees.
	ChangeSignatures ChangeKind = "signatures"
	// ChangePushers says which pushers the user has now: Content is an array of
	// Pusher.
	ChangePushers ChangeKind = "pushers"
	// ChangeThread says what the user has to do with the thread of RoomID whose root
	// is EventID: Content is a ThreadState.
	ChangeThread ChangeKind = "thread"
	ChangeForget ChangeKind = "forget" // RoomID was forgotten by the user, whose member event was EventID
	// ChangeResync says that the changes between the last one in the topic and
	// this one cannot be had any more, or that a reader lacks them: it goes on
	// from here, whatever that is. What is current of all users of the partition
	// follows. It has no UserID.
	ChangeResync ChangeKind = "resync"
	// ChangeResynced says that all of that has followed. It has no UserID.
	ChangeResynced ChangeKind = "resynced"
)

// UserChange is a record of user.output. Seq counts from 1 in each partition
// without gaps.
type UserChange struct {
	V        int            `json:"v"` // 1
	Seq      int64          `json:"seq"`
	UserID   string         `json:"user_id"`
	Kind     ChangeKind     `json:"kind"`
	RoomID   string         `json:"room_id,omitzero"`
	EventID  string         `json:"event_id,omitzero"`
	DeviceID string         `json:"device_id,omitzero"`
	Type     string         `json:"type,omitzero"`
	Content  jsontext.Value `json:"content,omitzero"`
	Receipt  *Receipt       `json:"receipt,omitzero"`
	// DeviceIDs are devices of the user.
	DeviceIDs []string `json:"device_ids,omitzero"`
	// OneTimeKeys has the number of one-time keys left by algorithm, UnusedFallback
	// the algorithms whose fallback key was not used.
	OneTimeKeys    map[string]int64 `json:"one_time_keys,omitzero"`
	UnusedFallback []string         `json:"unused_fallback,omitzero"`
	// Target is another user, or the same.
	Target string `json:"target,omitzero"`
	// Again is set for what a resync tells again. Of a ChangeForget: where EventID
	// is not known, the room is not hidden, for it may have been entered since. Of a
	// ChangeToDevice: the messages may have a lower Seq.
	Again bool `json:"again,omitzero"`
}

// ChangeSeq reads the Seq of a record of user.output.
func ChangeSeq(value []byte) (int64, error) {
	var c UserChange
	err := json.Unmarshal(value, &c)
	return c.Seq, err
}

// AccountDataChange is the change of one event of account data; nil content
// means that it was deleted.
func AccountDataChange(userID, roomID, typ string, content jsontext.Value) UserChange {
	c := UserChange{UserID: userID, Kind: ChangeAccountData, RoomID: roomID, Type: typ, Content: content}
	if content == nil {
		c.Content = jsontext.Value("null")
	}
	if roomID == "" && typ == TypePushRules {
		c.Kind = ChangePushRules
	}
	return c
}

// Receipt is a read receipt of a user in a room.
// spec: client-server-api §receipts
type Receipt struct {
	EventID string `json:"event_id"`
	// Type is m.read or m.read.private (m.fully_read is account data).
	Type string `json:"type"`
	// ThreadID is "" for unthreaded receipts, "main" or a thread root's event ID.
	ThreadID string `json:"thread_id,omitzero"`
	TS       int64  `json:"ts"` // milliseconds
}

// Ephemeral is a record of the topic of that name: exactly one member is set.
type Ephemeral struct {
	V        int       `json:"v"` // 1
	Typing   *Typing   `json:"typing,omitzero"`
	Presence *Presence `json:"presence,omitzero"`
}

// Typing is everyone who types in a room now; it replaces what was said before.
type Typing struct {
	RoomID  string   `json:"room_id"`
	UserIDs []string `json:"user_ids"`
	// Until is when each of them stops, unless that is prolonged: for the
	// instance that keeps the room next. Milliseconds.
	Until []int64 `json:"until,omitzero"`
}

// Presence is a user's presence. spec: client-server-api §presence
type Presence struct {
	UserID          string `json:"user_id"`
	Presence        string `json:"presence"` // online, offline, unavailable
	StatusMsg       string `json:"status_msg,omitzero"`
	LastActiveTS    int64  `json:"last_active_ts,omitzero"` // milliseconds
	CurrentlyActive bool   `json:"currently_active,omitzero"`
}

// Activity says that a user's device was heard of: the seed of this project
// called it "output whether the client is syncing". At most one of a kind per
// device and ActivityEvery.
type Activity struct {
	V        int    `json:"v"` // 1
	UserID   string `json:"user_id"`
	DeviceID string `json:"device_id"`
	TS       int64  `json:"ts"` // milliseconds
	IP       string `json:"ip,omitzero"`
	// Syncing is set by /sync; Presence is its set_presence ("" when not given).
	Syncing  bool   `json:"syncing,omitzero"`
	Presence string `json:"presence,omitzero"`
	// Active is set when the user did something: sent, typed, read, joined.
	Active bool `json:"active,omitzero"`
	// Set is a presence that the user has chosen; DeviceID is "" then.
	Set *SetPresenceRequest `json:"set,omitzero"`
	// SetID names the request that chose it.
	SetID string `json:"set_id,omitzero"`
	// Typing is what somebody said of typing; it has no DeviceID either.
	Typing *TypingChange `json:"typing,omitzero"`
	// Wake tells whoever publishes user.output that there are new rows; all
	// else is zero then.
	Wake bool `json:"wake,omitzero"`
}

// TypingChange says until when a user types in a room, in milliseconds; 0 when
// no more.
type TypingChange struct {
	RoomID  string `json:"room_id"`
	UserID  string `json:"user_id"`
	UntilTS int64  `json:"until,omitzero"`
}
