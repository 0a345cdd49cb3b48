package clientapi

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
)

// newRequestID makes the request ID of a record that no client can retry.
func newRequestID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// transactionID makes the request ID of a client's transaction: the same for
// each retry, on any instance.
// spec: client-server-api §transaction-identifiers
func transactionID(d *httpapi.Device, method, path, txnID string) string {
	b := make([]byte, 0, 256)
	b = append(b, "txn\x00"...)
	for _, part := range []string{d.UserID, d.DeviceID, method, path} {
		b = append(append(b, part...), 0)
	}
	b = append(b, txnID...)
	return hashedID(b)
}

// hashedID makes a request ID of what it is for: the same for each try. Others'
// instances, and other releases, come to the same.
func hashedID(of []byte) string {
	sum := sha256.Sum256(of)
	return base64.RawURLEncoding.EncodeToString(sum[:])[:32]
}

// passes tells whether an error may be gone the next time: it is no verdict on what
// was asked for.
func passes(err error) bool {
	known := matrixerror.From(err)
	return err != nil && (known == nil || known.Status >= 500 || known.Status == 429)
}
