package roles

import (
	"flag"

	"github.com/matrix-org/dendrite/common/config"
)

// Flags defines the command line of a server, and returns what puts into the
// configuration the flags that were given.
func Flags(set *flag.FlagSet) func(*config.Dendrite) {
	targets := map[string]func(*config.Dendrite) *string{}
	add := func(name, usage string, target func(*config.Dendrite) *string) {
		set.String(name, "", usage)
		targets[name] = target
	}
	add("data", "folder `DIR` of everything that is stored", func(c *config.Dendrite) *string { return &c.Global.DataDir })
	add("server-name", "the server's `NAME`, the part of user IDs behind the colon", func(c *config.Dendrite) *string { return &c.Global.ServerName })
	add("listen", "`ADDR:PORT` for clients, plain HTTP", func(c *config.Dendrite) *string { return &c.HTTP.Listen })
	add("federation-listen", "`ADDR:PORT` for other servers, TLS", func(c *config.Dendrite) *string { return &c.HTTP.FederationListen })
	add("tls-cert", "certificate `FILE` for --federation-listen", func(c *config.Dendrite) *string { return &c.HTTP.TLSCert })
	add("tls-key", "key `FILE` for --federation-listen", func(c *config.Dendrite) *string { return &c.HTTP.TLSKey })
	return func(c *config.Dendrite) {
		set.Visit(func(f *flag.Flag) {
			if target := targets[f.Name]; target != nil {
				*target(c) = f.Value.String()
			}
		})
	}
}
