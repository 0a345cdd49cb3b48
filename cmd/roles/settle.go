package roles

import (
	"context"
	"errors"
	"fmt"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/telemetry"
)

// Settle runs all roles of an installation, without listening, until everything
// that was written has been handled and each reader has read all there is.
func Settle(ctx context.Context, c *config.Dendrite, logger *logrus.Logger) (err error) {
	p := &process{config: c, logger: logrus.NewEntry(logger), rpc: rpc.NewServer()}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := p.open(ctx, table(), telemetry.NewRegistry()); err != nil {
		return err
	}
	working, stop := context.WithCancel(ctx)
	defer stop()
	group, working := errgroup.WithContext(working)
	for i, role := range p.roles {
		group.Go(func() error {
			if err := role.Run(working); err != nil {
				return fmt.Errorf("%s: %w", p.names[i], err)
			}
			return nil
		})
	}
	err = p.ready(working)
	for i, role := range p.roles {
		if f, ok := role.(follower); ok && err == nil {
			if err = f.CaughtUp(working); err != nil {
				err = fmt.Errorf("%s: %w", p.names[i], err)
			}
		}
	}
	stop()
	return errors.Join(err, group.Wait())
}
