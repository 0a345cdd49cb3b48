package syncapi

import (
	"encoding/base64"
	"encoding/binary"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/matrixerror"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// generation is the numbering that Seqs in sync tokens belong to. Partitioning
// the topics anew begins none (design rule 11): Seqs go on above the highest of
// any old partition, so that those of a room only grow, and the length of a
// token's vector tells which partition was a room's then. See vector.of.
const generation = 1

// MaxTokenBytes bounds the tokens that are looked at.
const MaxTokenBytes = 1024

// maxTokenPartitions bounds the vectors of a token; list sees to it.
const maxTokenPartitions = 1024

// vector is a point in all the logs that /sync shows: what has been applied up
// to and including these positions. Vectors are immutable once published.
type vector struct {
	// rooms and users hold the last Seq of each partition of room.output and
	// user.output.
	rooms, users []int64
	// eph holds the next offset of each partition of ephemeral; ephID says of
	// which incarnation of that topic, which starts anew with the log.
	eph   []int64
	ephID uint32
}

// newVector makes the vector before the first record.
func newVector(rooms, users, eph int, ephID uint32) *vector {
	return &vector{rooms: make([]int64, rooms), users: make([]int64, users), eph: make([]int64, eph), ephID: ephID}
}

// clone copies v.
func (v *vector) clone() *vector {
	return &vector{rooms: slices.Clone(v.rooms), users: slices.Clone(v.users), eph: slices.Clone(v.eph), ephID: v.ephID}
}

// covers tells whether v has reached w in every component that is comparable.
func (v *vector) covers(w *vector) bool {
	if !coversRooms(v.rooms, w.rooms) || !covers(v.users, w.users) {
		return false
	}
	return v.ephID != w.ephID || covers(v.eph, w.eph)
}

// coversRooms is covers for positions of room.output. What was counted in
// another number of partitions is reached if it is below where each of ours is:
// ours began above all that there was.
func coversRooms(have, want []int64) bool {
	if len(have) == len(want) || len(have) == 0 || len(want) == 0 {
		return covers(have, want)
	}
	return slices.Min(have) >= slices.Max(want)
}

func covers(have, want []int64) bool {
	for i, w := range want {
		if i >= len(have) || have[i] < w {
			return false
		}
	}
	return true
}

// sinceEph is the position in ephemeral partition p that a client with the
// token v has seen, in the incarnation id: none of another incarnation.
func (v *vector) sinceEph(p int, id uint32) int64 {
	if v == nil || v.ephID != id || p >= len(v.eph) {
		return 0
	}
	return v.eph[p]
}

// room is the position in partition p of room.output; 0 for a nil vector.
func (v *vector) room(p int) int64 {
	if v == nil || p >= len(v.rooms) {
		return 0
	}
	return v.rooms[p]
}

// of is the position in room.output that a client with the token v has seen of
// a room, whose partition is given as one of so many. A token from before the
// topic was partitioned anew has it in another one.
func (v *vector) of(roomID string, partition, partitions int) int64 {
	if v != nil && len(v.rooms) != partitions && len(v.rooms) > 0 {
		partition = eventlog.PartitionFor(roomID, len(v.rooms))
	}
	return v.room(partition)
}

// user is the position in partition p of user.output; 0 for a nil vector.
func (v *vector) user(p int) int64 {
	if v == nil || p >= len(v.users) {
		return 0
	}
	return v.users[p]
}

// ephemeralID shortens the identity of the topic ephemeral for tokens.
func ephemeralID(topicID string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(topicID))
	return h.Sum32()
}

// String encodes v as a sync token: "s" and the unpadded base64url of varints:
// generation, then for rooms, users and ephemeral the count and the positions,
// the ephemeral topic's identity last.
func (v *vector) String() string {
	b := make([]byte, 0, 160)
	b = binary.AppendUvarint(b, generation)
	for _, list := range [][]int64{v.rooms, v.users, v.eph} {
		b = binary.AppendUvarint(b, uint64(len(list)))
		for _, n := range list {
			b = binary.AppendUvarint(b, uint64(n))
		}
	}
	b = binary.AppendUvarint(b, uint64(v.ephID))
	return "s" + base64.RawURLEncoding.EncodeToString(b)
}

// errToken refuses a token without saying which part of it is wrong.
func errToken() error { return matrixerror.InvalidParam("Unknown or malformed token") }

// parseVector reads a sync token for a server with the shape of the given
// vector, or one of another number of partitions of room.output. Anything but
// what String makes is 400 M_INVALID_PARAM.
func parseVector(token string, shape *vector) (*vector, error) {
	if len(token) < 2 || len(token) > MaxTokenBytes || token[0] != 's' {
		return nil, errToken()
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token[1:])
	if err != nil {
		return nil, errToken()
	}
	r := varints{b: b}
	if r.next() != generation {
		return nil, errToken()
	}
	v := &vector{rooms: r.list(), users: r.list(), eph: r.list()}
	id := r.next()
	if r.bad || len(r.b) != 0 || id > 1<<32-1 {
		return nil, errToken()
	}
	v.ephID = uint32(id)
	if len(v.rooms) == 0 || len(v.users) != len(shape.users) {
		return nil, errToken()
	}
	return v, nil
}

// varints reads a token's numbers; bad is set once something is not as it should be.
type varints struct {
	b   []byte
	bad bool
}

func (r *varints) next() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 || n > 1<<62 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *varints) list() []int64 {
	n := r.next()
	// Each position takes at least a byte, which bounds what is allocated.
	if n > maxTokenPartitions || n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	out := make([]int64, n)
	for i := range out {
		out[i] = int64(r.next())
	}
	return out
}

// timelineToken encodes the point right after pos in a room's timeline.
func timelineToken(pos roomapi.Position) string {
	b := make([]byte, 0, 32)
	b = append(b, 't')
	b = strconv.AppendInt(b, int64(pos.Partition), 10)
	b = append(b, '_')
	b = strconv.AppendInt(b, pos.Seq, 10)
	b = append(b, '_')
	b = strconv.AppendInt(b, pos.Sub, 10)
	return string(b)
}

// before is the point right before the event at pos. Events that are
// backfilled in front of it later come before that point too.
func before(pos roomapi.Position) roomapi.Position {
	pos.Sub--
	return pos
}

// parsePoint reads a timeline token or a sync token as a point in the timeline
// of the room.
func parsePoint(token, roomID string, shape *vector) (roomapi.Position, error) {
	partition := eventlog.PartitionFor(roomID, len(shape.rooms))
	if !strings.HasPrefix(token, "t") {
		token, _, _ = strings.Cut(token, ".") // of sliding sync: the rest is its connection
		v, err := parseVector(token, shape)
		if err != nil {
			return roomapi.Position{}, err
		}
		return roomapi.Position{Partition: partition, Seq: v.of(roomID, partition, len(shape.rooms))}, nil
	}
	if len(token) > 64 {
		return roomapi.Position{}, errToken()
	}
	parts := strings.Split(token[1:], "_")
	if len(parts) != 3 {
		return roomapi.Position{}, errToken()
	}
	var n [3]int64
	for i, p := range parts {
		v, err := strconv.ParseInt(p, 10, 63)
		if err != nil || strconv.FormatInt(v, 10) != p {
			return roomapi.Position{}, errToken()
		}
		n[i] = v
	}
	// The partition is the one that was the room's when the event came.
	if n[0] < 0 || n[0] >= maxTokenPartitions || n[1] < 0 || n[2] > 0 {
		return roomapi.Position{}, errToken()
	}
	return roomapi.Position{Partition: partition, Seq: n[1], Sub: n[2]}, nil
}
