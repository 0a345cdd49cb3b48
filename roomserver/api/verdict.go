package api

import (
	"bytes"
	"fmt"

	"github.com/go-json-experiment/json"
)

// Encode makes the value of a record of room.answers.
func (v *Verdict) Encode() ([]byte, error) { return encode(v, nil) }

// DecodeVerdict reads the value of a record of room.answers.
func DecodeVerdict(value []byte) (*Verdict, error) {
	line, _, _ := bytes.Cut(value, []byte{'\n'})
	v := new(Verdict)
	if err := json.Unmarshal(line, v); err != nil {
		return nil, fmt.Errorf("roomserver/api: verdict: %w", err)
	}
	return v, nil
}
