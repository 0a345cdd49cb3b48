package roles

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/telemetry"
)

// Main is the main of a server process that runs the roles named, or all.
func Main(names ...string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := start(ctx, names); err != nil {
		fmt.Fprintln(os.Stderr, filepath.Base(os.Args[0])+":", err)
		os.Exit(1)
	}
}

func start(ctx context.Context, names []string) error {
	file := flag.String("config", "", "configuration `FILE`; everything has a default but the server name")
	version := flag.Bool("version", false, "print the version and end")
	overrides := Flags(flag.CommandLine)
	flag.Parse()
	if *version {
		fmt.Println("Dendrite", Version())
		return nil
	}
	c, err := config.Load(*file, os.Environ(), overrides)
	if err != nil {
		return err
	}
	logger, err := telemetry.NewLogger(c.Log.Level, c.Log.Format, os.Stderr)
	if err != nil {
		return err
	}
	return Run(ctx, c, logger, names, func(at Addresses) { announce(c, names, at) })
}

// announce tells whoever started the server where it is, and how to go on.
func announce(c *config.Dendrite, names []string, at Addresses) {
	if at.Internal != nil {
		fmt.Printf("Dendrite (%s) answers other processes at %s\n", c.Global.ServerName, at.Internal)
	}
	if at.Public == nil {
		fmt.Printf("Dendrite (%s) is running %v\n", c.Global.ServerName, names)
		return
	}
	fmt.Printf("Dendrite (%s) is listening on http://%s\n", c.Global.ServerName, at.Public)
	switch {
	case len(names) > 0: // a part of a cluster: clients come through a proxy
	case c.Registration.Open:
		fmt.Println("Registration is open: point a client there and sign up.")
	case c.Registration.SharedSecret != "":
		fmt.Printf("Make an account: create-account --url http://%s --username NAME --admin\n", at.Public)
	default:
		fmt.Println("Registration is closed. Set DENDRITE_REGISTRATION_SHARED_SECRET (and use create-account) or DENDRITE_REGISTRATION_OPEN=true.")
	}
}

// release is the version of this source; CHANGELOG.md says what came with it.
const release = "0.3.0-dev"

// Version is the release and the commit that the binary was built from.
func Version() string {
	commit, dirty := "", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				commit = " (commit " + s.Value[:min(12, len(s.Value))]
			case s.Key == "vcs.modified" && s.Value == "true":
				dirty = ", changed"
			}
		}
	}
	if commit == "" {
		return release
	}
	return release + commit + dirty + ")"
}
