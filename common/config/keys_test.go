package config

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestSigningKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "signing.key")
	first, err := SigningKeys(path)
	if err != nil || len(first) != 1 {
		t.Fatal(first, err)
	}
	again, err := SigningKeys(path)
	if err != nil || len(again) != 1 || again[0].String() != first[0].String() {
		t.Errorf("read %v after %v: %v", again, first, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := CreateSigningKey(path); err == nil {
		t.Error("an existing key was replaced")
	}
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 1 {
		t.Errorf("left %v, %v", files, err)
	}
	for _, content := range []string{"", "nonsense\n"} {
		bad := filepath.Join(t.TempDir(), "signing.key")
		if err := os.WriteFile(bad, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if keys, err := SigningKeys(bad); err == nil {
			t.Errorf("%q gives %v", content, keys)
		}
	}
}

// TestSigningKeysAtOnce: processes that start together get the same key.
func TestSigningKeysAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signing.key")
	keys := make(chan string, 16)
	for range cap(keys) {
		go func() {
			got, err := SigningKeys(path)
			if err != nil || len(got) != 1 {
				keys <- fmt.Sprint(got, err)
				return
			}
			keys <- got[0].String()
		}()
	}
	first := <-keys
	for range cap(keys) - 1 {
		if k := <-keys; k != first {
			t.Errorf("%q, not %q", k, first)
		}
	}
}
