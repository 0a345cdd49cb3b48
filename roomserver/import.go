package roomserver

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// Bounds of the records that an import is made of.
const (
	maxImportEvents = 200
	maxImportBytes  = 500_000
	// maxArchiveLine bounds a line: the state before an event may be named in one.
	maxArchiveLine = 64 << 20
)

// Import makes the room of an archive. Every event's hashes, ID and signatures
// are verified; it stops at the first that does not hold. What is there already
// stays as it is, so an import that was interrupted can be repeated. It returns
// the room's ID and the number of events read.
//
// The archive's end is checked when it is reached: until then what was read has
// been logged.
func Import(ctx context.Context, in io.Reader, keys KeyRing, log Appender) (roomID string, events int, err error) {
	m := &importer{ctx: ctx, in: bufio.NewReaderSize(in, 1<<20), sum: sha256.New(), keys: keys, log: log}
	line, err := m.line()
	if err != nil {
		return "", 0, err
	}
	m.hash(line)
	if err := json.Unmarshal(line, &m.head); err != nil || m.head.Format != archiveFormat {
		return "", 0, errArchive("its format is %q", m.head.Format)
	}
	if m.version = gomatrixserverlib.RoomVersion(m.head.RoomVersion); !m.version.Supported() {
		return "", 0, errArchive("its room version is %q", m.version)
	}
	for {
		done, err := m.next()
		if err != nil {
			return m.head.RoomID, m.events, fmt.Errorf("event %d: %w", m.events, err)
		}
		if done {
			return m.head.RoomID, m.events, m.flush()
		}
	}
}

type importer struct {
	ctx     context.Context
	in      *bufio.Reader
	sum     hash.Hash
	keys    KeyRing
	log     Appender
	head    archiveHead
	version gomatrixserverlib.RoomVersion
	events  int
	// record is the one that is being filled, of one kind of events.
	record *api.InputRecord
	lines  [][]byte
	bytes  int
}

// line reads a line; what it returns is good until the next.
func (m *importer) line() ([]byte, error) {
	var out []byte
	for {
		part, err := m.in.ReadSlice('\n')
		out = append(out, part...)
		switch {
		case err == nil:
			return out[:len(out)-1], nil
		case errors.Is(err, bufio.ErrBufferFull) && len(out) < maxArchiveLine:
		case errors.Is(err, bufio.ErrBufferFull):
			return nil, errArchive("a line is longer than %d bytes", maxArchiveLine)
		case errors.Is(err, io.EOF):
			return nil, errArchive("it is cut off")
		default:
			return nil, err
		}
	}
}

// next takes an event, or the end.
func (m *importer) next() (done bool, err error) {
	line, err := m.line()
	if err != nil {
		return false, err
	}
	var head struct {
		archiveEvent
		archiveEnd
	}
	if err := json.Unmarshal(line, &head); err != nil {
		return false, errArchive("%v", err)
	}
	if head.EventID == "" {
		if head.Events != m.events || head.SHA256 != hex.EncodeToString(m.sum.Sum(nil)) {
			return false, errArchive("its checksum does not match")
		}
		return true, nil
	}
	m.events++
	m.hash(line)
	event, err := m.line()
	if err != nil {
		return false, err
	}
	m.hash(event)
	if err := m.verify(head.EventID, event); err != nil {
		return false, err
	}
	return false, m.add(head.archiveEvent, event)
}

func (m *importer) hash(line []byte) {
	m.sum.Write(line)
	m.sum.Write([]byte{'\n'})
}

// verify checks that the event is what its ID says, and signed.
// spec: server-server-api §validating-hashes-and-signatures-on-received-events
func (m *importer) verify(id string, line []byte) error {
	e, err := gomatrixserverlib.ParseEvent(line, m.version)
	if err != nil {
		return errArchive("%s: %v", id, err)
	}
	// A content hash that does not match gives the redacted event, which is what
	// is stored of one that was redacted.
	if e.EventID() != id || e.RoomID() != m.head.RoomID || !bytes.Equal(e.JSON(), line) {
		return errArchive("the hashes of %s do not match", id)
	}
	for _, server := range e.RequiredSigners() {
		if err := m.verifySignature(e, server); err != nil {
			return err
		}
	}
	return nil
}

func (m *importer) verifySignature(e *gomatrixserverlib.Event, server string) error {
	for _, id := range e.KeyIDs(server) {
		if public, ok := m.keys(server, id); ok && e.VerifySignature(server, id, public) == nil {
			return nil
		}
	}
	return errArchive("%s has no signature of %s by a key that is known", e.EventID(), server)
}

// add puts an event into a record.
func (m *importer) add(head archiveEvent, event []byte) error {
	kind := api.KindImport
	switch {
	case head.Outlier:
		kind = api.KindOutlier
	case head.StateBefore != nil:
		kind = api.KindJoin
	}
	if m.record != nil && (m.record.Kind != kind || kind == api.KindJoin || len(m.lines) >= maxImportEvents || m.bytes+len(event) > maxImportBytes) {
		if err := m.flush(); err != nil {
			return err
		}
	}
	if m.record == nil {
		m.begin(kind)
	}
	if kind == api.KindJoin {
		if err := m.stateBefore(head.StateBefore); err != nil {
			return err
		}
	}
	m.record.Events = append(m.record.Events, api.InputEvent{EventID: head.EventID, SoftFailed: head.SoftFailed})
	m.lines = append(m.lines, event)
	m.bytes += len(event)
	return nil
}

func (m *importer) begin(kind api.InputKind) {
	m.record = &api.InputRecord{RoomID: m.head.RoomID, RoomVersion: m.head.RoomVersion, Kind: kind}
	m.lines, m.bytes = nil, 0
}

// stateBefore sends the state before the event that follows as a set.
func (m *importer) stateBefore(ids []string) error {
	set := api.HashStateSet(ids)
	for len(ids) > 0 {
		n := min(len(ids), eventlog.MaxRecordBytes/2/gomatrixserverlib.MaxIDBytes)
		part := &api.InputRecord{RoomID: m.head.RoomID, RoomVersion: m.head.RoomVersion, Kind: api.KindOutlier, State: ids[:n], StateSet: set}
		if _, err := m.log(m.ctx, part); err != nil {
			return err
		}
		ids = ids[n:]
	}
	m.record.StateSet = set
	return nil
}

// flush logs the record that was being filled.
func (m *importer) flush() error {
	record, lines := m.record, m.lines
	if m.record = nil; record == nil {
		return nil
	}
	v, err := m.log(m.ctx, record, lines...)
	if err != nil {
		return err
	}
	for _, e := range v.Events {
		if e.Status == api.StatusMissing {
			return errArchive("%s refers to events that it has not got: %v", e.EventID, v.Missing)
		}
	}
	return nil
}
