package roles

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"time"

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

// process is some roles, or all, in one process.
type process struct {
	config   *config.Dendrite
	logger   *logrus.Entry
	registry *prometheus.Registry
	log      log
	dbs      []*sqldb.DB
	disk     *diskProbe // nil where nothing is kept on this machine
	specs    []spec
	roles    []Role
	rpc      *rpc.Server
	world    *world
	internal *internal // nil where no other process asks
	remote   *rpc.HTTPClient
	// alone says that its roles ask nobody in other processes.
	alone bool
	// up is set while requests are served.
	up atomic.Bool
}

// Addresses are those that a process listens at; nil for none.
type Addresses struct{ Public, Internal net.Addr }

// Run runs the roles named, or all, in this process until ctx is done. listening
// is called once it serves requests.
func Run(ctx context.Context, c *config.Dendrite, logger *logrus.Logger, names []string, listening func(Addresses)) (err error) {
	p := newProcess(c, logger)
	defer func() { err = errors.Join(err, p.close()) }()
	specs, err := choose(names)
	if err != nil {
		return err
	}
	if err := p.open(ctx, specs); err != nil {
		if ctx.Err() != nil {
			return nil // told to stop while it waited for the log or a database
		}
		return err
	}
	return p.run(ctx, listening)
}

func newProcess(c *config.Dendrite, logger *logrus.Logger) *process {
	return &process{config: c, logger: logrus.NewEntry(logger), registry: telemetry.NewRegistry(), rpc: rpc.NewServer()}
}

// choose returns the rows of the table with these names; all for none.
func choose(names []string) ([]spec, error) {
	if len(names) == 0 {
		return table(), nil
	}
	var out []spec
	for _, name := range names {
		i := slices.IndexFunc(table(), func(s spec) bool { return s.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no role %q", name)
		}
		out = append(out, table()[i])
	}
	return out, nil
}

// open opens the log and the stores, and makes the roles.
func (p *process) open(ctx context.Context, specs []spec) error {
	if err := os.MkdirAll(p.config.Global.DataDir, 0o700); err != nil {
		return err
	}
	p.specs = specs
	w := &world{config: p.config, logger: p.logger, metrics: p.registry}
	p.world = w
	var err error
	if w.keys, err = config.SigningKeys(p.config.Global.PrivateKey); err != nil {
		return err
	}
	if w.caller, err = p.connect(w); err != nil {
		return err
	}
	if p.log, err = openLog(ctx, p.config, specs, p.logger, p.registry); err != nil {
		return err
	}
	w.log = p.log
	if keepsFiles(p.config, specs) {
		p.disk = newDiskProbe(p.config.Global.DataDir)
		if err := measureDisk(p.registry, p.config.Global.DataDir); err != nil {
			return err
		}
	}
	for _, spec := range specs {
		if err := p.make(ctx, spec); err != nil {
			return fmt.Errorf("%s: %w", spec.name, err)
		}
	}
	return nil
}

// make makes a role, with its store.
func (p *process) make(ctx context.Context, spec spec) error {
	var db *sqldb.DB
	if spec.store != "" {
		var err error
		if db, err = openStore(ctx, p.config, spec, p.logger, p.registry); err != nil {
			return err
		}
		p.dbs = append(p.dbs, db)
	}
	role, err := spec.make(ctx, p.world, db)
	if err != nil {
		return err
	}
	if r, ok := role.(registrar); ok {
		r.Register(p.rpc)
	}
	p.roles = append(p.roles, role)
	return nil
}

// run starts the roles, then the public listeners, and stops them in the
// opposite order: requests in flight are answered by roles that still run. What
// other processes ask is answered until the roles have stopped, and for some
// time after they were told to ask elsewhere.
func (p *process) run(ctx context.Context, listening func(Addresses)) error {
	asked, stopAsked := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAsked()
	working, stopWorking := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorking()
	serving, stopServing := context.WithCancel(ctx)
	defer stopServing()
	roles, working := errgroup.WithContext(working)
	for i, role := range p.roles {
		roles.Go(func() error {
			defer stopServing() // a role that ends takes the process with it
			if err := role.Run(working); err != nil {
				return fmt.Errorf("%s: %w", p.specs[i].name, err)
			}
			return nil
		})
	}
	listeners, asked := errgroup.WithContext(asked)
	defer context.AfterFunc(asked, stopServing)()
	err := p.listenInternally(asked, listeners)
	if err == nil {
		err = p.ready(serving)
	}
	if err == nil {
		err = p.serve(serving, working, listening)
	}
	left := p.leave()
	stopWorking()
	err = errors.Join(err, roles.Wait())
	<-left
	stopAsked()
	return errors.Join(err, listeners.Wait())
}

// leaveFor is how long a process goes on answering other processes after it has begun
// to tell them to ask another one, and clients after it was told to stop.
const leaveFor = time.Second

// leave tells other processes to ask elsewhere; the channel is ready when they
// have been told.
func (p *process) leave() <-chan time.Time {
	if p.internal == nil {
		told := make(chan time.Time)
		close(told)
		return told
	}
	close(p.internal.leaving)
	return time.After(leaveFor)
}

// listenInternally serves those who run the process and the other processes,
// from before it is ready until the roles have stopped.
func (p *process) listenInternally(ctx context.Context, group *errgroup.Group) error {
	if err := p.answer(ctx, group); err != nil {
		return err
	}
	c := p.config.Metrics
	if c.Listen == "" {
		return nil
	}
	internal := telemetry.Internal{Metrics: p.registry, Ready: p.health, Profiles: c.Profiles, Logger: p.logger}
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
	if p.disk != nil {
		if err := p.disk.check(); err != nil {
			return err
		}
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
				return fmt.Errorf("%s: %w", p.specs[i].name, err)
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
			return fmt.Errorf("%s: %w", p.specs[i].name, err)
		}
	}
	return nil
}

// serve serves requests until ctx is done and those in flight are answered. A
// process whose roles have no public endpoints only waits.
//
// Where there are other instances it goes on for leaveFor: who was refused by one that
// was just starting, and asks this one instead, is answered; meanwhile it is not ready.
func (p *process) serve(ctx, working context.Context, listening func(Addresses)) error {
	var at Addresses
	if p.internal != nil {
		at.Internal = p.internal.listener.Addr()
	}
	open, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	listeners, open := errgroup.WithContext(open)
	public := slices.ContainsFunc(p.specs, func(s spec) bool { return s.public })
	if public {
		var err error
		if at.Public, err = p.listenPublicly(open, listeners); err != nil {
			return err
		}
	}
	if ctx.Err() == nil { // else a role has ended already
		p.up.Store(true)
		listening(at)
		select {
		case <-ctx.Done():
		case <-open.Done(): // a listener has failed
		}
		p.up.Store(false)
		if public && !eventlog.IsExclusive(p.log) {
			select {
			case <-time.After(leaveFor):
			case <-working.Done(): // a role has ended
			case <-open.Done():
			}
		}
	}
	end()
	return listeners.Wait()
}

func (p *process) listenPublicly(ctx context.Context, listeners *errgroup.Group) (net.Addr, error) {
	handler, err := p.handler(p.registry)
	if err != nil {
		return nil, err
	}
	h := p.config.HTTP
	options := httpapi.ServerOptions{Handler: handler, Logger: p.logger, Grace: h.ShutdownGrace, OnStop: p.stopWaiting}
	public, err := net.Listen("tcp", h.Listen)
	if err != nil {
		return nil, err
	}
	listeners.Go(func() error { return httpapi.Serve(ctx, public, options) })
	if h.FederationListen == "" {
		return public.Addr(), nil
	}
	options.TLSCert, options.TLSKey = h.TLSCert, h.TLSKey
	return public.Addr(), p.listen(ctx, listeners, h.FederationListen, options)
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
	if p.remote != nil {
		p.remote.Close()
	}
	for _, db := range p.dbs {
		errs = append(errs, db.Close())
	}
	if p.log != nil {
		errs = append(errs, p.log.Close())
	}
	return errors.Join(errs...)
}
