package e2e

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// signingKey is an ed25519 key, named after a device or after itself.
type signingKey struct {
	name string
	key  ed25519.PrivateKey
}

func newSigningKey(t testing.TB, name string) *signingKey {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	k := &signingKey{name, private}
	if name == "" {
		k.name = k.public()
	}
	return k
}

func (k *signingKey) public() string {
	return base64.RawStdEncoding.EncodeToString(k.key.Public().(ed25519.PublicKey))
}

// sign adds a user's signature to an object of ASCII texts, whose canonical form
// is what encoding/json writes.
func (k *signingKey) sign(t testing.TB, user string, o object) object {
	t.Helper()
	plain := object{}
	for name, v := range o {
		if name != "signatures" && name != "unsigned" {
			plain[name] = v
		}
	}
	text, err := json.Marshal(plain)
	if err != nil {
		t.Fatal(err)
	}
	all, _ := o["signatures"].(object)
	signed, of := object{}, object{}
	for signer, v := range all {
		signed[signer] = v
	}
	if mine, ok := all[user].(object); ok {
		for name, v := range mine {
			of[name] = v
		}
	}
	of["ed25519:"+k.name] = base64.RawStdEncoding.EncodeToString(ed25519.Sign(k.key, text))
	signed[user] = of
	plain["signatures"] = signed
	return plain
}

// crossSigning is a cross-signing key.
func (k *signingKey) crossSigning(user, usage string) object {
	return object{"user_id": user, "usage": []string{usage}, "keys": object{"ed25519:" + k.name: k.public()}}
}

// deviceKeys are the identity keys of a user's device.
func (k *signingKey) deviceKeys(t testing.TB, user string) object {
	return k.sign(t, user, object{"user_id": user, "device_id": k.name, "algorithms": []string{"m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"},
		"keys": object{"ed25519:" + k.name: k.public(), "curve25519:" + k.name: k.public()}})
}

// prekeys are signed one-time keys.
func (k *signingKey) prekeys(t testing.TB, user string, ids ...string) object {
	out := object{}
	for _, id := range ids {
		out["signed_curve25519:"+id] = k.sign(t, user, object{"key": id})
	}
	return out
}

// sees syncs until an answer is as it should be, and returns it with the token
// behind it.
func (u *user) sees(t testing.TB, since, what string, ok func(*answer) bool) (*answer, string) {
	t.Helper()
	for range 20 {
		a := u.syncOnce(t, since, "2000")
		since = a.str("next_batch")
		if ok(a) {
			return a, since
		}
	}
	t.Fatalf("%s does not see %s", u.id, what)
	return nil, ""
}

func holds(list []any, want string) bool {
	for _, v := range list {
		if v == want {
			return true
		}
	}
	return false
}

// TestKeys takes users through what end-to-end encryption asks of a server, by
// hand and by matrix-js-sdk with its own crypto, and has them verify each other; on
// the cluster then while instances are killed.
func TestKeys(t *testing.T) {
	everywhere(t, false, func(t *testing.T, s site) {
		exchangeKeys(t, s)
		script(t, s, "encryption.mjs")
		script(t, s, "verification.mjs")
		if c, ok := s.(*cluster); ok {
			keysSurvive(t, c)
		}
	})
}

func exchangeKeys(t *testing.T, s site) {
	alice, bob := register(t, s, "kalice"), register(t, s, "kbob")
	room := alice.createRoom(t, object{"preset": "public_chat", "initial_state": []object{
		{"type": "m.room.encryption", "state_key": "", "content": object{"algorithm": "m.megolm.v1.aes-sha2"}}}})
	phone, laptop := newSigningKey(t, alice.device), newSigningKey(t, bob.device)
	since := alice.syncOnce(t, "", "0").str("next_batch")

	// Keys, and who is told of them.
	up := bob.call(t, "POST", "/keys/upload", object{"device_keys": laptop.deviceKeys(t, bob.id), "one_time_keys": laptop.prekeys(t, bob.id, "1", "2"),
		"fallback_keys": laptop.prekeys(t, bob.id, "f")})
	if dig(up.body, "one_time_key_counts", "signed_curve25519") != 2.0 {
		t.Errorf("%s", up.raw)
	}
	alice.call(t, "POST", "/keys/upload", object{"device_keys": phone.deviceKeys(t, alice.id)})
	bob.join(t, room)
	changed := func(id string) func(*answer) bool {
		return func(a *answer) bool { return holds(list(dig(a.body, "device_lists", "changed")), id) }
	}
	from := since
	_, since = alice.sees(t, since, "bob come", changed(bob.id))
	if a := alice.call(t, "GET", "/keys/changes?from="+url.QueryEscape(from)+"&to="+url.QueryEscape(since), nil); !holds(list(a.body["changed"]), bob.id) {
		t.Errorf("%s", a.raw)
	}
	query := object{"device_keys": object{bob.id: []string{}}}
	if a := alice.call(t, "POST", "/keys/query", query); dig(a.body, "device_keys", bob.id, bob.device, "keys", "ed25519:"+bob.device) != laptop.public() {
		t.Fatalf("%s", a.raw)
	}
	_, theirs := bob.sees(t, "", "what is left", func(a *answer) bool { return dig(a.body, "device_one_time_keys_count", "signed_curve25519") == 2.0 })
	claim := object{"one_time_keys": object{bob.id: object{bob.device: "signed_curve25519"}}}
	for i, want := range []string{"1", "2", "f"} {
		a := alice.call(t, "POST", "/keys/claim", claim)
		given, _ := dig(a.body, "one_time_keys", bob.id, bob.device).(object)
		if _, other := given["signed_curve25519:"+want]; len(given) != 1 || i == 2 && !other {
			t.Errorf("%s", a.raw)
		}
	}
	_, theirs = bob.sees(t, theirs, "that nothing is left", func(a *answer) bool {
		return dig(a.body, "device_one_time_keys_count", "signed_curve25519") == 0.0 && len(list(a.body["device_unused_fallback_key_types"])) == 0
	})

	// A message to a device, twice sent under one transaction.
	for range 2 {
		alice.call(t, "PUT", "/sendToDevice/m.room.encrypted/t1", object{"messages": object{bob.id: object{"*": object{"secret": "s"}}}})
	}
	alice.call(t, "PUT", "/sendToDevice/m.room.encrypted/t2", object{"messages": object{bob.id: object{bob.device: object{"secret": "t"}}}})
	var got []any
	_, theirs = bob.sees(t, theirs, "both messages", func(a *answer) bool {
		got = append(got, list(dig(a.body, "to_device", "events"))...)
		return len(got) >= 2
	})
	if len(got) != 2 || dig(got[0], "content", "secret") != "s" || dig(got[1], "content", "secret") != "t" || dig(got[0], "sender") != alice.id {
		t.Errorf("%v", got)
	}
	if a := bob.syncOnce(t, theirs, "0"); dig(a.body, "to_device") != nil {
		t.Errorf("told again: %s", a.raw)
	}

	// Cross-signing: bob signs himself, and alice hears of it.
	master, self := newSigningKey(t, ""), newSigningKey(t, "")
	bob.call(t, "POST", "/keys/device_signing/upload", object{"master_key": master.crossSigning(bob.id, "master"),
		"self_signing_key": master.sign(t, bob.id, self.crossSigning(bob.id, "self_signing"))})
	_, since = alice.sees(t, since, "bob's new keys", changed(bob.id))
	if a := bob.call(t, "POST", "/keys/signatures/upload", object{bob.id: object{bob.device: self.sign(t, bob.id, laptop.deviceKeys(t, bob.id))}}); len(dig(a.body, "failures").(object)) != 0 {
		t.Errorf("%s", a.raw)
	}
	_, since = alice.sees(t, since, "bob's signature", changed(bob.id))
	if a := alice.call(t, "POST", "/keys/query", query); dig(a.body, "device_keys", bob.id, bob.device, "signatures", bob.id, "ed25519:"+self.name) == nil {
		t.Errorf("%s", a.raw)
	}
	bob.refused(t, 401, "", "POST", "/keys/device_signing/upload", object{"master_key": newSigningKey(t, "").crossSigning(bob.id, "master")})

	// A key backup, restored by another device.
	backup := alice.call(t, "POST", "/room_keys/version", object{"algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": object{"public_key": "p"}}).str("version")
	key := object{"first_message_index": 0, "forwarded_count": 0, "is_verified": true, "session_data": object{"ciphertext": "c"}}
	alice.call(t, "PUT", "/room_keys/keys?version="+backup, object{"rooms": object{room: object{"sessions": object{"s": key}}}})
	tablet := anonymous(s)
	login := tablet.call(t, "POST", "/login", object{"type": "m.login.password", "identifier": object{"type": "m.id.user", "user": alice.id}, "password": "correct horse"})
	tablet.id, tablet.token, tablet.device = alice.id, login.str("access_token"), login.str("device_id")
	if a := tablet.call(t, "GET", "/room_keys/keys/"+url.PathEscape(room)+"/s?version="+backup, nil); dig(a.body, "session_data", "ciphertext") != "c" {
		t.Errorf("%s", a.raw)
	}

	// A device that goes takes its keys along; who leaves is not followed.
	bob.call(t, "POST", "/rooms/"+url.PathEscape(room)+"/leave", object{})
	alice.sees(t, since, "bob go", func(a *answer) bool { return holds(list(dig(a.body, "device_lists", "left")), bob.id) })
	bob.call(t, "POST", "/logout", object{})
	if a := alice.call(t, "POST", "/keys/query", query); dig(a.body, "device_keys", bob.id, bob.device) != nil {
		t.Errorf("%s", a.raw)
	}
}

// keysLoad uploads and claims one-time keys and sends messages to devices, while
// instances die.
type keysLoad struct {
	t       *testing.T
	stop    context.Context // when to begin no more
	end     context.Context // until when to go on trying
	mu      sync.Mutex
	claimed map[string]int // how often each key was given out
	given   int
}

// persist makes a request until it is answered with 200.
func (l *keysLoad) persist(u *user, method, path string, body any) *answer {
	for {
		a, err := u.tryIn(l.end, method, path, body)
		switch {
		case err == nil && a.status == http.StatusOK:
			return a
		case l.end.Err() != nil:
			l.t.Errorf("%s %s never succeeds: %v", method, path, err)
			return nil
		case err == nil && a.status < 500 && a.status != http.StatusTooManyRequests:
			l.t.Errorf("%s %s: %d %s", method, path, a.status, a.raw)
			return nil
		}
		wait(l.end, 50*time.Millisecond)
	}
}

// upload uploads keys, batch after batch; all of them count up.
func (l *keysLoad) upload(u *user, k *signingKey) {
	for n := 0; l.stop.Err() == nil; n++ {
		var ids []string
		for i := range 5 {
			ids = append(ids, fmt.Sprintf("%06d-%d", n, i))
		}
		l.persist(u, "POST", "/keys/upload", object{"one_time_keys": k.prekeys(l.t, u.id, ids...)})
		wait(l.stop, 30*time.Millisecond)
	}
}

// claim claims keys, one after the other. An answer that is lost loses the key.
func (l *keysLoad) claim(u *user, of string, device string) {
	last := ""
	for l.stop.Err() == nil {
		a, err := u.tryIn(l.end, "POST", "/keys/claim", object{"one_time_keys": object{of: object{device: "signed_curve25519"}}})
		if err != nil || a.status != http.StatusOK {
			continue
		}
		given, _ := dig(a.body, "one_time_keys", of, device).(object)
		for name := range given {
			l.mu.Lock()
			l.claimed[name]++
			l.given++
			l.mu.Unlock()
			batch := name[:len(name)-2]
			if batch < last {
				l.t.Errorf("%s is given out after a key of %s", name, last)
			}
			last = batch
		}
		if len(given) == 0 {
			wait(l.stop, 20*time.Millisecond)
		}
	}
}

// send sends numbered messages, now and then one again that was acknowledged; it
// returns how many.
func (l *keysLoad) send(u *user, name, to, device string) (n int) {
	for ; l.stop.Err() == nil; n++ {
		for range 1 + n%7/6 {
			if l.persist(u, "PUT", fmt.Sprintf("/sendToDevice/m.test/%s-%d", name, n),
				object{"messages": object{to: object{device: object{"from": name, "n": n}}}}) == nil {
				return n
			}
		}
		wait(l.stop, 10*time.Millisecond)
	}
	return n
}

// receive syncs until all messages are there that were sent by then: each once and
// in the order of its sender.
func (l *keysLoad) receive(u *user, sent func() map[string]int) {
	next, since := map[string]int{}, ""
	for {
		q := url.Values{"timeout": {"500"}}
		if since != "" {
			q.Set("since", since)
		}
		a := l.persist(u, "GET", "/sync?"+q.Encode(), nil)
		if a == nil {
			return
		}
		if rand.IntN(5) == 0 { // the client crashed before it has stored the answer
			continue
		}
		since = a.str("next_batch")
		for _, e := range list(dig(a.body, "to_device", "events")) {
			from, _ := dig(e, "content", "from").(string)
			n, _ := dig(e, "content", "n").(float64)
			if int(n) != next[from] {
				l.t.Errorf("%s: message %v of %s comes instead of %d", u.id, n, from, next[from])
			}
			next[from] = int(n) + 1
		}
		if all := sent(); all != nil {
			done := true
			for from, n := range all {
				done = done && next[from] >= n
			}
			if done {
				return
			}
		}
	}
}

// keysSurvive kills instances of every role while keys are claimed, messages are
// sent to devices, and three people hold an encrypted conversation: each one-time
// key is given out at most once, in the order of uploads, each message comes once,
// and all that is said is read.
func keysSurvive(t *testing.T, c *cluster) {
	d := max(20*time.Second, *soak)
	begun, conversed := startScript(t, c, "persistence.mjs", fmt.Sprint(d.Seconds()))
	<-begun
	alice, bob, carol := register(t, c, "salice"), register(t, c, "sbob"), register(t, c, "scarol")
	k := newSigningKey(t, bob.device)
	bob.call(t, "POST", "/keys/upload", object{"device_keys": k.deviceKeys(t, bob.id)})
	stop, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	end, over := context.WithTimeout(t.Context(), d+time.Minute)
	defer over()
	l := &keysLoad{t: t, stop: stop, end: end, claimed: map[string]int{}}
	var group, sending sync.WaitGroup
	group.Go(func() { l.upload(bob, k) })
	for _, u := range []*user{alice, carol} {
		group.Go(func() { l.claim(u, bob.id, bob.device) })
	}
	sent := map[string]int{}
	finished := make(chan struct{})
	for name, u := range map[string]*user{"a": alice, "c": carol} {
		sending.Go(func() {
			n := l.send(u, name, bob.id, bob.device)
			l.mu.Lock()
			defer l.mu.Unlock()
			sent[name] = n
		})
	}
	group.Go(func() { sending.Wait(); close(finished) })
	group.Go(func() {
		l.receive(bob, func() map[string]int {
			select {
			case <-finished:
				return sent
			default:
				return nil
			}
		})
	})
	killEach(t, stop, c)
	group.Wait()
	conversed()
	for name, n := range l.claimed {
		if n > 1 {
			t.Errorf("%s was given out %d times", name, n)
		}
	}
	t.Logf("%d keys were given out; %v messages came", l.given, sent)
	if l.given < 20 || sent["a"] < 20 || sent["c"] < 20 {
		t.Error("that was hardly a load")
	}
}

// killEach kills an instance of each role, one at a time and in any order, and then
// of each again, until ctx is done.
func killEach(t *testing.T, ctx context.Context, c *cluster) {
	t.Helper()
	var next []string
	every(t, ctx, 4, func() time.Duration { return time.Duration(200+rand.IntN(600)) * time.Millisecond }, func() {
		if len(next) == 0 {
			next = slices.Clone(allRoles)
			rand.Shuffle(len(next), func(i, j int) { next[i], next[j] = next[j], next[i] })
		}
		instances := c.reachable(next[0])
		next = next[1:]
		p := instances[rand.IntN(len(instances))]
		p.end(syscall.SIGKILL)
		wait(ctx, time.Duration(rand.IntN(1500))*time.Millisecond)
		c.restart(p)
	})
}
