package syncapi

import (
	"github.com/matrix-org/dendrite/common/filters"
)

// Bounds of what filters ask for.
const (
	defaultTimelineLimit = 10
	maxTimelineLimit     = 100
)

// filter is a filter of /sync with what is computed of it once.
type filter struct {
	*filters.Filter
	fields *fieldTree // of EventFields; nil: all
}

// newFilter prepares a filter.
func newFilter(parsed *filters.Filter) *filter {
	f := &filter{Filter: parsed}
	if f.EventFields != nil {
		f.fields = newFieldTree(f.EventFields)
	}
	return f
}

// parseFilter reads a filter: 400 for what is not one.
func parseFilter(text []byte) (*filter, error) {
	parsed, err := filters.Parse(text)
	if err != nil {
		return nil, err
	}
	return newFilter(parsed), nil
}
