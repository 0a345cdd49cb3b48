// Command dendrite-federation-api-server runs the federation-api role of a cluster, which
// takes what other servers send.
package main

import "github.com/matrix-org/dendrite/cmd/roles"

func main() { roles.Main("federation-api") }
