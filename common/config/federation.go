package config

import "net/netip"

// Presence is the section presence.
type Presence struct {
	// Enabled shows users whether others are online.
	Enabled bool `yaml:"enabled"`
}

// Federation is the section federation: the talk with other servers.
type Federation struct {
	// DenyRanges are addresses that the server never connects to on behalf of
	// others, so that nobody can reach its own network through it.
	DenyRanges []string `yaml:"deny_ranges"`
}

// Denied returns DenyRanges, which Validate has checked, as ranges.
func (c *Federation) Denied() []netip.Prefix { return parsed(c.DenyRanges) }

// privateRanges are the addresses that are not of the public Internet.
func privateRanges() []string {
	return []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
		"192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
		"198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
		"::/128", "::1/128", "64:ff9b:1::/48", "100::/64", "2001:db8::/32", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
	}
}

// Appservice is the section appservice.
type Appservice struct {
	// ConfigFiles are the registration files of application services.
	ConfigFiles []string `yaml:"config_files"`
}
