package syncapi

import (
	"context"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/matrix-org/dendrite/common/eventlog"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// keep notes what is current. m.mu is held.
func (m *model) keep(c userapi.UserChange) {
	m.current = slices.DeleteFunc(m.current, func(o userapi.UserChange) bool {
		return o.UserID == c.UserID && o.Kind == c.Kind && o.RoomID == c.RoomID && o.Type == c.Type &&
			(c.Kind != userapi.ChangeThread || o.EventID == c.EventID) && (o.Receipt == nil || o.Receipt.ThreadID == c.Receipt.ThreadID)
	})
	m.current = append(m.current, c)
}

// resync tells all that is current of a partition, as the user-api does.
func (m *model) resync(_ context.Context, r *userapi.ResyncRequest) (*userapi.WriteResponse, error) {
	if m.resyncs != nil {
		m.resyncs <- r.Partition
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count("resync")
	m.publishChange(r.Partition, userapi.UserChange{Kind: userapi.ChangeResync})
	res := &userapi.WriteResponse{Partition: r.Partition, Seq: m.userSeqs[r.Partition]}
	for _, c := range m.current {
		if eventlog.PartitionFor(c.UserID, len(m.userSeqs)) == r.Partition {
			c.Again = c.Kind == userapi.ChangeForget || c.Kind == userapi.ChangeThread
			m.publishChange(r.Partition, c)
		}
	}
	m.publishChange(r.Partition, userapi.UserChange{Kind: userapi.ChangeResynced})
	return res, nil
}

// TestResync: a view that is new, or has fallen behind what user.output still
// holds, is whole again before it answers: it asks for what is current.
func TestResync(t *testing.T) {
	t.Run("alone", func(t *testing.T) { resyncWith(t, 0) })
	t.Run("instances", func(t *testing.T) { resyncWith(t, 2) })
}

func resyncWith(t *testing.T, instances int) {
	m := newModelOn(t, true, instances)
	var token string
	note := func() {
		m.settle()
		token = m.sync(bob, "").Next
	}
	root := m.leaveBehind(note)
	old := token
	secondHalf(m, root, note)
	m.change(userapi.UserChange{UserID: bob, Kind: userapi.ChangeAccountData, Type: "kept", Content: []byte(`{"n":1}`)})
	m.settle()
	m.restart()
	want := shownWhole(t, m, root)
	whole := m.log
	for i, db := range []string{"behind.db", "new.db", "empty.db"} {
		m.stop()
		m.log, m.db = cutTo(t, whole, userapi.TopicUserOutput, userapi.UserOutputPartitions, int64(i%2)), db
		m.resyncs = make(chan int)
		m.start()
		first := <-m.resyncs // asked for, but not told yet
		if at := m.view.applied.Load(); at.users[first] != unbuilt {
			t.Errorf("%s: what is not built is shown: %+v", db, at)
		}
		answered := make(chan *answerOf, 1)
		go func() {
			defer close(answered)
			if a, err := m.trySync(t.Context(), bob, old, "timeout", "0"); err == nil {
				answered <- a
			} else {
				t.Errorf("%s: who waited was refused: %v", db, err)
			}
		}()
		release := m.resyncs
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range release {
			}
		}()
		if a := <-answered; a != nil && !slices.Contains(a.Account.types(), "kept") {
			t.Errorf("%s: who waited lacks account data: %+v", db, a.Account)
		}
		m.settle()
		for i, got := range shownWhole(t, m, root) {
			if !reflect.DeepEqual(got, want[i]) {
				t.Errorf("%s, %s:\ngot  %v\nwant %v", db, got.of, got.value, want[i].value)
			}
		}
		asked := m.asked["resync"]
		m.restart()
		m.settle()
		if n := m.asked["resync"]; n != asked {
			t.Errorf("%s: after a restart it asks again, %d times", db, n-asked)
		}
		m.stop()
		close(release)
		<-done
		m.resyncs = nil
		m.start()
	}
	next := m.sync(bob, "").Next
	m.receipt(alice, testRoom, root, receiptPublic, "new")
	m.settle()
	if got := m.sync(bob, next).Rooms.Join[testRoom].Ephemeral.types(); !slices.Contains(got, "m.receipt") {
		t.Errorf("a later receipt is not shown: %v", got)
	}
}

// shownWhole is what users are shown who have no token, without the tokens that
// they get: what is told again has other positions.
func shownWhole(t *testing.T, m *model, root string) []shownAnswer {
	all := everything(t, m, nil, root)
	for _, a := range all {
		if body, ok := a.value.(map[string]any); ok {
			delete(body, "next_batch")
		}
	}
	return all
}

// TestResyncFirst: a new view reads a topic from its beginning where that is a
// resync, and asks for nothing.
func TestResyncFirst(t *testing.T) {
	m := newModelOn(t, false, 0)
	m.create(testRoom, alice, bob)
	m.stop()
	p := eventlog.PartitionFor(bob, userapi.UserOutputPartitions)
	m.userSeqs[p] = 100
	m.mu.Lock()
	m.keep(userapi.UserChange{UserID: bob, Kind: userapi.ChangeAccountData, Type: "kept", Content: []byte(`{"n":1}`)})
	m.mu.Unlock()
	if _, err := m.resync(t.Context(), &userapi.ResyncRequest{Partition: p}); err != nil {
		t.Fatal(err)
	}
	m.db = "new.db"
	m.start()
	m.settle()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := m.trySync(ctx, bob, ""); err != nil {
		t.Error(err)
	}
	if n := m.asked["resync"]; n != 1 {
		t.Errorf("asked %d times", n-1)
	}
}
