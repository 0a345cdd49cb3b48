package api

import (
	"context"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/common/eventlog"
)

const (
	// ActivityEvery is how often the same is reported of a device at most.
	ActivityEvery = 30 * time.Second
	// maxReported bounds the reports remembered.
	maxReported = 50_000
	// reportTimeout bounds how long a request waits for its report.
	reportTimeout = time.Second
	// noteEvery is how long what is noted waits for more, maxNoted how much.
	noteEvery = 20 * time.Millisecond
	maxNoted  = 10_000
)

// ActivityTopic is what user.activity is ensured as.
func ActivityTopic() eventlog.TopicSpec {
	return eventlog.TopicSpec{Name: TopicUserActivity, Partitions: ActivityPartitions, Durability: eventlog.Ephemeral}
}

// Reporter writes to user.activity. It is safe for concurrent use.
type Reporter struct {
	log  eventlog.Log
	mu   sync.Mutex
	last map[reported]time.Time
	// noted is what Run has to write, when wake says so.
	noted []eventlog.Message
	wake  chan struct{}
}

// reported is what is not said again soon.
type reported struct {
	user, device, presence string
	syncing, active        bool
}

// NewReporter makes a Reporter; the topic has to be ensured.
func NewReporter(log eventlog.Log) *Reporter {
	return &Reporter{log: log, last: map[reported]time.Time{}, wake: make(chan struct{}, 1)}
}

// Report tells that a device is heard of at a.TS, unless the same was told less
// than ActivityEvery before. A report that fails is missed by nobody for long:
// a later request makes another.
func (r *Reporter) Report(ctx context.Context, a Activity) error {
	if !r.due(reported{a.UserID, a.DeviceID, a.Presence, a.Syncing, a.Active}, time.UnixMilli(a.TS)) {
		return nil
	}
	return r.write(ctx, a.UserID, a)
}

// Note is Report for who does not wait: Run writes it soon, with others. What
// there is no room for is missed as a report that fails.
func (r *Reporter) Note(a Activity) error {
	if !r.due(reported{a.UserID, a.DeviceID, a.Presence, a.Syncing, a.Active}, time.UnixMilli(a.TS)) {
		return nil
	}
	m, err := message(a.UserID, a)
	if err != nil {
		return err
	}
	r.mu.Lock()
	if len(r.noted) < maxNoted {
		r.noted = append(r.noted, m)
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default: // it will look
	}
	return nil
}

// Run writes what is noted until ctx is done, and tells what could not be
// written.
func (r *Reporter) Run(ctx context.Context, failed func(error)) {
	for ctx.Err() == nil {
		select {
		case <-r.wake:
		case <-ctx.Done():
		}
		select {
		case <-time.After(noteEvery):
		case <-ctx.Done(): // what there is, is written all the same
		}
		r.mu.Lock()
		list := r.noted
		r.noted = nil
		r.mu.Unlock()
		if len(list) == 0 {
			continue
		}
		if err := r.append(context.WithoutCancel(ctx), list...); err != nil {
			failed(err)
		}
	}
}

// SetPresence hands a presence that a user has chosen to who keeps it.
func (r *Reporter) SetPresence(ctx context.Context, ts int64, set *SetPresenceRequest, id string) error {
	return r.write(ctx, set.UserID, Activity{UserID: set.UserID, TS: ts, Set: set, SetID: id})
}

// SetTyping hands what somebody said of typing to who keeps the room.
func (r *Reporter) SetTyping(ctx context.Context, ts int64, change TypingChange) error {
	return r.write(ctx, change.RoomID, Activity{UserID: change.UserID, TS: ts, Typing: &change})
}

// Wake tells who publishes user.output that there are new rows.
func (r *Reporter) Wake(ctx context.Context) error { return r.write(ctx, "", Activity{Wake: true}) }

func (r *Reporter) write(ctx context.Context, key string, a Activity) error {
	m, err := message(key, a)
	if err != nil {
		return err
	}
	return r.append(ctx, m)
}

func (r *Reporter) append(ctx context.Context, list ...eventlog.Message) error {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	_, err := r.log.Append(ctx, list...)
	return err
}

func message(key string, a Activity) (eventlog.Message, error) {
	a.V = 1
	value, err := json.Marshal(&a)
	return eventlog.Message{Topic: TopicUserActivity,
		Partition: eventlog.PartitionFor(key, ActivityPartitions), Key: []byte(key), Value: value}, err
}

// due tells whether something is to be reported now.
func (r *Reporter) due(key reported, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.last[key]) < ActivityEvery {
		return false
	}
	if len(r.last) >= maxReported {
		for k, at := range r.last {
			if now.Sub(at) >= ActivityEvery {
				delete(r.last, k)
			}
		}
		if len(r.last) >= maxReported {
			clear(r.last)
		}
	}
	r.last[key] = now
	return true
}
