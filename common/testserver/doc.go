// Package testserver is how tests start the real servers of the folder scripts:
// each lives as long as a pipe that the test binary holds, so that none outlives
// it, however it dies. It decides nothing about what the servers are; sqldbtest,
// kafkatest and blobstest do. Its functions are safe for concurrent use.
package testserver
