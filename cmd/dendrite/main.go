// Command dendrite runs the whole homeserver in one process: on an embedded log
// and SQLite files, with nothing to install, or on Kafka and PostgreSQL.
package main

import "github.com/matrix-org/dendrite/cmd/roles"

func main() { roles.Main() }
