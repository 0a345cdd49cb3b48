package eventlogtest

import "github.com/matrix-org/dendrite/common/eventlog"

// Shared is a log that other processes may have open too: it does not implement
// eventlog.Exclusive, whatever the log is that it wraps.
type Shared struct{ eventlog.Log }
