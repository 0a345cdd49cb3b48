package kafka

import (
	"errors"
	"time"

	"github.com/IBM/sarama"
)

// routed is what needs to know a partition's leader: an outbox or a tail.
type routed interface {
	of() *partition
	// assign hands over to who serves the leader's partitions.
	assign(leader int32)
}

// router finds leaders. Who lost one comes back after a wait that grows with
// each failure.
type router struct {
	log *Log
	in  chan route
}

type route struct {
	to       routed
	failures int // since it last went well; 0 needs no fresh metadata
}

func newRouter(l *Log) *router { return &router{log: l, in: make(chan route)} }

// find looks for a leader, after a wait if it was looked for before.
func (r *router) find(to routed, failures int) {
	at := route{to, failures}
	send := func() {
		select {
		case r.in <- at:
		case <-r.log.ctx.Done():
		}
	}
	if failures < 2 { // the first failure may be a connection that idled too long
		r.log.spawn(send)
		return
	}
	time.AfterFunc(min(minBackoff<<min(failures-2, 10), maxBackoff), send)
}

func (r *router) run() {
	for {
		var routes []route
		select {
		case at := <-r.in:
			routes = append(routes, at)
		case <-r.log.ctx.Done():
			return
		}
		for more := true; more; {
			select {
			case at := <-r.in:
				routes = append(routes, at)
			default:
				more = false
			}
		}
		r.resolve(routes)
	}
}

// resolve hands over what has a leader; the others wait.
func (r *router) resolve(routes []route) {
	stale := map[string]bool{}
	for _, at := range routes {
		if at.failures > 0 {
			stale[at.to.of().topic.name] = true
		}
	}
	var failed error
	if len(stale) > 0 {
		names := make([]string, 0, len(stale))
		for name := range stale {
			names = append(names, name)
		}
		failed = r.log.client.RefreshMetadata(names...)
		r.log.suspect()
	}
	var k sarama.KError
	away := failed != nil && !errors.As(failed, &k) // else it is about some partition
	for _, at := range routes {
		p := at.to.of()
		leader, err := (*sarama.Broker)(nil), failed
		if !away {
			leader, err = r.log.client.Leader(p.topic.name, p.number)
		}
		switch {
		case p.topic.gone.Load():
		case err != nil:
			r.find(at.to, max(at.failures, 1)+1)
		default:
			at.to.assign(leader.ID())
		}
	}
}
