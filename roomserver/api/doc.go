// Package api is what other components know of the room server: the records
// of room.input, room.output and room.answers, and the methods to query it.
//
// A record's value is lines: the first is a JSON header (InputRecord,
// OutputRecord, Verdict), each further line is the JSON of one event as it is
// stored or was received. Canonical JSON holds no newline, so events are
// spliced in and out without being parsed; see record.go.
package api
