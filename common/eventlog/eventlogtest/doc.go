// Package eventlogtest is the conformance suite of eventlog.Log: what the
// embedded log passes, every other implementation passes too.
package eventlogtest
