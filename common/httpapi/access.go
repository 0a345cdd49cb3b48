package httpapi

import (
	"net/http"
	"strings"

	"github.com/matrix-org/dendrite/common/matrixerror"
)

// maxTokenBytes bounds what is looked up as an access token.
const maxTokenBytes = 4096

// accessToken is the token of the Authorization header or, where there is
// none, of the query; "" when there is neither.
// spec: client-server-api §using-access-tokens
func accessToken(r *Request) string {
	if header := r.Header.Get("Authorization"); header != "" {
		scheme, token, _ := strings.Cut(header, " ")
		if strings.EqualFold(scheme, "Bearer") {
			return strings.TrimSpace(token)
		}
	}
	if !strings.Contains(r.URL.RawQuery, "access_token") {
		return ""
	}
	return r.QueryString("access_token")
}

// identify finds out who calls and whether they may.
func identify(r *Request, access Access, auth Authenticator) error {
	if access == Public {
		return nil
	}
	token := accessToken(r)
	if token == "" {
		if access == Optional {
			return nil
		}
		return matrixerror.New(http.StatusUnauthorized, "M_MISSING_TOKEN", "This needs an access token")
	}
	if len(token) > maxTokenBytes || auth == nil {
		return matrixerror.UnknownToken("The access token is not known")
	}
	device, err := auth.Authenticate(r.Context(), token)
	if err != nil {
		return err
	}
	if err := mayCall(device, access); err != nil {
		return err
	}
	r.Device = device
	return nil
}

// mayCall checks what kind of account calls.
// spec: client-server-api §account-locking §guest-access
func mayCall(d *Device, access Access) error {
	if d.Locked && access != Locked {
		e := matrixerror.New(http.StatusUnauthorized, "M_USER_LOCKED", "This account is locked")
		e.SoftLogout = true
		return e
	}
	switch {
	case access == User && d.IsGuest:
		return matrixerror.New(http.StatusForbidden, "M_GUEST_ACCESS_FORBIDDEN", "Guests may not do this")
	case access == Admin && !d.IsAdmin:
		return matrixerror.Forbidden("Only administrators of the server may do this")
	}
	return nil
}

// byAddress tells whether a limit counts addresses even of who is logged in.
func (l Limit) byAddress() bool { return l == LimitLogin || l == LimitRegistration }

// allow counts the request against its limit.
func allow(r *Request, limit Limit, limiter *Limiter) error {
	if limit == LimitNone || limiter == nil {
		return nil
	}
	who := ""
	if r.Device != nil && !limit.byAddress() {
		who = r.Device.UserID
	} else {
		who = AddressKey(r.RemoteIP)
	}
	if wait := limiter.Allow(limit, who); wait > 0 {
		return matrixerror.LimitExceeded(wait)
	}
	return nil
}
