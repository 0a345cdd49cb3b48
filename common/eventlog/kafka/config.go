package kafka

import (
	"crypto/tls"
	"fmt"
	"time"

	"github.com/IBM/sarama"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rcrowley/go-metrics"
	"github.com/sirupsen/logrus"
	"github.com/xdg-go/scram"
)

// Options say where the log is. Brokers and Logger are needed.
type Options struct {
	// Brokers are addresses to find the others through.
	Brokers []string
	// TopicPrefix is put before each topic's and group's name in Kafka.
	TopicPrefix string
	// ReplicationFactor of topics that are made; 0 is the brokers' default.
	ReplicationFactor int16
	// ClientID is what brokers call us in their logs; default "dendrite".
	ClientID string
	TLS      *tls.Config // nil: no TLS
	SASL     *SASL       // nil: no authentication
	// AppendTimeout bounds how long Append waits for a broker, RequestTimeout how
	// long the other methods do; default 10 seconds each.
	AppendTimeout, RequestTimeout time.Duration
	// BufferBytes bounds what appends hold, TailBytes the recent records
	// kept for readers; defaults 32 MiB each.
	BufferBytes, TailBytes int64
	// IdleAfter is how long the end of a partition is followed after the last
	// read; default one minute.
	IdleAfter time.Duration
	// Gather is the least time between fetches at partitions' ends, and between
	// requests of appends, to a broker while one follows the other: for a process
	// that can wait as long, so that much costs little. Default 0.
	Gather  time.Duration
	Logger  *logrus.Entry
	Metrics prometheus.Registerer // may be nil
}

// SASL is how brokers know us.
type SASL struct {
	// Mechanism is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
	Mechanism      string
	User, Password string
}

func (o *Options) defaults() {
	if o.ClientID == "" {
		o.ClientID = "dendrite"
	}
	if o.AppendTimeout == 0 {
		o.AppendTimeout = 10 * time.Second
	}
	if o.RequestTimeout == 0 {
		o.RequestTimeout = 10 * time.Second
	}
	if o.BufferBytes == 0 {
		o.BufferBytes = 32 << 20
	}
	if o.TailBytes == 0 {
		o.TailBytes = 32 << 20
	}
	if o.IdleAfter == 0 {
		o.IdleAfter = time.Minute
	}
}

// protocol is the oldest Kafka that has what we use: topic IDs.
var protocol = sarama.V2_8_0_0

// saramaConfig makes sarama's configuration for all connections.
func saramaConfig(o Options) (*sarama.Config, error) {
	c := sarama.NewConfig()
	c.Version = protocol
	c.ClientID = o.ClientID
	c.MetricRegistry = noMetrics{metrics.NewRegistry()}
	c.Net.MaxOpenRequests = 1
	c.Net.DialTimeout = 3 * time.Second
	c.Net.ReadTimeout = 10 * time.Second // more than brokers may take to answer
	c.Net.WriteTimeout = 10 * time.Second
	c.Metadata.Retry.Max = 0 // route.go tries again
	c.Metadata.Timeout = 5 * time.Second
	c.Metadata.AllowAutoTopicCreation = false
	c.Admin.Timeout = 5 * time.Second
	if o.TLS != nil {
		c.Net.TLS.Enable, c.Net.TLS.Config = true, o.TLS
	}
	if o.SASL == nil {
		return c, c.Validate()
	}
	s := &c.Net.SASL
	s.Enable, s.User, s.Password, s.Mechanism = true, o.SASL.User, o.SASL.Password, sarama.SASLMechanism(o.SASL.Mechanism)
	switch o.SASL.Mechanism {
	case sarama.SASLTypePlaintext:
	case sarama.SASLTypeSCRAMSHA256:
		s.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &scramClient{hash: scram.SHA256} }
	case sarama.SASLTypeSCRAMSHA512:
		s.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient { return &scramClient{hash: scram.SHA512} }
	default:
		return nil, fmt.Errorf("SASL mechanism %q is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512", o.SASL.Mechanism)
	}
	return c, c.Validate()
}

// scramClient is one authentication by SCRAM (RFC 5802), as sarama wants it.
type scramClient struct {
	hash scram.HashGeneratorFcn
	*scram.ClientConversation
}

// Begin implements sarama.SCRAMClient.
func (c *scramClient) Begin(user, password, authzID string) error {
	client, err := c.hash.NewClient(user, password, authzID)
	if err != nil {
		return err
	}
	c.ClientConversation = client.NewConversation()
	return nil
}

// noMetrics spares sarama's own metrics: they cost more than some requests, and
// a goroutine that never ends.
type noMetrics struct{ metrics.Registry }

// GetOrRegister implements metrics.Registry.
func (r noMetrics) GetOrRegister(_ string, metric any) any {
	switch metric.(type) {
	case func() metrics.Meter:
		return metrics.NilMeter{}
	case func() metrics.Histogram:
		return metrics.NilHistogram{}
	case func() metrics.Counter:
		return metrics.NilCounter{}
	}
	return metric
}

// Register implements metrics.Registry.
func (noMetrics) Register(string, any) error { return nil }
