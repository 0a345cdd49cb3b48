package gomatrixserverlib

import (
	"crypto/ed25519"
	"encoding/base64"
	"strings"
)

// maxThirdPartyChecks bounds the signature checks that one third-party invite
// may cost: more signatures than keys are tried by nobody honest.
const maxThirdPartyChecks = 256

// thirdPartyInvite has the rules on invites that prove a binding of a
// third-party identifier.
// spec: client-server-api §third-party-invites, rooms/v1 §authorisation-rules 5.3.1
func (a *authorisation) thirdPartyInvite(n *ruleNumbers, invite []byte) error {
	e, target := a.event, *a.event.stateKey
	no := func(sub int, reason ...string) error {
		return refuse([]int{n.member, n.invite, 1, sub}, reason...)
	}
	if a.membership(target) == "ban" {
		return no(1, target, " is banned")
	}
	signed := member(invite, "signed")
	if !isObject(signed) {
		return no(2, "third_party_invite has nothing signed")
	}
	mxid, hasUser := stringOf(member(signed, "mxid"))
	token, hasToken := stringOf(member(signed, "token"))
	if !hasUser || !hasToken {
		return no(3, "what is signed has no mxid or no token")
	}
	if mxid != target {
		return no(4, "what is signed is for another user")
	}
	issued := a.state.StateEvent("m.room.third_party_invite", token)
	if issued == nil {
		return no(5, "there is no invite with this token")
	}
	if issued.sender != e.sender {
		return no(6, e.sender, " did not send the invite with this token")
	}
	if !signedByAny(signed, thirdPartyKeys(issued.Content())) {
		return no(8, "no signature matches a key of the invite")
	}
	return nil
}

// thirdPartyToken returns the token of a member event's third-party invite.
func thirdPartyToken(content []byte) (string, bool) {
	return stringOf(member(member(member(content, "third_party_invite"), "signed"), "token"))
}

// ThirdPartyKey is a public key of an m.room.third_party_invite event.
type ThirdPartyKey struct {
	Public      ed25519.PublicKey
	ValidityURL string // key_validity_url: where to ask whether it is valid; may be empty
}

// ThirdPartyKeys returns the public keys of an m.room.third_party_invite
// event; what is malformed or listed again is left out.
// spec: client-server-api §mroomthird_party_invite
func ThirdPartyKeys(invite *Event) []ThirdPartyKey { return thirdPartyKeys(invite.Content()) }

func thirdPartyKeys(content []byte) []ThirdPartyKey {
	keys := appendThirdPartyKey(nil, content)
	for el := elementsOf(member(content, "public_keys")); len(keys) < maxThirdPartyChecks; {
		entry, ok := el.next()
		if !ok {
			break
		}
		keys = appendThirdPartyKey(keys, entry)
	}
	return keys
}

func appendThirdPartyKey(keys []ThirdPartyKey, object []byte) []ThirdPartyKey {
	text, ok := stringOf(member(object, "public_key"))
	if !ok {
		return keys
	}
	public, ok := decodeAnyBase64(text)
	if !ok || len(public) != ed25519.PublicKeySize {
		return keys
	}
	for _, k := range keys {
		if k.Public.Equal(ed25519.PublicKey(public)) {
			return keys
		}
	}
	url, _ := stringOf(member(object, "key_validity_url"))
	return append(keys, ThirdPartyKey{Public: public, ValidityURL: url})
}

// decodeAnyBase64 decodes base64 of the standard or the URL-safe alphabet.
func decodeAnyBase64(text string) ([]byte, bool) {
	if b, err := DecodeBase64(text); err == nil {
		return b, true
	}
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	return b, err == nil
}

// signedByAny reports whether any Ed25519 signature in a canonical object is by
// any of the keys. Servers and key IDs do not matter.
func signedByAny(object []byte, keys []ThirdPartyKey) bool {
	message := appendWithout(make([]byte, 0, len(object)), object, "signatures", "unsigned")
	checks := 0
	signatures := member(object, "signatures")
	for servers := membersOf(signatures); ; {
		_, start, end, ok := servers.next()
		if !ok {
			return false
		}
		entries := signatures[start:end]
		for ids := membersOf(entries); ; {
			id, from, to, ok := ids.next()
			if !ok {
				break
			}
			text, isText := stringOf(entries[from:to])
			signature, decoded := decodeAnyBase64(text)
			if !isText || !decoded || len(signature) != ed25519.SignatureSize || !strings.HasPrefix(string(id), "ed25519:") {
				continue
			}
			for _, key := range keys {
				if checks++; checks > maxThirdPartyChecks {
					return false
				}
				if ed25519.Verify(key.Public, message, signature) {
					return true
				}
			}
		}
	}
}
