package main

import (
	"crypto/tls"
	"io"
	"path/filepath"
	"testing"

	"github.com/matrix-org/dendrite/common/config"
)

func TestRun(t *testing.T) {
	folder := t.TempDir()
	private, cert, key := filepath.Join(folder, "signing.key"), filepath.Join(folder, "crt"), filepath.Join(folder, "key")
	all := []string{"--private-key", private, "--tls-cert", cert, "--tls-key", key, "--server", "127.0.0.1"}
	if err := run(all, io.Discard); err != nil {
		t.Fatal(err)
	}
	if keys, err := config.SigningKeys(private); err != nil || len(keys) != 1 {
		t.Error(keys, err)
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := pair.Leaf.VerifyHostname("127.0.0.1"); err != nil {
		t.Error(err)
	}
	for _, bad := range [][]string{all, {}, {"--tls-cert", cert + "2"}, {"--nonsense"}, {"word"}} {
		if err := run(bad, io.Discard); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
