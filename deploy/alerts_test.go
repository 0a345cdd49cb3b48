package deploy

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestAlerts: Prometheus takes the rules, each fires when what it is about is
// wrong and not otherwise, and docs/metrics.md names, beside each metric, the
// alerts that it is for.
func TestAlerts(t *testing.T) {
	for _, args := range [][]string{{"check", "rules", "alerts.yaml"}, {"test", "rules", "testdata/alerts.yaml"}} {
		if out, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput(); err != nil {
			t.Fatalf("promtool %v (scripts/test-dependencies installs it): %v\n%s", args, err, out)
		}
	}
	rules := read(t, "alerts.yaml")
	used := map[string][]string{} // alerts by metric
	names := map[string]bool{}
	for _, rule := range regexp.MustCompile(`alert: (\w+)\n\s+expr: (.*)\n`).FindAllStringSubmatch(rules, -1) {
		names[rule[1]] = true
		for _, metric := range regexp.MustCompile(`dendrite_\w+`).FindAllString(rule[2], -1) {
			metric = strings.TrimSuffix(metric, "_bucket")
			if !slices.Contains(used[metric], rule[1]) {
				used[metric] = append(used[metric], rule[1])
			}
		}
	}
	if n := strings.Count(rules, "alert: "); len(names) != n {
		t.Errorf("the file has %d alerts, %d names and expressions were found", n, len(names))
	}
	tested := read(t, "testdata", "alerts.yaml")
	for name := range names {
		if !strings.Contains(tested, `alertname="`+name+`"`) {
			t.Errorf("no test makes %s fire", name)
		}
	}
	documented := map[string][]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(dendrite_\\w+)` \\|.*\\| ?([\\w, ]*)\\|$").FindAllStringSubmatch(read(t, "..", "docs", "metrics.md"), -1) {
		documented[row[1]] = nil
		if alerts := strings.TrimSpace(row[2]); alerts != "" {
			documented[row[1]] = strings.Split(alerts, ", ")
		}
	}
	for _, metric := range slices.Sorted(maps.Keys(used)) {
		if got, there := documented[metric]; !there || !slices.Equal(got, used[metric]) {
			t.Errorf("%s is for the alerts %v, docs/metrics.md says %v", metric, used[metric], got)
		}
	}
	for metric, alerts := range documented {
		if len(alerts) > 0 && used[metric] == nil {
			t.Errorf("docs/metrics.md says that %s is for %v, which do not use it", metric, alerts)
		}
	}
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
