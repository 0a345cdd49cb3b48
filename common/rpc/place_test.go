package rpc

import (
	"context"
	"errors"
	"testing"
)

// TestPlace: keys are told apart by whom calls about them go to.
func TestPlace(t *testing.T) {
	at := map[string]string{"a": "http://one", "b": "http://one", "c": "http://two"}
	c := client(t, "", ClientOptions{Address: func(_ context.Context, _, key string) (string, error) {
		if base, ok := at[key]; ok {
			return base, nil
		}
		return "", errors.New("nobody")
	}})
	for key, want := range at {
		if got := Place(t.Context(), c, "test", key); got != want {
			t.Errorf("%s: %q", key, got)
		}
	}
	if got := Place(t.Context(), c, "test", "nobody's"); got != "" {
		t.Errorf("nobody's: %q", got)
	}
	if got := Place(t.Context(), NewServer(), "test", "a"); got != "" {
		t.Errorf("in this process: %q", got)
	}
}
