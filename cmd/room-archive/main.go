// Command room-archive exports a room to a file, and imports it into another
// installation of the same server, or of another that is to serve it:
//
//	room-archive --data DIR --server-name NAME export ROOM_ID FILE
//	room-archive --data DIR --server-name NAME [--key 'SERVER ID BASE64']... import FILE
//
// No server may run on the folder meanwhile. An import verifies the hashes and
// signatures of all events: give the public keys of the servers whose users
// have sent some. What is there already stays as it is.
package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/matrix-org/dendrite/cmd/roles"
	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/telemetry"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "room-archive:", err)
		}
		os.Exit(1)
	}
}

// keyFlag collects --key.
type keyFlag map[string]map[gomatrixserverlib.KeyID]ed25519.PublicKey

func (k keyFlag) String() string { return "" }

func (k keyFlag) Set(s string) error {
	parts := strings.Fields(s)
	if len(parts) != 3 {
		return errors.New("want a server name, a key ID and the key in base64")
	}
	public, err := gomatrixserverlib.DecodeBase64(parts[2])
	if err != nil || len(public) != ed25519.PublicKeySize {
		return errors.New("not an Ed25519 key in base64")
	}
	if k[parts[0]] == nil {
		k[parts[0]] = map[gomatrixserverlib.KeyID]ed25519.PublicKey{}
	}
	k[parts[0]][gomatrixserverlib.KeyID(parts[1])] = public
	return nil
}

func run(ctx context.Context, arguments []string, out, diagnostics io.Writer) error {
	flags := flag.NewFlagSet("room-archive", flag.ContinueOnError)
	flags.SetOutput(diagnostics)
	file := flags.String("config", "", "configuration `FILE` of the server")
	keys := keyFlag{}
	flags.Var(keys, "key", "public key of another server, as `'SERVER ID BASE64'`; may be given several times")
	overrides := roles.Flags(flags)
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	var work func(context.Context, *roles.Archive) error
	switch args := flags.Args(); {
	case len(args) == 3 && args[0] == "export":
		work = func(ctx context.Context, a *roles.Archive) error { return export(ctx, a, args[1], args[2], out) }
	case len(args) == 2 && args[0] == "import":
		work = func(ctx context.Context, a *roles.Archive) error { return imported(ctx, a, args[1], out) }
	default:
		return errors.New("say: export ROOM_ID FILE, or import FILE")
	}
	c, err := config.Load(*file, os.Environ(), overrides)
	if err != nil {
		return err
	}
	logger, err := telemetry.NewLogger(c.Log.Level, c.Log.Format, diagnostics)
	if err != nil {
		return err
	}
	return roles.OpenArchive(ctx, c, logger, keys, work)
}

// export writes the file whole or not at all; it replaces none.
func export(ctx context.Context, a *roles.Archive, roomID, name string, out io.Writer) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	n, err := a.Export(ctx, roomID, f)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	fmt.Fprintf(out, "%s: %d events\n", roomID, n)
	return nil
}

func imported(ctx context.Context, a *roles.Archive, name string, out io.Writer) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	roomID, n, err := a.Import(ctx, f)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %d events\n", roomID, n)
	return nil
}
