package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"time"
)

// parts are those of the server, by their functions, whose share of an event is told.
var parts = map[string]string{
	"syncapi": `dendrite/syncapi\.`, "pushapi": `dendrite/pushapi\.`, "push rules": `dendrite/common/pushrules\.`, "roomserver": `dendrite/roomserver\.`, "directoryapi": `dendrite/directoryapi\.`,
}

// pushes measures what an event costs in a small room, in a big one whose members are
// idle, and there with members who have pushers.
func pushes(ctx context.Context, b *bench) error {
	writer, err := b.register(ctx, "speaker")
	if err != nil {
		return err
	}
	reader, err := b.register(ctx, "listener")
	if err != nil {
		return err
	}
	// Guests may be let in, so that 10,000 need no passwords.
	room := object{"preset": "public_chat", "initial_state": []object{{"type": "m.room.guest_access", "content": object{"guest_access": "can_join"}}}}
	alone, err := writer.createRoom(ctx, room)
	if err == nil {
		err = reader.join(ctx, alone)
	}
	if err != nil {
		return err
	}
	if err := b.speak(ctx, "event in a room of 2 members", writer, alone); err != nil {
		return err
	}
	big, err := writer.createRoom(ctx, room)
	if err == nil {
		err = reader.join(ctx, big)
	}
	if err != nil {
		return err
	}
	members, err := b.guests(ctx, "member", b.sizes.members-2)
	if err != nil {
		return err
	}
	if err := b.measure(ctx, load{name: fmt.Sprintf("join of a room of up to %d", b.sizes.members), ops: len(members), workers: 16, do: func(ctx context.Context, n int) error {
		return members[n].join(ctx, big)
	}}); err != nil {
		return err
	}
	if err := b.speak(ctx, fmt.Sprintf("event in a room of %d, idle", b.sizes.members), writer, big); err != nil {
		return err
	}
	if err := b.counted(ctx, reader, big); err != nil {
		return err
	}
	return b.speakToPushers(ctx, writer, big)
}

// events are some, of which a few are under way at once.
func (b *bench) events(name string, writer *client, room string) load {
	txn := rand.Text() // the events before are others
	return load{name: name, ops: b.sizes.events, workers: 4, do: func(ctx context.Context, n int) error {
		return writer.send(ctx, room, fmt.Sprint(txn, n), usual)
	}}
}

// speak measures events.
func (b *bench) speak(ctx context.Context, name string, writer *client, room string) error {
	return b.measure(ctx, b.events(name, writer, room), shares(parts))
}

// counted looks whether each event was counted for a member.
func (b *bench) counted(ctx context.Context, reader *client, room string) error {
	var answer struct {
		Rooms struct {
			Join map[string]struct {
				Unread struct {
					Notifications int `json:"notification_count"`
				} `json:"unread_notifications"`
			} `json:"join"`
		} `json:"rooms"`
	}
	data, err := reader.raw(ctx, "GET", "/sync", nil)
	if err == nil {
		err = json.Unmarshal(data, &answer)
	}
	const most = 1000 // a server may stop counting somewhere
	if got := answer.Rooms.Join[room].Unread.Notifications; err == nil && (got < min(b.sizes.events, most) || got > b.sizes.events) {
		err = fmt.Errorf("of %d events %d were counted", b.sizes.events, got)
	}
	return err
}

// speakToPushers measures events of which some members' gateway is told.
func (b *bench) speakToPushers(ctx context.Context, writer *client, room string) error {
	var told atomic.Int64
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		told.Add(1)
		_, _ = io.WriteString(w, `{"rejected":[]}`)
	}))
	defer gateway.Close()
	people, err := b.registerMany(ctx, "phone", b.sizes.pushers)
	if err != nil {
		return err
	}
	err = each(ctx, len(people), 8, func(ctx context.Context, n int) error {
		if err := people[n].join(ctx, room); err != nil {
			return err
		}
		return people[n].call(ctx, "POST", "/pushers/set", object{"kind": "http", "app_id": "bench", "pushkey": fmt.Sprint(b.unique, n), "app_display_name": "bench",
			"device_display_name": "bench", "lang": "en", "data": object{"url": gateway.URL + "/_matrix/push/v1/notify", "format": "event_id_only"}}, nil)
	})
	if f, ok := err.(*failure); ok && f.status == http.StatusBadRequest {
		fmt.Fprintf(b.out, "events with pushers: left out, this server allows no gateway at 127.0.0.1 (push.any_url, push.allow_ranges)\n")
		return nil
	}
	if err != nil {
		return err
	}
	l := b.events(fmt.Sprintf("event there, %d have pushers", len(people)), writer, room)
	// A server may leave out what a gateway is too slow for; but it comes to an end.
	var seen int64
	last := time.Now()
	l.until = func(ctx context.Context) error {
		return await(ctx, "the gateway has been told", func() bool {
			if n := told.Load(); n != seen {
				seen, last = n, time.Now()
			}
			return seen >= int64(l.ops*len(people)) || seen > 0 && time.Since(last) > 3*time.Second
		})
	}
	return b.measure(ctx, l, func(f *figures) string {
		return fmt.Sprintf("%.1f requests to the gateway an event", float64(told.Load())/f.ops)
	}, shares(parts))
}
