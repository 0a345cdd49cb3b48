package admin

import (
	"bytes"
	"slices"
	"testing"

	"github.com/matrix-org/dendrite/common/eventlog/kafka/kafkatest"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
)

// inCluster puts a home's log on a real Kafka and its stores on a real
// PostgreSQL: into one database, as operators do.
func (h *home) inCluster() *home {
	b := kafkatest.Start(h.TB)
	h.config.EventLog.Kafka.Brokers, h.config.EventLog.Kafka.TopicPrefix = b.Brokers, b.Prefix
	h.config.Database.URL, h.config.Database.Connections = sqldbtest.Database(h.TB), 4
	return h
}

// TestMoveToCluster: from the embedded log and SQLite to Kafka and PostgreSQL,
// there to other partitions, and back.
func TestMoveToCluster(t *testing.T) {
	old := newHome(t)
	l := old.live()
	old.leaveUnread(l.room)
	cluster := old.sibling().inCluster()
	var out bytes.Buffer
	if err := old.moveTo(t.Context(), cluster, &out); err != nil {
		t.Fatal(err)
	}
	cluster.mustStart()
	l.check(cluster)
	cluster.stop()

	wide := cluster.sibling().inCluster()
	wide.config.EventLog.Partitions = 6
	if err := cluster.repartitionTo(t.Context(), wide, &out); err != nil {
		t.Fatal(err)
	}
	wide.mustStart()
	l.checkOdd(wide)
	l.seen, l.since = wide.history(l.bob, l.room), wide.sync(l.bob, "")["next_batch"].(string)
	wide.stop()

	back := wide.sibling()
	back.config.EventLog.Partitions = 6
	if err := wide.moveTo(t.Context(), back, &out); err != nil {
		t.Fatal(err)
	}
	t.Log(out.String())
	back.mustStart()
	defer back.stop()
	back.sync(l.bob, "")
	if got := back.history(l.bob, l.room); !slices.Equal(got, l.seen) {
		t.Fatalf("back again: %v, were %v", got, l.seen)
	}
	l.checkOdd(back)
	new := back.send(l.alice, l.room, "home again", "home again")
	if got := timeline(back.sync(l.bob, l.since), l.room); !slices.Equal(got, []string{new}) {
		t.Fatalf("a token of the cluster gives %v, want %s", got, new)
	}
}
