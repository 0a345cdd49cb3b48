package roomserver

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/roomserver/storage"
)

// archiveFormat names the format of an exported room: lines of JSON. The first
// is an archiveHead; each event takes two, an archiveEvent and the event as it
// is stored; the last is an archiveEnd, with the SHA-256 of all before it.
const archiveFormat = "dendrite-room-1"

type archiveHead struct {
	Format      string `json:"format"`
	RoomID      string `json:"room_id"`
	RoomVersion string `json:"room_version"`
}

type archiveEvent struct {
	EventID string `json:"event_id"`
	// Outlier events have no place in the timeline.
	Outlier    bool `json:"outlier,omitzero"`
	SoftFailed bool `json:"soft_failed,omitzero"`
	// StateBefore is given where an event follows a gap: IDs of events that
	// stand before it.
	StateBefore []string `json:"state_before,omitzero"`
}

type archiveEnd struct {
	Events int    `json:"events"`
	SHA256 string `json:"sha256"`
}

// Export writes a room to a file from which Import makes it again: all events
// in topological order, those that are not in the timeline first. It returns
// the number of events.
func (s *Server) Export(ctx context.Context, roomID string, out io.Writer) (int, error) {
	_, row, err := s.known(ctx, roomID)
	if err != nil {
		return 0, err
	}
	sum := sha256.New()
	buffered := bufio.NewWriter(out)
	x := &exporter{s: s, row: row, out: io.MultiWriter(buffered, sum), sum: sum}
	if err := x.line(archiveHead{archiveFormat, roomID, row.Version}); err != nil {
		return 0, err
	}
	for _, outliers := range []bool{true, false} {
		if err := x.all(ctx, outliers); err != nil {
			return x.events, fmt.Errorf("roomserver: export: %w", err)
		}
	}
	if err := x.line(archiveEnd{x.events, hex.EncodeToString(sum.Sum(nil))}); err != nil {
		return x.events, err
	}
	return x.events, buffered.Flush()
}

type exporter struct {
	s      *Server
	row    *storage.Room
	out    io.Writer
	sum    hash.Hash
	events int
}

func (x *exporter) line(v any) error {
	line, err := json.Marshal(v)
	if err == nil {
		_, err = x.out.Write(append(line, '\n'))
	}
	return err
}

func (x *exporter) event(head archiveEvent, event []byte) error {
	x.events++
	if err := x.line(head); err != nil {
		return err
	}
	_, err := x.out.Write(append(slices.Clone(event), '\n'))
	return err
}

// exportBatch is the number of events read at once.
const exportBatch = 500

// all writes the outliers, or the timeline.
func (x *exporter) all(ctx context.Context, outliers bool) error {
	var after storage.Event
	for {
		var rows []*storage.Event
		err := x.s.store.ReadOne(ctx, func(tx *sqldb.Tx) (err error) {
			rows, err = x.s.store.Archive(ctx, tx, x.row.NID, outliers, after, exportBatch)
			return err
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		for _, row := range rows {
			if outliers {
				err = x.event(archiveEvent{EventID: row.EventID, Outlier: true}, row.JSON)
			} else {
				err = x.placed(ctx, row)
			}
			if err != nil {
				return err
			}
		}
		after = *rows[len(rows)-1]
	}
}

// placed writes an event of the timeline, with what it needs.
func (x *exporter) placed(ctx context.Context, row *storage.Event) error {
	head := archiveEvent{EventID: row.EventID, SoftFailed: row.Flags&storage.SoftFailed != 0}
	e, err := stored(row)
	if err != nil {
		return err
	}
	prevs, err := x.s.loadRows(ctx, e.PrevEventIDs())
	if err != nil {
		return err
	}
	gap := len(prevs) < len(e.PrevEventIDs())
	for _, p := range prevs {
		gap = gap || p.Flags&storage.Outlier != 0
		if p.Flags&storage.Rejected != 0 { // it is in no timeline; a second time changes nothing
			if err := x.placed(ctx, p); err != nil {
				return err
			}
		}
	}
	if gap {
		if head.StateBefore, err = x.stateBefore(ctx, row.EventID); err != nil {
			return err
		}
	}
	return x.event(head, row.JSON)
}

// stateBefore writes the events of the state before one, and what they refer
// to: some may come later in the timeline.
func (x *exporter) stateBefore(ctx context.Context, id string) ([]string, error) {
	state, err := x.s.queryState(ctx, &api.StateRequest{RoomID: x.row.ID, BeforeEvent: id, IDsOnly: true})
	if err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(state.IDs))
	for _, e := range state.IDs {
		ids = append(ids, e.EventID)
	}
	slices.Sort(ids)
	chain, err := x.s.queryAuthChain(ctx, &api.AuthChainRequest{RoomID: x.row.ID, EventIDs: ids})
	if err != nil {
		return nil, err
	}
	all := append(chain.Events, state.Events...)
	sortByAuth(all)
	for _, e := range all {
		if err := x.event(archiveEvent{EventID: e.EventID(), Outlier: true}, e.JSON()); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// sortByAuth puts events after those that they are authorised by.
func sortByAuth(events []*api.StoredEvent) {
	byID := make(map[string]*api.StoredEvent, len(events))
	for _, e := range events {
		byID[e.EventID()] = e
	}
	out := make([]*api.StoredEvent, 0, len(events))
	done := make(map[string]bool, len(events))
	type step struct {
		e    *api.StoredEvent
		next int
	}
	for _, e := range events {
		stack := []step{{e: e}}
		for len(stack) > 0 {
			top := &stack[len(stack)-1]
			auth := top.e.AuthEventIDs()
			if top.next == 0 && done[top.e.EventID()] {
				stack = stack[:len(stack)-1]
				continue
			}
			if top.next < len(auth) {
				below := byID[auth[top.next]]
				if top.next++; below != nil && !done[below.EventID()] {
					stack = append(stack, step{e: below})
				}
				continue
			}
			if !done[top.e.EventID()] {
				done[top.e.EventID()] = true
				out = append(out, top.e)
			}
			stack = stack[:len(stack)-1]
		}
	}
	copy(events, out)
}

// KeyRing gives the public key of a server by its ID, or says that it has none.
type KeyRing func(server string, id gomatrixserverlib.KeyID) (public []byte, ok bool)

// Appender logs a record and returns its verdict, as clientapi.Writer does.
type Appender func(ctx context.Context, record *api.InputRecord, lines ...[]byte) (*api.Verdict, error)

// errArchive is 400 M_BAD_JSON.
func errArchive(format string, args ...any) error {
	return matrixerror.BadJSON("not a room archive that can be imported: "+format, args...)
}
