package syncapi

import (
	"context"
	"fmt"
	"time"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/syncapi/storage"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// resyncSilence is how long a resync may say nothing before it is asked for
// again: who publishes it may be of a version that does not tell its end.
const resyncSilence = 30 * time.Second

// rebuildUsers makes good what user.output does not hold any more: it has the
// user-api tell all that is current in a partition, and stores that. How far the
// partition is stored is noted with the last of it, so that half of a view is
// never taken for one. It may be repeated.
func (c *consumer) rebuildUsers(ctx context.Context, s *source, fence func(context.Context, *sqldb.Tx) error) error {
	_, end, err := c.log.Bounds(ctx, s.topic, s.partition) // what is asked for comes behind that
	if err != nil {
		return err
	}
	res, err := userapi.Resync.Call(ctx, c.view.caller, &userapi.ResyncRequest{Partition: s.partition})
	if err != nil {
		return err
	}
	t := &source{topic: s.topic, topicID: s.topicID, partition: s.partition, owned: true, held: map[int64]record{}, next: end, seq: res.Seq - 1}
	for !t.resynced {
		records, err := c.resyncing(ctx, t)
		if err != nil {
			return err
		}
		a := newApplication(c.view)
		for _, r := range records {
			t.next = r.Offset + 1
			if err := a.take(ctx, t, r); err != nil {
				return err
			}
		}
		rows := &storage.Batch{Fence: fence}
		rows.Add(a.rows[t])
		if t.resynced {
			rows.Offsets = []storage.Offset{{Topic: t.topic, Partition: t.partition, TopicID: t.topicID, Next: t.taken(), Seq: t.seq}}
		}
		if rows.Empty() {
			continue
		}
		if err := c.view.store.Apply(ctx, rows); err != nil {
			return err
		}
	}
	s.next, s.seq, s.lost = t.taken(), t.seq, false
	s.stored = s.next
	c.view.lists.begin(s.partition, s.seq)
	c.view.stored.reached(s.topic, s.partition, s.seq)
	return nil
}

// resyncing reads what a resync tells next.
func (c *consumer) resyncing(ctx context.Context, t *source) ([]eventlog.Record, error) {
	inner, cancel := context.WithTimeout(ctx, resyncSilence)
	defer cancel()
	records, err := c.log.Read(inner, t.topic, t.partition, t.next, readBytes)
	if err != nil && inner.Err() != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("the resync of %s/%d is not told on", t.topic, t.partition)
	}
	return records, err
}

// whenLeft asks the room server where the member event stands with which a user
// forgot a room: the view need not have come there yet. 0: nowhere.
func (v *view) whenLeft(ctx context.Context, c *userapi.UserChange) (at int64, err error) {
	if c.EventID == "" {
		return 0, nil
	}
	err = v.retry(ctx, "Cannot ask where a membership ended", func() error {
		res, err := roomapi.QueryEvents.Call(ctx, v.caller, &roomapi.EventsRequest{RoomID: c.RoomID, EventIDs: []string{c.EventID}})
		if matrixerror.Is(err, "M_NOT_FOUND") {
			return nil
		}
		if err == nil && len(res.Events) > 0 && !res.Events[0].Outlier {
			at = res.Events[0].Position.Seq
		}
		return err
	})
	return at, err
}

// skipTo goes on at a Seq: what is missing before it was given up by who
// publishes the topic, and what is current follows.
func (s *source) skipTo(seq int64) {
	s.seq = max(s.seq, seq-1)
	for held := range s.held {
		if held < seq {
			delete(s.held, held)
		}
	}
}
