// Command dendrite, as some tests build it, runs the role that the name says
// under which it is called, or all of them: one binary to build and not nine.
package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/matrix-org/dendrite/cmd/roles"
)

func main() {
	role, ok := strings.CutPrefix(filepath.Base(os.Args[0]), "dendrite-")
	if !ok {
		roles.Main()
		return
	}
	if short := strings.TrimSuffix(role, "-server"); strings.Contains(short, "-") { // as client-api; room-server is called so
		role = short
	}
	roles.Main(role)
}
