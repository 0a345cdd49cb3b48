// Command dendrite-federation-sender-server runs the federation-sender role of a cluster, which
// sends events to other servers.
package main

import "github.com/matrix-org/dendrite/cmd/roles"

func main() { roles.Main("federation-sender") }
