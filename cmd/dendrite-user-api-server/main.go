// Command dendrite-user-api-server runs the user-api role of a cluster, which
// keeps accounts, devices and what belongs to users.
package main

import "github.com/matrix-org/dendrite/cmd/roles"

func main() { roles.Main("user-api") }
