package kafka

import (
	"errors"
	"strconv"

	"github.com/IBM/sarama"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/matrix-org/dendrite/common/telemetry"
)

// metricsOf are a log's.
type metricsOf struct {
	appended   prometheus.Counter
	batches    prometheus.Counter
	resent     prometheus.Counter
	refused    prometheus.Counter
	fetched    prometheus.Counter
	readBehind prometheus.Counter

	appendSeconds              prometheus.Histogram
	appendRecords, appendBytes prometheus.Histogram // of a request to a broker
	fetchRecords, fetchBytes   prometheus.Histogram // of a broker's answer
	errors                     *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer, l *Log) (*metricsOf, error) {
	var all []prometheus.Collector
	add := func(c prometheus.Collector) { all = append(all, c) }
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "dendrite_kafka_" + name, Help: help})
		add(c)
		return c
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "dendrite_kafka_" + name, Help: help, Buckets: buckets})
		add(h)
		return h
	}
	gauge := func(name, help string, read func() float64) {
		add(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "dendrite_kafka_" + name, Help: help}, read))
	}
	records, bytes := prometheus.ExponentialBuckets(1, 4, 8), prometheus.ExponentialBuckets(256, 4, 9)
	m := &metricsOf{
		appended:      counter("appended_records_total", "Records appended and acknowledged."),
		batches:       counter("appended_batches_total", "Batches of records appended and acknowledged."),
		resent:        counter("resent_batches_total", "Batches that had to be sent again."),
		refused:       counter("failed_appends_total", "Appends that failed, most of them since no broker answered in time."),
		fetched:       counter("fetched_records_total", "Records fetched at the ends of partitions."),
		readBehind:    counter("reads_behind_total", "Fetches for readers that were behind what is kept in memory."),
		appendSeconds: histogram("append_seconds", "Time of an append that succeeded, until its last record was acknowledged.", prometheus.ExponentialBuckets(0.0005, 2, 15)),
		appendRecords: histogram("append_records", "Records of a request to append.", records),
		appendBytes:   histogram("append_bytes", "Bytes of keys and values of a request to append.", bytes),
		fetchRecords:  histogram("fetch_records", "Records of an answer to a fetch that has any.", records),
		fetchBytes:    histogram("fetch_bytes", "Bytes of keys and values of an answer to a fetch that has any.", bytes),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "dendrite_kafka_errors_total",
			Help: "What brokers refused, by operation and Kafka's number of the error; \"connection\" where none answered."}, []string{"operation", "code"}),
	}
	add(m.errors)
	gauge("followed_partitions", "Partitions whose end is kept in memory.", func() float64 { return float64(l.fetchers.followed.Load()) })
	gauge("available", "1 while brokers answer, else 0.", func() float64 {
		if l.Failed() != nil {
			return 0
		}
		return 1
	})
	return m, telemetry.RegisterAll(r, all...)
}

// failed counts what did not succeed.
func (m *metricsOf) failed(operation string, err error) {
	var k sarama.KError
	switch {
	case err == nil, errors.Is(err, sarama.ErrNoError):
	case errors.As(err, &k):
		m.errors.WithLabelValues(operation, strconv.Itoa(int(k))).Inc()
	default:
		m.errors.WithLabelValues(operation, "connection").Inc()
	}
}

// sent counts a request to append, and that it got no answer if it did not.
func (m *metricsOf) sent(all []sending, err error) {
	if err != nil {
		m.failed("append", err)
		return
	}
	records, bytes := 0, 0
	for _, a := range all {
		records += len(a.b.entries)
		for _, e := range a.b.entries {
			bytes += len(e.key) + len(e.value)
		}
	}
	m.appendRecords.Observe(float64(records))
	m.appendBytes.Observe(float64(bytes))
}

// answered counts the answer to a fetch, or that there was none.
func (m *metricsOf) answered(answer *sarama.FetchResponse, err error) {
	if err != nil {
		m.failed("fetch", err)
		return
	}
	records, bytes := 0, 0
	for _, partitions := range answer.Blocks {
		for _, block := range partitions {
			m.failed("fetch", block.Err)
			for _, set := range block.RecordsSet {
				if set.RecordBatch == nil {
					continue
				}
				records += len(set.RecordBatch.Records)
				for _, r := range set.RecordBatch.Records {
					bytes += len(r.Key) + len(r.Value)
				}
			}
		}
	}
	if records > 0 {
		m.fetchRecords.Observe(float64(records))
		m.fetchBytes.Observe(float64(bytes))
	}
}
