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

// maxTokens bounds the tokens known in memory: about a megabyte.
const maxTokens = 4096

// authenticator asks the user-api whose token it is. What that says is certain
// for a part of a second, and a client that is busy makes several requests in
// that time.
type authenticator struct {
	caller rpc.Caller

	mu    sync.Mutex
	known map[string]knownToken
}

type knownToken struct {
	device httpapi.Device
	until  time.Time
}

func newAuthenticator(caller rpc.Caller) *authenticator {
	return &authenticator{caller: caller, known: map[string]knownToken{}}
}

// Authenticate implements httpapi.Authenticator.
func (a *authenticator) Authenticate(ctx context.Context, token string) (*httpapi.Device, error) {
	asked := time.Now()
	a.mu.Lock()
	k, ok := a.known[token]
	a.mu.Unlock()
	if ok && asked.Before(k.until) {
		return &k.device, nil
	}
	res, err := userapi.VerifyToken.Call(ctx, a.caller, &userapi.VerifyTokenRequest{Token: token})
	if err != nil {
		return nil, err
	}
	if res.KnownFor > 0 {
		k := knownToken{res.Device, asked.Add(time.Duration(res.KnownFor) * time.Millisecond)} // it was looked up after it was asked for
		k.device.Profile = nil                                                                 // which may change at any time
		a.keep(token, k)
	}
	return &res.Device, nil
}

func (a *authenticator) keep(token string, k knownToken) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.known) >= maxTokens {
		now := time.Now()
		maps.DeleteFunc(a.known, func(_ string, old knownToken) bool { return now.After(old.until) })
		if len(a.known) >= maxTokens {
			clear(a.known)
		}
	}
	a.known[token] = k
}
