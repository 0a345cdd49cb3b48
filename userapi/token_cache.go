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
}

type cachedToken struct {
	res       *api.VerifyTokenResponse
	expiresTS int64 // 0: never
	until     time.Time
}

func newTokenCache(most int) *tokenCache {
	return &tokenCache{max: most, byKey: map[[sha256.Size]byte]*cachedToken{}, users: map[string]map[[sha256.Size]byte]struct{}{}}
}

func (c *tokenCache) get(key [sha256.Size]byte, now time.Time) (t *cachedToken, epoch int64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if t = c.byKey[key]; t != nil && now.After(t.until) {
		t = nil
	}
	return t, c.epoch
}

// follow forgets the tokens of users, or those of everybody.
func (c *tokenCache) follow(_ int64, users []string, all bool) {
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
	at, current, sure := s.current(ctx) // before the token is looked up
	t, epoch := s.tokens.get(key, now)
	var profile *httpapi.Profile
	if t == nil || !sure {
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
	res.Device.Profile = profile
	if s.ends != nil && sure {
		res.At, res.Lasts = at, t.lasts(now)
		res.KnownFor = max(min(time.Until(current).Milliseconds(), res.Lasts), 0)
	}
	return &res, nil
}

// current tells up to which place and until when this instance knows whose sessions
// have ended; it is not sure while it cannot know. Alone it always is.
func (s *Server) current(ctx context.Context) (at int64, until time.Time, sure bool) {
	if s.ends == nil {
		return 0, time.Time{}, true
	}
	at, until, err := s.ends.Current(ctx)
	if err != nil && ctx.Err() == nil {
		s.logger.WithError(err).Debug("The sessions that ended cannot be read now; the token is looked up")
	}
	return at, until, err == nil
}

// lasts is for how many milliseconds a token counts, wherever it is known, while
// nobody ends it: no longer than in this cache.
func (t *cachedToken) lasts(now time.Time) int64 {
	left := t.until.Sub(now).Milliseconds()
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
