package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/matrix-org/dendrite/cmd/roles"
	"github.com/matrix-org/dendrite/common/sqldb"
	rooms "github.com/matrix-org/dendrite/roomserver/storage"
	userapi "github.com/matrix-org/dendrite/userapi/api"
	users "github.com/matrix-org/dendrite/userapi/storage"
)

// What is to be purged is written down, in a row of the user-api, for the servers to
// do: it goes through the log as everything does that happens in a room. Who waits
// here only looks on.

const (
	// purgeLook is the pause between looks how far a purge is.
	purgeLook = 200 * time.Millisecond
	// maxPurges bounds the purges shown at once.
	maxPurges = 1000
)

// purgeStores are the stores that commands on purges work on.
type purgeStores struct {
	*roles.Stored
	rooms *rooms.Store
	users *users.Database
}

// withPurges opens the stores, for as long as f runs.
func (r *run) withPurges(ctx context.Context, f func(*purgeStores) error) error {
	return r.withStores(ctx, func(stored *roles.Stored) (err error) {
		s := &purgeStores{Stored: stored}
		if s.rooms, err = rooms.New(ctx, stored.Stores["roomserver"]); err != nil {
			return err
		}
		if s.users, err = users.New(ctx, stored.Stores["userapi"], userapi.UserOutputPartitions); err != nil {
			return err
		}
		return f(s)
	})
}

// oneRoom takes the room ID from the arguments, before or behind the flags.
func (r *run) oneRoom(set *flag.FlagSet) (string, error) {
	if len(r.args) > 1 {
		room := r.args[0]
		if err := set.Parse(r.args[1:]); err != nil {
			return "", err
		}
		r.args = append([]string{room}, set.Args()...)
	}
	if len(r.args) != 1 || !strings.HasPrefix(r.args[0], "!") {
		return "", errors.New("say which room, by its ID, and no more")
	}
	return r.args[0], nil
}

func waitFlag(set *flag.FlagSet) *bool {
	return set.Bool("wait", true, "wait until it is done; otherwise servers do it in time")
}

func purgeHistoryCommand(set *flag.FlagSet) func(context.Context, *run) error {
	before := set.String("before", "", "`TIME|EVENT`: what is older goes; a time is 2026-01-31, 2026-01-31T12:00:00Z or milliseconds")
	wait := waitFlag(set)
	return func(ctx context.Context, r *run) error {
		room, err := r.oneRoom(set)
		if err != nil {
			return err
		}
		p := &userapi.Purge{ID: rand.Text(), Kind: userapi.PurgeHistory, RoomID: room}
		if strings.HasPrefix(*before, "$") {
			p.EventID = *before
		} else if p.BeforeTS, err = moment(*before); err != nil {
			return err
		}
		return r.withPurges(ctx, func(s *purgeStores) error { return s.purge(ctx, p, *wait, r.out) })
	}
}

func purgeRoomCommand(set *flag.FlagSet) func(context.Context, *run) error {
	force := set.Bool("force", false, "make the users of this server leave first")
	wait := waitFlag(set)
	return func(ctx context.Context, r *run) error {
		room, err := r.oneRoom(set)
		if err != nil {
			return err
		}
		p := &userapi.Purge{ID: rand.Text(), Kind: userapi.PurgeRoom, RoomID: room, Force: *force}
		return r.withPurges(ctx, func(s *purgeStores) error { return s.purge(ctx, p, *wait, r.out) })
	}
}

func purgesCommand(*flag.FlagSet) func(context.Context, *run) error {
	return func(ctx context.Context, r *run) error {
		if len(r.args) > 0 {
			return fmt.Errorf("%q is not understood", r.args[0])
		}
		return r.withPurges(ctx, func(s *purgeStores) error { return s.list(ctx, r.out) })
	}
}

// moment reads a time that has been, in milliseconds.
func moment(text string) (int64, error) {
	ms, err := strconv.ParseInt(text, 10, 64)
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if err == nil {
			break
		}
		var t time.Time
		if t, err = time.Parse(layout, text); err == nil {
			ms = t.UnixMilli()
		}
	}
	if err != nil || ms <= 0 {
		return 0, errors.New("say --before and a time, such as 2026-01-31, or an event ID")
	}
	if ms > time.Now().UnixMilli() {
		return 0, fmt.Errorf("%s is yet to come", text)
	}
	return ms, nil
}

// purge checks and stores a purge, and waits for it.
func (s *purgeStores) purge(ctx context.Context, p *userapi.Purge, wait bool, out io.Writer) error {
	if err := s.checkPurge(ctx, p); err != nil {
		return err
	}
	id, err := s.users.PutPurge(ctx, p)
	if err != nil {
		return err
	}
	if !wait {
		_, err = fmt.Fprintf(out, "Purge %s is left to the servers; dendrite-admin purges shows what becomes of it.\n", id)
		return err
	}
	fmt.Fprintf(out, "Purge %s has begun, or will once a server runs; who does not wait for it leaves it to the servers.\n", id)
	return s.await(ctx, id, out)
}

// checkPurge refuses what cannot be.
func (s *purgeStores) checkPurge(ctx context.Context, p *userapi.Purge) error {
	var room *rooms.Room
	var events []*rooms.Event
	if err := s.rooms.Read(ctx, func(tx *sqldb.Tx) (err error) {
		if room, err = s.rooms.Room(ctx, tx, p.RoomID); err != nil || p.EventID == "" {
			return err
		}
		events, err = s.rooms.EventsByID(ctx, tx, []string{p.EventID})
		return err
	}); err != nil {
		return err
	}
	switch {
	case room == nil:
		return fmt.Errorf("there is no room %s", p.RoomID)
	case p.EventID != "" && (len(events) == 0 || events[0].RoomNID != room.NID || events[0].Seq == 0):
		return fmt.Errorf("there is no event %s in the room", p.EventID)
	case p.Kind == userapi.PurgeRoom && !p.Force && room.LocalJoined > 0:
		return fmt.Errorf("%d users of this server are in the room: with --force they are made to leave first", room.LocalJoined)
	}
	return nil
}

// await tells how far a purge is until it is done.
func (s *purgeStores) await(ctx context.Context, id string, out io.Writer) error {
	tick := time.NewTicker(purgeLook)
	defer tick.Stop()
	for told := int64(0); ; {
		list, err := s.users.Purges(ctx, id, 1)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return fmt.Errorf("purge %s is not there any more", id)
		}
		switch p := &list[0]; {
		case p.FinishedTS != 0 && p.Error != "":
			return fmt.Errorf("given up after %d events: %s", p.Purged, p.Error)
		case p.FinishedTS != 0 && p.Kind == userapi.PurgeRoom:
			_, err = fmt.Fprintln(out, "The room is purged.")
			return err
		case p.FinishedTS != 0:
			_, err = fmt.Fprintf(out, "%d events are purged.\n", p.Purged)
			return err
		case p.Purged > told:
			told = p.Purged
			fmt.Fprintf(out, "%d events so far\n", told)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// list shows purges, newest first.
func (s *purgeStores) list(ctx context.Context, out io.Writer) error {
	list, err := s.users.Purges(ctx, "", maxPurges)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 2, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tBEGUN\tWHAT\tROOM\tEVENTS\tOUTCOME\t")
	for i := range list {
		p := &list[i]
		outcome := "waits, or is being done"
		switch {
		case p.Error != "":
			outcome = fmt.Sprintf("given up: %q", p.Error)
		case p.FinishedTS != 0:
			outcome = "done " + time.UnixMilli(p.FinishedTS).UTC().Format(time.DateTime)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%q\t%d\t%s\t\n", p.ID, time.UnixMilli(p.CreatedTS).UTC().Format(time.DateTime), p.Kind, p.RoomID, p.Purged, outcome)
	}
	return w.Flush()
}
