// Command dendrite-client-api-server runs the client-api role of a cluster, which
// serves the client-server API, but for what the sync-api does.
package main

import "github.com/matrix-org/dendrite/cmd/roles"

func main() { roles.Main("client-api") }
