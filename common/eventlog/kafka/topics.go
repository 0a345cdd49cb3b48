package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"

	"github.com/matrix-org/dendrite/common/eventlog"
)

// topic is a topic that was ensured, until it is found to be gone.
type topic struct {
	name       string // in Kafka, with the prefix
	info       eventlog.TopicInfo
	retention  time.Duration
	partitions []*partition
	gone       atomic.Bool
	missing    time.Time // since when brokers do not know it; watch's alone

	mu sync.Mutex // guards the partitions' tails
	// wake is for when any tail gets records.
	wake eventlog.Wakeup
}

type partition struct {
	topic  *topic
	number int32
	outbox outbox
	tail   tail
}

// The largest batch of records, which is Kafka's default.
const maxMessageBytes = 1048588

// Defaults of Ephemeral topics.
const (
	ephemeralRetention = 10 * time.Minute
	ephemeralMaxBytes  = 1 << 20
	minSegmentBytes    = 1 << 20 // Kafka refuses less
)

// setting is a topic's setting as we make it, and whether another value is
// good enough.
type setting struct {
	name, value string
	fits        func(found string) bool
	wanted      string // in words; empty: the value
}

func exactly(name, value string) setting {
	return setting{name, value, func(found string) bool { return found == value }, ""}
}

func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return -2 // fits nothing
	}
	return n
}

func atLeast(name string, value int64) setting {
	return setting{name, strconv.FormatInt(value, 10), func(found string) bool { return number(found) >= value }, fmt.Sprintf("at least %d", value)}
}

// free are settings that an operator may change.
func free(name string, value int64) setting {
	return setting{name, strconv.FormatInt(value, 10), func(string) bool { return true }, ""}
}

// settings are what a topic is made with and checked for.
func settings(spec eventlog.TopicSpec, replicas int) []setting {
	all := []setting{
		exactly("cleanup.policy", "delete"),
		exactly("message.timestamp.type", "CreateTime"),
		atLeast("max.message.bytes", maxMessageBytes),
	}
	if spec.Durability == eventlog.Ephemeral {
		retention := spec.Retention
		if retention == 0 {
			retention = ephemeralRetention
		}
		bytes := max(spec.MaxBytes, ephemeralMaxBytes)
		bounded := free("retention.ms", retention.Milliseconds())
		bounded.fits = func(found string) bool { return number(found) > 0 }
		bounded.wanted = "a time, as nothing else drops the records"
		// Kafka drops whole segments, so they are small, and soon full.
		return append(all, bounded, free("retention.bytes", bytes),
			free("segment.bytes", max(bytes/2, minSegmentBytes)), free("segment.ms", max(retention.Milliseconds()/2, 1000)))
	}
	all = append(all, exactly("retention.ms", "-1"), exactly("retention.bytes", "-1"), exactly("unclean.leader.election.enable", "false"))
	if replicas >= 3 {
		all = append(all, atLeast("min.insync.replicas", 2))
	}
	return all
}

// errSetting says which setting of a topic is wrong.
type errSetting struct{ topic, setting, found, wanted string }

// Error implements error.
func (e errSetting) Error() string {
	return fmt.Sprintf("kafka: topic %s: %s is %s, wanted %s", e.topic, e.setting, e.found, e.wanted)
}

// EnsureTopic implements eventlog.Log.
func (l *Log) EnsureTopic(ctx context.Context, spec eventlog.TopicSpec) (eventlog.TopicInfo, error) {
	if l.isClosed() {
		return eventlog.TopicInfo{}, eventlog.ErrClosed
	}
	l.mu.RLock()
	known := l.topics[spec.Name]
	l.mu.RUnlock()
	switch {
	case spec.Partitions == 0 && known != nil:
		return known.info, nil
	case spec.Partitions == 0:
		return eventlog.TopicInfo{}, fmt.Errorf("%w: %s", eventlog.ErrUnknownTopic, spec.Name)
	case spec.Partitions < 0 || spec.Partitions > 1<<10:
		return eventlog.TopicInfo{}, fmt.Errorf("kafka: topic %s: %d partitions", spec.Name, spec.Partitions)
	}
	name := l.o.TopicPrefix + spec.Name
	found, err := request(ctx, l, "topic "+name, func() (*sarama.TopicMetadata, error) { return l.ensure(name, spec) })
	if err != nil {
		return eventlog.TopicInfo{}, err
	}
	return l.add(name, spec, found.Uuid.String()).info, nil
}

// add makes a topic one of ours. Whoever ensured it before goes on with what
// there is, unless it was made anew.
func (l *Log) add(name string, spec eventlog.TopicSpec, id string) *topic {
	info := eventlog.TopicInfo{Name: spec.Name, ID: id, Partitions: spec.Partitions, Durability: spec.Durability}
	t := &topic{name: name, info: info, retention: spec.Retention}
	for n := range spec.Partitions {
		p := &partition{topic: t, number: int32(n)}
		p.outbox.p, p.tail.p = p, p
		p.outbox.log, p.tail.log = l, l
		t.partitions = append(t.partitions, p)
	}
	l.mu.Lock()
	old := l.topics[spec.Name]
	if old != nil && old.info.ID == id {
		l.mu.Unlock()
		return old
	}
	l.topics[spec.Name] = t
	l.mu.Unlock()
	if old != nil {
		l.forget(old)
	}
	return t
}

// ensure creates a topic or checks it; it succeeds once every partition has a
// leader.
func (l *Log) ensure(name string, spec eventlog.TopicSpec) (*sarama.TopicMetadata, error) {
	all, err := l.describe([]string{name})
	if err != nil {
		return nil, err
	}
	m := all[0]
	if errors.Is(m.Err, sarama.ErrUnknownTopicOrPartition) {
		if err := l.create(name, spec); err != nil && !errors.Is(err, sarama.ErrTopicAlreadyExists) { // another process made it
			return nil, err
		}
		return nil, sarama.ErrLeaderNotAvailable // so the next look finds it
	}
	if !errors.Is(m.Err, sarama.ErrNoError) {
		return nil, m.Err
	}
	if len(m.Partitions) != spec.Partitions {
		return nil, errSetting{name, "the number of partitions", fmt.Sprint(len(m.Partitions)), fmt.Sprint(spec.Partitions)}
	}
	for _, p := range m.Partitions {
		if !errors.Is(p.Err, sarama.ErrNoError) && !errors.Is(p.Err, sarama.ErrReplicaNotAvailable) {
			return nil, p.Err
		}
	}
	if err := l.checkSettings(name, spec, len(m.Partitions[0].Replicas)); err != nil {
		return nil, err
	}
	return m, l.client.RefreshMetadata(name)
}

// describe asks any broker about topics; another one if it does not answer.
func (l *Log) describe(names []string) ([]*sarama.TopicMetadata, error) {
	err := error(sarama.ErrOutOfBrokers)
	for range 3 {
		if broker := l.client.LeastLoadedBroker(); broker != nil {
			var answer *sarama.MetadataResponse
			if answer, err = broker.GetMetadata(sarama.NewMetadataRequest(protocol, names)); err == nil {
				if len(answer.Topics) != len(names) {
					return nil, sarama.ErrIncompleteResponse
				}
				return answer.Topics, nil
			}
			_ = broker.Close() // the next use opens it again
		}
		if e := l.client.RefreshMetadata(); e != nil { // which asks every broker, until one answers
			return nil, errors.Join(err, e)
		}
	}
	return nil, err
}

func (l *Log) create(name string, spec eventlog.TopicSpec) error {
	admin, err := sarama.NewClusterAdminFromClient(l.client)
	if err != nil {
		return err
	}
	replicas := l.o.ReplicationFactor
	if replicas == 0 {
		if replicas, err = defaultReplicas(admin, l.client); err != nil {
			return err
		}
	}
	detail := &sarama.TopicDetail{NumPartitions: int32(spec.Partitions), ReplicationFactor: replicas, ConfigEntries: map[string]*string{}}
	for _, s := range settings(spec, int(replicas)) {
		detail.ConfigEntries[s.name] = &s.value
	}
	err = admin.CreateTopic(name, detail, false)
	var why *sarama.TopicError
	if errors.As(err, &why) {
		return fmt.Errorf("%w: %w", why.Err, err) // TopicError does not unwrap in all versions
	}
	return err
}

// defaultReplicas asks for the brokers' default: what is right for some other
// settings depends on it.
func defaultReplicas(admin sarama.ClusterAdmin, client sarama.Client) (int16, error) {
	controller, err := client.Controller()
	if err != nil {
		return 0, err
	}
	entries, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.BrokerResource,
		Name: strconv.Itoa(int(controller.ID())), ConfigNames: []string{"default.replication.factor"}})
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if e.Name == "default.replication.factor" {
			return int16(number(e.Value)), nil
		}
	}
	return -1, nil // the brokers know
}

func (l *Log) checkSettings(name string, spec eventlog.TopicSpec, replicas int) error {
	admin, err := sarama.NewClusterAdminFromClient(l.client)
	if err != nil {
		return err
	}
	entries, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: name})
	if err != nil {
		return err
	}
	for _, s := range settings(spec, replicas) {
		at := slices.IndexFunc(entries, func(e sarama.ConfigEntry) bool { return e.Name == s.name })
		if at < 0 || s.fits(entries[at].Value) {
			continue
		}
		wanted := s.wanted
		if wanted == "" {
			wanted = s.value
		}
		return errSetting{name, s.name, entries[at].Value, wanted}
	}
	return nil
}
