package userapi

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/userapi/storage"
)

// Parameters of new hashes, some 30 ms on one core. A stored hash has its own.
const (
	argonTime   = 5
	argonMemory = 7 << 10 // KiB
	argonLanes  = 1
	argonSalt   = 16
	argonKey    = 32
)

// maxPassword bounds passwords, in bytes.
const maxPassword = 512

// hash hashes a password, when it is its turn.
func (s *Server) hash(ctx context.Context, password string) (string, error) {
	if len(password) > maxPassword {
		return "", matrixerror.InvalidParam("The password is longer than %d bytes", maxPassword)
	}
	salt := make([]byte, argonSalt)
	rand.Read(salt) // never fails: crypto/rand ends the process instead
	key, err := s.derive(ctx, password, salt, argonTime, argonMemory, argonLanes)
	if err != nil {
		return "", err
	}
	enc := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonLanes,
		enc.EncodeToString(salt), enc.EncodeToString(key)), nil
}

func (s *Server) derive(ctx context.Context, password string, salt []byte, time, memory uint32, lanes uint8) ([]byte, error) {
	select {
	case s.hashing <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.hashing }()
	return argon2.IDKey([]byte(password), salt, time, memory, lanes, argonKey), nil
}

// matches tells whether a password is that of a stored hash. Without a hash it
// takes as long and says no, so that time does not tell who exists.
func (s *Server) matches(ctx context.Context, password, stored string) (bool, error) {
	if len(password) > maxPassword {
		return false, nil
	}
	if stored == "" {
		_, err := s.derive(ctx, password, make([]byte, argonSalt), argonTime, argonMemory, argonLanes)
		return false, err
	}
	parts := strings.Split(stored, "$")
	var time, memory uint32
	var lanes uint8
	if len(parts) != 6 || parts[1] != "argon2id" {
		return false, fmt.Errorf("userapi: a stored password hash is of an unknown kind")
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &memory, &time, &lanes); err != nil {
		return false, fmt.Errorf("userapi: a stored password hash: %w", err)
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil {
		return false, fmt.Errorf("userapi: a stored password hash: %w", err)
	}
	want, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil {
		return false, fmt.Errorf("userapi: a stored password hash: %w", err)
	}
	got, err := s.derive(ctx, password, salt, time, memory, lanes)
	return err == nil && subtle.ConstantTimeCompare(got, want) == 1, err
}

func errDeactivated() error {
	return matrixerror.New(403, "M_USER_DEACTIVATED", "This account has been deactivated")
}

func errWrongPassword() error {
	return matrixerror.Forbidden("The user name or the password is wrong")
}

// authenticate checks the password of an account, within what the key's bucket
// of failures allows.
func (s *Server) authenticate(ctx context.Context, account storage.Account, password, key string) error {
	if err := s.failures.take(ctx, key, s.now()); err != nil {
		return err
	}
	ok, err := s.matches(ctx, password, account.PasswordHash)
	if ok || err != nil {
		err = errors.Join(err, s.failures.giveBack(context.WithoutCancel(ctx), key))
	}
	switch {
	case err != nil:
		return err
	case account.Deactivated:
		return errDeactivated()
	case !ok:
		return errWrongPassword()
	}
	return nil
}

// checkOwnPassword checks the password of who has a session: strangers do not
// use up these attempts.
func (s *Server) checkOwnPassword(ctx context.Context, userID, password string) error {
	account, _, err := s.db.Account(ctx, userID)
	if err != nil {
		return err
	}
	return s.authenticate(ctx, account, password, "session\n"+userID)
}
