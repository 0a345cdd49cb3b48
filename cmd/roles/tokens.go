package roles

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/rpc"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// maxTokens bounds the tokens known in memory: some ten megabytes.
const maxTokens = 20_000

// authenticator asks the user-api whose token it is. What that says is certain
// for a part of a second; for longer, where it is asked now and then whose sessions
// have ended.
type authenticator struct {
	caller rpc.Caller
	ends   *userapi.Ends

	mu    sync.Mutex
	known map[string]knownToken
	at    int64 // up to where ends has forgotten
}

// knownToken counts until sure, and while ends is up to date until until.
type knownToken struct {
	device      httpapi.Device
	sure, until time.Time
}

func newAuthenticator(caller rpc.Caller) *authenticator {
	a := &authenticator{caller: caller, known: map[string]knownToken{}, at: -1}
	a.ends = userapi.NewEnds(func(ctx context.Context, r *userapi.EndsRequest) (*userapi.EndsResponse, error) {
		return userapi.QueryEnds.Call(ctx, caller, r)
	}, a.forget)
	return a
}

// Authenticate implements httpapi.Authenticator.
func (a *authenticator) Authenticate(ctx context.Context, token string) (*httpapi.Device, error) {
	asked := time.Now()
	k, ok := a.get(token)
	if ok && asked.Before(k.sure) {
		return &k.device, nil
	}
	if ok && asked.Before(k.until) {
		if _, _, err := a.ends.Current(ctx); err == nil { // else the token is asked for
			if k, ok = a.get(token); ok && asked.Before(k.until) {
				return &k.device, nil
			}
		}
	}
	res, err := userapi.VerifyToken.Call(ctx, a.caller, &userapi.VerifyTokenRequest{Token: token})
	if err != nil {
		return nil, err
	}
	if res.KnownFor > 0 {
		a.keep(token, res, asked) // it was looked up after it was asked for
	}
	return &res.Device, nil
}

func (a *authenticator) get(token string) (knownToken, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	k, ok := a.known[token]
	return k, ok
}

// keep keeps what was answered to a request of that time.
func (a *authenticator) keep(token string, res *userapi.VerifyTokenResponse, asked time.Time) {
	k := knownToken{device: res.Device, sure: asked.Add(time.Duration(res.KnownFor) * time.Millisecond)}
	k.device.Profile = nil // which may change at any time
	a.mu.Lock()
	defer a.mu.Unlock()
	if res.At >= a.at { // else it may have ended in what is followed already
		k.until = asked.Add(time.Duration(res.Lasts) * time.Millisecond)
	}
	if len(a.known) >= maxTokens {
		for old := range a.known { // any will do
			delete(a.known, old)
			break
		}
	}
	a.known[token] = k
}

// forget forgets the tokens of users, or all.
func (a *authenticator) forget(at int64, users []string, all bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = at
	if all {
		clear(a.known)
		return
	}
	gone := make(map[string]bool, len(users))
	for _, user := range users {
		gone[user] = true
	}
	maps.DeleteFunc(a.known, func(_ string, k knownToken) bool { return gone[k.device.UserID] })
}
