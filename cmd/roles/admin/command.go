package admin

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/matrix-org/dendrite/cmd/roles"
	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/telemetry"
)

// command is a subcommand of dendrite-admin.
type command struct {
	name, arguments, about string
	two                    bool // installations, with a configuration file each
	// flags defines the command's own flags, beside those of servers, and
	// returns what it does then.
	flags func(*flag.FlagSet) func(ctx context.Context, load loader, args []string, out io.Writer) error
}

// loader loads the configuration that --config and the flags of servers name.
type loader func() (*config.Dendrite, error)

func commands() []command {
	return []command{
		{"status", "", "shows who has read what, how far, and what does not fit together", false, statusCommand},
		{"move", "--from FILE --to FILE", "takes a stopped installation to another log and other databases", true, moveCommand},
		{"repartition", "--from FILE --to FILE", "is move to an installation with another event_log.partitions", true, repartitionCommand},
		{"reopen", "", "lets servers run again on an installation that was moved away", false, reopenCommand},
		{"log reset", "", "sets consumers to another place of their topics, or shows what is wrong", false, resetCommand},
		{"rebuild", "directory|sync", "has a view built anew at the next start", false, rebuildCommand},
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
		var load loader
		if !c.two {
			file := set.String("config", "", "configuration `FILE` of the servers")
			overrides := roles.Flags(set)
			load = func() (*config.Dendrite, error) { return config.Load(*file, os.Environ(), overrides) }
		}
		work := c.flags(set)
		if err := set.Parse(rest); err != nil {
			return err
		}
		return work(ctx, load, set.Args(), out)
	}
	fmt.Fprintln(diagnostics, "dendrite-admin COMMAND [flags]; --help behind a command tells more of it:")
	for _, c := range commands() {
		fmt.Fprintf(diagnostics, "  %-11s %s\n", c.name, c.about)
	}
	if len(arguments) > 0 && arguments[0] != "--help" && arguments[0] != "-h" && arguments[0] != "help" {
		return fmt.Errorf("there is no command %q", arguments[0])
	}
	return flag.ErrHelp
}

// matches tells whether the arguments begin with the command's name.
func (c *command) matches(arguments []string) ([]string, bool) {
	if c.name == "log reset" {
		if len(arguments) > 1 && arguments[0] == "log" && arguments[1] == "reset" {
			return arguments[2:], true
		}
		return nil, false
	}
	if len(arguments) > 0 && arguments[0] == c.name {
		return arguments[1:], true
	}
	return nil, false
}

// with opens an installation for as long as f runs.
func with(ctx context.Context, name string, c *config.Dendrite, running bool, f func(*Installation) error) (err error) {
	i, err := Open(ctx, name, c, running)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, i.Close()) }()
	return f(i)
}

// place names an installation for an operator.
func place(c *config.Dendrite) string { return c.Global.DataDir }

func noArguments(args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%q is not understood", args[0])
	}
	return nil
}

func statusCommand(set *flag.FlagSet) func(context.Context, loader, []string, io.Writer) error {
	asJSON := set.Bool("json", false, "write JSON")
	return func(ctx context.Context, load loader, args []string, out io.Writer) error {
		c, err := load()
		if err = errors.Join(err, noArguments(args)); err != nil {
			return err
		}
		return with(ctx, place(c), c, true, func(i *Installation) error {
			r, err := Status(ctx, i)
			if err != nil {
				return err
			}
			if *asJSON {
				return r.JSON(out)
			}
			return r.Text(out)
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
		if err := noArguments(args); err != nil || *names[0] == "" || *names[1] == "" {
			return nil, nil, errors.Join(err, errors.New("say --from FILE and --to FILE"))
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
func between(ctx context.Context, from, to *config.Dendrite, f mover, out io.Writer) error {
	return with(ctx, place(from), from, false, func(source *Installation) error {
		return with(ctx, place(to), to, false, func(target *Installation) error { return f(ctx, source, target, out) })
	})
}

func moveCommand(set *flag.FlagSet) func(context.Context, loader, []string, io.Writer) error {
	load := pair(set)
	return func(ctx context.Context, _ loader, args []string, out io.Writer) error {
		from, to, err := load(args)
		if err != nil {
			return err
		}
		return between(ctx, from, to, Move, out)
	}
}

// settleTries bounds how often an installation runs to read all there is: what
// means nothing to a reader it notes as read now and then only.
const settleTries = 10

func repartitionCommand(set *flag.FlagSet) func(context.Context, loader, []string, io.Writer) error {
	load := pair(set)
	return func(ctx context.Context, _ loader, args []string, out io.Writer) error {
		from, to, err := load(args)
		if err != nil {
			return err
		}
		return repartition(ctx, from, to, out)
	}
}

// repartition lets the old installation read all that it has not yet, where
// there is something.
func repartition(ctx context.Context, from, to *config.Dendrite, out io.Writer) error {
	logger, err := telemetry.NewLogger("warning", "text", out)
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		err := between(ctx, from, to, Repartition, out)
		if !errors.Is(err, errUnsettled) || try > settleTries {
			return err
		}
		if err := roles.Settle(ctx, from, logger); err != nil {
			return fmt.Errorf("read what is left: %w", err)
		}
	}
}

func reopenCommand(*flag.FlagSet) func(context.Context, loader, []string, io.Writer) error {
	return func(ctx context.Context, load loader, args []string, out io.Writer) error {
		c, err := load()
		if err = errors.Join(err, noArguments(args)); err != nil {
			return err
		}
		return with(ctx, place(c), c, false, func(i *Installation) error { return Reopen(ctx, i, out) })
	}
}

func resetCommand(set *flag.FlagSet) func(context.Context, loader, []string, io.Writer) error {
	var r Reset
	set.StringVar(&r.Consumer, "consumer", "", "`NAME` of a consumer; otherwise all whose place is wrong")
	set.StringVar(&r.Topic, "topic", "", "only this `TOPIC`")
	set.IntVar(&r.Partition, "partition", -1, "only this partition")
	set.StringVar(&r.To, "to", "", "where to go on: start, end or an `OFFSET`")
	set.BoolVar(&r.Yes, "yes", false, "do it")
	return func(ctx context.Context, load loader, args []string, out io.Writer) error {
		c, err := load()
		if err = errors.Join(err, noArguments(args)); err != nil {
			return err
		}
		return with(ctx, place(c), c, false, func(i *Installation) error { return ResetPlaces(ctx, i, r, out) })
	}
}

func rebuildCommand(*flag.FlagSet) func(context.Context, loader, []string, io.Writer) error {
	return func(ctx context.Context, load loader, args []string, out io.Writer) error {
		c, err := load()
		if err == nil && len(args) != 1 {
			err = fmt.Errorf("say which: %s or %s", directoryConsumer, syncConsumer)
		}
		if err != nil {
			return err
		}
		return with(ctx, place(c), c, false, func(i *Installation) error { return Rebuild(ctx, i, args[0], out) })
	}
}
