package roles

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/eventlog/kafka/kafkatest"
	"github.com/matrix-org/dendrite/common/telemetry/telemetrytest"
)

// measured runs the roles named, or all, until the test ends, and returns what
// the process registers.
func measured(t *testing.T, c *config.Dendrite, names ...string) (*prometheus.Registry, Addresses) {
	t.Helper()
	logger := logrus.New()
	logger.SetOutput(t.Output())
	p := newProcess(c, logger)
	specs, err := choose(names)
	if err == nil {
		err = p.open(t.Context(), specs)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	at, done := make(chan Addresses, 1), make(chan error, 1)
	go func() { done <- p.run(ctx, func(a Addresses) { at <- a }) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := p.close(); err != nil {
			t.Error(err)
		}
	})
	select {
	case addresses := <-at:
		return p.registry, addresses
	case <-time.After(3 * soon):
		t.Fatal("it does not start")
	}
	return nil, Addresses{}
}

// described is what a registry's Desc says of itself.
var described = regexp.MustCompile(`^Desc\{fqName: "(dendrite_\w+)", help: ".+", constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)

// registered are the labels of each metric that is registered, used or not.
func registered(t *testing.T, r *prometheus.Registry, into map[string]string) {
	t.Helper()
	all := make(chan *prometheus.Desc)
	go func() {
		r.Describe(all)
		close(all)
	}()
	for d := range all {
		m := described.FindStringSubmatch(d.String())
		switch {
		case m != nil:
			var labels []string
			for _, label := range strings.Split(m[2]+","+m[3], ",") {
				if name, _, _ := strings.Cut(label, "="); name != "" {
					labels = append(labels, name)
				}
			}
			slices.Sort(labels)
			into[m[1]] = strings.Join(labels, ", ")
		case strings.Contains(d.String(), `fqName: "dendrite_`):
			t.Errorf("not understood: %v", d)
		}
	}
}

// TestMetrics: whatever processes register stands in docs/metrics.md and nothing
// else, one process and roles on Kafka together; what a user does shows in it, and
// who did it does not.
func TestMetrics(t *testing.T) {
	alone := configuration(t)
	alone.Registration.Open = true
	single, at := measured(t, alone)
	live(t, "http://"+at.Public.String())

	b := kafkatest.Start(t)
	key := filepath.Join(t.TempDir(), "signing.key")
	inner, outer := part(t, b, key), part(t, b, key)
	inner.Internal.Listen, outer.Internal.Listen = "127.0.0.1:0", "127.0.0.1:0"
	within, at := measured(t, inner, "room-server", "user-api", "directory-api")
	address := []string{at.Internal.String()}
	outer.Internal.RoomServer, outer.Internal.UserAPI, outer.Internal.DirectoryAPI = address, address, address
	without, at := measured(t, outer, "client-api", "sync-api")
	live(t, "http://"+at.Public.String())

	all := map[string]string{}
	for _, r := range []*prometheus.Registry{single, within, without} {
		registered(t, r, all)
		for name := range telemetrytest.Values(t, r) {
			if strings.HasPrefix(name, "dendrite_") && strings.ContainsAny(name, "@!#$") {
				t.Errorf("a label names somebody or something: %s", name)
			}
		}
	}
	documented(t, all)
	for where, shows := range map[string]struct {
		registry *prometheus.Registry
		names    []string
	}{
		"one process": {single, []string{"dendrite_http_requests_total{endpoint=/_matrix/client/v3/createRoom,method=POST,status=200}",
			"dendrite_consumer_records_total{consumer=rooms,topic=room.input}", "dendrite_lease_partitions{group=rooms/room.input}",
			"dendrite_sqldb_statements_total{store=roomserver}", "dendrite_sqldb_connections_open{pool=writers,store=userapi}",
			"dendrite_disk_free_bytes", "dendrite_clientapi_verdict_seconds_count", "dendrite_syncapi_cached_rooms"}},
		"who is asked": {within, []string{"dendrite_rpc_server_seconds_count{method=verify_token,service=userapi}",
			"dendrite_kafka_available", "dendrite_kafka_append_seconds_count", "dendrite_kafka_fetch_records_count", "dendrite_lease_taken_total{group=directory/room.output}"}},
		"who asks": {without, []string{"dendrite_rpc_client_seconds_count{method=verify_token,service=userapi}", "dendrite_kafka_append_bytes_sum"}},
	} {
		values := telemetrytest.Values(t, shows.registry)
		for _, name := range shows.names {
			if values[name] <= 0 {
				t.Errorf("%s: %s is %v", where, name, values[name])
			}
		}
	}
}

// documented compares metrics and their labels with the table.
func documented(t *testing.T, all map[string]string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	table := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(dendrite_\\w+)` \\| ?([\\w, ]*?) ?\\| [^|]+").FindAllStringSubmatch(string(text), -1) {
		labels := strings.Split(row[2], ", ")
		slices.Sort(labels)
		table[row[1]] = strings.Join(labels, ", ")
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if labels, there := table[name]; !there || labels != all[name] {
			t.Errorf("%s has the labels %q, docs/metrics.md says %q", name, all[name], labels)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(table)) {
		if _, there := all[name]; !there {
			t.Errorf("docs/metrics.md has %s, which nobody registers", name)
		}
	}
}
