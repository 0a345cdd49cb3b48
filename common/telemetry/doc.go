// Package telemetry makes what a process tells about itself with: its logger,
// its registry of metrics (docs/metrics.md lists what is in it), and the handler
// that shows these, whether the process is ready, and profiles, to those who run
// it. It decides how they look, not what they say.
//
// It owns no topic and no table, asks nobody, and what it makes is safe for
// concurrent use.
package telemetry
