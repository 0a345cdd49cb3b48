// Package deploy is what a cluster is made of: docker-compose.yml, the
// configuration that its roles share (dendrite.yaml), the reverse proxy's
// (nginx.conf, roles.conf), and what to be woken by (alerts.yaml, for Prometheus).
//
// It decides how the same services run without containers: Load reads the
// compose file, and a Cluster says with which arguments and which environment each
// process of each service runs on this machine, where containers' addresses and
// folders are not. Nothing is said twice, so the two ways to run cannot drift.
// deploy/cluster starts the processes.
//
// The package asks nobody and keeps no state; its values are not for several
// goroutines.
package deploy
