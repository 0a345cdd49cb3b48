// Command dendrite runs the whole homeserver in one process, on an embedded log
// and SQLite files: nothing to install.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/matrix-org/dendrite/cmd/roles"
	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/telemetry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "dendrite:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	file := flag.String("config", "", "configuration `FILE`; everything has a default but the server name")
	overrides := roles.Flags(flag.CommandLine)
	flag.Parse()
	c, err := config.Load(*file, os.Environ(), overrides)
	if err != nil {
		return err
	}
	logger, err := telemetry.NewLogger(c.Log.Level, c.Log.Format, os.Stderr)
	if err != nil {
		return err
	}
	return roles.AllInOne(ctx, c, logger, func(a net.Addr) { announce(c, a) })
}

// announce tells whoever started the server where it is, and how to go on.
func announce(c *config.Dendrite, a net.Addr) {
	fmt.Printf("Dendrite (%s) is listening on http://%s\n", c.Global.ServerName, a)
	switch {
	case c.Registration.Open:
		fmt.Println("Registration is open: point a client there and sign up.")
	case c.Registration.SharedSecret != "":
		fmt.Printf("Make an account: create-account --url http://%s --username NAME --admin\n", a)
	default:
		fmt.Println("Registration is closed. Set DENDRITE_REGISTRATION_SHARED_SECRET (and use create-account) or DENDRITE_REGISTRATION_OPEN=true.")
	}
}
