package api

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
)

// Topics of the room server.
const (
	TopicInput   = "room.input"   // keyed and partitioned by room ID; Durable
	TopicOutput  = "room.output"  // partition p holds what came of partition p of room.input; Derived
	TopicAnswers = "room.answers" // partition = the writer instance's; Ephemeral
)

// DefaultPartitions is the number of partitions of room.input and room.output.
const DefaultPartitions = 16

// Position is the place of an event in the order of its partition.
// Timeline events have consecutive Seqs from 1 in each partition; an event
// that was backfilled later shares the Seq of the event that it precedes, with
// a negative Sub that descends into the past. (Seq, Sub) orders a room's timeline.
type Position struct {
	Partition int   `json:"p"`
	Seq       int64 `json:"s"`
	Sub       int64 `json:"b,omitzero"`
}

// Compare orders positions of one partition, as slices.SortFunc wants it.
func (a Position) Compare(b Position) int {
	return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Sub, b.Sub))
}

// Less orders positions of one partition.
func (a Position) Less(b Position) bool {
	return a.Seq < b.Seq || a.Seq == b.Seq && a.Sub < b.Sub
}

// encode writes a header line and the event lines, into no more memory than
// that takes: logs keep it.
func encode(header any, events [][]byte) ([]byte, error) {
	line, err := json.Marshal(header)
	if err != nil || len(events) == 0 {
		return line, err
	}
	n := len(line)
	for _, e := range events {
		if bytes.IndexByte(e, '\n') >= 0 {
			return nil, errors.New("roomserver/api: event JSON holds a newline")
		}
		n += len(e) + 1
	}
	out := append(make([]byte, 0, n), line...)
	for _, e := range events {
		out = append(append(out, '\n'), e...)
	}
	return out, nil
}

// decode reads a header line and returns the event lines, which share value's memory.
func decode(value []byte, header any) ([][]byte, error) {
	line, rest, more := bytes.Cut(value, []byte{'\n'})
	if err := json.Unmarshal(line, header); err != nil {
		return nil, fmt.Errorf("roomserver/api: record header: %w", err)
	}
	var events [][]byte
	for more {
		line, rest, more = bytes.Cut(rest, []byte{'\n'})
		events = append(events, line)
	}
	return events, nil
}
