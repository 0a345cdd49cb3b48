package syncapi

import "context"

// judging tells how an event is to be notified of.
type judging func(ctx context.Context, ev *event) (notify, highlight bool, err error)
