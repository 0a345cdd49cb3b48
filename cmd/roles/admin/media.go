package admin

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/cmd/roles"
	"github.com/matrix-org/dendrite/common/sqldb"
	directory "github.com/matrix-org/dendrite/directoryapi/storage"
	"github.com/matrix-org/dendrite/mediaapi"
	mediaapiapi "github.com/matrix-org/dendrite/mediaapi/api"
	media "github.com/matrix-org/dendrite/mediaapi/storage"
	rooms "github.com/matrix-org/dendrite/roomserver/storage"
	userapi "github.com/matrix-org/dendrite/userapi/api"
	users "github.com/matrix-org/dendrite/userapi/storage"
)

// What is done to media is done to rows, which servers read for each request: it
// takes effect at once, also while they run. Files are removed by a server.

// mediaStores are the stores that commands on media work on.
type mediaStores struct {
	*roles.Stored
	media *media.Database
}

// withMedia opens the stores, for as long as f runs.
func (r *run) withMedia(ctx context.Context, f func(*mediaStores) error) error {
	if len(r.args) > 0 {
		return fmt.Errorf("%q is not understood", r.args[0])
	}
	return r.withStores(ctx, func(stored *roles.Stored) (err error) {
		s := &mediaStores{Stored: stored}
		if s.media, err = media.New(ctx, stored.Stores["mediaapi"]); err != nil {
			return err
		}
		return f(s)
	})
}

// chosen is what flags select.
type chosen struct {
	mediaapiapi.Selection
	uri, room string
}

func (c *chosen) define(set *flag.FlagSet) {
	set.StringVar(&c.uri, "mxc", "", "the media with this `URI`")
	set.StringVar(&c.UserID, "user", "", "all that this `USER` has uploaded")
	set.StringVar(&c.room, "room", "", "all that the events of this `ROOM` name")
	set.StringVar(&c.Hash, "hash", "", "all with this `SHA256`")
	set.StringVar(&c.Server, "server", "", "all of this `SERVER`")
}

// each calls f for what is chosen: a room's media in parts.
func (c *chosen) each(ctx context.Context, s *mediaStores, f func(media.Selection) (int64, error)) (n int64, err error) {
	sel := c.Selection
	if c.uri != "" {
		sel.URIs = []string{c.uri}
	}
	if c.room == "" {
		selection, err := mediaapi.Select(sel)
		if err != nil {
			return 0, err
		}
		return f(selection)
	}
	if c.uri+c.UserID+c.Hash+c.Server != "" {
		return 0, errors.New("a room is chosen alone")
	}
	uris, err := s.mentioned(ctx, c.room)
	if err != nil {
		return 0, err
	}
	for part := range slices.Chunk(uris, 500) {
		selection, err := mediaapi.Select(mediaapiapi.Selection{URIs: part})
		if err != nil {
			return n, err
		}
		changed, err := f(selection)
		if err != nil {
			return n, err
		}
		n += changed
	}
	return n, nil
}

// mentioned returns the media that a room's events name: those of encrypted rooms
// stand where nobody here can read them.
func (s *mediaStores) mentioned(ctx context.Context, roomID string) (uris []string, err error) {
	db := s.Stores["roomserver"]
	store, err := rooms.New(ctx, db)
	if err != nil {
		return nil, err
	}
	var room *rooms.Room
	if err := db.ReadOne(ctx, func(tx *sqldb.Tx) error {
		room, err = store.Room(ctx, tx, roomID)
		return err
	}); err != nil {
		return nil, err
	}
	if room == nil {
		return nil, fmt.Errorf("there is no room %s", roomID)
	}
	seen := map[string]bool{}
	for _, outliers := range []bool{true, false} {
		var after rooms.Event
		for {
			var events []*rooms.Event
			err := db.ReadOne(ctx, func(tx *sqldb.Tx) (err error) {
				events, err = store.Archive(ctx, tx, room.NID, outliers, after, 500)
				return err
			})
			if err != nil {
				return nil, err
			}
			if len(events) == 0 {
				break
			}
			for _, e := range events {
				for _, uri := range mediaapiapi.FindURIs(string(e.JSON)) {
					seen[uri] = true
				}
			}
			after = *events[len(events)-1]
		}
	}
	for uri := range seen {
		uris = append(uris, uri)
	}
	slices.Sort(uris)
	return uris, nil
}

func mediaListCommand(set *flag.FlagSet) func(context.Context, *run) error {
	user := set.String("user", "", "`USER` whose media are listed, newest first")
	asJSON := set.Bool("json", false, "write JSON, one line for each")
	return func(ctx context.Context, r *run) error {
		if *user == "" {
			return errors.New("say --user USER")
		}
		return r.withMedia(ctx, func(s *mediaStores) error { return s.list(ctx, *user, *asJSON, r.out) })
	}
}

func (s *mediaStores) list(ctx context.Context, user string, asJSON bool, out io.Writer) error {
	w := tabwriter.NewWriter(out, 2, 8, 2, ' ', 0)
	if !asJSON {
		fmt.Fprintln(w, "URI\tUPLOADED\tLAST GOT\tSIZE\tTYPE\tNAME\tSHA256\t\t")
	}
	var before media.Media
	for {
		page, err := s.media.UserMedia(ctx, user, before, 500)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return w.Flush()
		}
		before = page[len(page)-1]
		for i := range page {
			m := mediaapi.Describe(&page[i])
			if asJSON {
				line, err := json.Marshal(m)
				if err == nil {
					_, err = fmt.Fprintf(out, "%s\n", line)
				}
				if err != nil {
					return err
				}
				continue
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%q\t%s\t%s\t\n", m.URI, day(page[i].UploadedTS), day(m.AccessedTS), m.Size, m.ContentType, m.Filename, m.Hash, marks(&m))
		}
	}
}

func day(ms int64) string {
	if ms == 0 {
		return "-"
	}
	return time.UnixMilli(ms).UTC().Format(time.DateOnly)
}

func marks(m *mediaapiapi.Media) string {
	text := ""
	if m.Quarantined {
		text += "quarantined "
	}
	if m.Protected {
		text += "protected"
	}
	return text
}

// mediaFlagCommand makes a command that sets or clears a flag.
func mediaFlagCommand(f media.Flag, to bool) func(*flag.FlagSet) func(context.Context, *run) error {
	return func(set *flag.FlagSet) func(context.Context, *run) error {
		var c chosen
		c.define(set)
		return func(ctx context.Context, r *run) error {
			return r.withMedia(ctx, func(s *mediaStores) error {
				n, err := c.each(ctx, s, func(sel media.Selection) (int64, error) {
					return s.media.Set(ctx, sel, f, to, time.Now().UnixMilli())
				})
				fmt.Fprintf(r.out, "%d media changed\n", n)
				return err
			})
		}
	}
}

func mediaDeleteCommand(set *flag.FlagSet) func(context.Context, *run) error {
	var c chosen
	c.define(set)
	return func(ctx context.Context, r *run) error {
		return r.withMedia(ctx, func(s *mediaStores) error {
			n, err := c.each(ctx, s, func(sel media.Selection) (int64, error) { return mediaapi.DeleteSelected(ctx, s.media, sel) })
			fmt.Fprintf(r.out, "%d media deleted\n", n)
			return err
		})
	}
}

func mediaPurgeCommand(set *flag.FlagSet) func(context.Context, *run) error {
	unused := set.Duration("unused", 0, "`TIME` for which nobody has got them, such as 2160h")
	local := set.Bool("local", false, "media of this server's users")
	remote := set.Bool("remote", false, "copies of other servers' media")
	avatars := set.Bool("avatars", false, "pictures of users and rooms too")
	return func(ctx context.Context, r *run) error {
		if *unused <= 0 || *local == *remote {
			return errors.New("say --unused TIME, and --local or --remote")
		}
		kind := media.Remote
		if *local {
			kind = media.Upload
		}
		return r.withMedia(ctx, func(s *mediaStores) error {
			keep := s.pictures
			if *avatars {
				keep = func(context.Context, []string) (map[string]bool, error) { return nil, nil }
			}
			n, err := mediaapi.Purge(ctx, s.media, kind, time.Now().Add(-*unused), keep)
			fmt.Fprintf(r.out, "%d media deleted\n", n)
			return err
		})
	}
}

// pictures tells which media are pictures of users or rooms.
func (s *mediaStores) pictures(ctx context.Context, uris []string) (map[string]bool, error) {
	u, err := users.New(ctx, s.Stores["userapi"], userapi.UserOutputPartitions)
	if err != nil {
		return nil, err
	}
	d, err := directory.New(ctx, s.Stores["directoryapi"])
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, ask := range []func(context.Context, []string) ([]string, error){u.Avatars, d.Avatars} {
		used, err := ask(ctx, uris)
		if err != nil {
			return nil, err
		}
		for _, uri := range used {
			out[uri] = true
		}
	}
	return out, nil
}
