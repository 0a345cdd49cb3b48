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

func converse(t *testing.T, s site) {
	cmd := exec.Command("node", "conversation.mjs", s.base())
	cmd.Dir = "clients"
	out, err := cmd.CombinedOutput()
	t.Logf("\n%s", out)
	if err != nil {
		t.Fatalf("%v (make test installs what this needs: node 20 and clients/node_modules)", err)
	}
}
