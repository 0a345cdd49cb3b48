package syncapi

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/syncapi/storage"
)

const (
	// statesKept is how many states of a connection are stored: the one that the
	// client has, and those of answers that it may have got.
	statesKept = 4
	// maxConnections is how many connections of a device are stored.
	maxConnections = 10
	// connectionLife is how long a connection is kept that nobody uses. One that is
	// used is stored again once a day.
	connectionLife  = 30 * 24 * time.Hour
	connectionTouch = 24 * time.Hour
	// maxConnectionBytes bounds the states of connections in memory: others are read
	// from the database.
	maxConnectionBytes = 32 << 20
	// maxRequired bounds what is remembered of which state rooms were told with.
	maxRequired      = 64
	maxRequiredBytes = 32 << 10
)

// connection is what a client was told on a connection, up to a position that
// its token has beside the connection's hash. It is immutable.
type connection struct {
	hash string
	// rooms are those that the client was told of.
	rooms map[string]toldRoom
	// required are those that rooms refer to.
	required []*required
	// extensions are those that were told up to the position.
	extensions uint64
	written    int64 // milliseconds; 0: not yet
}

// toldRoom is what a client has of a room.
type toldRoom struct {
	// behind is the Seq up to which it has it; 0: the token's.
	behind int64
	// limit is of how many of the last events it knows that it has them.
	limit int
	// required is which state it has: an index of the connection's, -1: unknown.
	required int
	// direct is whether it was told that this is a direct chat.
	direct bool
}

// errUnknownPos has the client begin anew.
// spec: MSC4186 §connections
func errUnknownPos() error {
	return matrixerror.New(http.StatusBadRequest, "M_UNKNOWN_POS", "The connection is not known (any more)")
}

// posOf makes the token of a position and a connection.
func posOf(at *vector, hash string) string { return at.String() + "." + hash }

// parsePos reads what posOf makes.
func parsePos(token string, shape *vector) (at *vector, hash string, err error) {
	text, hash, ok := strings.Cut(token, ".")
	if !ok || len(hash) != hashBytes {
		return nil, "", errUnknownPos()
	}
	if at, err = parseVector(text, shape); err != nil {
		return nil, "", errUnknownPos()
	}
	return at, hash, nil
}

// hashBytes is the length of hashes in tokens: of 96 bits.
const hashBytes = 16

// hashOf names a state. It holds whose it is: nobody has another's.
func hashOf(c storage.Connection, state []byte) string {
	h := sha256.New()
	for _, id := range []string{c.UserID, c.DeviceID, c.ConnID} {
		fmt.Fprintf(h, "%d %s", len(id), id)
	}
	h.Write(state)
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:12])
}

// formatConnection is the first byte of an encoded state.
const formatConnection = 1

// encode makes the bytes that are stored: varints and strings with their length;
// the extensions, the required states, then the rooms by ID.
func (c *connection) encode() []byte {
	b := make([]byte, 0, 64+64*len(c.rooms))
	b = append(b, formatConnection)
	b = binary.AppendUvarint(b, c.extensions)
	b = binary.AppendUvarint(b, uint64(len(c.required)))
	for _, r := range c.required {
		b = append(binary.AppendUvarint(b, uint64(len(r.id))), r.id...)
	}
	b = binary.AppendUvarint(b, uint64(len(c.rooms)))
	for _, id := range slices.Sorted(maps.Keys(c.rooms)) {
		r := c.rooms[id]
		direct := uint64(0)
		if r.direct {
			direct = 1
		}
		b = append(binary.AppendUvarint(b, uint64(len(id))), id...)
		for _, n := range []uint64{uint64(r.behind), uint64(r.limit), uint64(r.required + 1), direct} {
			b = binary.AppendUvarint(b, n)
		}
	}
	return b
}

var errConnection = errors.New("syncapi: a stored connection cannot be read")

// decodeConnection reads what encode makes.
func decodeConnection(b []byte) (*connection, error) {
	if len(b) == 0 || b[0] != formatConnection {
		return nil, errConnection
	}
	r := varints{b: b[1:]}
	c := &connection{extensions: r.next()}
	for range r.count() {
		wanted, err := parseRequired(r.text())
		if err != nil {
			return nil, errConnection
		}
		c.required = append(c.required, wanted)
	}
	n := r.count()
	c.rooms = make(map[string]toldRoom, n)
	for range n {
		id := r.text()
		told := toldRoom{behind: int64(r.next()), limit: int(r.next()), required: int(r.next()) - 1, direct: r.next() == 1}
		if told.required >= len(c.required) {
			return nil, errConnection
		}
		c.rooms[id] = told
	}
	if r.bad || len(r.b) > 0 {
		return nil, errConnection
	}
	return c, nil
}

// count reads the length of a list, of which each element takes a byte at least.
func (r *varints) count() int {
	n := r.next()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return 0
	}
	return int(n)
}

func (r *varints) text() string {
	n := r.count()
	out := string(r.b[:n])
	r.b = r.b[n:]
	return out
}

// size is about what a state costs in memory.
func (c *connection) size() int64 {
	n := int64(500)
	for _, r := range c.required {
		n += int64(len(r.id)) * 4
	}
	return n + 120*int64(len(c.rooms))
}

// connections are states in memory, the last used ones.
type connections struct {
	mu    sync.Mutex
	known map[connectionKey]*list.Element
	order *list.List // of *knownConnection
	bytes int64
}

type connectionKey struct {
	storage.Connection
	hash string
}

type knownConnection struct {
	key connectionKey
	*connection
}

func newConnections() *connections {
	return &connections{known: map[connectionKey]*list.Element{}, order: list.New()}
}

func (s *connections) get(key connectionKey) *connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.known[key]
	if e == nil {
		return nil
	}
	s.order.MoveToFront(e)
	return e.Value.(*knownConnection).connection
}

func (s *connections) put(key connectionKey, c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.known[key]; e != nil {
		s.drop(e)
	}
	s.known[key] = s.order.PushFront(&knownConnection{key, c})
	s.bytes += c.size()
	for s.bytes > maxConnectionBytes && s.order.Len() > 1 {
		s.drop(s.order.Back())
	}
}

// drop forgets a state; s.mu is held.
func (s *connections) drop(e *list.Element) {
	known := s.order.Remove(e).(*knownConnection)
	delete(s.known, known.key)
	s.bytes -= known.size()
}

// connection finds the state that a token names.
func (s *Server) connection(ctx context.Context, c storage.Connection, hash string) (*connection, error) {
	key := connectionKey{c, hash}
	if known := s.conns.get(key); known != nil {
		return known, nil
	}
	if none := emptyConnection(c); none.hash == hash {
		return none, nil
	}
	state, written, err := s.view.store.Connection(ctx, c, hash)
	if errors.Is(err, storage.ErrNoConnection) {
		return nil, errUnknownPos()
	}
	if err != nil {
		return nil, err
	}
	found, err := decodeConnection(state)
	if err != nil {
		s.log.WithError(err).Warn("A client of sliding sync begins anew")
		return nil, errUnknownPos()
	}
	found.hash, found.written = hash, written
	s.conns.put(key, found)
	return found, nil
}

// emptyConnection is the state of a connection on which nothing was told yet. It
// is not stored: its hash says what it is.
func emptyConnection(c storage.Connection) *connection {
	out := &connection{rooms: map[string]toldRoom{}}
	out.hash = hashOf(c, out.encode())
	return out
}

// settle stores the state that an answer leaves, before the answer is given: any
// instance can go on from it. parent is the one that the client came with. Where
// nothing has changed, nothing is stored but once a day.
func (s *Server) settle(ctx context.Context, c storage.Connection, parent, next *connection, first bool) (*connection, error) {
	now := s.now().UnixMilli()
	if next == nil {
		if next = parent; parent.written == 0 || now-parent.written < connectionTouch.Milliseconds() {
			return parent, nil
		}
	}
	state := next.encode()
	hash, before := hashOf(c, state), parent.hash
	if first {
		before = ""
	}
	if hash == emptyConnection(c).hash {
		return emptyConnection(c), nil
	}
	stored := *next
	stored.hash, stored.written = hash, now
	err := s.view.store.PutConnection(ctx, c, hash, before, state, now, storage.ConnectionLimits{
		States: statesKept, PerDevice: maxConnections, Expired: now - connectionLife.Milliseconds()})
	if err != nil {
		return nil, err
	}
	s.conns.put(connectionKey{c, hash}, &stored)
	return &stored, nil
}
