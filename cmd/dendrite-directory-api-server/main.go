// Command dendrite-directory-api-server runs the directory-api role of a cluster, which
// keeps aliases and the room directory.
package main

import "github.com/matrix-org/dendrite/cmd/roles"

func main() { roles.Main("directory-api") }
