// Package roles wires the roles of Dendrite into a process. It is the only
// package that imports all of them; the table in roles.go is the architecture.
//
// It decides what is opened, in which order things start, and that they stop in
// the opposite one: first the listeners, while requests in flight finish, then
// the roles, then the log.
package roles
