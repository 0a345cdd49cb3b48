// Command dendrite-room-server runs the room-server role of a cluster, which
// orders, authorises and stores events.
package main

import "github.com/matrix-org/dendrite/cmd/roles"

func main() { roles.Main("room-server") }
