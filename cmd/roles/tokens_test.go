package roles

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

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

// TestEndsAreFollowed: tokens stay known while it is asked whose sessions have ended,
// and those that have are asked for again, however old the answer was that told them.
func TestEndsAreFollowed(t *testing.T) {
	asked, looks, ended := map[string]int{}, 0, []string{}
	at, fails := int64(0), false
	server := rpc.NewServer()
	userapi.VerifyToken.Serve(server, func(_ context.Context, r *userapi.VerifyTokenRequest) (*userapi.VerifyTokenResponse, error) {
		asked[r.Token]++
		return &userapi.VerifyTokenResponse{Device: httpapi.Device{UserID: "@" + r.Token}, KnownFor: 1, At: at, Lasts: 1000 * 1000}, nil
	})
	userapi.QueryEnds.Serve(server, func(_ context.Context, r *userapi.EndsRequest) (*userapi.EndsResponse, error) {
		looks++
		if fails {
			return nil, context.DeadlineExceeded
		}
		return &userapi.EndsResponse{At: int64(len(ended)), Users: slices.Clone(ended[max(r.After, 0):]), All: r.After < 0, KnownFor: 1}, nil
	})
	a := newAuthenticator(server)
	// use has a token used after what was known has run out, and tells whether it was asked for.
	use := func(token string) bool {
		t.Helper()
		time.Sleep(2 * time.Millisecond)
		before := asked[token]
		if device, err := a.Authenticate(t.Context(), token); err != nil || device.UserID != "@"+token {
			t.Fatalf("%s: %v, %v", token, device, err)
		}
		return asked[token] > before
	}
	expect := func(what, token string, want bool) {
		t.Helper()
		if got := use(token); got != want {
			t.Errorf("%s: %s asked for: %t", what, token, got)
		}
	}
	expect("at first", "a", true)
	expect("before anything was followed", "a", true)
	expect("followed", "a", false)
	expect("at first", "b", true)
	expect("followed", "b", false)
	ended, at = append(ended, "@a"), 1
	expect("ended", "a", true)
	expect("followed again", "a", false)
	expect("another's end", "b", false)
	fails = true
	expect("while it cannot be followed", "b", true)
	fails = false
	expect("once it can", "b", false)
	// Answers from before an end that was followed already do not last.
	ended = append(ended, "@c")
	expect("another's end", "b", false)
	expect("an old answer", "c", true)
	expect("an old answer does not last", "c", true)
	if at = 2; !use("c") || use("c") {
		t.Error("a new answer does not last")
	}
	if looks == 0 || asked["b"] != 2 {
		t.Errorf("%d looks; b was asked for %d times", looks, asked["b"])
	}
}
