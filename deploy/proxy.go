package deploy

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	// publicPort is the port at which the proxy asks the roles, in roles.conf.
	publicPort = "8008"
	// OperatorPort is the port of metrics.listen in dendrite.yaml: /ready, /metrics.
	OperatorPort = "9090"
)

// ProxyAt is where the proxy listens, without and with TLS.
type ProxyAt struct{ HTTP, TLS string }

// WriteProxy writes the configuration of the proxy: the repository's nginx.conf
// with other addresses to listen at, and a roles.conf with those of the
// cluster's instances. It returns nginx's arguments.
func (s *Services) WriteProxy(c *Cluster, at ProxyAt) (arguments []string, err error) {
	text, err := os.ReadFile(filepath.Join(s.Root, "deploy", "nginx.conf"))
	if err != nil {
		return nil, err
	}
	config := string(text)
	for old, now := range map[string]string{"listen 8008;": "listen " + at.HTTP + ";", "listen 8448 ": "listen " + at.TLS + " "} {
		if strings.Count(config, old) != 1 {
			return nil, fmt.Errorf("nginx.conf does not have %q once", old)
		}
		config = strings.Replace(config, old, now, 1)
	}
	if os.Geteuid() == 0 {
		config = "user root;\n" + config // the folders are root's
	}
	dir := filepath.Join(c.Dir, Proxy)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	certificate := filepath.Join(dir, "tls")
	if err := os.Symlink(c.Volume("tls"), certificate); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	for name, text := range map[string]string{"nginx.conf": config, "roles.conf": s.upstreams(c)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	return []string{"-e", "stderr", "-p", dir, "-c", filepath.Join(dir, "nginx.conf"), "-g", "daemon off;"}, nil
}

// keptConnections are those that each of nginx's processes keeps open to a role's
// instances.
const keptConnections = 128

// upstreams is a roles.conf with addresses instead of a name server. As there,
// nginx does not remember which instance is gone. Of each role there are two, with
// connections that are kept and without: see nginx.conf.
func (s *Services) upstreams(c *Cluster) string {
	var b strings.Builder
	for _, role := range s.Roles() {
		instances := c.of(role)
		if len(instances) == 0 {
			continue
		}
		for _, kept := range []string{"", "-kept"} {
			fmt.Fprintf(&b, "upstream %s%s {\n", role, kept)
			for _, i := range instances {
				fmt.Fprintf(&b, "    server %s max_fails=0;\n", i.Addresses[publicPort])
			}
			if kept != "" {
				fmt.Fprintf(&b, "    keepalive %d;\n", keptConnections)
			}
			b.WriteString("}\n")
		}
	}
	b.WriteString("map $keeps $place {\n    default $role;\n    yes $role-kept;\n}\n")
	return b.String()
}
