package roles

import (
	"context"
	"errors"
	"fmt"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/matrix-org/dendrite/common/config"
)

// Settle runs all roles of an installation, without listening, until everything
// that was written has been handled and each reader has read all there is.
func Settle(ctx context.Context, c *config.Dendrite, logger *logrus.Logger) (err error) {
	p := newProcess(c, logger)
	defer func() { err = errors.Join(err, p.close()) }()
	p.alone = true
	if err := p.open(ctx, table()); err != nil {
		return err
	}
	working, stop := context.WithCancel(ctx)
	defer stop()
	group, working := errgroup.WithContext(working)
	for i, role := range p.roles {
		group.Go(func() error {
			if err := role.Run(working); err != nil {
				return fmt.Errorf("%s: %w", p.specs[i].name, err)
			}
			return nil
		})
	}
	err = p.ready(working)
	for i, role := range p.roles {
		if f, ok := role.(follower); ok && err == nil {
			if err = f.CaughtUp(working); err != nil {
				err = fmt.Errorf("%s: %w", p.specs[i].name, err)
			}
		}
	}
	stop()
	return errors.Join(err, group.Wait())
}
