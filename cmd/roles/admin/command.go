package admin

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/cmd/roles"
	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/telemetry"
	media "github.com/matrix-org/dendrite/mediaapi/storage"
)

// command is a subcommand of dendrite-admin.
type command struct {
	name, arguments, about string
	two                    bool // installations, with a configuration file each
	// flags defines the command's own flags, beside those of servers, and
	// returns what it does then.
	flags func(*flag.FlagSet) func(context.Context, *run) error
}

// run is one run of a command.
type run struct {
	// load loads the configuration that --config and the flags of servers name.
	load   func() (*config.Dendrite, error)
	args   []string
	out    io.Writer
	logger *logrus.Logger
}

// choice is what commands on media take.
const choice = "--mxc URI|--user USER|--room ROOM|--hash SHA256|--server SERVER"

func commands() []command {
	return []command{
		{"status", "", "shows who has read what, how far, and what does not fit together", false, statusCommand},
		{"move", "--from FILE --to FILE", "takes a stopped installation to another log and other databases", true, moveCommand},
		{"repartition", "--from FILE --to FILE", "is move to an installation with another event_log.partitions", true, repartitionCommand},
		{"reopen", "", "lets servers run again on an installation that was moved away", false, reopenCommand},
		{"log reset", "", "sets consumers to another place of their topics, or shows what is wrong", false, resetCommand},
		{"reports", "", "shows what users have reported, and resolves it", false, reportsCommand},
		{"restored", "", "makes the user-api's store safe after it was put back to an older copy", false, restoredCommand},
		{"rebuild", "directory|sync|search", "has a view built anew at the next start", false, rebuildCommand},
		{"purge-history", "ROOM --before TIME|EVENT", "deletes what is older in a room, but for its state", false, purgeHistoryCommand},
		{"purge-room", "ROOM [--force]", "deletes a room with all that is in it", false, purgeRoomCommand},
		{"purges", "", "shows what was to be purged, and what became of it", false, purgesCommand},
		{"media list", "--user USER", "lists what a user has uploaded", false, mediaListCommand},
		{"media quarantine", choice, "keeps media from everybody; a hash or a server also for later", false, mediaFlagCommand(media.Quarantined, true)},
		{"media unquarantine", choice, "gives them back", false, mediaFlagCommand(media.Quarantined, false)},
		{"media protect", choice, "keeps media from being removed for their age", false, mediaFlagCommand(media.Protected, true)},
		{"media unprotect", choice, "no longer does", false, mediaFlagCommand(media.Protected, false)},
		{"media delete", choice, "deletes media", false, mediaDeleteCommand},
		{"media purge", "--unused TIME --local|--remote", "deletes media that nobody has got for long", false, mediaPurgeCommand},
	}
}

// Main runs dendrite-admin.
func Main(ctx context.Context, arguments []string, out, diagnostics io.Writer) error {
	for _, c := range commands() {
		rest, ok := c.matches(arguments)
		if !ok {
			continue
		}
		set := flag.NewFlagSet("dendrite-admin "+c.name, flag.ContinueOnError)
		set.SetOutput(diagnostics)
		set.Usage = func() {
			fmt.Fprintf(diagnostics, "dendrite-admin %s [flags] %s\n%s.\n", c.name, c.arguments, c.about)
			set.PrintDefaults()
		}
		logger, err := telemetry.NewLogger("warning", "text", diagnostics)
		if err != nil {
			return err
		}
		r := &run{out: out, logger: logger}
		if !c.two {
			file := set.String("config", "", "configuration `FILE` of the servers")
			overrides := roles.Flags(set)
			r.load = func() (*config.Dendrite, error) { return config.Load(*file, os.Environ(), overrides) }
		}
		work := c.flags(set)
		if err := set.Parse(rest); err != nil {
			return err
		}
		r.args = set.Args()
		return work(ctx, r)
	}
	fmt.Fprintln(diagnostics, "dendrite-admin COMMAND [flags]; --help behind a command tells more of it:")
	for _, c := range commands() {
		fmt.Fprintf(diagnostics, "  %-18s %s\n", c.name, c.about)
	}
	if len(arguments) > 0 && arguments[0] != "--help" && arguments[0] != "-h" && arguments[0] != "help" {
		return fmt.Errorf("there is no command %q", arguments[0])
	}
	return flag.ErrHelp
}

// matches tells whether the arguments begin with the command's name, which may have
// two words.
func (c *command) matches(arguments []string) ([]string, bool) {
	name := strings.Fields(c.name)
	if len(arguments) < len(name) || !slices.Equal(arguments[:len(name)], name) {
		return nil, false
	}
	return arguments[len(name):], true
}

// with opens the installation that the command line names.
func (r *run) with(ctx context.Context, running bool, f func(*Installation) error) error {
	if len(r.args) > 0 {
		return fmt.Errorf("%q is not understood", r.args[0])
	}
	c, err := r.load()
	if err != nil {
		return err
	}
	return r.open(ctx, c, running, f)
}

// open opens an installation for as long as f runs.
func (r *run) open(ctx context.Context, c *config.Dendrite, running bool, f func(*Installation) error) (err error) {
	i, err := Open(ctx, place(c), c, r.logger, running)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, i.Close()) }()
	return f(i)
}

// withStores opens the stores alone, beside servers that run, for as long as f runs.
func (r *run) withStores(ctx context.Context, f func(*roles.Stored) error) (err error) {
	c, err := r.load()
	if err != nil {
		return err
	}
	stored, err := roles.OpenStored(ctx, c, r.logger, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stored.Close()) }()
	return f(stored)
}

// place names an installation for an operator.
func place(c *config.Dendrite) string {
	log, stores := "the embedded log", "SQLite"
	if brokers := c.EventLog.Kafka.Brokers; len(brokers) > 0 {
		log = fmt.Sprintf("Kafka at %s, topics %s*", strings.Join(brokers, ","), c.EventLog.Kafka.TopicPrefix)
	}
	if u, err := url.Parse(c.Database.StoreURL("roomserver")); err == nil && u.Host != "" {
		stores = "PostgreSQL at " + u.Host + u.Path
	}
	return fmt.Sprintf("%s (%s, %s)", c.Global.DataDir, log, stores)
}

func statusCommand(set *flag.FlagSet) func(context.Context, *run) error {
	asJSON := set.Bool("json", false, "write JSON")
	return func(ctx context.Context, r *run) error {
		return r.with(ctx, true, func(i *Installation) error {
			report, err := Status(ctx, i)
			if err != nil {
				return err
			}
			if *asJSON {
				return report.JSON(r.out)
			}
			return report.Text(r.out)
		})
	}
}

// pair defines --from and --to, and returns what loads both configurations.
func pair(set *flag.FlagSet) func(args []string) (from, to *config.Dendrite, err error) {
	names := [2]*string{
		set.String("from", "", "configuration `FILE` of the installation as it is; the environment does not count"),
		set.String("to", "", "configuration `FILE` that it is to run with"),
	}
	return func(args []string) (from, to *config.Dendrite, err error) {
		if len(args) > 0 || *names[0] == "" || *names[1] == "" {
			return nil, nil, errors.New("say --from FILE and --to FILE, and no more")
		}
		var configs [2]*config.Dendrite
		for n, file := range names {
			if configs[n], err = config.Load(*file, nil, nil); err != nil {
				return nil, nil, err
			}
		}
		return configs[0], configs[1], nil
	}
}

// mover is Move or Repartition.
type mover func(ctx context.Context, from, to *Installation, out io.Writer) error

// between opens two installations for a mover.
func (r *run) between(ctx context.Context, from, to *config.Dendrite, f mover) error {
	return r.open(ctx, from, false, func(source *Installation) error {
		return r.open(ctx, to, false, func(target *Installation) error { return f(ctx, source, target, r.out) })
	})
}

func moveCommand(set *flag.FlagSet) func(context.Context, *run) error {
	load := pair(set)
	return func(ctx context.Context, r *run) error {
		from, to, err := load(r.args)
		if err != nil {
			return err
		}
		return r.between(ctx, from, to, Move)
	}
}

// settleTries bounds how often an installation runs to read all there is: what
// means nothing to a reader it notes as read now and then only.
const settleTries = 10

func repartitionCommand(set *flag.FlagSet) func(context.Context, *run) error {
	load := pair(set)
	return func(ctx context.Context, r *run) error {
		from, to, err := load(r.args)
		if err != nil {
			return err
		}
		return r.repartition(ctx, from, to)
	}
}

// repartition lets the old installation read all that it has not yet, where
// there is something.
func (r *run) repartition(ctx context.Context, from, to *config.Dendrite) error {
	for try := 1; ; try++ {
		err := r.between(ctx, from, to, Repartition)
		if !errors.Is(err, errUnsettled) || try > settleTries {
			return err
		}
		if err := roles.Settle(ctx, from, r.logger); err != nil {
			return fmt.Errorf("read what is left: %w", err)
		}
	}
}

func reopenCommand(*flag.FlagSet) func(context.Context, *run) error {
	return func(ctx context.Context, r *run) error {
		return r.with(ctx, false, func(i *Installation) error { return Reopen(ctx, i, r.out) })
	}
}

func resetCommand(set *flag.FlagSet) func(context.Context, *run) error {
	var reset Reset
	set.StringVar(&reset.Consumer, "consumer", "", "`NAME` of a consumer; otherwise all whose place is wrong")
	set.StringVar(&reset.Topic, "topic", "", "only this `TOPIC`")
	set.IntVar(&reset.Partition, "partition", -1, "only this partition")
	set.StringVar(&reset.To, "to", "", "where to go on: start, end or an `OFFSET`")
	set.BoolVar(&reset.Yes, "yes", false, "do it")
	return func(ctx context.Context, r *run) error {
		return r.with(ctx, false, func(i *Installation) error { return ResetPlaces(ctx, i, reset, r.out) })
	}
}

func restoredCommand(*flag.FlagSet) func(context.Context, *run) error {
	return func(ctx context.Context, r *run) error {
		return r.with(ctx, false, func(i *Installation) error { return Restored(ctx, i, r.out) })
	}
}

func rebuildCommand(*flag.FlagSet) func(context.Context, *run) error {
	return func(ctx context.Context, r *run) error {
		if len(r.args) != 1 {
			return fmt.Errorf("say which: %s, %s or %s", directoryConsumer, syncConsumer, searchConsumer)
		}
		consumer := r.args[0]
		r.args = nil
		return r.with(ctx, false, func(i *Installation) error { return Rebuild(ctx, i, consumer, r.out) })
	}
}
