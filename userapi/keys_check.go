package userapi

import (
	"crypto/ed25519"
	"fmt"
	"maps"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/userapi/api"
	"github.com/matrix-org/dendrite/userapi/storage"
)

// Bounds of keys that clients upload.
const (
	maxKeyBytes     = 16 << 10 // of a device's identity keys or a cross-signing key
	maxPrekeyBytes  = 4 << 10
	maxKeyName      = 255 // "algorithm:key ID", in bytes
	maxPrekeys      = 1000
	maxFallbackKeys = 10
)

func errSignature(what string) error {
	return matrixerror.New(400, "M_INVALID_SIGNATURE", "The signature of %s is missing or wrong", what)
}

// signedKey is what keys of devices and users have in common.
// spec: client-server-api §device-keys §cross-signing
type signedKey struct {
	UserID     string                       `json:"user_id"`
	DeviceID   string                       `json:"device_id"`
	Algorithms []string                     `json:"algorithms"`
	Usage      []string                     `json:"usage"`
	Keys       map[string]string            `json:"keys"`
	Signatures map[string]map[string]string `json:"signatures"`
}

// parseKey reads a key that is not too large.
func parseKey(raw jsontext.Value, what string) (*signedKey, error) {
	if len(raw) > maxKeyBytes {
		return nil, matrixerror.TooLarge("%s is larger than %d bytes", what, maxKeyBytes)
	}
	k := &signedKey{}
	if raw.Kind() != '{' || json.Unmarshal(raw, k) != nil {
		return nil, matrixerror.BadJSON("%s is not what it should be", what)
	}
	return k, nil
}

// checkDeviceKeys checks identity keys of a device; it returns its ed25519 key.
// spec: client-server-api §uploading-keys
func checkDeviceKeys(userID, deviceID string, raw jsontext.Value) (ed25519.PublicKey, error) {
	k, err := parseKey(raw, "device_keys")
	if err != nil {
		return nil, err
	}
	if k.UserID != userID || k.DeviceID != deviceID {
		return nil, matrixerror.InvalidParam("device_keys are of another user or device")
	}
	if k.Algorithms == nil || len(k.Keys) == 0 {
		return nil, matrixerror.InvalidParam("device_keys lack algorithms or keys")
	}
	for name := range k.Keys {
		if _, id, ok := strings.Cut(name, ":"); !ok || id != deviceID {
			return nil, matrixerror.InvalidParam("A key of device_keys is not named after the device")
		}
	}
	id := gomatrixserverlib.KeyID("ed25519:" + deviceID)
	public, ok := publicKey(k.Keys[string(id)])
	if !ok {
		return nil, matrixerror.InvalidParam("device_keys lack the device's ed25519 key")
	}
	if gomatrixserverlib.VerifyJSON(userID, id, public, raw) != nil {
		return nil, errSignature("device_keys")
	}
	return public, nil
}

func publicKey(text string) (ed25519.PublicKey, bool) {
	public, err := gomatrixserverlib.DecodeBase64(text)
	return public, err == nil && len(public) == ed25519.PublicKeySize
}

// deviceSigner is the ed25519 key in a device's identity keys; nil without them.
func deviceSigner(deviceID string, keys jsontext.Value) ed25519.PublicKey {
	var k signedKey
	if len(keys) == 0 || json.Unmarshal(keys, &k) != nil {
		return nil
	}
	public, _ := publicKey(k.Keys["ed25519:"+deviceID])
	return public
}

// checkPrekeys reads one-time or fallback keys. Signed ones have to be signed by
// the device, whose key is signer where it is known: others would refuse them
// only once they need one.
// spec: client-server-api §one-time-and-fallback-keys
func checkPrekeys(dev storage.DeviceName, keys map[string]jsontext.Value, signer ed25519.PublicKey) ([]storage.Prekey, error) {
	out := make([]storage.Prekey, 0, len(keys))
	for name, raw := range keys {
		algorithm, id, ok := strings.Cut(name, ":")
		if !ok || algorithm == "" || id == "" || len(name) > maxKeyName {
			return nil, matrixerror.InvalidParam("A key is not named as algorithm:key ID")
		}
		if len(raw) > maxPrekeyBytes {
			return nil, matrixerror.TooLarge("A key is larger than %d bytes", maxPrekeyBytes)
		}
		switch raw.Kind() {
		case '"':
		case '{':
			var k struct {
				Key string `json:"key"`
			}
			if json.Unmarshal(raw, &k) != nil || k.Key == "" {
				return nil, matrixerror.InvalidParam("A key has no key")
			}
			id := gomatrixserverlib.KeyID("ed25519:" + dev.DeviceID)
			if strings.HasPrefix(algorithm, "signed_") && signer != nil && gomatrixserverlib.VerifyJSON(dev.UserID, id, signer, raw) != nil {
				return nil, errSignature(name)
			}
		default:
			return nil, matrixerror.InvalidParam("A key is neither a string nor an object")
		}
		key, err := without(raw)
		if err != nil {
			return nil, err
		}
		out = append(out, storage.Prekey{DeviceName: dev, Algorithm: algorithm, KeyID: id, Key: key})
	}
	return out, nil
}

// without returns a JSON value in one form, and if it is an object without some
// members: two are the same if they have the same form.
func without(raw jsontext.Value, members ...string) (jsontext.Value, error) {
	if raw.Kind() == '{' && len(members) > 0 {
		var object map[string]jsontext.Value
		if err := json.Unmarshal(raw, &object); err != nil {
			return nil, matrixerror.BadJSON("A key cannot be read")
		}
		for _, m := range members {
			delete(object, m)
		}
		var err error
		if raw, err = json.Marshal(object); err != nil {
			return nil, err
		}
	}
	out := raw.Clone()
	if err := out.Canonicalize(); err != nil {
		return nil, matrixerror.BadJSON("A key cannot be read")
	}
	return out, nil
}

// sameKey tells whether two keys are the same but for their signatures.
func sameKey(a, b jsontext.Value) bool {
	x, errX := without(a, "signatures", "unsigned")
	y, errY := without(b, "signatures", "unsigned")
	return errX == nil && errY == nil && string(x) == string(y)
}

// withSignatures adds signatures to a key, and a display name where there is one.
func withSignatures(raw jsontext.Value, list []storage.KeySignature, displayName string) (jsontext.Value, error) {
	if len(list) == 0 && displayName == "" {
		return raw, nil
	}
	var object map[string]jsontext.Value
	if err := json.Unmarshal(raw, &object); err != nil {
		return nil, err
	}
	if len(list) > 0 {
		var all map[string]map[string]string
		if err := json.Unmarshal(object["signatures"], &all); err != nil || all == nil {
			all = map[string]map[string]string{} // a master key may have none
		}
		for _, s := range list {
			if all[s.SignerID] == nil {
				all[s.SignerID] = map[string]string{}
			}
			all[s.SignerID][s.SignerKey] = s.Signature
		}
		text, err := json.Marshal(all, json.Deterministic(true))
		if err != nil {
			return nil, err
		}
		object["signatures"] = text
	}
	if displayName != "" {
		text, err := json.Marshal(map[string]string{"device_display_name": displayName})
		if err != nil {
			return nil, err
		}
		object["unsigned"] = text
	}
	return json.Marshal(object, json.Deterministic(true))
}

// told are the counts as clients are told them.
func told(counts map[string]int64) map[string]int64 {
	out := map[string]int64{api.CurveAlgorithm: 0}
	maps.Copy(out, counts)
	return out
}

// unmarshalKey reads a key that was checked when it was stored.
func unmarshalKey(raw jsontext.Value, k *signedKey) error {
	if err := json.Unmarshal(raw, k); err != nil {
		return fmt.Errorf("userapi: a stored key: %w", err)
	}
	return nil
}
