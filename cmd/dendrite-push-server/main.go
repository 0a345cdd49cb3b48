// Command dendrite-push-server runs the push-server role of a cluster, which
// notifies users through push gateways.
package main

import "github.com/matrix-org/dendrite/cmd/roles"

func main() { roles.Main("push-server") }
