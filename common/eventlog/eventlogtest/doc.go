// Package eventlogtest is the conformance suite of eventlog.Log: what the
// embedded log passes, every other implementation passes too. Shared is for tests of
// what reads and writes logs.
package eventlogtest
