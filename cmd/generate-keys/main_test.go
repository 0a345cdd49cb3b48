package main

import (
	"crypto/tls"
	"io"
	"os"
	"path/filepath"
	"slices"
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

// TestKeep: what is there is left as it is, and what is missing is made.
func TestKeep(t *testing.T) {
	folder := t.TempDir()
	private, cert, key := filepath.Join(folder, "signing.key"), filepath.Join(folder, "crt"), filepath.Join(folder, "key")
	all := []string{"--keep", "--private-key", private, "--tls-cert", cert, "--tls-key", key}
	read := func(file string) string {
		t.Helper()
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if err := run(all, io.Discard); err != nil {
		t.Fatal(err)
	}
	first := []string{read(private), read(cert), read(key)}
	if err := run(all, io.Discard); err != nil {
		t.Fatal(err)
	}
	if second := []string{read(private), read(cert), read(key)}; !slices.Equal(first, second) {
		t.Error("files were replaced")
	}
	if err := os.Remove(cert); err != nil { // as if the first run had been broken off
		t.Fatal(err)
	}
	if err := run(all, io.Discard); err != nil {
		t.Fatal(err)
	}
	if _, err := tls.LoadX509KeyPair(cert, key); err != nil || read(key) != first[2] {
		t.Errorf("the certificate that was missing is not one of the key: %v", err)
	}
	if err := run(append(all, "--private-key", filepath.Join(private, "x")), io.Discard); err == nil {
		t.Error("a file that cannot be made is no error")
	}
}
