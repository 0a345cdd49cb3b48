package clientapi

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" // the protocol's choice
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// nonceLifetime is how long a nonce is good. Nonces are not stored: one that is
// used twice asks for an account that exists already.
const nonceLifetime = time.Minute

// nonceBody is the part of a nonce that its proof is of: time and chance.
const nonceBody = 16

func (s *Server) nonceProof(body []byte) []byte {
	h := hmac.New(sha256.New, []byte(s.registration.SharedSecret))
	h.Write([]byte("nonce\x00"))
	h.Write(body)
	return h.Sum(nil)
}

func (s *Server) newNonce(now time.Time) string {
	body := make([]byte, nonceBody)
	binary.BigEndian.PutUint64(body, uint64(now.UnixMilli()))
	rand.Read(body[8:]) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(append(body, s.nonceProof(body)...))
}

func (s *Server) nonceValid(nonce string, now time.Time) bool {
	b, err := hex.DecodeString(nonce)
	if err != nil || len(b) != nonceBody+sha256.Size || !hmac.Equal(b[nonceBody:], s.nonceProof(b[:nonceBody])) {
		return false
	}
	made := time.UnixMilli(int64(binary.BigEndian.Uint64(b)))
	return now.Sub(made) <= nonceLifetime
}

// errNoSharedSecret is what servers without a shared secret answer.
func errNoSharedSecret() error { return matrixerror.New(404, "M_UNRECOGNIZED", "Unrecognized request") }

// getSharedSecret serves GET /_synapse/admin/v1/register, which the existing
// tools of administrators use.
func (s *Server) getSharedSecret(*httpapi.Request) (any, error) {
	if s.registration.SharedSecret == "" {
		return nil, errNoSharedSecret()
	}
	return map[string]string{"nonce": s.newNonce(time.Now())}, nil
}

// postSharedSecret serves POST /_synapse/admin/v1/register.
func (s *Server) postSharedSecret(r *httpapi.Request) (any, error) {
	if s.registration.SharedSecret == "" {
		return nil, errNoSharedSecret()
	}
	var req struct {
		Nonce       string `json:"nonce"`
		Username    string `json:"username"`
		Password    string `json:"password"`
		DisplayName string `json:"displayname"`
		UserType    string `json:"user_type"`
		Admin       bool   `json:"admin"`
		MAC         string `json:"mac"`
	}
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	if req.Username == "" || req.Password == "" || req.MAC == "" {
		return nil, matrixerror.MissingParam("username, password or mac is missing")
	}
	if strings.ContainsRune(req.Username+req.Password+req.UserType, 0) {
		return nil, matrixerror.InvalidParam("There is a zero byte in the request")
	}
	if !s.nonceValid(req.Nonce, time.Now()) {
		return nil, matrixerror.New(400, "M_UNKNOWN", "The nonce is not one of this server or too old")
	}
	parts := []string{req.Nonce, req.Username, req.Password, "notadmin"}
	if req.Admin {
		parts[3] = "admin"
	}
	if req.UserType != "" {
		parts = append(parts, req.UserType)
	}
	h := hmac.New(sha1.New, []byte(s.registration.SharedSecret))
	h.Write([]byte(strings.Join(parts, "\x00")))
	given, err := hex.DecodeString(req.MAC)
	if err != nil || !hmac.Equal(given, h.Sum(nil)) {
		return nil, matrixerror.Forbidden("The MAC is wrong")
	}
	return s.registerBySecret(r, req.Username, req.Password, req.DisplayName, req.Admin)
}

func (s *Server) registerBySecret(r *httpapi.Request, username, password, displayName string, admin bool) (any, error) {
	id, err := s.newUserID(username)
	if err != nil {
		return nil, err
	}
	session, err := userapi.Register.Call(r.Context(), s.caller, &userapi.RegisterRequest{
		UserID: id, Password: password, Admin: admin, Device: userapi.NewDevice{IP: r.RemoteIP},
	})
	if err != nil {
		return nil, err
	}
	if displayName != "" {
		quoted, err := jsontext.AppendQuote(nil, displayName)
		if err != nil {
			return nil, matrixerror.InvalidParam("displayname is not UTF-8")
		}
		if _, err := userapi.PutProfile.Call(r.Context(), s.caller, &userapi.PutProfileRequest{UserID: id, Field: "displayname", Value: quoted}); err != nil {
			return nil, err
		}
	}
	return s.answerSession(session), nil
}
