package gomatrixserverlib

import (
	"crypto/ed25519"
	"runtime"
	"sync"
	"sync/atomic"
)

// SignatureCheck is a signature to verify: of an event, or of a JSON object.
type SignatureCheck struct {
	Event  *Event // or
	Object []byte // a JSON object

	Server string
	KeyID  KeyID
	Public ed25519.PublicKey
}

// VerifyAll verifies many signatures, on as many CPUs as Go may use, and
// returns an error (nil: valid) for each check, in order.
func VerifyAll(checks []SignatureCheck) []error {
	errs := make([]error, len(checks))
	workers := min(runtime.GOMAXPROCS(0), len(checks))
	if workers <= 1 {
		for i := range checks {
			errs[i] = checks[i].verify()
		}
		return errs
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(checks) {
					return
				}
				errs[i] = checks[i].verify()
			}
		})
	}
	wg.Wait()
	return errs
}

func (c *SignatureCheck) verify() error {
	if c.Event != nil {
		return c.Event.VerifySignature(c.Server, c.KeyID, c.Public)
	}
	return VerifyJSON(c.Server, c.KeyID, c.Public, c.Object)
}
