// Command dendrite-search-server runs the search-server role of a cluster, which
// finds messages by their words.
package main

import "github.com/matrix-org/dendrite/cmd/roles"

func main() { roles.Main("search-server") }
