package gomatrixserverlib

import (
	"crypto/ed25519"
	"fmt"
	"unicode/utf8"
)

// SignJSON adds a server's signature to a JSON object and returns its
// canonical form. Other signatures and unsigned are kept; neither is covered.
// The signer may be any entity with keys, such as a user. Numbers stay as they
// were written, duplicate keys are refused (ErrBadJSON).
// spec: appendices §signing-details
func SignJSON(server string, key SigningKey, object []byte) ([]byte, error) {
	canonical, err := canonicalObject(object)
	if err != nil {
		return nil, err
	}
	signatures := member(canonical, "signatures")
	if signatures != nil && !isObject(signatures) {
		return nil, fmt.Errorf("%w: signatures is not an object", ErrBadJSON)
	}
	signature := ed25519.Sign(key.Private, signedPart(canonical))
	signatures, err = addSignature(signatures, server, key.ID, signature)
	if err != nil {
		return nil, err
	}
	return setMember(make([]byte, 0, len(canonical)+len(signatures)+16), canonical, "signatures", signatures), nil
}

// VerifyJSON checks one signature of a JSON object. Errors wrap ErrBadJSON or
// ErrBadSignature.
// spec: appendices §checking-for-a-signature
func VerifyJSON(server string, id KeyID, public ed25519.PublicKey, object []byte) error {
	canonical, err := canonicalObject(object)
	if err != nil {
		return err
	}
	return verify(server, id, public, member(canonical, "signatures"), signedPart(canonical))
}

// JSONKeyIDs lists the keys with which a server signed a JSON object, as far
// as their algorithm is known.
func JSONKeyIDs(server string, object []byte) ([]KeyID, error) {
	canonical, err := canonicalObject(object)
	if err != nil {
		return nil, err
	}
	return keyIDs(member(canonical, "signatures"), server), nil
}

func canonicalObject(object []byte) ([]byte, error) {
	canonical, err := canonicalise(object, modeSigned)
	if err != nil {
		return nil, err
	}
	if !isObject(canonical) {
		return nil, fmt.Errorf("%w: not an object", ErrBadJSON)
	}
	return canonical, nil
}

func signedPart(canonical []byte) []byte {
	return appendWithout(make([]byte, 0, len(canonical)), canonical, "signatures", "unsigned")
}

// Sign returns the event with a server's signature added. The ID stays. It
// fails with ErrTooLarge if the event grows beyond MaxEventBytes.
// spec: server-server-api §adding-hashes-and-signatures-to-outgoing-events
func (e *Event) Sign(server string, key SigningKey) (*Event, error) {
	return e.WithSignature(server, key.ID, ed25519.Sign(key.Private, e.signingBytes()))
}

// WithSignature returns the event with a signature added that somebody else
// made, such as an invited user's server or a policy server. It is not
// verified.
func (e *Event) WithSignature(server string, id KeyID, signature []byte) (*Event, error) {
	old := e.spans[fieldSignatures]
	signatures, err := addSignature(e.raw(fieldSignatures), server, id, signature)
	if err != nil {
		return nil, err
	}
	signed := *e
	if old.end == 0 {
		signed.json = setMember(make([]byte, 0, len(e.json)+len(signatures)+16), e.json, "signatures", signatures)
		if err := signed.locate(); err != nil {
			return nil, err
		}
	} else {
		json := make([]byte, 0, len(e.json)+len(signatures))
		json = append(json, e.json[:old.start]...)
		json = append(json, signatures...)
		signed.json = append(json, e.json[old.end:]...)
		signed.shift(old.end, len(signed.json)-len(e.json))
	}
	if len(signed.json) > MaxEventBytes {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(signed.json))
	}
	return &signed, nil
}

// shift moves the ends and starts of values from a position on.
func (e *Event) shift(from uint32, by int) {
	for i := range e.spans {
		s := &e.spans[i]
		if s.end >= from {
			s.end = uint32(int(s.end) + by)
		}
		if s.start >= from {
			s.start = uint32(int(s.start) + by)
		}
	}
}

// VerifySignature checks one signature of the event; a redacted event's stay
// valid. Errors wrap ErrBadSignature.
// spec: server-server-api §validating-hashes-and-signatures-on-received-events
func (e *Event) VerifySignature(server string, id KeyID, public ed25519.PublicKey) error {
	return verify(server, id, public, e.raw(fieldSignatures), e.signingBytes())
}

// KeyIDs lists the keys with which a server signed the event, as far as their
// algorithm is known.
func (e *Event) KeyIDs(server string) []KeyID { return keyIDs(e.raw(fieldSignatures), server) }

// RequiredSigners lists the servers whose signatures the event must have: the
// sender's, in room versions 1 and 2 also that of the event ID, and where
// restricted rooms are known that of the user who authorised a join. None but
// the last for an invite by third-party ID: any server may send that.
// spec: server-server-api §validating-hashes-and-signatures-on-received-events
func (e *Event) RequiredSigners() []string {
	rules := e.version.Rules()
	var servers []string
	add := func(server string) {
		for _, s := range servers {
			if s == server {
				return
			}
		}
		servers = append(servers, server)
	}
	content := e.raw(fieldContent)
	if !(e.membership == "invite" && member(content, "third_party_invite") != nil) {
		add(domainOf(e.sender))
		if rules.GivenEventIDs() {
			add(domainOf(e.id))
		}
	}
	if rules.RestrictedAllowed && e.typ == "m.room.member" {
		if user, ok := stringOf(member(content, "join_authorised_via_users_server")); ok {
			add(domainOf(user))
		}
	}
	return servers
}

// addSignature returns a signatures object (nil: an empty one) with a
// signature added.
func addSignature(signatures []byte, server string, id KeyID, signature []byte) ([]byte, error) {
	if !utf8.ValidString(server) || !utf8.ValidString(string(id)) {
		return nil, fmt.Errorf("%w: the name of a signer or key is not UTF-8", ErrBadIdentifier)
	}
	if signatures == nil {
		signatures = []byte("{}")
	}
	name := string(appendEscaped(nil, server))
	ofServer := member(signatures, name)
	if ofServer == nil {
		ofServer = []byte("{}")
	}
	if !isObject(ofServer) {
		return nil, fmt.Errorf("%w: a server's signatures are not an object", ErrBadJSON)
	}
	value := appendString(nil, EncodeBase64(signature))
	ofServer = setMember(nil, ofServer, string(appendEscaped(nil, string(id))), value)
	return setMember(nil, signatures, name, ofServer), nil
}

// setMember appends a canonical object with a member set, in its place. The
// key is as it stands between quotes in canonical JSON.
func setMember(dst, object []byte, key string, value []byte) []byte {
	dst = append(dst, '{')
	first := len(dst)
	done := false
	for m := membersOf(object); ; {
		k, start, end, ok := m.next()
		if !ok {
			break
		}
		order := compareKeys(k, []byte(key))
		if !done && order >= 0 {
			dst = appendMember(dst, first, []byte(key), value)
			done = true
		}
		if order != 0 {
			dst = appendMember(dst, first, k, object[start:end])
		}
	}
	if !done {
		dst = appendMember(dst, first, []byte(key), value)
	}
	return append(dst, '}')
}

// keyIDs lists the ed25519 keys with which a server signed.
func keyIDs(signatures []byte, server string) []KeyID {
	var ids []KeyID
	for m := membersOf(member(signatures, string(appendEscaped(nil, server)))); ; {
		key, _, _, ok := m.next()
		if !ok {
			return ids
		}
		if id := KeyID(appendUnescaped(nil, key)); id.Algorithm() == "ed25519" {
			ids = append(ids, id)
		}
	}
}

func verify(server string, id KeyID, public ed25519.PublicKey, signatures, message []byte) error {
	if len(public) != ed25519.PublicKeySize {
		return fmt.Errorf("%w: the public key %s of %s is malformed", ErrBadSignature, id, server)
	}
	ofServer := member(signatures, string(appendEscaped(nil, server)))
	encoded, ok := stringOf(member(ofServer, string(appendEscaped(nil, string(id)))))
	if !ok {
		return fmt.Errorf("%w: none of %s with key %s", ErrBadSignature, server, id)
	}
	signature, err := DecodeBase64(encoded)
	if err != nil || len(signature) != ed25519.SignatureSize {
		return fmt.Errorf("%w: that of %s with key %s is malformed", ErrBadSignature, server, id)
	}
	if !ed25519.Verify(public, message, signature) {
		return fmt.Errorf("%w: that of %s with key %s is wrong", ErrBadSignature, server, id)
	}
	return nil
}
