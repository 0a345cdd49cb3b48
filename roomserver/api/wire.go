package api

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
)

// storedWire is a StoredEvent between processes. Its JSON member travels as
// common/rpc lets values travel: as text, byte for byte.
type storedWire struct {
	JSON       jsontext.Value                `json:"json"`
	EventID    string                        `json:"id"`
	Version    gomatrixserverlib.RoomVersion `json:"v"`
	Position   Position                      `json:"pos,omitzero"`
	Replaces   string                        `json:"replaces,omitzero"`
	Device     string                        `json:"device,omitzero"`
	TxnID      string                        `json:"txn,omitzero"`
	DelayID    string                        `json:"delay,omitzero"`
	HV         string                        `json:"hv,omitzero"`
	HVBefore   string                        `json:"hv_before,omitzero"`
	Rejected   bool                          `json:"rejected,omitzero"`
	SoftFailed bool                          `json:"soft_failed,omitzero"`
	Outlier    bool                          `json:"outlier,omitzero"`
	RedactedBy string                        `json:"redacted_by,omitzero"`
}

// MarshalJSONTo implements json.MarshalerTo.
func (e *StoredEvent) MarshalJSONTo(to *jsontext.Encoder) error {
	return json.MarshalEncode(to, &storedWire{
		JSON: e.JSON(), EventID: e.EventID(), Version: e.Version(), Position: e.Position, Replaces: e.ReplacesState,
		Device: e.Device, TxnID: e.TxnID, DelayID: e.DelayID, HV: e.HistoryVisibility, HVBefore: e.HistoryVisibilityBefore,
		Rejected: e.Rejected, SoftFailed: e.SoftFailed, Outlier: e.Outlier, RedactedBy: e.RedactedBy,
	})
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (e *StoredEvent) UnmarshalJSONFrom(from *jsontext.Decoder) error {
	var w storedWire
	if err := json.UnmarshalDecode(from, &w); err != nil {
		return err
	}
	event, err := gomatrixserverlib.ParseStoredEvent(w.JSON, w.Version, w.EventID)
	if err != nil {
		return fmt.Errorf("event %s: %w", w.EventID, err)
	}
	*e = StoredEvent{
		Event: event, Position: w.Position, ReplacesState: w.Replaces, Device: w.Device, TxnID: w.TxnID, DelayID: w.DelayID,
		HistoryVisibility: w.HV, HistoryVisibilityBefore: w.HVBefore,
		Rejected: w.Rejected, SoftFailed: w.SoftFailed, Outlier: w.Outlier, RedactedBy: w.RedactedBy,
	}
	return nil
}
