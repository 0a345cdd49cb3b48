package roles

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/matrix-org/dendrite/clientapi"
	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver"
)

// Archive works on the rooms of an installation while no server runs on it.
type Archive struct {
	rooms  *roomserver.Server
	writer *clientapi.Writer
	keys   map[string]map[gomatrixserverlib.KeyID]ed25519.PublicKey
}

// Export writes a room to out: see roomserver.Server.Export.
func (a *Archive) Export(ctx context.Context, roomID string, out io.Writer) (events int, err error) {
	return a.rooms.Export(ctx, roomID, out)
}

// Import makes a room of what Export wrote: see roomserver.Import.
func (a *Archive) Import(ctx context.Context, in io.Reader) (roomID string, events int, err error) {
	ring := func(server string, id gomatrixserverlib.KeyID) ([]byte, bool) {
		key, ok := a.keys[server][id]
		return key, ok
	}
	return roomserver.Import(ctx, in, ring, a.writer.Append)
}

// OpenArchive runs the room server alone while work runs. keys are those of
// other servers, whose events an import may hold.
func OpenArchive(ctx context.Context, c *config.Dendrite, logger *logrus.Logger, keys map[string]map[gomatrixserverlib.KeyID]ed25519.PublicKey, work func(context.Context, *Archive) error) (err error) {
	p := newProcess(c, logger)
	defer func() { err = errors.Join(err, p.close()) }()
	p.alone = true
	if err := p.open(ctx, []spec{roomServer}); err != nil {
		return err
	}
	a := &Archive{rooms: p.roles[0].(*roomserver.Server), keys: keys}
	ours := map[gomatrixserverlib.KeyID]ed25519.PublicKey{}
	for _, key := range p.world.keys {
		ours[key.ID] = key.Public()
	}
	a.keys[c.Global.ServerName] = ours
	if a.writer, err = clientapi.NewWriter(ctx, clientapi.WriterDeps{Config: c.ClientAPI.Writer, ServerName: c.Global.ServerName, Log: p.log,
		Caller: p.rpc, Partitions: c.EventLog.Partitions, Logger: p.logger, Metrics: p.registry}); err != nil {
		return err
	}
	working, stop := context.WithCancel(ctx)
	defer stop()
	group, working := errgroup.WithContext(working)
	for _, role := range []Role{a.rooms, a.writer} {
		group.Go(func() error { return role.Run(working) })
	}
	if err = a.rooms.Ready(working); err == nil {
		err = work(working, a)
	}
	stop()
	if stopped := group.Wait(); stopped != nil {
		err = errors.Join(err, fmt.Errorf("room server: %w", stopped))
	}
	return err
}
