package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
)

// syncer is a user who is in many rooms, in which somebody else writes.
type syncer struct {
	b     *bench
	user  *client
	other *client
	rooms []string
}

// syncs measures how rooms are opened and followed.
func syncs(ctx context.Context, b *bench) error {
	s := &syncer{b: b, rooms: make([]string, b.sizes.rooms)}
	var err error
	if s.user, err = b.register(ctx, "reader"); err != nil {
		return err
	}
	if s.other, err = b.register(ctx, "writer"); err != nil {
		return err
	}
	if err := each(ctx, len(s.rooms), 16, s.makeRoom); err != nil {
		return err
	}
	if err := s.oldSync(ctx); err != nil {
		return err
	}
	return s.sliding(ctx)
}

func (s *syncer) makeRoom(ctx context.Context, n int) (err error) {
	s.rooms[n], err = s.other.createRoom(ctx, object{"preset": "private_chat", "name": fmt.Sprint("Room ", n), "topic": "A room among many", "invite": []string{s.user.id},
		"initial_state": []object{{"type": "m.room.encryption", "content": object{"algorithm": "m.megolm.v1.aes-sha2"}}}})
	if err == nil {
		err = s.user.join(ctx, s.rooms[n])
	}
	for i := 0; err == nil && i < s.b.sizes.roomEvents; i++ {
		err = s.other.send(ctx, s.rooms[n], fmt.Sprint("m", i), usual)
	}
	return err
}

// answers notes how large they are.
type answers struct{ bytes, n int }

func (a *answers) note(*figures) string {
	return fmt.Sprintf("%d KiB an answer", a.bytes/max(1, a.n)/1024)
}

// oldSync measures /sync.
func (s *syncer) oldSync(ctx context.Context) error {
	var first struct {
		Next  string `json:"next_batch"`
		Rooms struct {
			Join map[string]json.RawMessage `json:"join"`
		} `json:"rooms"`
	}
	size := &answers{}
	err := s.b.measure(ctx, load{name: fmt.Sprintf("/sync initial, %d rooms", len(s.rooms)), ops: max(1, s.b.sizes.syncs/5), do: func(ctx context.Context, _ int) error {
		data, err := s.user.raw(ctx, "GET", "/sync", nil)
		if err != nil {
			return err
		}
		size.bytes, size.n = size.bytes+len(data), size.n+1
		if first.Next != "" { // the client's work is not what is measured
			return nil
		}
		if err := json.Unmarshal(data, &first); err != nil {
			return err
		}
		if len(first.Rooms.Join) != len(s.rooms) {
			return fmt.Errorf("a sync has %d rooms, not %d", len(first.Rooms.Join), len(s.rooms))
		}
		return nil
	}}, size.note)
	if err != nil {
		return err
	}
	news := s.rooms[len(s.rooms)/2]
	if err := s.other.send(ctx, news, "news", "something new"); err != nil {
		return err
	}
	// A token may be used again: the answer is the same then.
	return s.b.measure(ctx, load{name: "/sync incremental, 1 event", ops: s.b.sizes.syncs * 10, do: func(ctx context.Context, _ int) error {
		data, err := s.user.raw(ctx, "GET", "/sync?timeout=10000&since="+url.QueryEscape(first.Next), nil)
		if err == nil && !bytes.Contains(data, []byte("something new")) {
			err = errors.New("a sync does not tell what is new")
		}
		return err
	}})
}

// slidingPath is the endpoint of MSC4186.
const slidingPath = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"

// slidingRequest is what a client of today asks for, for so many rooms of its list.
func slidingRequest(rooms int) object {
	on := object{"enabled": true}
	return object{
		"conn_id": "room-list",
		"lists": object{"all_rooms": object{
			"ranges": [][2]int{{0, rooms - 1}}, "timeline_limit": 1, "filters": object{"not_room_types": []string{"m.space"}},
			"required_state": [][2]string{
				{"m.room.name", ""}, {"m.room.encryption", ""}, {"m.room.member", "$LAZY"}, {"m.room.member", "$ME"}, {"m.room.topic", ""},
				{"m.room.avatar", ""}, {"m.room.canonical_alias", ""}, {"m.room.power_levels", ""}, {"org.matrix.msc3401.call.member", "*"},
				{"m.room.join_rules", ""}, {"m.room.tombstone", ""}, {"m.room.create", ""}, {"m.room.history_visibility", ""},
				{"io.element.functional_members", ""}, {"m.space.parent", "*"}, {"m.space.child", "*"}, {"m.room.pinned_events", ""},
			},
		}},
		"extensions": object{"to_device": on, "e2ee": on, "account_data": on, "receipts": object{"enabled": true, "rooms": []string{"*"}}, "typing": on},
	}
}

// sliding measures sliding sync: the first screen, the whole list, and what is new.
func (s *syncer) sliding(ctx context.Context) error {
	var first struct {
		Pos   string                     `json:"pos"`
		Rooms map[string]json.RawMessage `json:"rooms"`
		Lists map[string]struct {
			Count int `json:"count"`
		} `json:"lists"`
	}
	for _, rooms := range []int{min(20, len(s.rooms)), len(s.rooms)} {
		size := &answers{}
		request := slidingRequest(rooms)
		err := s.b.measure(ctx, load{name: fmt.Sprintf("sliding sync first, %d of %d rooms", rooms, len(s.rooms)), ops: s.b.sizes.syncs, do: func(ctx context.Context, n int) error {
			data, err := s.user.raw(ctx, "POST", slidingPath, request)
			if err != nil {
				return err
			}
			size.bytes, size.n = size.bytes+len(data), size.n+1
			if n < s.b.sizes.syncs-1 {
				return nil
			}
			clear(first.Rooms)
			if err := json.Unmarshal(data, &first); err != nil {
				return err
			}
			if len(first.Rooms) != rooms || first.Lists["all_rooms"].Count != len(s.rooms) {
				return fmt.Errorf("a list has %d rooms of %d, not %d of %d", len(first.Rooms), first.Lists["all_rooms"].Count, rooms, len(s.rooms))
			}
			return nil
		}}, size.note)
		if err != nil {
			return err
		}
	}
	if err := s.other.send(ctx, s.rooms[0], "newer", "something newer"); err != nil {
		return err
	}
	request := slidingRequest(len(s.rooms))
	return s.b.measure(ctx, load{name: "sliding sync incremental, 1 event", ops: s.b.sizes.syncs * 10, do: func(ctx context.Context, _ int) error {
		// An answer that was lost may be asked for again.
		data, err := s.user.raw(ctx, "POST", slidingPath+"?timeout=10000&pos="+url.QueryEscape(first.Pos), request)
		if err == nil && !bytes.Contains(data, []byte("something newer")) {
			err = errors.New("sliding sync does not tell what is new")
		}
		return err
	}})
}
