package roles

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/rpc"
	roomserver "github.com/matrix-org/dendrite/roomserver/api"
)

// internal is where other processes ask this one.
type internal struct {
	listener net.Listener
	leaving  chan struct{} // closed when this process is about to stop
}

// connect opens the internal listener, if there is one, and returns what the
// roles ask through: this process for the services of its own roles, others for
// the rest.
func (p *process) connect(w *world) (rpc.Caller, error) {
	c := &p.config.Internal
	if p.alone {
		return p.rpc, nil
	}
	if c.Listen != "" {
		l, err := net.Listen("tcp", c.Listen)
		if err != nil {
			return nil, err
		}
		p.internal = &internal{listener: l, leaving: make(chan struct{})}
		if w.address, err = c.Advertised(l.Addr()); err != nil {
			return nil, err
		}
	}
	here := map[string]bool{}
	for _, s := range p.specs {
		here[s.service] = s.service != ""
	}
	if !slices.ContainsFunc(table(), func(s spec) bool { return s.service != "" && !here[s.service] }) {
		return p.rpc, nil
	}
	if len(p.config.EventLog.Kafka.Brokers) == 0 {
		return nil, errors.New("a process that does not run every role needs event_log.kafka.brokers: the embedded log is one process's own")
	}
	if p.internal == nil && slices.ContainsFunc(p.specs, func(s spec) bool { return s.service != "" }) {
		return nil, errors.New("internal.listen is needed: other processes ask this one")
	}
	return p.callOthers(here)
}

// callOthers makes the caller of a process that does not run every role.
func (p *process) callOthers(here map[string]bool) (rpc.Caller, error) {
	c := &p.config.Internal
	var secure *tls.Config
	if c.TLSCA != "" {
		certificate, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
		if err != nil {
			return nil, fmt.Errorf("internal: %w", err)
		}
		authorities, err := authoritiesOf(c.TLSCA)
		if err != nil {
			return nil, err
		}
		secure = &tls.Config{Certificates: []tls.Certificate{certificate}, RootCAs: authorities, MinVersion: tls.VersionTLS13}
	}
	d := rpc.NewDirectory(c.Services(), secure != nil)
	o := &owners{partitions: p.config.EventLog.Partitions}
	client, err := rpc.NewHTTPClient(rpc.ClientOptions{
		Address: func(ctx context.Context, service, key string) (string, error) {
			preferred := ""
			if service == roomserver.Service && key != "" {
				preferred = o.of(key)
			}
			return d.Address(ctx, service, preferred)
		},
		Outcome: d.Outcome, Secret: c.Secret, Logger: p.logger, Metrics: p.registry, TLS: secure,
	})
	if err != nil {
		return nil, fmt.Errorf("internal: %w", err)
	}
	o.caller, p.remote = client, client
	return &mixed{here: here, local: p.rpc, remote: client}, nil
}

func authoritiesOf(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return pool, nil
}

// answer serves the methods of this process's roles to other processes.
func (p *process) answer(ctx context.Context, group *errgroup.Group) error {
	if p.internal == nil {
		return nil
	}
	c := &p.config.Internal
	handler, err := rpc.NewHTTPHandler(rpc.HandlerOptions{Server: p.rpc, Secret: c.Secret, Logger: p.logger, Metrics: p.registry, Leaving: p.internal.leaving})
	if err != nil {
		return err
	}
	options := httpapi.ServerOptions{Handler: handler, Logger: p.logger, TLSCert: c.TLSCert, TLSKey: c.TLSKey}
	if c.TLSCA != "" {
		if options.ClientCA, err = authoritiesOf(c.TLSCA); err != nil {
			return err
		}
	}
	group.Go(func() error { return httpapi.Serve(ctx, p.internal.listener, options) })
	return nil
}

// mixed asks this process or others, by service.
type mixed struct {
	here   map[string]bool
	local  *rpc.Server
	remote *rpc.HTTPClient
}

// Invoke implements rpc.Caller.
func (m *mixed) Invoke(ctx context.Context, call rpc.Call) (any, error) {
	if m.here[call.Service] {
		return m.local.Invoke(ctx, call)
	}
	return m.remote.Invoke(ctx, call)
}

// Place implements rpc.Placer.
func (m *mixed) Place(ctx context.Context, service, key string) string {
	if m.here[service] {
		return ""
	}
	return m.remote.Place(ctx, service, key)
}

// How often the owners of partitions are asked for, while somebody asks about
// rooms, and how long that may take.
const (
	ownersEvery   = 500 * time.Millisecond
	ownersTimeout = 5 * time.Second
)

// owners knows which room server has each partition, more or less: any of them
// answers, the owner from memory.
type owners struct {
	partitions int
	caller     rpc.Caller

	mu        sync.Mutex
	addresses []string
	asked     time.Time
	asking    bool
}

// of returns the address of a room's owner, "" if it is not known.
func (o *owners) of(roomID string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.asking && time.Since(o.asked) > ownersEvery {
		o.asking = true
		go o.ask()
	}
	if p := eventlog.PartitionFor(roomID, o.partitions); p < len(o.addresses) {
		return o.addresses[p]
	}
	return ""
}

func (o *owners) ask() {
	ctx, cancel := context.WithTimeout(context.Background(), ownersTimeout)
	defer cancel()
	res, err := roomserver.QueryOwners.Call(ctx, o.caller, &roomserver.OwnersRequest{})
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asking, o.asked = false, time.Now()
	if err == nil { // else the caller has logged it, and what was known may still be right
		o.addresses = res.Addresses
	}
}
