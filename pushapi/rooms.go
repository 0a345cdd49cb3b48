package pushapi

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	directoryapi "github.com/matrix-org/dendrite/directoryapi/api"
)

// roomsPage is for how many people rooms are asked for at once.
const roomsPage = 1000

// rooms has which people are joined to which rooms, of the partitions that this
// instance judges. It is the judging loop's.
type rooms struct {
	partitions map[int]*partition
	// members counts the entries, for who measures.
	members atomic.Int64
}

// partition is a partition of room.output being judged.
type partition struct {
	rooms map[string]map[string]struct{} // room ID to user IDs
	// applied is the last Seq judged, stored the one that the database has.
	applied, stored int64
}

func newRooms() *rooms { return &rooms{partitions: map[int]*partition{}} }

// leave forgets a partition.
func (r *rooms) leave(number int) {
	if p := r.partitions[number]; p != nil {
		for _, members := range p.rooms {
			r.members.Add(-int64(len(members)))
		}
		delete(r.partitions, number)
	}
}

// join notes that a person is in a room; it returns what undoes that.
func (r *rooms) join(p *partition, roomID, userID string) (undo func()) {
	if _, in := p.rooms[roomID][userID]; in {
		return func() {}
	}
	if p.rooms[roomID] == nil {
		p.rooms[roomID] = map[string]struct{}{}
	}
	p.rooms[roomID][userID] = struct{}{}
	r.members.Add(1)
	return func() { r.part(p, roomID, userID) }
}

// part notes that somebody is not in a room; it returns what undoes that.
func (r *rooms) part(p *partition, roomID, userID string) (undo func()) {
	members := p.rooms[roomID]
	if _, in := members[userID]; !in {
		return func() {}
	}
	delete(members, userID)
	if len(members) == 0 {
		delete(p.rooms, roomID)
	}
	r.members.Add(-1)
	return func() { r.join(p, roomID, userID) }
}

// enter makes a partition ready to be judged: it asks who of all people is in its
// rooms, as of what was judged there last, or later.
func (s *Server) enter(ctx context.Context, number int) error {
	seq, err := s.db.Position(ctx, number)
	if err != nil {
		return fmt.Errorf("pushapi: position: %w", err)
	}
	s.rooms.leave(number)
	p := &partition{rooms: map[string]map[string]struct{}{}, applied: seq, stored: seq}
	if err := s.askRooms(ctx, number, p, s.people.ids(), seq); err != nil {
		s.rooms.members.Add(-p.size())
		return err
	}
	s.rooms.partitions[number] = p
	return nil
}

func (p *partition) size() (n int64) {
	for _, members := range p.rooms {
		n += int64(len(members))
	}
	return n
}

// askRooms asks for the rooms of some people in a partition, as of a Seq or later.
func (s *Server) askRooms(ctx context.Context, number int, p *partition, ids []string, atLeast int64) error {
	for chunk := range slices.Chunk(ids, roomsPage) {
		res, err := directoryapi.QueryJoined.Call(ctx, s.caller, &directoryapi.JoinedRequest{UserIDs: chunk, Partition: number, AtLeast: atLeast})
		if err != nil {
			return fmt.Errorf("pushapi: rooms of people: %w", err)
		}
		for userID, list := range res.Rooms {
			for _, roomID := range list {
				s.rooms.join(p, roomID, userID)
			}
		}
	}
	return nil
}

// welcome asks for the rooms of who has got a first pusher since it was called last.
func (s *Server) welcome(ctx context.Context) error {
	ids := s.people.takeFresh()
	if len(ids) == 0 {
		return nil
	}
	for number, p := range s.rooms.partitions {
		if err := s.askRooms(ctx, number, p, ids, p.applied); err != nil {
			s.people.putFresh(ids)
			return err
		}
	}
	return nil
}
