package httpapi

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"
)

func TestLimiter(t *testing.T) {
	now := time.Unix(1000, 0)
	l := NewLimiter(map[Limit]Rate{LimitLogin: {PerSecond: 0.5, Burst: 2}})
	l.now = func() time.Time { return now }
	for range 2 {
		if wait := l.Allow(LimitLogin, "a"); wait != 0 {
			t.Fatal("the burst is refused", wait)
		}
	}
	for range 3 { // what is refused costs nothing
		if wait := l.Allow(LimitLogin, "a"); wait != 2*time.Second {
			t.Fatal("wait is", wait)
		}
	}
	if l.Allow(LimitLogin, "b") != 0 || l.Allow(LimitJoin, "a") != 0 || (*Limiter)(nil).Allow(LimitLogin, "a") != 0 {
		t.Error("what has no limit is refused")
	}
	now = now.Add(2 * time.Second)
	if l.Allow(LimitLogin, "a") != 0 || l.Allow(LimitLogin, "a") == 0 {
		t.Error("the bucket did not fill by one")
	}
}

func TestLimiterIsBounded(t *testing.T) {
	l := NewLimiter(map[Limit]Rate{LimitLogin: {PerSecond: 0.001, Burst: 1}})
	l.max = 10
	l.Allow(LimitLogin, "kept")
	for i := range 100 {
		l.Allow(LimitLogin, fmt.Sprint(i))
		if l.Allow(LimitLogin, "kept") == 0 {
			t.Fatal("a bucket in use was forgotten")
		}
	}
	if len(l.byKey) != 10 || l.recent.Len() != 10 {
		t.Errorf("%d, %d buckets", len(l.byKey), l.recent.Len())
	}
}

func TestLimiterTogether(t *testing.T) {
	now := time.Unix(1000, 0)
	l := NewLimiter(map[Limit]Rate{LimitLogin: {PerSecond: 1, Burst: 50}})
	l.now = func() time.Time { return now }
	var allowed [8]int
	var group sync.WaitGroup
	for i := range allowed {
		group.Go(func() {
			for range 100 {
				if l.Allow(LimitLogin, "a") == 0 {
					allowed[i]++
				}
			}
		})
	}
	group.Wait()
	sum := 0
	for _, n := range allowed {
		sum += n
	}
	if sum != 50 {
		t.Errorf("%d were allowed, not 50", sum)
	}
}

func TestAddressKey(t *testing.T) {
	for ip, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
		"fe80::1%eth0": "fe80::/64", "@": "@",
	} {
		if got := AddressKey(ip); got != want {
			t.Errorf("%s is counted as %s, want %s", ip, got, want)
		}
	}
}

func TestRateLimits(t *testing.T) {
	rates := map[Limit]Rate{LimitMessage: {PerSecond: 0.001, Burst: 1}, LimitLogin: {PerSecond: 0.001, Burst: 1}}
	h := newRouter(t, Options{Limits: NewLimiter(rates)},
		Endpoint{Method: "GET", Path: "/send", Access: Guest, Limit: LimitMessage, Handler: echo()},
		Endpoint{Method: "GET", Path: "/login", Access: Optional, Limit: LimitLogin, Handler: echo()},
		Endpoint{Method: "GET", Path: "/free", Handler: echo()},
	)
	for i, c := range []struct {
		path, token string
		status      int
	}{
		{"/send", "user", 200}, {"/send", "user", 429}, {"/send", "guest", 200}, // by user
		{"/send", "wrong", 401},
		{"/login", "user", 200}, {"/login", "guest", 429}, {"/login", "", 429}, // by address
		{"/free", "", 200}, {"/free", "", 200},
	} {
		w := ask(h, "GET", c.path, c.token)
		if w.Code != c.status {
			t.Errorf("%d: %s of %q answered %d", i, c.path, c.token, w.Code)
		}
		if w.Code == http.StatusTooManyRequests {
			checkError(t, w, 429, "M_LIMIT_EXCEEDED")
			if ms, _ := answerOf(t, w)["retry_after_ms"].(float64); ms < 1 || w.Header().Get("Retry-After") == "" {
				t.Errorf("%d: %s %v", i, w.Body, w.Header())
			}
		}
	}
}
