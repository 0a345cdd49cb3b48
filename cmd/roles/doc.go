// Package roles wires the roles of Dendrite into a process. It is the only
// package that imports all of them; the table in roles.go is the architecture.
//
// It decides what is opened, in which order things start, and that they stop in
// the opposite one: first the public listeners, while requests in flight finish,
// then the roles, then the internal listener, then the log. One process runs every
// role, or some; log and stores are chosen by the configuration alone
// (stores.go), and a role that is in another process is asked there (internal.go).
package roles
