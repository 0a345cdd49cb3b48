package netguard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// ErrDenied says that an address is one that is not connected to.
var ErrDenied = errors.New("netguard: the address may not be connected to")

// Guard decides which addresses are connected to: those in none of the denied
// ranges, or in one of the allowed ones.
type Guard struct{ denied, allowed []netip.Prefix }

// New makes a Guard.
func New(denied, allowed []netip.Prefix) *Guard { return &Guard{denied: denied, allowed: allowed} }

// Ranges of IPv6 in which an IPv4 address stands that packets are sent on to.
const (
	nat64  = "64:ff9b::/96" // RFC 6052: the last 4 bytes
	sixTo4 = "2002::/16"    // RFC 3056: the 4 bytes behind the prefix
)

// embedded returns the IPv4 address that stands in an address of IPv6.
func embedded(a netip.Addr) (netip.Addr, bool) {
	b := a.As16()
	switch {
	case netip.MustParsePrefix(nat64).Contains(a):
		return netip.AddrFrom4([4]byte(b[12:16])), true
	case netip.MustParsePrefix(sixTo4).Contains(a):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return netip.Addr{}, false
}

// Check returns ErrDenied for an address that is not to be connected to.
func (g *Guard) Check(a netip.Addr) error {
	a = a.Unmap().WithZone("")
	within := func(p netip.Prefix) bool { return p.Contains(a) }
	if slices.ContainsFunc(g.allowed, within) {
		return nil
	}
	if !a.IsValid() || slices.ContainsFunc(g.denied, within) {
		return ErrDenied
	}
	if a.Is6() {
		if v4, ok := embedded(a); ok {
			return g.Check(v4)
		}
	}
	return nil
}

// control is asked before each connection, with the address as it was resolved.
func (g *Guard) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return fmt.Errorf("%w: %s", ErrDenied, network)
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDenied, err)
	}
	return g.Check(at.Addr())
}

// dialTimeout bounds a connection's making, TLS included.
const dialTimeout = 10 * time.Second

// Transport makes a transport that connects as the Guard allows, by no proxy of
// the environment's. It keeps few connections, since it meets many servers.
func (g *Guard) Transport() *http.Transport { return g.transport(nil) }

// transport makes one that resolves names by a resolver; nil is the system's.
func (g *Guard) transport(resolver *net.Resolver) *http.Transport {
	dialer := &net.Dialer{Timeout: dialTimeout, ControlContext: g.control, Resolver: resolver}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  dialTimeout,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConns:           32,
		MaxIdleConnsPerHost:    1,
		IdleConnTimeout:        30 * time.Second,
		ForceAttemptHTTP2:      true,
	}
}
