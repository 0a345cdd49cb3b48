package syncapi

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// inboxes are the user-api's part of devices: messages, and what is left of keys.
type inboxes struct {
	mu       sync.Mutex
	messages map[[2]string][]userapi.ToDeviceMessage // by user and device
	states   map[[2]string]userapi.DeviceState
	acked    int // how often messages were acknowledged
	read     int // how often they were asked for
}

func newInboxes() *inboxes {
	return &inboxes{messages: map[[2]string][]userapi.ToDeviceMessage{}, states: map[[2]string]userapi.DeviceState{}}
}

// serveDevices answers what is asked of devices.
func (m *model) serveDevices() {
	b := m.inboxes
	userapi.QueryDeviceStates.Serve(m.calls, func(_ context.Context, r *userapi.DeviceStatesRequest) (*userapi.DeviceStatesResponse, error) {
		seq := m.heads().user(eventlog.PartitionFor(r.UserID, len(m.userSeqs)))
		b.mu.Lock()
		defer b.mu.Unlock()
		res := &userapi.DeviceStatesResponse{Seq: seq}
		for key, list := range b.messages {
			if key[0] == r.UserID && len(list) > 0 {
				state := b.states[key]
				state.DeviceID, state.First, state.Last = key[1], list[0].Seq, list[len(list)-1].Seq
				res.Devices = append(res.Devices, state)
			}
		}
		for key, state := range b.states {
			if key[0] == r.UserID && len(b.messages[key]) == 0 {
				res.Devices = append(res.Devices, state)
			}
		}
		return res, nil
	})
	userapi.QueryToDevice.Serve(m.calls, func(_ context.Context, r *userapi.ToDeviceRequest) (*userapi.ToDeviceResponse, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.read++
		res := &userapi.ToDeviceResponse{}
		for _, one := range b.messages[[2]string{r.UserID, r.DeviceID}] {
			if one.Seq > r.After && one.Seq <= r.UpTo && len(res.Messages) < r.Limit {
				res.Messages = append(res.Messages, one)
			}
		}
		return res, nil
	})
	userapi.AckToDevice.Serve(m.calls, func(_ context.Context, r *userapi.AckToDeviceRequest) (*struct{}, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.acked++
		key := [2]string{r.UserID, r.DeviceID}
		b.messages[key] = slices.DeleteFunc(slices.Clone(b.messages[key]), func(one userapi.ToDeviceMessage) bool { return one.Seq <= r.UpTo })
		return &struct{}{}, nil
	})
}

// toDevice sends a message to a device, if it is told (and else only puts it into
// the inbox).
func (m *model) toDevice(user, device string, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := eventlog.PartitionFor(user, len(m.userSeqs))
	key := [2]string{user, device}
	m.inboxes.mu.Lock()
	m.inboxes.messages[key] = append(m.inboxes.messages[key], userapi.ToDeviceMessage{Seq: m.userSeqs[p] + 1, Sender: bob, Type: "m.x", Content: jsontext.Value(fmt.Sprintf(`{"n":%d}`, n))})
	m.inboxes.mu.Unlock()
	m.publishChange(p, userapi.UserChange{UserID: user, Kind: userapi.ChangeToDevice, DeviceIDs: []string{device}})
}

// left tells what a device has left of its keys.
func (m *model) left(user, device string, n int64, unused ...string) {
	counts := map[string]int64{userapi.CurveAlgorithm: n}
	m.inboxes.mu.Lock()
	m.inboxes.states[[2]string{user, device}] = userapi.DeviceState{DeviceID: device, OneTimeKeys: counts, Unused: unused}
	m.inboxes.mu.Unlock()
	m.change(userapi.UserChange{UserID: user, Kind: userapi.ChangeDeviceKeys, DeviceID: device, OneTimeKeys: counts, UnusedFallback: unused})
}

// listed tells that a user's keys changed.
func (m *model) listed(user string) {
	m.change(userapi.UserChange{UserID: user, Kind: userapi.ChangeDeviceList})
}

// numbers are those in an answer's messages to the device.
func (a *answerOf) numbers() (out []int) {
	for _, e := range a.ToDevice.Events {
		n := 0
		_, err := fmt.Sscanf(string(e.Content), `{"n":%d}`, &n)
		if err != nil || e.Type != "m.x" || e.Sender != bob {
			n = -1
		}
		out = append(out, n)
	}
	return out
}

// TestToDevice: messages come once and in their order, a hundred in an answer; a
// retry gets the same, and the token that covers them deletes them.
func TestToDevice(t *testing.T) { sqldbtest.Each(t, testToDevice) }

func testToDevice(t *testing.T) {
	m := newModel(t)
	device := "D" + alice
	first := m.sync(alice, "")
	var want []int
	for n := range 2*maxToDevice + 7 {
		m.toDevice(alice, device, n)
		want = append(want, n)
	}
	m.toDevice(alice, "OTHER", 1000)
	m.change(userapi.UserChange{UserID: alice, Kind: userapi.ChangeAccountData, Type: "a", Content: jsontext.Value(`{}`)})
	m.settle()
	since, got := first.Next, []int(nil)
	for range 3 {
		a, again := m.sync(alice, since), m.sync(alice, since)
		if !slices.Equal(a.numbers(), again.numbers()) || a.Next != again.Next {
			t.Fatalf("a retry gives %v, not %v", again.numbers(), a.numbers())
		}
		if len(a.ToDevice.Events) > maxToDevice {
			t.Fatalf("%d messages", len(a.ToDevice.Events))
		}
		if last := len(got) == 2*maxToDevice; last != (len(a.Account.Events) == 1) {
			t.Errorf("after %d messages: %+v", len(got), a.Account)
		}
		got, since = append(got, a.numbers()...), a.Next
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%v", got)
	}
	m.restart() // what is in the inbox yet is known again
	if a := m.sync(alice, since); len(a.ToDevice.Events) > 0 || a.Next != since {
		t.Errorf("told again: %v", a.numbers())
	}
	if left := m.inboxes.messages[[2]string{alice, device}]; len(left) > 0 {
		t.Errorf("%d messages are left", len(left))
	}
	if fresh := m.sync(alice, "", "device", "OTHER"); !slices.Equal(fresh.numbers(), []int{1000}) {
		t.Errorf("an initial answer has %v", fresh.numbers())
	}
}

// TestToDeviceModel: whatever is sent, read, retried and restarted, a device has
// all of its messages, each once, in order; with several instances too.
func TestToDeviceModel(t *testing.T) {
	for _, instances := range []int{0, 2} {
		t.Run(fmt.Sprint(instances), func(t *testing.T) {
			sqldbtest.Each(t, func(t *testing.T) {
				m := newModelOn(t, false, instances)
				since := map[string]string{}
				got, want := map[string][]int{}, map[string][]int{}
				for n := range 200 {
					device := []string{"A", "B"}[rand.IntN(2)]
					switch rand.IntN(8) {
					case 0, 1, 2, 3:
						for range 1 + rand.IntN(60) {
							m.toDevice(alice, device, len(want[device]))
							want[device] = append(want[device], len(want[device]))
						}
					case 4, 5, 6:
						a, err := m.trySync(t.Context(), alice, since[device], "device", device)
						if err != nil {
							t.Fatal(err)
						}
						if rand.IntN(3) > 0 { // else the answer is lost
							got[device], since[device] = append(got[device], a.numbers()...), a.Next
						}
					case 7:
						if n%3 == 0 {
							m.restart()
						}
					}
				}
				m.settle()
				for device := range want {
					for range 100 {
						a := m.sync(alice, since[device], "device", device)
						got[device], since[device] = append(got[device], a.numbers()...), a.Next
						if len(got[device]) >= len(want[device]) {
							break
						}
					}
					if !slices.Equal(got[device], want[device]) {
						t.Errorf("%s has %v", device, got[device])
					}
				}
			})
		})
	}
}

// TestIdleAsksNobody: counts are in every answer, and answers that tell nothing
// new of devices cost neither a statement nor a question.
func TestIdleAsksNobody(t *testing.T) { sqldbtest.Each(t, testIdleAsksNobody) }

func testIdleAsksNobody(t *testing.T) {
	m := newModel(t)
	m.create(testRoom, alice, bob)
	device := "D" + alice
	first := m.sync(alice, "")
	if first.Counts[userapi.CurveAlgorithm] != 0 || len(first.Counts) != 1 || first.Unused == nil || len(first.Unused) != 0 {
		t.Fatalf("%+v, %v", first.Counts, first.Unused)
	}
	m.left(alice, device, 50, userapi.CurveAlgorithm)
	m.toDevice(alice, device, 1)
	m.settle()
	told := m.sync(alice, first.Next)
	if told.Counts[userapi.CurveAlgorithm] != 50 || !slices.Equal(told.Unused, []string{userapi.CurveAlgorithm}) {
		t.Fatalf("%+v, %v", told.Counts, told.Unused)
	}
	up := m.sync(alice, told.Next)
	m.message(testRoom, bob, "warm")
	m.settle()
	since := m.sync(alice, up.Next).Next
	before, read, acked := m.statements(), m.inboxes.read, m.inboxes.acked
	m.message(testRoom, bob, "x")
	m.settle()
	for range 5 {
		a := m.sync(alice, since)
		if a.Counts[userapi.CurveAlgorithm] != 50 {
			t.Errorf("%+v", a.Counts)
		}
		since = a.Next
	}
	if n := m.statements() - before; n > 10 { // positions are stored now and then
		t.Errorf("%d statements", n)
	}
	if m.inboxes.read != read || m.inboxes.acked != acked {
		t.Errorf("asked %d times, acknowledged %d times", m.inboxes.read-read, m.inboxes.acked-acked)
	}
	m.restart()
	if a := m.sync(alice, since); a.Counts[userapi.CurveAlgorithm] != 50 || len(a.Unused) != 1 {
		t.Errorf("after a restart: %+v, %v", a.Counts, a.Unused)
	}
	if other := m.sync(alice, since, "device", "NEW"); other.Counts[userapi.CurveAlgorithm] != 0 || len(other.Unused) != 0 {
		t.Errorf("another device: %+v", other)
	}
	m.left(alice, device, 0)
	m.settle()
	if a := m.sync(alice, since); a.Counts[userapi.CurveAlgorithm] != 0 || len(a.Unused) != 0 {
		t.Errorf("nothing left: %+v, %v", a.Counts, a.Unused)
	}
}

// lists words whose keys an answer flags, and whose it gives up.
func (a *answerOf) lists() string {
	return strings.Join(a.Lists.Changed, " ") + "/" + strings.Join(a.Lists.Left, " ")
}

// TestDeviceLists: whoever shares a room hears of changed keys, of those who come
// and of those who go; by /sync, by /keys/changes, and after a restart.
func TestDeviceLists(t *testing.T) { both(t, deviceLists) }

func deviceLists(t *testing.T, m *model) {
	const dave, other = "@dave:test", "!other:test"
	m.create(testRoom, alice, bob)
	m.create(other, carol, dave)
	since := m.sync(alice, "").Next
	step := func(name, want string) {
		t.Helper()
		m.settle()
		a := m.sync(alice, since)
		if got := a.lists(); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		m.restart()
		if got := m.sync(alice, since).lists(); got != want {
			t.Errorf("%s, after a restart: %s, want %s", name, got, want)
		}
		var changes struct {
			Changed []string `json:"changed"`
			Left    []string `json:"left"`
		}
		if err := m.get(m.s.keysChanges, alice, "from="+since+"&to="+a.Next, nil, &changes); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(changes.Changed, " ") + "/" + strings.Join(changes.Left, " "); got != want {
			t.Errorf("%s, by /keys/changes: %s, want %s", name, got, want)
		}
		since = a.Next
		if again := m.sync(alice, since); again.lists() != "/" {
			t.Errorf("%s: told again: %s", name, again.lists())
		}
	}
	m.listed(bob)
	m.listed(carol)
	step("who shares a room", bob+"/")
	m.listed(alice)
	step("one's own", alice+"/")
	m.member(testRoom, carol, carol, "join")
	step("who comes", carol+"/")
	m.member(testRoom, carol, carol, "leave")
	step("who goes", "/"+carol)
	m.member(other, alice, alice, "join")
	step("a room that one comes to", carol+" "+dave+"/")
	m.member(testRoom, dave, dave, "join")
	m.member(other, alice, alice, "leave")
	step("a room that one goes from", dave+"/"+carol)
	m.member(testRoom, dave, dave, "leave")
	m.listed(dave)
	step("who changes once gone", "/"+dave)
	m.message(testRoom, bob, "nothing of all that")
	step("a message", "/")
	m.change(userapi.UserChange{UserID: alice, Kind: userapi.ChangeSignatures, Target: bob})
	m.change(userapi.UserChange{UserID: bob, Kind: userapi.ChangeSignatures, Target: carol})
	step("what one signs oneself", bob+"/")
}

// TestDeviceListWakes: a waiting request is answered when the keys of somebody
// change who is not in this instance's memory.
func TestDeviceListWakes(t *testing.T) { sqldbtest.Each(t, testDeviceListWakes) }

func testDeviceListWakes(t *testing.T) {
	m := newModel(t)
	m.create(testRoom, alice, bob)
	for _, wake := range []func(){
		func() { m.listed(bob) },
		func() { m.toDevice(alice, "D"+alice, 1) },
	} {
		first := m.sync(alice, "")
		got := polling(m, alice, func() (*answerOf, error) {
			return m.trySync(context.Background(), alice, first.Next, "timeout", "20000")
		})
		wake()
		if a := <-got; a.lists() == "/" && len(a.ToDevice.Events) == 0 {
			t.Errorf("woken for nothing: %+v", a)
		}
	}
}

// TestKeysChangesRefuses: what is no token is refused.
func TestKeysChangesRefuses(t *testing.T) {
	m := newModel(t)
	next := m.sync(alice, "").Next
	for query, want := range map[string]string{
		"from=" + next:              "M_MISSING_PARAM",
		"to=" + next:                "M_MISSING_PARAM",
		"from=x&to=" + next:         "M_INVALID_PARAM",
		"from=" + next + "&to=sAAA": "M_INVALID_PARAM",
	} {
		var got struct{}
		if err := m.get(m.s.keysChanges, alice, query, nil, &got); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", query, err)
		}
	}
}
