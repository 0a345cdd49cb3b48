package rpc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

// How long an instance that did not answer is passed over: longer each time,
// until it answers again.
const (
	minAvoided  = 500 * time.Millisecond
	hungAvoided = 5 * time.Second
	maxAvoided  = 30 * time.Second
	// lookedUpFor is how long the addresses of a name are remembered.
	lookedUpFor = time.Second
)

var errNobody = errors.New("rpc: no instance is known")

// Directory knows where the instances of each service are, and which of them did
// not answer lately. It is safe for concurrent use.
type Directory struct {
	scheme   string
	services map[string][]string
	lookUp   func(ctx context.Context, host string) ([]string, error)

	mu      sync.Mutex
	avoided map[string]avoided
	names   map[string]found
}

type avoided struct {
	until  time.Time
	pause  time.Duration
	failed time.Time // last
	// hung tells that some calls have no answer; others may have.
	hung bool
}

// found is what a name stands for.
type found struct {
	addresses []string
	until     time.Time
}

// NewDirectory makes a Directory of host:port addresses by service. A host may
// be a name that stands for several addresses, each of them an instance. Tls says
// that they are reached by https.
func NewDirectory(services map[string][]string, tls bool) *Directory {
	d := &Directory{scheme: "http://", services: services, lookUp: net.DefaultResolver.LookupHost, avoided: map[string]avoided{}, names: map[string]found{}}
	if tls {
		d.scheme = "https://"
	}
	return d
}

// Address returns the base URL of an instance of the service: of preferred, a
// host:port, where that is not "" and answers, else of any other at random. When
// none answers it is the one that failed longest ago, which is the first to be
// back: of two that are restarted one after the other, the former.
func (d *Directory) Address(ctx context.Context, service, preferred string) (string, error) {
	if preferred != "" && d.good(preferred) {
		return d.scheme + preferred, nil
	}
	var all []string
	for _, address := range d.services[service] {
		these, err := d.instances(ctx, address)
		if err != nil {
			return "", err
		}
		all = append(all, these...)
	}
	if len(all) == 0 {
		return "", fmt.Errorf("%w of %s", errNobody, service)
	}
	return d.scheme + d.choose(all), nil
}

// choose returns one of the addresses.
func (d *Directory) choose(all []string) string {
	if good := slices.DeleteFunc(slices.Clone(all), func(a string) bool { return !d.good(a) }); len(good) > 0 {
		return good[rand.IntN(len(good))]
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.MinFunc(all, func(a, b string) int { return d.avoided[a].failed.Compare(d.avoided[b].failed) })
}

// instances returns what an address stands for.
func (d *Directory) instances(ctx context.Context, address string) ([]string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("rpc: %w", err)
	}
	if net.ParseIP(host) != nil {
		return []string{address}, nil
	}
	d.mu.Lock()
	known := d.names[address]
	d.mu.Unlock()
	if time.Now().Before(known.until) {
		return known.addresses, nil
	}
	hosts, err := d.lookUp(ctx, host)
	if err != nil && known.addresses == nil {
		return nil, fmt.Errorf("rpc: %w", err)
	}
	if err == nil { // else what was known is better than nothing
		known.addresses = nil
		for _, h := range hosts {
			known.addresses = append(known.addresses, net.JoinHostPort(h, port))
		}
	}
	known.until = time.Now().Add(lookedUpFor)
	d.mu.Lock()
	d.names[address] = known
	d.mu.Unlock()
	return known.addresses, nil
}

func (d *Directory) good(address string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	a, ok := d.avoided[address]
	return !ok || !time.Now().Before(a.until)
}

// Outcome is told what came of asking an instance, by its base URL.
func (d *Directory) Outcome(base string, o Outcome) {
	address := base[min(len(d.scheme), len(base)):]
	d.mu.Lock()
	defer d.mu.Unlock()
	now, a := time.Now(), d.avoided[address]
	if o == Answered {
		if !a.hung || !now.Before(a.until) {
			delete(d.avoided, address)
		}
		return
	}
	if !now.Before(a.until) { // else it is known: many calls fail at once
		least := minAvoided
		if o == Hung {
			least = hungAvoided
		}
		a.pause = min(max(2*a.pause, least), maxAvoided)
		a.until = now.Add(a.pause)
	}
	a.failed, a.hung = now, a.hung || o == Hung
	d.avoided[address] = a
}
