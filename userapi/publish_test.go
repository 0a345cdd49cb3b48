package userapi

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/eventlog/eventlogtest"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/testwait"
	"github.com/matrix-org/dendrite/userapi/api"
)

var alicePartition = eventlog.PartitionFor(alice, api.UserOutputPartitions)

func (w *world) published() []api.UserChange {
	w.t.Helper()
	return records[api.UserChange](w, api.TopicUserOutput, alicePartition)
}

// publishedUpTo waits for a Seq and returns all.
func (w *world) publishedUpTo(seq int64) (all []api.UserChange) {
	w.t.Helper()
	testwait.Until(w.t, fmt.Sprintf("change %d is not published", seq), func() bool {
		all = w.published()
		return len(all) > 0 && all[len(all)-1].Seq >= seq
	})
	return all
}

// TestPublished: user.output has every change in order, and gets again what it
// lost.
func TestPublished(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		for range 2 {
			w.newLog()
			s := w.server()
			var last api.WriteResponse
			for i := range 20 {
				last = w.putData(s, alice, "t", fmt.Sprintf(`{"n":%d}`, i))
			}
			stop := w.run(s)
			for i, c := range w.publishedUpTo(last.Seq) {
				if c.Seq != int64(i)+1 {
					t.Fatalf("change %d stands at %d", c.Seq, i)
				}
			}
			stop()
		}
	})
}

// TestResync: a topic that lacks what is no longer kept, or that is ahead of a
// restored database, is told so, gets what is current, and goes on.
func TestResync(t *testing.T) {
	lost := func(w *world, s *Server) {
		w.check(s.db.Write(w.t.Context(), func(tx *sqldb.Tx) error {
			return s.db.DropOutbox(w.t.Context(), tx, alicePartition, 5, time.Now().Add(time.Hour).UnixMilli())
		}))
	}
	ahead := func(w *world, _ *Server) {
		value, err := json.Marshal(&api.UserChange{V: 1, Seq: 100, UserID: alice, Kind: api.ChangeDevices})
		w.check(err)
		_, err = w.log.Append(w.t.Context(), eventlog.Message{Topic: api.TopicUserOutput, Partition: alicePartition, Value: value})
		w.check(err)
	}
	for _, c := range []struct {
		name   string
		damage func(*world, *Server)
		first  int64 // the Seq of the resync less that of the last change
		skip   int   // records that stand before it
	}{{"lost", lost, 1, 0}, {"ahead", ahead, 0, 1}} {
		t.Run(c.name, func(t *testing.T) {
			engines(t, func(t *testing.T, w *world) {
				s := w.server()
				w.signUp(s, alice)
				w.putData(s, alice, "gone", `{}`)
				w.putData(s, alice, api.TypePushRules, `{"global":{}}`)
				_, err := s.putReceipts(t.Context(), &api.PutReceiptsRequest{UserID: alice, RoomID: "!r", Receipts: []api.Receipt{{EventID: "$e", Type: "m.read"}}})
				w.check(err)
				_, err = s.deleteAccountData(t.Context(), &api.DeleteAccountDataRequest{UserID: alice, Type: "gone"})
				w.check(err)
				_, err = s.forget(t.Context(), &api.ForgetRequest{UserID: alice, RoomID: "!old", EventID: "$left"})
				w.check(err)
				_, err = w.subscribe(s, "$t", api.ThreadState{Subscribed: true}, 0)
				w.check(err)
				last := w.putData(s, alice, "kept", `{"n":1}`)
				c.damage(w, s)
				want := last.Seq + 1
				if c.skip > 0 {
					want = 101
				}
				stop := w.run(s)
				all := w.publishedUpTo(want + 8)[c.skip:]
				kinds := ""
				for i, change := range all {
					if change.Seq != want+int64(i) {
						t.Errorf("change %d is at %d: %+v", want+int64(i), change.Seq, change)
					}
					kinds += string(change.Kind) + change.Type + " "
				}
				if kinds != "resync devices thread profile account_datakept push_rulesm.push_rules receiptm.read forget resynced " {
					t.Error(kinds)
				}
				next := w.putData(s, alice, "kept", `{"n":2}`)
				if next.Seq != want+9 {
					t.Errorf("the next change is %d", next.Seq)
				}
				w.publishedUpTo(next.Seq)
				stop()
				stop = w.run(w.server()) // a restart finds nothing to do
				last = w.putData(s, alice, "kept", `{"n":3}`)
				if all := w.publishedUpTo(last.Seq); all[len(all)-1].Seq != next.Seq+1 {
					t.Error(all)
				}
				stop()
			})
		})
	}
}

// TestRequestedResync: who lacks changes is told all that is current, behind
// what was on its way, whichever instance was asked and publishes.
func TestRequestedResync(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		w.deps = Deps{Log: eventlogtest.Shared{Log: w.log}, LeaseTTL: 400 * time.Millisecond}
		a, b := w.server(), w.server()
		w.signUp(a, alice)
		stop := w.run(a)
		last := w.putData(a, alice, "t", `{"n":1}`)
		w.publishedUpTo(last.Seq)
		var first, second *api.WriteResponse
		for i, of := range []**api.WriteResponse{&first, &second} { // the second time of the one that does not publish
			last = w.putData(a, alice, "t", fmt.Sprintf(`{"n":%d}`, i+2))
			var err error
			if *of, err = []*Server{a, b}[i].resync(t.Context(), &api.ResyncRequest{Partition: alicePartition}); err != nil || (*of).Seq != last.Seq+1 {
				t.Fatalf("%v, %v, after %d", *of, err, last.Seq)
			}
			all := w.publishedUpTo((*of).Seq + 4)[last.Seq:]
			kinds := ""
			for n, c := range all {
				if c.Seq != (*of).Seq+int64(n) {
					t.Errorf("change %d is at %d", c.Seq, (*of).Seq+int64(n))
				}
				kinds += string(c.Kind) + " "
			}
			if kinds != "resync devices profile account_data resynced " {
				t.Errorf("%d: %s", i, kinds)
			}
		}
		stop()
		if _, err := a.resync(t.Context(), &api.ResyncRequest{Partition: api.UserOutputPartitions}); err == nil {
			t.Error("there is a partition more")
		}
	})
}

// trimmedTo notes how far it may drop.
type trimmedTo struct {
	eventlog.Log
	before chan int64
}

func (l trimmedTo) Trim(_ context.Context, topic string, partition int, before int64) error {
	if topic == api.TopicUserOutput && partition == alicePartition {
		l.before <- before
	}
	return nil
}

// TestTrim: user.output may lose all but its last records, which tell how far it
// is published; the topic's retention holds the rest for a week.
func TestTrim(t *testing.T) {
	w := &world{t: t, path: filepath.Join(t.TempDir(), "users.db"), clock: time.Now()}
	w.newLog()
	log := trimmedTo{w.log, make(chan int64, 1)}
	w.deps = Deps{Log: log, LeaseTTL: 400 * time.Millisecond}
	s := w.server()
	if spec := api.UserOutputTopic(0); spec.Retention != 7*24*time.Hour {
		t.Errorf("retention: %v", spec.Retention)
	}
	many := make([]eventlog.Message, lastRecords+10)
	for i := range many {
		value, err := json.Marshal(&api.UserChange{V: 1, Seq: int64(i + 1), UserID: alice, Kind: api.ChangeDevices})
		w.check(err)
		many[i] = eventlog.Message{Topic: api.TopicUserOutput, Partition: alicePartition, Value: value}
	}
	_, err := w.log.Append(t.Context(), many...)
	w.check(err)
	go s.leases.Run(t.Context())
	testwait.Until(w.t, "no leases", func() bool { return len(s.leases.Held()) == api.UserOutputPartitions })
	w.check((&publisher{s: s}).trim(t.Context()))
	if before := <-log.before; before != 10 {
		t.Errorf("it may drop %d records", before)
	}
}

// TestTwoPublishers: of two instances each change is published by one, and when
// one stops the other goes on.
func TestTwoPublishers(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		w.deps = Deps{Log: eventlogtest.Shared{Log: w.log}, LeaseTTL: 400 * time.Millisecond}
		a, b := w.server(), w.server()
		stopA := w.run(a)
		w.run(b)
		testwait.Until(w.t, "the partitions are not shared", func() bool { return len(a.leases.Held()) == 2 && len(b.leases.Held()) == 2 })
		var last api.WriteResponse
		for i := range 40 {
			if i == 20 {
				stopA()
			}
			last = w.putData([]*Server{a, b}[i%2], alice, "t", fmt.Sprintf(`{"n":%d}`, i))
		}
		all := w.publishedUpTo(last.Seq)
		for i, c := range all {
			if c.Seq != int64(i)+1 {
				t.Fatalf("change %d stands at %d of %d", c.Seq, i, len(all))
			}
		}
	})
}

// TestSentIsPublished: once messages to a device are acknowledged, readers of
// user.output are told of them, whichever instance took them and publishes them.
func TestSentIsPublished(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		sole := w.server()
		stop := w.run(sole)
		testwait.Until(t, "there is no lease", func() bool { return len(sole.leases.Held()) == api.UserOutputPartitions })
		w.signUp(sole, alice)
		w.sentIsPublished(sole, "sole")
		stop()
		all, _ := w.together(2)
		for i, s := range all {
			testwait.Until(t, "nobody follows", s.following.Load)
			w.sentIsPublished(s, fmt.Sprint(i))
		}
	})
}

func (w *world) sentIsPublished(s *Server, request string) {
	w.t.Helper()
	for n := range 20 {
		w.send(s, fmt.Sprint(request, n), alice, map[string]string{"D": `{}`})
		all := w.published()
		if _, last := w.inbox(s, alice, "D", 0); len(all) == 0 || all[len(all)-1].Seq < last {
			w.t.Fatalf("message %d of %s is acknowledged and not published", n, request)
		}
	}
}
