package kafka_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/eventlog/kafka/kafkatest"
	"github.com/matrix-org/dendrite/common/testwait"
)

// operator is another client of the same brokers.
func operator(t *testing.T, b kafkatest.Broker) sarama.ClusterAdmin {
	t.Helper()
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	admin, err := sarama.NewClusterAdmin(b.Brokers, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := admin.Close(); err != nil {
			t.Error(err)
		}
	})
	return admin
}

func setting(t *testing.T, admin sarama.ClusterAdmin, topic, name string) string {
	t.Helper()
	entries, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

// TestSettings: topics are made as they have to be.
func TestSettings(t *testing.T) {
	b := kafkatest.Start(t)
	log, admin := open(t, b, nil), operator(t, b)
	ensure(t, log, eventlog.TopicSpec{Name: "kept", Partitions: 2, Retention: time.Hour})
	ensure(t, log, eventlog.TopicSpec{Name: "short", Partitions: 2, Durability: eventlog.Ephemeral, MaxBytes: 4 << 20})
	for _, c := range []struct{ topic, setting, want string }{
		{"kept", "retention.ms", "-1"}, {"kept", "retention.bytes", "-1"}, {"kept", "cleanup.policy", "delete"},
		{"kept", "max.message.bytes", "1048588"}, {"kept", "unclean.leader.election.enable", "false"},
		{"short", "retention.ms", "600000"}, {"short", "retention.bytes", "4194304"},
	} {
		if got := setting(t, admin, b.Prefix+c.topic, c.setting); got != c.want {
			t.Errorf("%s of %s is %s, want %s", c.setting, c.topic, got, c.want)
		}
	}
}

// TestWrongSettings: a topic that an operator made otherwise is refused, with
// what is wrong about it.
func TestWrongSettings(t *testing.T) {
	b := kafkatest.Start(t)
	log, admin := open(t, b, nil), operator(t, b)
	right := map[string]string{"retention.ms": "-1", "max.message.bytes": "1048588", "unclean.leader.election.enable": "false"}
	for name, c := range map[string]struct {
		spec                   eventlog.TopicSpec
		setting, value, wanted string
	}{
		"partitions": {spec: eventlog.TopicSpec{Partitions: 2}, setting: "the number of partitions", value: "1", wanted: "2"},
		"policy":     {setting: "cleanup.policy", value: "compact", wanted: "delete"},
		"retention":  {setting: "retention.ms", value: "1000", wanted: "-1"},
		"bytes":      {setting: "retention.bytes", value: "1000000", wanted: "-1"},
		"size":       {setting: "max.message.bytes", value: "1000", wanted: "at least 1048588"},
		"forever":    {spec: eventlog.TopicSpec{Durability: eventlog.Ephemeral}, setting: "retention.ms", value: "-1", wanted: "a time"},
	} {
		t.Run(name, func(t *testing.T) {
			entries := map[string]*string{}
			for k, v := range right {
				entries[k] = &v
			}
			if name != "partitions" {
				entries[c.setting] = &c.value
			}
			if err := admin.CreateTopic(b.Prefix+name, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1, ConfigEntries: entries}, false); err != nil {
				t.Fatal(err)
			}
			c.spec.Name = name
			c.spec.Partitions = max(c.spec.Partitions, 1)
			_, err := log.EnsureTopic(t.Context(), c.spec)
			want := b.Prefix + name + ": " + c.setting + " is " + c.value + ", wanted " + c.wanted
			if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, eventlog.ErrUnavailable) {
				t.Errorf("got %v, want %s", err, want)
			}
		})
	}
}

// TestCreatedAtOnce: processes that start together agree on one topic.
func TestCreatedAtOnce(t *testing.T) {
	b := kafkatest.Start(t)
	ids := make([]string, 4)
	var wg sync.WaitGroup
	for i := range ids {
		log := open(t, b, nil)
		wg.Go(func() {
			info, err := log.EnsureTopic(t.Context(), eventlog.TopicSpec{Name: "a", Partitions: 4})
			if err != nil {
				t.Error(err)
			}
			ids[i] = info.ID
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Fatalf("identities %q", ids)
		}
	}
}

// TestAnew: a topic that was deleted and made anew is not taken for the old one.
func TestAnew(t *testing.T) {
	b := kafkatest.Start(t)
	log, admin := open(t, b, nil), operator(t, b)
	spec := eventlog.TopicSpec{Name: "a", Partitions: 1}
	old := ensure(t, log, spec)
	if _, err := log.Append(t.Context(), eventlog.Message{Topic: "a", Value: []byte("old")}); err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := log.Read(t.Context(), "a", 0, 1, 1)
		waiting <- err
	}()
	if err := admin.DeleteTopic(b.Prefix + "a"); err != nil {
		t.Fatal(err)
	}
	testwait.Until(t, "another log makes the topic anew", func() bool {
		info, err := open(t, b, nil).EnsureTopic(t.Context(), spec)
		return err == nil && info.ID != old.ID
	})
	if err := <-waiting; !errors.Is(err, eventlog.ErrUnknownTopic) {
		t.Errorf("a reader who waited got %v", err)
	}
	if _, _, err := log.Bounds(t.Context(), "a", 0); !errors.Is(err, eventlog.ErrUnknownTopic) {
		t.Errorf("bounds of the old topic: %v", err)
	}
	if _, err := log.Append(t.Context(), eventlog.Message{Topic: "a"}); !errors.Is(err, eventlog.ErrUnknownTopic) {
		t.Errorf("append to the old topic: %v", err)
	}
	if info := ensure(t, log, spec); info.ID == old.ID {
		t.Error("the new topic has the old identity")
	}
	offsets, err := log.Append(t.Context(), eventlog.Message{Topic: "a", Value: []byte("new")})
	if err != nil || offsets[0] != 0 {
		t.Errorf("append to the new topic: %v, %v", offsets, err)
	}
	if r, err := log.Read(t.Context(), "a", 0, 0, 1); err != nil || string(r[0].Value) != "new" {
		t.Errorf("the new topic has %v, %v", r, err)
	}
}

// TestDeleted: a topic that is not there any more is unknown, also to who waits
// for it.
func TestDeleted(t *testing.T) {
	b := kafkatest.Start(t)
	log, admin := open(t, b, nil), operator(t, b)
	ensure(t, log, eventlog.TopicSpec{Name: "a", Partitions: 1})
	waiting := make(chan error, 1)
	go func() {
		_, err := log.Read(t.Context(), "a", 0, 0, 1)
		waiting <- err
	}()
	if err := admin.DeleteTopic(b.Prefix + "a"); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; !errors.Is(err, eventlog.ErrUnknownTopic) {
		t.Errorf("a reader who waited got %v", err)
	}
	if _, err := log.Append(t.Context(), eventlog.Message{Topic: "a"}); !errors.Is(err, eventlog.ErrUnknownTopic) {
		t.Errorf("append: %v", err)
	}
}

// TestControlRecords: what Kafka itself writes between records is passed over,
// by readers at the end and behind.
func TestControlRecords(t *testing.T) {
	b := kafkatest.Start(t)
	log := open(t, b, nil)
	ensure(t, log, eventlog.TopicSpec{Name: "a", Partitions: 1})
	add := func(value string) int64 {
		offsets, err := log.Append(t.Context(), eventlog.Message{Topic: "a", Value: []byte(value)})
		if err != nil {
			t.Fatal(err)
		}
		return offsets[0]
	}
	add("0")
	followed := make(chan []eventlog.Record, 10)
	go func() {
		for next := int64(1); next < 7; {
			records, err := log.Read(t.Context(), "a", 0, next, 1)
			if err != nil {
				t.Error(err)
				break
			}
			next = records[0].Offset + 1
			followed <- records
		}
		close(followed)
	}()
	transactions(t, b, "a", "2", "4") // at 1 and 3, each with a commit behind it
	// A commit is decided when it is answered; its marker follows.
	for end := int64(0); end < 5; {
		var err error
		if _, end, err = log.Bounds(t.Context(), "a", 0); err != nil {
			t.Fatal(err)
		}
	}
	if at := add("5"); at != 5 {
		t.Fatalf("the record after two transactions is at %d", at)
	}
	add("6")
	var got []string
	for records := range followed {
		got = append(got, string(records[0].Value))
	}
	if strings.Join(got, " ") != "2 4 5 6" {
		t.Errorf("the reader at the end saw %v", got)
	}
	behind := open(t, b, nil)
	ensure(t, behind, eventlog.TopicSpec{Name: "a", Partitions: 1})
	for from, want := range []string{"0", "2", "4", "4", "5", "5", "6"} {
		r, err := behind.Read(t.Context(), "a", 0, int64(from), 1)
		if err != nil || string(r[0].Value) != want {
			t.Errorf("from %d: %v, %v, want %s", from, r, err, want)
		}
	}
}

// transactions appends values, each in its own transaction.
func transactions(t *testing.T, b kafkatest.Broker, topic string, values ...string) {
	t.Helper()
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	config.Net.MaxOpenRequests = 1
	config.Producer.Idempotent, config.Producer.RequiredAcks = true, sarama.WaitForAll
	config.Producer.Transaction.ID = b.Prefix
	config.Producer.Return.Successes = true
	producer, err := sarama.NewSyncProducer(b.Brokers, config)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		if err := producer.BeginTxn(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: b.Prefix + topic, Value: sarama.StringEncoder(v)}); err != nil {
			t.Fatal(err)
		}
		if err := producer.CommitTxn(); err != nil {
			t.Fatal(err)
		}
	}
	if err := producer.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestReportOffset: Kafka's own tools see how far a consumer is.
func TestReportOffset(t *testing.T) {
	b := kafkatest.Start(t)
	log, admin := open(t, b, nil), operator(t, b)
	ensure(t, log, eventlog.TopicSpec{Name: "a", Partitions: 2})
	for _, next := range []int64{7, 9} {
		if err := log.ReportOffset(t.Context(), "reader", "a", 1, next); err != nil {
			t.Fatal(err)
		}
		answer, err := admin.ListConsumerGroupOffsets(b.Prefix+"reader", map[string][]int32{b.Prefix + "a": {0, 1}})
		if err != nil {
			t.Fatal(err)
		}
		if got := answer.GetBlock(b.Prefix+"a", 1).Offset; got != next {
			t.Errorf("the group is at %d, not %d", got, next)
		}
	}
	if err := log.ReportOffset(t.Context(), "reader", "b", 0, 1); !errors.Is(err, eventlog.ErrUnknownTopic) {
		t.Errorf("of no topic: %v", err)
	}
}

// TestTimes: a record's time is the one of its append.
func TestTimes(t *testing.T) {
	log := open(t, kafkatest.Start(t), nil)
	ensure(t, log, eventlog.TopicSpec{Name: "a", Partitions: 1})
	before := time.Now().Truncate(time.Millisecond)
	if _, err := log.Append(context.Background(), eventlog.Message{Topic: "a"}); err != nil {
		t.Fatal(err)
	}
	r, err := log.Read(t.Context(), "a", 0, 0, 1)
	if err != nil || r[0].Time.Before(before) || r[0].Time.After(time.Now()) {
		t.Errorf("the time is %v, %v, appended at %v", r, err, before)
	}
}
