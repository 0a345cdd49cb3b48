// Command dendrite-media-api-server runs the media-api role of a cluster, which
// keeps media.
package main

import "github.com/matrix-org/dendrite/cmd/roles"

func main() { roles.Main("media-api") }
