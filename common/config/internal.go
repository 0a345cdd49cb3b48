package config

import (
	"net"
	"os"
)

// Internal is the section internal: how the processes of an installation ask
// each other. One process that runs every role needs none of it.
type Internal struct {
	// Listen is the address for the other processes, "host:port"; port 0 takes a
	// free one. Needed by roles that others ask.
	Listen string `yaml:"listen"`
	// Advertise is how other processes reach Listen; "" means its host and port,
	// or this machine's name where it listens on all addresses.
	Advertise string `yaml:"advertise"`
	// Secret is what the processes know each other by; at least 16 bytes.
	Secret string `yaml:"secret"`
	// SecretFile holds Secret.
	SecretFile string `yaml:"secret_file"`
	// TLSCert, TLSKey and TLSCA are PEM files: with them the processes talk TLS
	// and both sides show certificates of that authority.
	TLSCert string `yaml:"tls_cert"`
	// TLSKey is the key of TLSCert.
	TLSKey string `yaml:"tls_key"`
	// TLSCA is the authority.
	TLSCA string `yaml:"tls_ca"`
	// RoomServer lists where room servers are, host:port; a name may stand for
	// several addresses, of which each is an instance.
	RoomServer []string `yaml:"room_server"`
	// UserAPI lists the user-api's instances.
	UserAPI []string `yaml:"user_api"`
	// DirectoryAPI lists the directory-api's instances.
	DirectoryAPI []string `yaml:"directory_api"`
	// SyncAPI lists the sync-api's instances.
	SyncAPI []string `yaml:"sync_api"`
	// MediaAPI lists the media-api's instances.
	MediaAPI []string `yaml:"media_api"`
}

// Services returns the addresses of the instances that serve each service of
// common/rpc.
func (c *Internal) Services() map[string][]string {
	return map[string][]string{
		"roomserver": c.RoomServer, "userapi": c.UserAPI, "directoryapi": c.DirectoryAPI, "syncapi": c.SyncAPI, "mediaapi": c.MediaAPI,
	}
}

// Advertised returns how other processes reach this one, which listens at the
// address given.
func (c *Internal) Advertised(listening net.Addr) (string, error) {
	if c.Advertise != "" {
		return c.Advertise, nil
	}
	host, port, err := net.SplitHostPort(listening.String())
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		if host, err = os.Hostname(); err != nil {
			return "", err
		}
	}
	return net.JoinHostPort(host, port), nil
}

func (c *Internal) validate(p *problems) {
	if c.Listen != "" {
		p.address("internal.listen", c.Listen)
		if c.Secret == "" {
			p.add("internal.listen", "needs internal.secret")
		}
	}
	if c.Advertise != "" {
		p.address("internal.advertise", c.Advertise)
	}
	if n := len(c.Secret); n > 0 && n < minSecretBytes {
		p.add("internal.secret", "is shorter than %d bytes", minSecretBytes)
	}
	if given := []bool{c.TLSCert != "", c.TLSKey != "", c.TLSCA != ""}; given[0] != given[1] || given[1] != given[2] {
		p.add("internal.tls_cert", "tls_cert, tls_key and tls_ca need each other")
	}
	for path, file := range map[string]string{"internal.tls_cert": c.TLSCert, "internal.tls_key": c.TLSKey, "internal.tls_ca": c.TLSCA} {
		if file != "" {
			p.file(path, file)
		}
	}
	for service, addresses := range map[string][]string{"room_server": c.RoomServer, "user_api": c.UserAPI, "directory_api": c.DirectoryAPI, "sync_api": c.SyncAPI, "media_api": c.MediaAPI} {
		for _, address := range addresses {
			p.address("internal."+service, address)
		}
	}
}
