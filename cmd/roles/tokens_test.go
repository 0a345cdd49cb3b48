package roles

import (
	"context"
	"fmt"
	"testing"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/rpc"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// TestTokensAreAskedFor: as often as the user-api says, and again after a refusal;
// and there are never too many in memory.
func TestTokensAreAskedFor(t *testing.T) {
	asked, knownFor := map[string]int{}, int64(0)
	server := rpc.NewServer()
	userapi.VerifyToken.Serve(server, func(_ context.Context, r *userapi.VerifyTokenRequest) (*userapi.VerifyTokenResponse, error) {
		asked[r.Token]++
		if r.Token == "bad" {
			return nil, matrixerror.UnknownToken("No")
		}
		return &userapi.VerifyTokenResponse{Device: httpapi.Device{UserID: "@" + r.Token, Profile: &httpapi.Profile{}}, KnownFor: knownFor}, nil
	})
	a := newAuthenticator(server)
	call := func(token string) {
		t.Helper()
		before := asked[token]
		device, err := a.Authenticate(t.Context(), token)
		if err == nil && (device.Profile != nil) != (asked[token] > before) {
			t.Errorf("%s: a profile that is kept, or lost: %v", token, device.Profile)
		}
		if token == "bad" {
			if !matrixerror.Is(err, "M_UNKNOWN_TOKEN") {
				t.Errorf("bad: %v", err)
			}
		} else if err != nil || device.UserID != "@"+token {
			t.Errorf("%s: %v, %v", token, device, err)
		}
	}
	expect := func(token string, want int) {
		t.Helper()
		if asked[token] != want {
			t.Errorf("%s was asked for %d times, not %d", token, asked[token], want)
		}
	}
	for range 3 {
		call("a")
		call("bad")
	}
	expect("a", 3)
	expect("bad", 3)
	knownFor = 1000 * 1000
	for range 3 {
		call("a")
		call("b")
	}
	expect("a", 4)
	expect("b", 1)
	for i := range 2*maxTokens + 10 {
		call(fmt.Sprint(i))
	}
	if len(a.known) > maxTokens {
		t.Errorf("%d tokens are known", len(a.known))
	}
	knownFor = 1
	call("c")
	for asked["c"] < 2 { // until it is not certain any more
		call("c")
	}
}
