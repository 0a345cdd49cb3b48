package userapi

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/eventlog/eventlogtest"
	"github.com/matrix-org/dendrite/common/testwait"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/userapi/api"
	"github.com/matrix-org/dendrite/userapi/storage"
)

// testDevice is a device with a key of its own.
type testDevice struct {
	w        *world
	user, id string
	key      ed25519.PrivateKey
}

func (w *world) device(user, id string) *testDevice {
	_, private, err := ed25519.GenerateKey(nil)
	w.check(err)
	return &testDevice{w, user, id, private}
}

func public(key ed25519.PrivateKey) string {
	return gomatrixserverlib.EncodeBase64(key.Public().(ed25519.PublicKey))
}

// sign signs an object as a user's key of that name.
func (w *world) sign(user, name string, key ed25519.PrivateKey, object any) jsontext.Value {
	w.t.Helper()
	raw, err := json.Marshal(object)
	w.check(err)
	signed, err := gomatrixserverlib.SignJSON(user, gomatrixserverlib.SigningKey{ID: gomatrixserverlib.KeyID("ed25519:" + name), Private: key}, raw)
	w.check(err)
	return signed
}

// keys are the device's identity keys, signed.
func (d *testDevice) keys() jsontext.Value {
	return d.w.sign(d.user, d.id, d.key, map[string]any{"user_id": d.user, "device_id": d.id, "algorithms": []string{"m.olm.v1.curve25519-aes-sha2"},
		"keys": map[string]string{"ed25519:" + d.id: public(d.key), "curve25519:" + d.id: public(d.key)}})
}

// prekeys are signed one-time keys, or with fallback set one fallback key.
func (d *testDevice) prekeys(fallback bool, ids ...string) map[string]jsontext.Value {
	out := map[string]jsontext.Value{}
	for _, id := range ids {
		k := map[string]any{"key": id}
		if fallback {
			k["fallback"] = true
		}
		out[api.CurveAlgorithm+":"+id] = d.w.sign(d.user, d.id, d.key, k)
	}
	return out
}

func (d *testDevice) upload(s *Server, r api.UploadKeysRequest) (map[string]int64, error) {
	r.UserID, r.DeviceID = d.user, d.id
	res, err := s.uploadKeys(d.w.t.Context(), &r)
	if err != nil {
		return nil, err
	}
	return res.Counts, nil
}

func (d *testDevice) mustUpload(s *Server, r api.UploadKeysRequest) int64 {
	d.w.t.Helper()
	counts, err := d.upload(s, r)
	if err != nil {
		d.w.t.Fatal(err)
	}
	return counts[api.CurveAlgorithm]
}

// claim claims one key of the device; "" when it has none.
func (d *testDevice) claim(s *Server) string {
	d.w.t.Helper()
	res, err := s.claimKeys(d.w.t.Context(), &api.ClaimKeysRequest{Devices: map[string]map[string]string{d.user: {d.id: api.CurveAlgorithm}}})
	if err != nil {
		d.w.t.Fatal(err)
	}
	for name := range res.Keys[d.user][d.id] {
		return strings.TrimPrefix(name, api.CurveAlgorithm+":")
	}
	return ""
}

// keyChanges are the changes of alice's partition that the outbox has, in order.
func (w *world) keyChanges(s *Server, kinds ...api.ChangeKind) (out []api.UserChange) {
	w.t.Helper()
	rows, err := s.db.Outbox(w.t.Context(), alicePartition, 0, 10_000)
	w.check(err)
	for _, r := range rows {
		var c api.UserChange
		w.check(json.Unmarshal([]byte(r.Value), &c))
		if slices.Contains(kinds, c.Kind) {
			out = append(out, c)
		}
	}
	return out
}

// TestUploadedKeys: what is uploaded is checked, told once, and kept as the spec
// says.
func TestUploadedKeys(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		s := w.server()
		w.signUp(s, alice)
		d := w.device(alice, "D")
		other := w.device(alice, "E")
		for name, c := range map[string]struct {
			want string
			r    api.UploadKeysRequest
		}{
			"another device's":      {"M_INVALID_PARAM", api.UploadKeysRequest{DeviceKeys: other.keys()}},
			"not signed":            {"M_INVALID_SIGNATURE", api.UploadKeysRequest{DeviceKeys: jsontext.Value(strings.Replace(string(d.keys()), "m.olm.v1", "m.olm.v2", 1))}},
			"no object":             {"M_BAD_JSON", api.UploadKeysRequest{DeviceKeys: jsontext.Value(`[]`)}},
			"too large":             {"M_TOO_LARGE", api.UploadKeysRequest{DeviceKeys: jsontext.Value(`"` + strings.Repeat("x", maxKeyBytes) + `"`)}},
			"a key without an ID":   {"M_INVALID_PARAM", api.UploadKeysRequest{OneTimeKeys: map[string]jsontext.Value{"x": jsontext.Value(`"k"`)}}},
			"a key that is none":    {"M_INVALID_PARAM", api.UploadKeysRequest{OneTimeKeys: map[string]jsontext.Value{"a:x": jsontext.Value(`7`)}}},
			"a key without key":     {"M_INVALID_PARAM", api.UploadKeysRequest{OneTimeKeys: map[string]jsontext.Value{"a:x": jsontext.Value(`{}`)}}},
			"two fallback keys":     {"M_INVALID_PARAM", api.UploadKeysRequest{FallbackKeys: d.prekeys(true, "f1", "f2")}},
			"another signs the key": {"M_INVALID_SIGNATURE", api.UploadKeysRequest{DeviceKeys: d.keys(), OneTimeKeys: other.prekeys(false, "a")}},
		} {
			if _, err := d.upload(s, c.r); code(err) != c.want {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := other.upload(s, api.UploadKeysRequest{DeviceKeys: other.keys()}); code(err) != "M_UNKNOWN_TOKEN" {
			t.Errorf("a device that is not there: %v", err)
		}
		if n := d.mustUpload(s, api.UploadKeysRequest{DeviceKeys: d.keys(), OneTimeKeys: d.prekeys(false, "a", "b"), FallbackKeys: d.prekeys(true, "f")}); n != 2 {
			t.Errorf("%d keys", n)
		}
		before := len(w.keyChanges(s, api.ChangeDeviceKeys, api.ChangeDeviceList))
		if n := d.mustUpload(s, api.UploadKeysRequest{DeviceKeys: d.keys(), OneTimeKeys: d.prekeys(false, "a", "b"), FallbackKeys: d.prekeys(true, "f")}); n != 2 {
			t.Errorf("%d keys after a retry", n)
		}
		if after := len(w.keyChanges(s, api.ChangeDeviceKeys, api.ChangeDeviceList)); before != 2 || after != 2 {
			t.Errorf("%d changes, after a retry %d", before, after)
		}
		again := d.prekeys(true, "a") // other content
		if _, err := d.upload(s, api.UploadKeysRequest{OneTimeKeys: again}); code(err) != "M_INVALID_PARAM" {
			t.Errorf("another key of the same ID: %v", err)
		}
		first := d.claim(s)
		if n := d.mustUpload(s, api.UploadKeysRequest{OneTimeKeys: d.prekeys(false, first)}); n != 1 {
			t.Errorf("a key that was given out comes back: %d", n)
		}
		if second := d.claim(s); second == first || d.claim(s) != "f" || d.claim(s) != "f" {
			t.Errorf("%s, then %s", first, second)
		}
		told := w.keyChanges(s, api.ChangeDeviceKeys)
		if last := told[len(told)-1]; len(told) != 4 || last.OneTimeKeys[api.CurveAlgorithm] != 0 || len(last.UnusedFallback) != 0 {
			t.Errorf("%+v", told)
		}
		d.mustUpload(s, api.UploadKeysRequest{FallbackKeys: d.prekeys(true, "f")})
		if told := w.keyChanges(s, api.ChangeDeviceKeys); len(told) != 4 {
			t.Errorf("a used fallback key counts as a new one: %+v", told[4])
		}
		d.mustUpload(s, api.UploadKeysRequest{FallbackKeys: d.prekeys(true, "g"), OneTimeKeys: d.prekeys(false, "c")})
		if told := w.keyChanges(s, api.ChangeDeviceKeys); !slices.Equal(told[4].UnusedFallback, []string{api.CurveAlgorithm}) {
			t.Errorf("%+v", told[4])
		}
		fresh := w.device(alice, "D") // another identity: what the old one signed is of no use
		if n := fresh.mustUpload(s, api.UploadKeysRequest{DeviceKeys: fresh.keys(), OneTimeKeys: fresh.prekeys(false, "z")}); n != 1 {
			t.Errorf("%d keys of a new identity", n)
		}
		_, err := s.deleteDevices(t.Context(), &api.DeleteDevicesRequest{UserID: alice, DeviceIDs: []string{"D"}})
		w.check(err)
		if told := w.keyChanges(s, api.ChangeDeviceKeys, api.ChangeDeviceList); told[len(told)-1].Kind != api.ChangeDeviceList || len(told[len(told)-2].OneTimeKeys) != 0 {
			t.Errorf("a deleted device: %+v", told[len(told)-2:])
		}
		if got := d.claim(s); got != "" {
			t.Errorf("a deleted device gives %s", got)
		}
	})
}

// TestClaimsOnce: many claim at once, over two instances, while more is uploaded:
// each key is given out once, those of an upload before those of the next.
func TestClaimsOnce(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		all, _ := w.together(2)
		w.signUp(all[0], alice)
		bob := "@bob:test"
		w.signUp(all[1], bob)
		devices := []*testDevice{w.device(alice, "D"), w.device(bob, "D")}
		const uploads, size, claimers = 6, 8, 8
		var mu sync.Mutex
		seen := map[string]struct{}{}
		var group sync.WaitGroup
		for i, d := range devices {
			group.Go(func() {
				for n := range uploads {
					var ids []string
					for k := range size {
						ids = append(ids, fmt.Sprintf("%d-%d", n, k))
					}
					d.mustUpload(all[(n+i)%2], api.UploadKeysRequest{DeviceKeys: d.keys(), OneTimeKeys: d.prekeys(false, ids...)})
				}
			})
		}
		for i := range claimers {
			group.Go(func() {
				for left := 0; left < 2*uploads*size/claimers; {
					res, err := all[i%2].claimKeys(context.Background(), &api.ClaimKeysRequest{Devices: map[string]map[string]string{
						alice: {"D": api.CurveAlgorithm}, bob: {"D": api.CurveAlgorithm, "NONE": api.CurveAlgorithm}}})
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					for user, of := range res.Keys {
						for name := range of["D"] {
							if _, twice := seen[user+name]; twice {
								t.Errorf("%s of %s is given out twice", name, user)
							}
							seen[user+name] = struct{}{}
							left++
						}
					}
					done := len(seen) == 2*uploads*size
					mu.Unlock()
					if done {
						return
					}
				}
			})
		}
		group.Wait()
		for len(seen) < 2*uploads*size {
			for _, d := range devices {
				if name := d.claim(all[0]); name != "" {
					if _, twice := seen[d.user+api.CurveAlgorithm+":"+name]; twice {
						t.Fatalf("%s is given out twice", name)
					}
					seen[d.user+api.CurveAlgorithm+":"+name] = struct{}{}
				}
			}
		}
		if devices[0].claim(all[1]) != "" {
			t.Error("there are more keys than were uploaded")
		}
	})
}

// TestClaimOrder: keys of an upload are given out before those of the next.
func TestClaimOrder(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		s := w.server()
		w.signUp(s, alice)
		d := w.device(alice, "D")
		var want []string
		for n := range 5 {
			id := fmt.Sprintf("%c", 'z'-n) // against the order of names
			want = append(want, id)
			d.mustUpload(s, api.UploadKeysRequest{DeviceKeys: d.keys(), OneTimeKeys: d.prekeys(false, id)})
		}
		for _, id := range want {
			if got := d.claim(s); got != id {
				t.Errorf("%q, not %q", got, id)
			}
		}
	})
}

// TestRestoredForgetsPrekeys: a database that comes back older than the log
// gives out no one-time key, for it may have before, and everybody's devices are
// told to have changed.
func TestRestoredForgetsPrekeys(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		s := w.server()
		w.signUp(s, alice)
		d := w.device(alice, "D")
		d.mustUpload(s, api.UploadKeysRequest{DeviceKeys: d.keys(), OneTimeKeys: d.prekeys(false, "a"), FallbackKeys: d.prekeys(true, "f")})
		head, err := s.db.Head(t.Context(), alicePartition)
		w.check(err)
		value, err := json.Marshal(&api.UserChange{V: 1, Seq: head + 3, UserID: alice, Kind: api.ChangeDevices})
		w.check(err)
		_, err = w.log.Append(t.Context(), eventlog.Message{Topic: api.TopicUserOutput, Partition: alicePartition, Value: value})
		w.check(err)
		stop := w.run(s)
		testwait.Until(t, "the resync is told", func() bool {
			all := records[api.UserChange](w, api.TopicUserOutput, alicePartition)
			return all[len(all)-1].Kind == api.ChangeResynced
		})
		stop()
		var listed, used bool
		for _, c := range records[api.UserChange](w, api.TopicUserOutput, alicePartition) {
			listed = listed || c.Kind == api.ChangeDeviceList
			used = used || c.Kind == api.ChangeDeviceKeys && len(c.OneTimeKeys) == 0 && len(c.UnusedFallback) == 0
		}
		if got := d.claim(s); got != "f" || !listed || !used {
			t.Errorf("%q is given out; listed: %v, told: %v", got, listed, used)
		}
	})
}

// TestDeviceStates: what readers load is what changes told.
func TestDeviceStates(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		s := w.server()
		w.signUp(s, alice)
		d := w.device(alice, "D")
		d.mustUpload(s, api.UploadKeysRequest{DeviceKeys: d.keys(), OneTimeKeys: d.prekeys(false, "a", "b"), FallbackKeys: d.prekeys(true, "f")})
		w.send(s, "x", alice, map[string]string{"D": `{"n":1}`})
		w.send(s, "y", alice, map[string]string{"*": `{"n":2}`})
		res, err := s.queryDeviceStates(t.Context(), &api.DeviceStatesRequest{UserID: alice})
		w.check(err)
		head, err := s.db.Head(t.Context(), alicePartition)
		w.check(err)
		want := api.DeviceState{DeviceID: "D", OneTimeKeys: map[string]int64{api.CurveAlgorithm: 2}, Unused: []string{api.CurveAlgorithm}, First: head - 1, Last: head}
		if len(res.Devices) != 1 || res.Seq != head || fmt.Sprint(res.Devices[0]) != fmt.Sprint(want) {
			t.Errorf("%+v", res)
		}
	})
}

// send sends messages from bob to a user's devices.
func (w *world) send(s *Server, request, user string, messages map[string]string) {
	w.t.Helper()
	r := &api.SendToDeviceRequest{Sender: "@bob:test", DeviceID: "B", RequestID: request, Type: "m.x", Messages: map[string]map[string]jsontext.Value{user: {}}}
	for device, content := range messages {
		r.Messages[user][device] = jsontext.Value(content)
	}
	_, err := s.sendToDevice(w.t.Context(), r)
	w.check(err)
}

// inbox is what a device has, as the numbers in the messages.
func (w *world) inbox(s *Server, user, device string, after int64) (numbers []int, last int64) {
	w.t.Helper()
	res, err := s.queryToDevice(w.t.Context(), &api.ToDeviceRequest{UserID: user, DeviceID: device, After: after, UpTo: 1 << 60, Limit: 1000})
	w.check(err)
	last = after
	for _, m := range res.Messages {
		var content struct {
			N int `json:"n"`
		}
		w.check(json.Unmarshal(m.Content, &content))
		numbers = append(numbers, content.N)
		if m.Seq <= last || m.Sender != "@bob:test" || m.Type != "m.x" {
			w.t.Errorf("%+v after %d", m, last)
		}
		last = m.Seq
	}
	return numbers, last
}

// TestInboxModel: random sends, retries, acknowledgements and deletions, over two
// instances, leave what a plain list says.
func TestInboxModel(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		w.deps.Log = eventlogtest.Shared{Log: w.log}
		all := []*Server{w.server(), w.server()}
		w.signUp(all[0], alice)
		_, err := logIn(w, all[0], alice, "p", "E")
		w.check(err)
		want, acked := map[string][]int{}, map[string]int64{}
		var sent []func()
		for n := range 120 {
			s := all[rand.IntN(2)]
			switch device := []string{"D", "E"}[rand.IntN(2)]; rand.IntN(6) {
			case 0, 1, 2:
				to := []string{device, "*", "NONE"}[rand.IntN(3)]
				send := func() {
					w.send(all[rand.IntN(2)], fmt.Sprint("r", n), alice, map[string]string{to: fmt.Sprintf(`{"n":%d}`, n)})
				}
				send()
				sent = append(sent, send)
				for _, d := range []string{"D", "E"} {
					if to == d || to == "*" {
						want[d] = append(want[d], n)
					}
				}
			case 3:
				if len(sent) > 0 {
					sent[rand.IntN(len(sent))]()
				}
			case 4:
				_, last := w.inbox(s, alice, device, acked[device])
				_, err := s.ackToDevice(t.Context(), &api.AckToDeviceRequest{UserID: alice, DeviceID: device, UpTo: last})
				w.check(err)
				want[device], acked[device] = nil, last
			}
			for _, d := range []string{"D", "E"} {
				if got, _ := w.inbox(s, alice, d, 0); !slices.Equal(got, want[d]) {
					t.Fatalf("step %d: %s has %v, not %v", n, d, got, want[d])
				}
			}
		}
		_, err = all[1].deleteDevices(t.Context(), &api.DeleteDevicesRequest{UserID: alice, DeviceIDs: []string{"E"}})
		w.check(err)
		if got, _ := w.inbox(all[0], alice, "E", 0); len(got) > 0 {
			t.Errorf("a deleted device has %v", got)
		}
	})
}

// TestFullInbox: a device that nobody reads keeps its last messages.
func TestFullInbox(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		s := w.server()
		s.maxInbox = 20
		w.signUp(s, alice)
		for n := range 2*inboxCheck + 5 {
			w.send(s, fmt.Sprint(n), alice, map[string]string{"D": fmt.Sprintf(`{"n":%d}`, n)})
		}
		got, _ := w.inbox(s, alice, "D", 0)
		if len(got) < 20 || len(got) > 20+inboxCheck || got[len(got)-1] != 2*inboxCheck+4 || got[0] == 0 {
			t.Errorf("%d messages, %v", len(got), got)
		}
	})
}

// TestSendAndDelete: messages to a device that is being deleted leave nothing
// behind.
func TestSendAndDelete(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		w.deps.Log = eventlogtest.Shared{Log: w.log}
		all := []*Server{w.server(), w.server()}
		w.signUp(all[0], alice)
		for round := range 5 {
			id := fmt.Sprint("E", round)
			_, err := logIn(w, all[0], alice, "p", id)
			w.check(err)
			var group sync.WaitGroup
			for n := range 10 {
				group.Go(func() {
					w.send(all[n%2], fmt.Sprint(round, n), alice, map[string]string{id: fmt.Sprintf(`{"n":%d}`, n)})
				})
			}
			_, err = all[1].deleteDevices(t.Context(), &api.DeleteDevicesRequest{UserID: alice, DeviceIDs: []string{id}})
			w.check(err)
			group.Wait()
			if got, _ := w.inbox(all[0], alice, id, 0); len(got) > 0 {
				t.Errorf("a deleted device has %v", got)
			}
		}
	})
}

// FuzzKeys: nothing that is uploaded breaks anything, and what is taken is signed.
func FuzzKeys(f *testing.F) {
	w := &world{t: &testing.T{}}
	d := w.device(alice, "D")
	f.Add([]byte(d.keys()))
	f.Add([]byte(`{"user_id":"@alice:test","device_id":"D","algorithms":[],"keys":{"ed25519:D":"x"},"signatures":{}}`))
	f.Add([]byte(`{"user_id":"@alice:test","usage":["master"],"keys":{"ed25519:AAAA":"AAAA"},"signatures":{"a":{"b":"c"}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if !jsontext.Value(raw).IsValid() {
			return
		}
		key, err := checkDeviceKeys(alice, "D", raw)
		if err == nil && gomatrixserverlib.VerifyJSON(alice, "ed25519:D", key, raw) != nil {
			t.Errorf("taken: %s", raw)
		}
		if err == nil {
			if _, err := withSignatures(raw, []storage.KeySignature{{SignerID: alice, SignerKey: "a", Signature: "b"}}, "name"); err != nil {
				t.Error(err)
			}
		}
		if k, err := checkCrossKey(alice, usageMaster, raw); err == nil && len(k.public) != ed25519.PublicKeySize {
			t.Errorf("taken: %s", raw)
		}
		_, _ = checkPrekeys(storage.DeviceName{UserID: alice, DeviceID: "D"}, map[string]jsontext.Value{"signed_curve25519:a": raw}, key)
	})
}
