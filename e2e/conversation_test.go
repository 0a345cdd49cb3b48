package e2e

import (
	"os/exec"
	"testing"
)

// TestConversation drives two people's matrix-js-sdk through a conversation;
// the transcript is the test's log.
func TestConversation(t *testing.T) {
	everywhere(t, true, converse)
}

func converse(t *testing.T, s site) { script(t, s, "conversation.mjs") }

// script runs one of the clients.
func script(t *testing.T, s site, name string) {
	t.Helper()
	cmd := exec.Command("node", name, s.base())
	cmd.Dir = "clients"
	out, err := cmd.CombinedOutput()
	t.Logf("\n%s", out)
	if err != nil {
		t.Fatalf("%v (make test installs what this needs: node 20 and clients/node_modules)", err)
	}
}
