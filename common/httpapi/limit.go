package httpapi

import (
	"container/list"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Rate is what a bucket of rate limits allows.
type Rate struct {
	// PerSecond is how many requests a second are allowed for long; zero means
	// no limit.
	PerSecond float64
	// Burst is how many may come at once; less than one means one.
	Burst int
}

// maxBuckets bounds the token buckets in memory, at about 200 bytes each; the
// one that was not used for longest is forgotten first.
const maxBuckets = 100_000

// Limiter counts requests against rate limits. It is safe for concurrent use;
// a nil Limiter allows everything.
type Limiter struct {
	rates map[Limit]Rate
	max   int
	now   func() time.Time

	mu     sync.Mutex
	byKey  map[bucketKey]*list.Element // of *bucket
	recent list.List                   // most recently used first
}

type bucketKey struct {
	limit Limit
	who   string
}

type bucket struct {
	key    bucketKey
	tokens *rate.Limiter
}

// NewLimiter makes a Limiter; what has no rate is not limited.
func NewLimiter(rates map[Limit]Rate) *Limiter {
	return &Limiter{rates: rates, max: maxBuckets, now: time.Now, byKey: map[bucketKey]*list.Element{}}
}

// Allow counts one request of who (a user ID, or an AddressKey) and returns
// zero, or the time after which it would be allowed: then it is not counted.
func (l *Limiter) Allow(limit Limit, who string) time.Duration {
	if l == nil {
		return 0
	}
	r := l.rates[limit]
	if r.PerSecond <= 0 {
		return 0
	}
	now := l.now()
	tokens := l.bucket(bucketKey{limit, who}, r)
	reservation := tokens.ReserveN(now, 1)
	wait := reservation.DelayFrom(now)
	if wait > 0 {
		reservation.CancelAt(now)
	}
	return wait
}

func (l *Limiter) bucket(key bucketKey, r Rate) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.byKey[key]; ok {
		l.recent.MoveToFront(e)
		return e.Value.(*bucket).tokens
	}
	if l.recent.Len() >= l.max {
		oldest := l.recent.Back()
		delete(l.byKey, oldest.Value.(*bucket).key)
		l.recent.Remove(oldest)
	}
	b := &bucket{key: key, tokens: rate.NewLimiter(rate.Limit(r.PerSecond), max(r.Burst, 1))}
	l.byKey[key] = l.recent.PushFront(b)
	return b.tokens
}

// AddressKey is what requests of an address are counted by: the address, or
// the /64 of an IPv6 address, which one subscriber has to himself.
func AddressKey(ip string) string {
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return ip
	}
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return addr.String()
	}
	prefix, err := addr.Prefix(64)
	if err != nil {
		return addr.String()
	}
	return prefix.String()
}
