package userapi

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/userapi/api"
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

// authenticate checks a user's password.
func (s *Server) authenticate(ctx context.Context, userID, password string) (storage.Account, error) {
	account, _, err := s.db.Account(ctx, userID)
	if err != nil {
		return account, err
	}
	ok, err := s.matches(ctx, password, account.PasswordHash)
	if err != nil {
		return account, err
	}
	if account.Deactivated {
		return account, matrixerror.New(403, "M_USER_DEACTIVATED", "This account has been deactivated")
	}
	if !ok {
		return account, matrixerror.Forbidden("The user name or the password is wrong")
	}
	return account, nil
}

func (s *Server) checkPassword(ctx context.Context, r *api.CheckPasswordRequest) (*struct{}, error) {
	_, err := s.authenticate(ctx, r.UserID, r.Password)
	return &struct{}{}, err
}
