package userapi

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
)

const (
	// maxCachedTokens bounds the tokens known in memory: some 40 MB.
	maxCachedTokens = 100_000
	// cacheLifetime is how long a token is known before it is looked up again:
	// what is said of its device may be as old.
	cacheLifetime = time.Minute
)

// newToken makes a token that nobody guesses: 130 bits.
func newToken() string { return rand.Text() }

// hashToken is how a token is stored.
func hashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawStdEncoding.EncodeToString(sum[:])
}

// tokenCache knows the tokens used lately, by hash and by user.
type tokenCache struct {
	mu    sync.RWMutex
	max   int
	byKey map[[sha256.Size]byte]*cachedToken
	users map[string]map[[sha256.Size]byte]struct{}
	// epoch counts the forgettings: what was read before one is not kept.
	epoch int64
	// current is until when what is known counts, by this process's clock; the
	// zero time when there is no other instance.
	current time.Time
}

type cachedToken struct {
	res       *api.VerifyTokenResponse
	expiresTS int64 // 0: never
	until     time.Time
}

func newTokenCache(most int) *tokenCache {
	return &tokenCache{max: most, byKey: map[[sha256.Size]byte]*cachedToken{}, users: map[string]map[[sha256.Size]byte]struct{}{}}
}

func (c *tokenCache) get(key [sha256.Size]byte, now time.Time) (t *cachedToken, epoch int64, current time.Time) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if t = c.byKey[key]; t != nil && (now.After(t.until) || !c.current.IsZero() && time.Now().After(c.current)) {
		t = nil
	}
	return t, c.epoch, c.current
}

// follow forgets the tokens of users, or all of them, and makes what is left
// count until then.
func (c *tokenCache) follow(users []string, all bool, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if all {
		c.epoch++
		clear(c.byKey)
		clear(c.users)
	}
	for _, user := range users {
		c.forgetLocked(user)
	}
	c.current = until
}

// put keeps a token, unless anything was forgotten since epoch.
func (c *tokenCache) put(key [sha256.Size]byte, t *cachedToken, epoch int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoch != epoch {
		return
	}
	if len(c.byKey) >= c.max {
		for old := range c.byKey { // any will do
			c.drop(old)
			break
		}
	}
	user := t.res.Device.UserID
	if c.users[user] == nil {
		c.users[user] = map[[sha256.Size]byte]struct{}{}
	}
	c.byKey[key] = t
	c.users[user][key] = struct{}{}
}

func (c *tokenCache) drop(key [sha256.Size]byte) {
	user := c.byKey[key].res.Device.UserID
	delete(c.byKey, key)
	delete(c.users[user], key)
	if len(c.users[user]) == 0 {
		delete(c.users, user)
	}
}

// forget forgets a user's tokens.
func (c *tokenCache) forget(userID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forgetLocked(userID)
}

func (c *tokenCache) forgetLocked(userID string) {
	c.epoch++
	for key := range c.users[userID] {
		delete(c.byKey, key)
	}
	delete(c.users, userID)
}

func (s *Server) verifyToken(ctx context.Context, r *api.VerifyTokenRequest) (*api.VerifyTokenResponse, error) {
	key := sha256.Sum256([]byte(r.Token))
	now := s.now()
	t, epoch, current := s.tokens.get(key, now) // current before the token is looked up
	var profile *httpapi.Profile
	if t == nil {
		var err error
		if t, profile, err = s.loadToken(ctx, base64.RawStdEncoding.EncodeToString(key[:]), now); err != nil {
			return nil, err
		}
		s.tokens.put(key, t, epoch)
	}
	if t.expiresTS != 0 && now.UnixMilli() >= t.expiresTS {
		e := matrixerror.UnknownToken("The access token has expired")
		e.SoftLogout = true
		return nil, e
	}
	res := *t.res
	res.Device.Profile, res.KnownFor = profile, t.knownFor(now, current)
	return &res, nil
}

// knownFor is for how many milliseconds what is known of a token counts, wherever
// it is known: no longer than in this cache.
func (t *cachedToken) knownFor(now, current time.Time) int64 {
	if current.IsZero() {
		return 0
	}
	left := min(time.Until(current), t.until.Sub(now)).Milliseconds()
	if t.expiresTS != 0 {
		left = min(left, t.expiresTS-now.UnixMilli())
	}
	return max(left, 0)
}

// loadToken reads a token, and ends the one that it replaces. With it comes the
// user's profile, which is not kept: another instance may change it.
func (s *Server) loadToken(ctx context.Context, hash string, now time.Time) (*cachedToken, *httpapi.Profile, error) {
	v, ok, err := s.db.Verify(ctx, hash)
	if err != nil {
		return nil, nil, err
	}
	if !ok {
		return nil, nil, matrixerror.UnknownToken("The access token is not known")
	}
	if v.Parent != "" {
		err := s.write(ctx, func(tx *sqldb.Tx) error {
			if err := s.db.Confirm(ctx, tx, v.Parent); err != nil {
				return err
			}
			return s.noteEnd(ctx, tx, v.Device.UserID)
		})
		if err != nil {
			return nil, nil, err
		}
		s.tokens.forget(v.Device.UserID)
	}
	profile := &httpapi.Profile{DisplayName: api.ProfileText(jsontext.Value(v.DisplayName)), AvatarURL: api.ProfileText(jsontext.Value(v.AvatarURL))}
	return &cachedToken{res: &api.VerifyTokenResponse{Device: v.Device}, expiresTS: v.ExpiresTS, until: now.Add(cacheLifetime)}, profile, nil
}
