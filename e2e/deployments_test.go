package e2e

import "testing"

// everywhere runs a test in each deployment: all in one and cluster, and if it is
// of the core also in what is between the two.
func everywhere(t *testing.T, core bool, test func(t *testing.T, s site)) {
	inBoth(t, func(t *testing.T) { test(t, startServer(t)) }, func(t *testing.T) { test(t, startCluster(t, clusterOptions{})) })
	if !core {
		return
	}
	t.Run("SQLite and Kafka", func(t *testing.T) { test(t, startServer(t, onKafka(t, must(t, shared.kafka))...)) })
	t.Run("PostgreSQL and embedded log", func(t *testing.T) { test(t, startServer(t, onPostgres(t, must(t, shared.postgres))...)) })
}

// inBoth runs what a test does all in one, and what it does in a cluster.
func inBoth(t *testing.T, one, cluster func(t *testing.T)) {
	t.Run("all in one", one)
	t.Run("cluster", cluster)
}
