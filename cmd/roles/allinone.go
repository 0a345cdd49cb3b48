package roles

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"

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
	// up is set while requests are served.
	up atomic.Bool
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
	err := p.listenInternally(working, roles, registry)
	if err == nil {
		err = p.ready(serving)
	}
	if err == nil {
		err = p.serve(serving, registry, listening)
	}
	stopWorking()
	return errors.Join(err, roles.Wait())
}

// listenInternally serves those who run the process, from before it is ready
// until the roles have stopped.
func (p *process) listenInternally(ctx context.Context, group *errgroup.Group, metrics prometheus.Gatherer) error {
	c := p.config.Metrics
	if c.Listen == "" {
		return nil
	}
	internal := telemetry.Internal{Metrics: metrics, Ready: p.health, Profiles: c.Profiles, Logger: p.logger}
	return p.listen(ctx, group, c.Listen, httpapi.ServerOptions{Handler: internal.Handler(), Logger: p.logger})
}

// health returns why the process should get no requests: it starts or stops, its
// log or a store cannot be written, or a role does not keep up with the log.
func (p *process) health(ctx context.Context) error {
	if !p.up.Load() {
		return errors.New("starting or stopping")
	}
	if err := p.log.Failed(); err != nil {
		return err
	}
	for _, db := range p.dbs {
		if err := db.Write(ctx, func(*sqldb.Tx) error { return nil }); err != nil {
			return err
		}
	}
	if err := p.ready(ctx); err != nil {
		return err
	}
	for i, role := range p.roles {
		if f, ok := role.(follower); ok {
			if err := f.CaughtUp(ctx); err != nil {
				return fmt.Errorf("%s: %w", p.names[i], err)
			}
		}
	}
	return ctx.Err()
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
	p.up.Store(true)
	defer context.AfterFunc(ctx, func() { p.up.Store(false) })()
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
