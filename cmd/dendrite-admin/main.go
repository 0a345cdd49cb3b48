// Command dendrite-admin works on an installation as a whole, from outside of
// its roles; dendrite-admin --help lists what it does, docs/admin.md says when.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/matrix-org/dendrite/cmd/roles/admin"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := admin.Main(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "dendrite-admin:", err)
		}
		os.Exit(1)
	}
}
