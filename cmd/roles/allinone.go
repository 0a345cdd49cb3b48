package roles

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/telemetry"
)

// process is all roles in one process, on the embedded log and SQLite.
type process struct {
	config *config.Dendrite
	logger *logrus.Entry
	log    *eventlog.Embedded
	dbs    []*sqldb.DB
	roles  []Role
	names  []string
	rpc    *rpc.Server
	world  *world
}

// AllInOne runs every role in this process until ctx is done. listening is
// called once it serves requests, with the address that it listens on.
func AllInOne(ctx context.Context, c *config.Dendrite, logger *logrus.Logger, listening func(net.Addr)) (err error) {
	p := &process{config: c, logger: logrus.NewEntry(logger), rpc: rpc.NewServer()}
	defer func() { err = errors.Join(err, p.close()) }()
	registry := telemetry.NewRegistry()
	if err := p.open(ctx, table(), registry); err != nil {
		return err
	}
	return p.run(ctx, registry, listening)
}

// open opens the log and the stores, and makes the roles.
func (p *process) open(ctx context.Context, specs []spec, metrics prometheus.Registerer) error {
	dir := p.config.Global.DataDir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var err error
	if p.log, err = eventlog.OpenEmbedded(ctx, filepath.Join(dir, "log.db"), eventlog.EmbeddedOptions{}); err != nil {
		return err
	}
	w := &world{config: p.config, log: p.log, caller: p.rpc, logger: p.logger, metrics: metrics}
	p.world = w
	if w.keys, err = config.SigningKeys(p.config.Global.PrivateKey); err != nil {
		return err
	}
	for _, spec := range specs {
		var db *sqldb.DB
		if spec.store != "" {
			db, err = sqldb.Open(ctx, sqldb.Options{URL: "file:" + filepath.Join(dir, spec.store+".db"), Durable: spec.durable,
				Connections: p.config.Database.Connections, CacheBytes: p.config.Database.CacheBytes})
			if err != nil {
				return err
			}
			p.dbs = append(p.dbs, db)
		}
		role, err := spec.make(ctx, w, db)
		if err != nil {
			return fmt.Errorf("%s: %w", spec.name, err)
		}
		if r, ok := role.(registrar); ok {
			r.Register(p.rpc)
		}
		p.roles, p.names = append(p.roles, role), append(p.names, spec.name)
	}
	return nil
}

// run starts the roles, then the listeners, and stops them in the opposite
// order: requests in flight are answered by roles that still run.
func (p *process) run(ctx context.Context, registry *prometheus.Registry, listening func(net.Addr)) error {
	working, stopWorking := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorking()
	serving, stopServing := context.WithCancel(ctx)
	defer stopServing()
	roles, working := errgroup.WithContext(working)
	for i, role := range p.roles {
		roles.Go(func() error {
			defer stopServing() // a role that ends takes the process with it
			if err := role.Run(working); err != nil {
				return fmt.Errorf("%s: %w", p.names[i], err)
			}
			return nil
		})
	}
	err := p.ready(serving)
	if err == nil {
		err = p.serve(serving, registry, listening)
	}
	stopWorking()
	return errors.Join(err, roles.Wait())
}

// ready waits until every role can answer for all that was acknowledged before
// this start. A process that stops meanwhile has nothing to complain of.
func (p *process) ready(ctx context.Context) error {
	for i, role := range p.roles {
		r, ok := role.(readier)
		if !ok {
			continue
		}
		if err := r.Ready(ctx); err != nil && ctx.Err() == nil {
			return fmt.Errorf("%s: %w", p.names[i], err)
		}
	}
	return nil
}

// serve serves requests until ctx is done and those in flight are answered.
func (p *process) serve(ctx context.Context, registry *prometheus.Registry, listening func(net.Addr)) error {
	handler, err := p.handler(registry)
	if err != nil {
		return err
	}
	h := p.config.HTTP
	options := httpapi.ServerOptions{Handler: handler, Logger: p.logger, Grace: h.ShutdownGrace, OnStop: p.stopWaiting}
	public, err := net.Listen("tcp", h.Listen)
	if err != nil {
		return err
	}
	listeners, ctx := errgroup.WithContext(ctx)
	listeners.Go(func() error { return httpapi.Serve(ctx, public, options) })
	if h.FederationListen != "" {
		secure := options
		secure.TLSCert, secure.TLSKey = h.TLSCert, h.TLSKey
		if err := p.listen(ctx, listeners, h.FederationListen, secure); err != nil {
			return err
		}
	}
	if address := p.config.Metrics.Listen; address != "" {
		internal := options
		internal.Handler = telemetry.Handler(registry, p.logger)
		if err := p.listen(ctx, listeners, address, internal); err != nil {
			return err
		}
	}
	listening(public.Addr())
	return listeners.Wait()
}

// stopWaiting answers long polls early.
func (p *process) stopWaiting() {
	for _, role := range p.roles {
		if s, ok := role.(stopper); ok {
			s.Stop()
		}
	}
}

func (p *process) listen(ctx context.Context, group *errgroup.Group, address string, options httpapi.ServerOptions) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	group.Go(func() error { return httpapi.Serve(ctx, l, options) })
	return nil
}

// close closes what was opened, the log last.
func (p *process) close() error {
	var errs []error
	for _, db := range p.dbs {
		errs = append(errs, db.Close())
	}
	if p.log != nil {
		errs = append(errs, p.log.Close())
	}
	return errors.Join(errs...)
}
