// Package telemetrytest reads metrics in tests. It decides nothing, keeps
// nothing and asks nobody.
package telemetrytest
