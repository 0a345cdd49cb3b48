// Package telemetry makes what a process tells about itself with: its logger
// and its registry of metrics. It decides how they look, not what they say.
//
// It owns no topic and no table, asks nobody, and what it makes is safe for
// concurrent use.
package telemetry
