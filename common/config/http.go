package config

import (
	"net/netip"
	"time"
)

// HTTP is the section http: where and how the server listens.
type HTTP struct {
	// Listen is the address for clients, "host:port"; port 0 takes a free one.
	Listen string `yaml:"listen"`
	// FederationListen is the address for other servers, which needs TLSCert
	// and TLSKey; "" means that they use Listen.
	FederationListen string `yaml:"federation_listen"`
	// TLSCert and TLSKey are PEM files for FederationListen.
	TLSCert string `yaml:"tls_cert"`
	// TLSKey is the key of TLSCert.
	TLSKey string `yaml:"tls_key"`
	// TrustedProxies are the addresses and ranges of reverse proxies that tell
	// the client's address in X-Forwarded-For.
	TrustedProxies []string `yaml:"trusted_proxies"`
	// MaxBodyBytes bounds the bodies of requests whose endpoint has no limit of
	// its own.
	MaxBodyBytes int64 `yaml:"max_body_bytes"`
	// BodyTimeout is how long a client may take to send a body; zero means 30s.
	BodyTimeout time.Duration `yaml:"body_timeout"`
	// ShutdownGrace is how long requests in flight may take to end when the
	// server stops; zero means 10s.
	ShutdownGrace time.Duration `yaml:"shutdown_grace"`
}

// Defaults fills in what was left out.
func (c *HTTP) Defaults() {
	if c.BodyTimeout == 0 {
		c.BodyTimeout = 30 * time.Second
	}
	if c.ShutdownGrace == 0 {
		c.ShutdownGrace = 10 * time.Second
	}
}

// Proxies returns TrustedProxies, which Validate has checked, as ranges.
func (c *HTTP) Proxies() []netip.Prefix { return parsed(c.TrustedProxies) }

// parseRange reads a range of addresses, or one address.
func parseRange(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	return netip.ParsePrefix(s)
}

// parsed returns the ranges among list.
func parsed(list []string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		if p, err := parseRange(s); err == nil {
			out = append(out, p)
		}
	}
	return out
}
