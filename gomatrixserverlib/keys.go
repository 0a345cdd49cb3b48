package gomatrixserverlib

import (
	"bufio"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
)

// KeyID is a signing key identifier, such as "ed25519:a_1".
type KeyID string

// Algorithm returns what stands before the colon.
func (id KeyID) Algorithm() string {
	algorithm, _, _ := strings.Cut(string(id), ":")
	return algorithm
}

// Version returns what stands behind the colon.
func (id KeyID) Version() string {
	_, version, _ := strings.Cut(string(id), ":")
	return version
}

// SigningKey is a server's private key with its ID.
type SigningKey struct {
	ID      KeyID
	Private ed25519.PrivateKey
}

// Public returns the public key.
func (k SigningKey) Public() ed25519.PublicKey { return k.Private.Public().(ed25519.PublicKey) }

// String returns the line of a key file: algorithm, version and the seed in
// unpadded base64. It is secret: never log it.
func (k SigningKey) String() string {
	return k.ID.Algorithm() + " " + k.ID.Version() + " " + EncodeBase64(k.Private.Seed())
}

// Limits of key files.
const (
	maxKeyLine = 1024
	maxKeys    = 1000
)

// GenerateSigningKey makes a key of that version ("a_1") from 32 random bytes.
func GenerateSigningKey(version string, rand io.Reader) (SigningKey, error) {
	id := KeyID("ed25519:" + version)
	if err := ParseKeyID(id); err != nil {
		return SigningKey{}, err
	}
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return SigningKey{}, fmt.Errorf("making a signing key: %w", err)
	}
	return SigningKey{ID: id, Private: ed25519.NewKeyFromSeed(seed)}, nil
}

// ParseSigningKeys reads a key file: a line "ed25519 a_1 <seed>" for each key,
// the seed of 32 bytes in base64. Empty lines and lines that begin with # are
// passed over. No key, or two of the same ID, is an error; an error never
// shows a seed.
func ParseSigningKeys(r io.Reader) ([]SigningKey, error) {
	var keys []SigningKey
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, maxKeyLine), maxKeyLine)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := parseSigningKey(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		for _, other := range keys {
			if other.ID == key.ID {
				return nil, fmt.Errorf("line %d: key %s is there twice", n, key.ID)
			}
		}
		if len(keys) == maxKeys {
			return nil, fmt.Errorf("more than %d keys", maxKeys)
		}
		keys = append(keys, key)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading signing keys: %w", err)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("no signing key")
	}
	return keys, nil
}

func parseSigningKey(line string) (SigningKey, error) {
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return SigningKey{}, fmt.Errorf("want algorithm, version and seed, not %d fields", len(fields))
	}
	if fields[0] != "ed25519" {
		return SigningKey{}, fmt.Errorf("unknown key algorithm %q", fields[0])
	}
	id := KeyID(fields[0] + ":" + fields[1])
	if err := ParseKeyID(id); err != nil {
		return SigningKey{}, err
	}
	seed, err := DecodeBase64(fields[2])
	if err != nil || len(seed) != ed25519.SeedSize {
		return SigningKey{}, fmt.Errorf("the seed of key %s is not 32 bytes of base64", id)
	}
	return SigningKey{ID: id, Private: ed25519.NewKeyFromSeed(seed)}, nil
}

// EncodeBase64 encodes as unpadded base64.
// spec: appendices §unpadded-base64
func EncodeBase64(b []byte) string { return base64.RawStdEncoding.EncodeToString(b) }

// DecodeBase64 decodes base64 with or without padding; bits that do not count
// are ignored, line breaks are not allowed.
func DecodeBase64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, base64.CorruptInputError(strings.IndexAny(s, "\r\n"))
	}
	return base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
}
