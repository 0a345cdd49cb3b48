package main

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// tiny is what shows that everything runs.
var tiny = []string{"-small", "-rooms", "3", "-syncs", "5", "-members", "10", "-events", "8", "-images", "1", "-width", "1000", "-height", "750", "-files", "2",
	"-messages", "50", "-searches", "3"}

// TestEverything: each scenario runs on a server of its own, and has its figures.
func TestEverything(t *testing.T) {
	o, err := parse(tiny)
	if err != nil {
		t.Fatal(err)
	}
	target, err := newTarget(t.Context(), o.target)
	if err != nil {
		t.Fatal(err)
	}
	defer target.stop()
	var out bytes.Buffer
	if err := run(t.Context(), o, target, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	t.Logf("\n%s", out.String())
	for _, line := range []string{
		"one-time keys: upload +200 ", "one-time keys: claim, 10 a request +200 ", "/sync initial, 3 rooms +1 ", "/sync incremental, 1 event +50 ",
		"sliding sync first, 3 of 3 rooms +5 ", "sliding sync incremental, 1 event +50 ", "event in a room of 2 members +8 ", "join of a room of up to 10 +8 ",
		"event in a room of 10, idle +8 ", "event there, 2 have pushers +8 .* 2.0 requests to the gateway an event", "thumbnail cold, 800x600 scale +1 ",
		"thumbnail warm, 96x96 crop +10 ", "upload of 1 MiB +2 .* MB/s", "download of 50 MiB +2 .* MB/s",
	} {
		// Operations a second, and the memory, are never nothing.
		if !regexp.MustCompile(`(?m)^`+line).MatchString(out.String()) || !regexp.MustCompile(`(?m)^`+strings.SplitN(line, " +", 2)[0]+` +\d+ +[1-9\d]*[\d.]+ .* +[1-9]\d*/ +[1-9]\d*/ +[1-9]\d* `).MatchString(out.String()) {
			t.Errorf("there is no line %s", line)
		}
	}
	if !strings.Contains(out.String(), "\nsearch for a common word, by rank ") {
		t.Error("nothing is said of search")
	}
}

func TestOptions(t *testing.T) {
	if o, err := parse([]string{"-run", "sync,keys", "-rooms", "7"}); err != nil || !slices.Equal(o.names, []string{"sync", "keys"}) || o.sizes.rooms != 7 || o.sizes.members != full.members {
		t.Errorf("%+v %v", o, err)
	}
	if o, err := parse([]string{"-rooms", "7", "-small"}); err != nil || o.sizes.rooms != 7 || o.sizes.members != small.members {
		t.Errorf("%+v %v", o, err)
	}
	for _, args := range [][]string{{"-run", "nothing"}, {"-rooms", "x"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v is taken", args)
		}
	}
	given, err := givenTarget(targetOptions{url: "http://x/", pids: "sync-api=5,postgres=6,7", brokers: "8,9", metrics: "a:1,b:2"})
	if err != nil || given.url != "http://x" || len(given.processes.roots) != 3 || given.processes.roots[6] != postgres || len(given.processes.brokers) != 2 || len(given.metrics) != 2 {
		t.Errorf("%+v %v", given, err)
	}
	if _, err := givenTarget(targetOptions{url: "http://x", pids: "sync-api"}); err == nil {
		t.Error("a name without a process is taken")
	}
}

// TestProcesses: what this process takes is seen.
func TestProcesses(t *testing.T) {
	p := processes{roots: map[int]string{os.Getpid(): "me"}}
	before := p.read()
	most := p.watch()
	block := make([]byte, 64<<20)
	for i := range block {
		block[i] = byte(i)
	}
	for began := time.Now(); time.Since(began) < 100*time.Millisecond; {
		block[0]++
	}
	after, peak := p.read(), most()
	if spent := after.server - before.server; spent < 2*tick || after.roles["me"] != after.server || after.postgres != 0 {
		t.Errorf("%+v, before %+v", after, before)
	}
	if after.memory < before.memory+32 || peak < after.memory-1 {
		t.Errorf("memory: %f, then %f, at most %f", before.memory, after.memory, peak)
	}
	if quantile([]time.Duration{1e6, 2e6, 3e6}, 0.5) != 2 || quantile(nil, 0.5) != 0 {
		t.Error("half of three is not the second")
	}
}
