package gomatrixserverlib

import "github.com/go-json-experiment/json/jsontext"

// StateKey is the key of an entry of a room's state.
type StateKey struct{ Type, StateKey string }

// Event is a persistent event (PDU): immutable, and safe for concurrent use.
// Its JSON is kept byte for byte; what is asked often was read from it once.
type Event struct {
	json       []byte // canonical, without unsigned unless it was received with it
	version    RoomVersion
	id         string
	roomID     string // v12: also for m.room.create, whose JSON has none
	typ        string
	sender     string
	stateKey   *string
	redacts    string
	content    jsontext.Value
	originTS   int64
	depth      int64
	authEvents []string
	prevEvents []string
	membership string // of member events
}
