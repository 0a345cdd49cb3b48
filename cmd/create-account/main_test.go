package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
)

// registrar plays the server: it answers as the protocol wants it.
func registrar(t *testing.T) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != registerPath {
			http.NotFound(w, r)
			return
		}
		if r.Method == http.MethodGet {
			io.WriteString(w, `{"nonce":"abc"}`)
			return
		}
		var req registerRequest
		if err := json.UnmarshalRead(r.Body, &req); err != nil {
			t.Error(err)
		}
		// printf 'abc\0alice\0wonderland\0admin' | openssl dgst -sha1 -hmac 'the shared secret'
		if req.MAC != "0db291520f0cce591cb071c3f41d92c6c6f82854" || req.Nonce != "abc" || !req.Admin {
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, `{"errcode":"M_FORBIDDEN","error":"HMAC incorrect"}`)
			return
		}
		io.WriteString(w, `{"user_id":"@`+req.Username+`:example.org","access_token":"x"}`)
	}))
	t.Cleanup(s.Close)
	return s
}

func TestRun(t *testing.T) {
	s := registrar(t)
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("the shared secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const secret = "the shared secret"
	for _, c := range []struct {
		name      string
		arguments []string
		env, in   string
		fails     string
	}{
		{"flags", []string{"--username", "alice", "--admin", "--password", "wonderland", "--shared-secret", secret}, "", "", ""},
		{"file and input", []string{"--username", "alice", "--admin", "--shared-secret-file", file}, "", "wonderland\n", ""},
		{"environment", []string{"--username", "alice", "--admin"}, secret, "wonderland", ""},
		{"wrong secret", []string{"--username", "alice", "--admin"}, "guess", "wonderland", "HMAC incorrect"},
		{"no secret", []string{"--username", "alice"}, "", "wonderland", "shared secret is needed"},
		{"no name", nil, secret, "wonderland", "--username"},
		{"no password", []string{"--username", "alice"}, secret, "\n", "password is empty"},
		{"no such file", []string{"--username", "alice", "--shared-secret-file", file + "x"}, "", "x", "no such file"},
		{"not a flag", []string{"alice"}, secret, "x", "not a flag"},
	} {
		t.Run(c.name, func(t *testing.T) {
			userID, err := run(t.Context(), append([]string{"--url", s.URL + "/"}, c.arguments...), c.env, strings.NewReader(c.in), io.Discard)
			if c.fails == "" && (err != nil || userID != "@alice:example.org") {
				t.Errorf("made %q, %v", userID, err)
			}
			if c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
				t.Errorf("made %q, %v", userID, err)
			}
		})
	}
}
