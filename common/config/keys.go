package config

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
)

// SigningKeys reads the file of the server's signing keys; the first is the
// current one. A file that does not exist is made, with one new key.
func SigningKeys(path string) ([]gomatrixserverlib.SigningKey, error) {
	text, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		// Of processes that start together the first makes it.
		if err = CreateSigningKey(path); err == nil || errors.Is(err, fs.ErrExist) {
			text, err = readFile(path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("config: signing keys: %w", err)
	}
	keys, err := gomatrixserverlib.ParseSigningKeys(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("config: signing keys: %s: %w", path, err)
	}
	return keys, nil
}

// CreateSigningKey writes a file with a new signing key, which only its owner
// can read. It fails when the file exists: nothing brings a lost key back.
func CreateSigningKey(path string) error {
	id := make([]byte, 4)
	if _, err := rand.Read(id); err != nil {
		return err
	}
	key, err := gomatrixserverlib.GenerateSigningKey(hex.EncodeToString(id), rand.Reader)
	if err != nil {
		return err
	}
	return WriteNew(path, []byte(key.String()+"\n"))
}

// WriteNew writes a file that must not exist yet, readable by its owner only.
// When it returns the file is on disk, whole; a crash leaves no part of it.
func WriteNew(path string, content []byte) error {
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(folder, filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Link(f.Name(), path) // fails when path exists, unlike a rename
	}
	if err = errors.Join(err, os.Remove(f.Name())); err != nil {
		return err
	}
	d, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
