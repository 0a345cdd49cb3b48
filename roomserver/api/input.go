package api

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// InputKind says what the events of an input record are.
type InputKind string

const (
	// KindNew holds new events for the end of the timeline: protos of ours, or
	// full events of ours or of another server. All are accepted or none
	// (rule 8) when they are ours.
	KindNew InputKind = "new"
	// KindBackfill holds old events, newest first, that go before a gap.
	KindBackfill InputKind = "backfill"
	// KindOutlier holds events that are needed only as auth events or state.
	KindOutlier InputKind = "outlier"
	// KindJoin commits a join with state: one event, our user's join, whose
	// state before was sent as outliers in earlier records and is given by
	// State or StateSet. If a user of ours is in the room already it is an
	// event like others; otherwise the state given replaces what was there.
	KindJoin InputKind = "join"
	// KindImport holds full events of an exported room, in topological order.
	// They were accepted once: they are authorised, and not soft-failed.
	KindImport InputKind = "import"
	// KindOutOfRoom holds an invite, a knock or a retraction of one, for a
	// room that we are not in: one full event, with its stripped state.
	KindOutOfRoom InputKind = "out_of_room"
	// KindPurge forgets a room wholly.
	KindPurge InputKind = "purge"
	// KindPurgeHistory forgets the events that Purge names, as far as they may go:
	// state and forward extremities stay. Room servers of before v0.3.0 refuse it.
	KindPurgeHistory InputKind = "purge_history"
	// KindResume applies the records of a room that wait, if the first of them
	// is the one that it names. It holds no events and gets no verdict; the room
	// server itself logs it, for a room that it has set aside.
	KindResume InputKind = "resume"
)

// InputRecord is the header of a record of room.input. Clocks, random numbers
// and the network were the writer's: what is here is all that the room server
// needs to decide (design rules 6 and 7).
type InputRecord struct {
	V int `json:"v"` // 1
	// RequestID makes the record idempotent (design rule 12): a record whose
	// RequestID was accepted before has the old verdict. Up to 64 bytes.
	RequestID string `json:"id"`
	// Answer is the partition of room.answers where the writer listens; -1 for none.
	Answer int `json:"answer"`
	// Origin is the server that speaks: ours, or the one that sent the events.
	Origin string `json:"origin"`
	// TS is the writer's clock, milliseconds; origin_server_ts of protos, the
	// age by which transactions are forgotten.
	TS     int64     `json:"ts"`
	RoomID string    `json:"room_id"`
	Kind   InputKind `json:"kind"`
	// RoomVersion is given where the room may not exist yet.
	RoomVersion string `json:"room_version,omitzero"`
	// Events describe the events in order.
	Events []InputEvent `json:"events"`
	// State names events of the state before the first event (KindJoin, KindNew
	// across a gap) or before the oldest (KindBackfill); they have been sent as
	// outliers. In records of KindOutlier, which may be many, it adds events to
	// the StateSet.
	State []string `json:"state,omitzero"`
	// StateSet names a state that is too large for State: the hash that
	// HashStateSet makes of its event IDs. A set that is not complete is
	// answered with StatusMissing, and what is sent again changes nothing.
	StateSet string `json:"state_set,omitzero"`
	// StrippedState is that of KindOutOfRoom.
	StrippedState jsontext.Value `json:"stripped_state,omitzero"`
	// Purge are the IDs of KindPurgeHistory, at most MaxPurge. What is not known is
	// passed over, so that the record may be repeated.
	Purge []string `json:"purge,omitzero"`
	// IfEmpty has KindPurge refused while a user of ours is joined.
	IfEmpty bool `json:"if_empty,omitzero"`
	// Resumes is the hash, by HashRecord, of the record that KindResume is for.
	Resumes string `json:"resumes,omitzero"`
}

// MaxPurge bounds the events of one KindPurgeHistory: their IDs stand in the record
// and in the output that tells of it.
const MaxPurge = 500

// InputEvent is one event of an InputRecord: either a Proto, or a full event
// that stands in the record's next line.
type InputEvent struct {
	Proto *Proto `json:"proto,omitzero"`
	// EventID is that of a full event, computed and checked by the writer
	// together with hashes and signatures.
	EventID string `json:"event_id,omitzero"`
	// SoftFailed says of an imported event what became of it.
	SoftFailed bool `json:"soft_failed,omitzero"`
	// Device and TxnID are the sending client's, for unsigned.transaction_id.
	Device string `json:"device,omitzero"`
	TxnID  string `json:"txn_id,omitzero"`
	// DelayID names the delayed event that it was, for the same purpose.
	DelayID string `json:"delay_id,omitzero"`
	// Expect must hold in the current state right before the event, or the
	// record is refused with the errcode given.
	Expect []Expectation `json:"expect,omitzero"`
	// Unless makes the event a no-op whose verdict names the current event:
	// when the current state event of (type, state_key) has the same sender
	// and the same content.
	UnlessSame bool `json:"unless_same,omitzero"`
}

// Proto is an event before the room server gives it prev_events, auth_events,
// depth, hashes and signatures.
type Proto struct {
	Type     string         `json:"type"`
	StateKey *string        `json:"state_key,omitzero"`
	Sender   string         `json:"sender"`
	Content  jsontext.Value `json:"content"`
	// Redacts is put where the room version wants it.
	Redacts string `json:"redacts,omitzero"`
	// TS overrides the record's TS (application services).
	TS int64 `json:"ts,omitzero"`
}

// Expectation is a precondition on a membership.
type Expectation struct {
	UserID string `json:"user_id"`
	// Membership is one of those that are fine; "" stands for none at all.
	Membership []string `json:"membership"`
	// Status, Code and Message are the refusal otherwise.
	Status  int    `json:"status"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Encode makes the record's value; events are the lines of full events.
func (r *InputRecord) Encode(events ...[]byte) ([]byte, error) { return encode(r, events) }

// DecodeInput reads a record's value. The event lines share its memory.
func DecodeInput(value []byte) (*InputRecord, [][]byte, error) {
	var r InputRecord
	events, err := decode(value, &r)
	return &r, events, err
}

// HashRecord names a record by its value.
func HashRecord(value []byte) string {
	sum := sha256.Sum256(value)
	return hex.EncodeToString(sum[:])
}

// HashStateSet names a state by its events' IDs, in any order; it sorts them.
func HashStateSet(ids []string) string {
	slices.Sort(ids)
	h := sha256.New()
	for _, id := range ids {
		h.Write([]byte(id))
		h.Write([]byte{'\n'})
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Status is what became of a record or an event.
type Status string

const (
	StatusAccepted   Status = "accepted"
	StatusSoftFailed Status = "soft_failed"
	StatusRejected   Status = "rejected" // stored as rejected; Rule says by which rule
	StatusRefused    Status = "refused"  // ours, not stored; Code and Message say why
	StatusMissing    Status = "missing"  // Missing says which events are needed first
)

// Verdict answers a record, on room.answers and to QueryVerdict.
type Verdict struct {
	V         int      `json:"v"` // 1
	RequestID string   `json:"id"`
	Status    Status   `json:"status"`
	EventIDs  []string `json:"event_ids,omitzero"`
	// Position is that of the last event; a view that has applied it shows all.
	Position Position `json:"pos"`
	// HTTPStatus, Code and Message say why it was refused.
	HTTPStatus int    `json:"http_status,omitzero"`
	Code       string `json:"code,omitzero"`
	Message    string `json:"message,omitzero"`
	// Rule is the auth rule that refused, for instance "5.3.2".
	Rule string `json:"rule,omitzero"`
	// Missing are events that are needed first (StatusMissing). What else the
	// record held has taken effect: its events are the same if they come again.
	Missing []string `json:"missing,omitzero"`
	// Events says what became of each full event, in order.
	Events []EventVerdict `json:"events,omitzero"`
}

// EventVerdict is what became of one full event of a record.
type EventVerdict struct {
	EventID string `json:"event_id"`
	Status  Status `json:"status"`
	// Rule is the auth rule that rejected or soft-failed it, Reason its words.
	Rule   string `json:"rule,omitzero"`
	Reason string `json:"reason,omitzero"`
}
