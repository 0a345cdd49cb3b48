package api

import "github.com/go-json-experiment/json/jsontext"

// OutputKind says what an output record tells.
type OutputKind string

const (
	// OutputEvent is a new event at the end of the timeline.
	OutputEvent OutputKind = "event"
	// OutputBackfilled is an old event in a gap: see Place.
	OutputBackfilled OutputKind = "backfilled"
	// OutputState changes the current state without a timeline event of its
	// own (a resolution, a join with state, a room without members of ours).
	OutputState OutputKind = "state"
	// OutputStateCompleted ends a partial join.
	OutputStateCompleted OutputKind = "state_completed"
	// OutputUnrejected gives a rejected event a place after all.
	OutputUnrejected OutputKind = "unrejected"
	// OutputOutOfRoom is an invite, knock or retraction for a room that we are not in.
	OutputOutOfRoom OutputKind = "out_of_room"
	// OutputPurged says that the room is gone. RoomID is empty where the record
	// stands for something that is not known any more.
	OutputPurged OutputKind = "purged"
	// OutputHistoryPurged says that events of the room are gone: Purged names them.
	OutputHistoryPurged OutputKind = "history_purged"
)

// OutputRecord is the header of a record of room.output. Its event, if it has
// one, is the record's first event line: the stored PDU, byte for byte. Further
// lines hold the events of Changes that have Line > 0.
type OutputRecord struct {
	V        int        `json:"v"` // 1
	Kind     OutputKind `json:"kind"`
	Position Position   `json:"pos"` // Seq: last + 1 of the partition, whatever the kind
	// Place is where the event stands in the room's timeline, if not at Position.
	Place       Position `json:"place,omitzero"`
	RoomID      string   `json:"room_id"`
	RoomVersion string   `json:"room_version"`
	EventID     string   `json:"event_id,omitzero"`
	Type        string   `json:"type,omitzero"`
	StateKey    *string  `json:"state_key,omitzero"`
	Sender      string   `json:"sender,omitzero"`
	TS          int64    `json:"ts,omitzero"` // origin_server_ts
	// Origin is the server on whose behalf it was logged, and Local whether a
	// user of ours is the sender.
	Origin string `json:"origin,omitzero"`
	Local  bool   `json:"local,omitzero"`
	// SoftFailed events are stored and published for federation only: never
	// shown to clients.
	SoftFailed bool `json:"soft_failed,omitzero"`
	// Device and TxnID are the sending client's.
	Device string `json:"device,omitzero"`
	TxnID  string `json:"txn_id,omitzero"`
	// DelayID names the delayed event that it was. Records of before v0.3.0 do not
	// have it.
	DelayID string `json:"delay_id,omitzero"`
	// Changes of the current state that came with it.
	Changes []StateChange `json:"changes,omitzero"`
	// ReplacesState is the event that a state event replaced in the state
	// before it, for unsigned.
	ReplacesState string `json:"replaces_state,omitzero"`
	// HistoryVisibility in force right after the event, and Before it where
	// the event is itself an m.room.history_visibility.
	HistoryVisibility       string `json:"hv,omitzero"`
	HistoryVisibilityBefore string `json:"hv_before,omitzero"`
	// Membership and MembershipBefore are those of the target (state_key) of a
	// member event that changed the current state.
	Membership       string `json:"membership,omitzero"`
	MembershipBefore string `json:"membership_before,omitzero"`
	// Redacts is the event that this one redacts, if the redaction is in force:
	// the stored event has been redacted when this record is published.
	Redacts string `json:"redacts,omitzero"`
	// Limited marks a gap before the event: state was given, not built up.
	Limited bool `json:"limited,omitzero"`
	// StrippedState is that of OutputOutOfRoom: a JSON array.
	StrippedState jsontext.Value `json:"stripped_state,omitzero"`
	// Purged are the events of OutputHistoryPurged.
	Purged []PurgedEvent `json:"purged,omitzero"`
	// JoinedCount and InvitedCount of the room after it.
	JoinedCount  int `json:"joined"`
	InvitedCount int `json:"invited"`
}

// PurgedEvent is an event that is gone, and where it stood in the timeline; Seq 0
// if it had no place there.
type PurgedEvent struct {
	EventID string `json:"id"`
	Seq     int64  `json:"s,omitzero"`
	Sub     int64  `json:"b,omitzero"`
}

// PurgedIDs lists the IDs of Purged.
func (r *OutputRecord) PurgedIDs() []string {
	ids := make([]string, len(r.Purged))
	for i := range r.Purged {
		ids[i] = r.Purged[i].EventID
	}
	return ids
}

// StateChange is one changed entry of a room's current state.
type StateChange struct {
	Type     string `json:"type"`
	StateKey string `json:"state_key"`
	// EventID is the event there now ("" when the entry was removed), Replaced the one before.
	EventID  string `json:"event_id,omitzero"`
	Replaced string `json:"replaced,omitzero"`
	// Membership is that of the event, if it is a member event, so that nobody has
	// to read it for that. Records of before v0.2.0 do not have it.
	Membership string `json:"membership,omitzero"`
	// Line is the record's event line (0 for the first) that holds the event.
	// The record's own event is line 0.
	Line int `json:"line,omitzero"`
}

// ForgetMissing drops from another record what r, which may be an older
// version's, has not got only because it was added to the format since.
func (r *OutputRecord) ForgetMissing(from *OutputRecord) {
	if r.DelayID == "" {
		from.DelayID = ""
	}
	if len(r.Changes) != len(from.Changes) {
		return
	}
	for i := range r.Changes {
		if r.Changes[i].Membership == "" {
			from.Changes[i].Membership = ""
		}
	}
}

// Encode makes the record's value.
func (r *OutputRecord) Encode(events ...[]byte) ([]byte, error) { return encode(r, events) }

// DecodeOutput reads a record's value. The event lines share its memory.
func DecodeOutput(value []byte) (*OutputRecord, [][]byte, error) {
	var r OutputRecord
	events, err := decode(value, &r)
	return &r, events, err
}

// OutputSeq reads the Seq of a record of room.output.
func OutputSeq(value []byte) (int64, error) {
	r, _, err := DecodeOutput(value)
	return r.Position.Seq, err
}
