package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// processes are those of a server, with their children.
type processes struct {
	roots   map[int]string // their names: a role, or postgres
	brokers []int
}

// postgres is the name of a process of the database's.
const postgres = "postgres"

// reading is what processes have taken so far, CPU in milliseconds, memory in MiB.
type reading struct {
	server, postgres, brokers float64
	roles                     map[string]float64 // of server and postgres
	memory                    float64            // of server and postgres
	statements                float64            // of SQL
}

// stat is what /proc says of a process.
type stat struct {
	parent int
	cpu    float64 // with that of children which have ended
}

// tick is a tick of /proc in milliseconds: USER_HZ is 100 on Linux.
const tick = 10

func statOf(pid int) (s stat, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return s, false
	}
	// What stands before is the name, in which there may be anything.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 15 {
		return s, false
	}
	s.parent, _ = strconv.Atoi(fields[1])
	for _, field := range fields[11:15] {
		ticks, _ := strconv.ParseFloat(field, 64)
		s.cpu += ticks * tick
	}
	return s, true
}

// trees finds the processes below each root, with the root.
func (p *processes) trees() map[int]map[int]stat {
	all := map[int]stat{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if s, ok := statOf(pid); ok {
				all[pid] = s
			}
		}
	}
	out := map[int]map[int]stat{}
	under := func(root int) {
		out[root] = map[int]stat{}
		for pid, s := range all {
			for at := pid; at > 1; at = all[at].parent {
				if at == root {
					out[root][pid] = s
					break
				}
			}
		}
	}
	for root := range p.roots {
		under(root)
	}
	for _, root := range p.brokers {
		under(root)
	}
	return out
}

// read reads what they have taken; not the statements.
func (p *processes) read() (r reading) {
	r.roles = map[string]float64{}
	trees := p.trees()
	sum := func(root int) (cpu float64) {
		for _, s := range trees[root] {
			cpu += s.cpu
		}
		return cpu
	}
	for root, name := range p.roots {
		cpu := sum(root)
		r.roles[name] += cpu
		r.memory += memoryOf(trees[root])
		if name == postgres {
			r.postgres += cpu
		} else {
			r.server += cpu
		}
	}
	for _, root := range p.brokers {
		r.brokers += sum(root)
	}
	return r
}

// memoryOf is the memory of a tree: what its processes share counts once.
func memoryOf(tree map[int]stat) float64 {
	var own, file, shared float64
	for pid := range tree {
		s := statusOf(pid)
		own += s["RssAnon"]
		file, shared = max(file, s["RssFile"]), max(shared, s["RssShmem"])
	}
	return own + file + shared
}

// statusOf reads the sizes in /proc/PID/status, in MiB.
func statusOf(pid int) map[string]float64 {
	out := map[string]float64{}
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // it may have ended
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		if kib, ok := strings.CutSuffix(strings.TrimSpace(value), " kB"); ok {
			n, _ := strconv.ParseFloat(strings.TrimSpace(kib), 64)
			out[name] = n / 1024
		}
	}
	return out
}

// watchEvery is how often memory is looked at.
const watchEvery = 100 * time.Millisecond

// watch looks for the most memory; the function returned ends that and tells it. Of
// processes without children the kernel knows it exactly, where it may be reset.
func (p *processes) watch() (end func() float64) {
	exact := len(p.roots) == 1
	for root := range p.roots {
		exact = exact && os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", root), []byte("5"), 0) == nil
	}
	stop, most := make(chan struct{}), make(chan float64)
	go func() {
		look := time.NewTicker(watchEvery)
		defer look.Stop()
		found := p.read().memory
		for {
			select {
			case <-look.C:
				found = max(found, p.read().memory)
			case <-stop:
				most <- found
				return
			}
		}
	}()
	return func() float64 {
		close(stop)
		found := <-most
		if exact {
			for root := range p.roots {
				found = max(found, statusOf(root)["VmHWM"])
			}
		}
		return found
	}
}
