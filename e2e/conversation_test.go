package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"os/exec"
	"sync"
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
	_, wait := startScript(t, s, name)
	wait()
}

// startScript starts one of the clients. begun is closed when it says so, or has
// ended; wait waits for its end, and fails the test if that was a bad one.
func startScript(t *testing.T, s site, name string, args ...string) (begun <-chan struct{}, wait func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "node", append([]string{name, s.base()}, args...)...)
	cmd.Dir = "clients"
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	begins, ended := make(chan struct{}), make(chan struct{})
	var transcript bytes.Buffer
	go func() {
		defer close(ended)
		begin := sync.OnceFunc(func() { close(begins) })
		defer begin()
		for lines := bufio.NewScanner(out); lines.Scan(); {
			fmt.Fprintln(&transcript, lines.Text())
			if lines.Text() == "begins" {
				begin()
			}
		}
	}()
	return begins, func() {
		t.Helper()
		<-ended
		err := cmd.Wait()
		t.Logf("\n%s%s", &transcript, &complaints)
		if err != nil {
			t.Fatalf("%s: %v (make test installs what this needs: node 20 and clients/node_modules)", name, err)
		}
	}
}
