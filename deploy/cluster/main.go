// Command cluster runs a cluster on this machine without containers: the services
// of docker-compose.yml, with the same configuration files. scripts/cluster builds
// the binaries and runs it.
//
//	cluster start DIR [--server-name NAME] [--instances N] [--scale ROLE=N]... [--listen PORT]
//	cluster start|stop|kill DIR NAME...   some of it: instances, roles, kafka, postgres, proxy
//	cluster stop|status DIR
//	cluster run DIR [OPTIONS OF START]    starts it, and kills it and removes DIR once its input ends
//
// DIR holds all of its state: a log for each process, volumes, secrets, and what
// was chosen at the first start (cluster.json). Instances can be added later;
// those that run hear of them when they are started again.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/matrix-org/dendrite/deploy"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

const usage = "usage: cluster start|run|stop|kill|status DIR [OPTIONS] [NAME...]"

func run(ctx context.Context, arguments []string) error {
	if len(arguments) < 2 {
		return errors.New(usage)
	}
	command, dir := arguments[0], arguments[1]
	var o options
	flags := flag.NewFlagSet("cluster "+command, flag.ContinueOnError)
	if command == "start" || command == "run" {
		o.define(flags)
	}
	if err := flags.Parse(arguments[2:]); err != nil {
		return err
	}
	m, err := open(ctx, dir, &o)
	if err != nil {
		return err
	}
	names := flags.Args()
	if err := m.known(names); err != nil {
		return err
	}
	switch command {
	case "start":
		return m.start(ctx, names)
	case "run":
		return m.run(ctx)
	case "stop":
		return m.end(names, syscall.SIGTERM)
	case "kill":
		if len(names) == 0 {
			return errors.New("kill whom?")
		}
		return m.end(names, syscall.SIGKILL)
	case "status":
		return m.status()
	}
	return errors.New(usage)
}

// options of start.
type options struct {
	root, bin  string
	serverName string
	instances  int
	scale      map[string]int
	port       int
}

func (o *options) define(flags *flag.FlagSet) {
	flags.StringVar(&o.serverName, "server-name", "", "the server's `NAME`; localhost at the first start")
	flags.IntVar(&o.instances, "instances", 1, "`N` instances of every role, at least")
	flags.IntVar(&o.port, "listen", 0, "`PORT` for clients at the first start; a free one if left out")
	o.scale = map[string]int{}
	flags.Func("scale", "`ROLE=N`: N instances of that role, at least", func(text string) error {
		role, number, _ := strings.Cut(text, "=")
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 {
			return errors.New("it is ROLE=N")
		}
		o.scale[role] = n
		return nil
	})
}

// open reads the state of a cluster, or makes a new one.
func open(ctx context.Context, dir string, o *options) (*machine, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	m := &machine{dir: dir}
	known, err := m.load()
	if err != nil {
		return nil, err
	}
	switch {
	case !known && o.scale == nil:
		return nil, fmt.Errorf("%s holds no cluster", dir)
	case !known:
		if m.state, err = newState(o); err != nil {
			return nil, err
		}
	case o.serverName != "" && o.serverName != m.state.ServerName:
		return nil, fmt.Errorf("the cluster in %s is %s, and a name cannot be changed", dir, m.state.ServerName)
	}
	if m.services, err = deploy.Load(ctx, ".", m.state.ServerName); err != nil {
		return nil, err
	}
	m.cluster = &deploy.Cluster{Dir: dir, Bin: filepath.Join(m.services.Root, "bin"), Instances: m.state.Instances}
	if o.scale == nil {
		return m, nil
	}
	return m, m.grow(o)
}
