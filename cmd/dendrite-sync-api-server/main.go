// Command dendrite-sync-api-server runs the sync-api role of a cluster, which
// serves /sync and what else clients read of rooms.
package main

import "github.com/matrix-org/dendrite/cmd/roles"

func main() { roles.Main("sync-api") }
