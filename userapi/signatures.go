package userapi

import (
	"context"
	"crypto/ed25519"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/userapi/api"
	"github.com/matrix-org/dendrite/userapi/storage"
)

// signing is one request to store signatures: the keys that may be signed, and
// those that sign.
type signing struct {
	userID  string
	devices map[string]jsontext.Value // the user's own, by ID
	masters map[string]storage.CrossKey
	self    ed25519.PublicKey // nil for none
	user    ed25519.PublicKey
	// names of the two, as signatures have them
	selfName, userName string
}

// putSignatures stores those signatures that are right: of the user's own devices
// by the self-signing key, of the own master key by devices, of others' master
// keys by the user-signing key.
// spec: client-server-api §post_matrixclientv3keyssignaturesupload
func (s *Server) putSignatures(ctx context.Context, r *api.PutSignaturesRequest) (*api.PutSignaturesResponse, error) {
	res := &api.PutSignaturesResponse{}
	err := s.write(ctx, func(tx *sqldb.Tx) error {
		res.Failures = map[string]map[string]api.KeyFailure{}
		if _, _, err := s.db.LockAccount(ctx, tx, r.UserID); err != nil {
			return err
		}
		w, err := s.signing(ctx, tx, r)
		if err != nil {
			return err
		}
		var changes []api.UserChange
		for _, owner := range slices.Sorted(maps.Keys(r.Signed)) {
			var good []storage.KeySignature
			for _, id := range slices.Sorted(maps.Keys(r.Signed[owner])) {
				list, err := w.check(owner, id, r.Signed[owner][id])
				var refused *matrixerror.Error
				if errors.As(err, &refused) {
					if res.Failures[owner] == nil {
						res.Failures[owner] = map[string]api.KeyFailure{}
					}
					res.Failures[owner][id] = api.KeyFailure{ErrCode: refused.Code, Error: refused.Message}
					continue
				}
				if err != nil {
					return err
				}
				good = append(good, list...)
			}
			if n, err := s.db.PutKeySignatures(ctx, tx, good); err != nil {
				return err
			} else if n == 0 {
				continue
			}
			if owner == r.UserID {
				changes = append(changes, api.UserChange{UserID: r.UserID, Kind: api.ChangeDeviceList})
			} else {
				changes = append(changes, api.UserChange{UserID: r.UserID, Kind: api.ChangeSignatures, Target: owner})
			}
		}
		_, err = s.db.Changes(ctx, tx, changes)
		return err
	})
	return res, err
}

func (s *Server) signing(ctx context.Context, tx *sqldb.Tx, r *api.PutSignaturesRequest) (*signing, error) {
	w := &signing{userID: r.UserID, devices: map[string]jsontext.Value{}, masters: map[string]storage.CrossKey{}}
	devices, err := s.db.KeysOfDevices(ctx, tx, []string{r.UserID})
	if err != nil {
		return nil, err
	}
	for _, k := range devices {
		w.devices[k.DeviceID] = k.Keys
	}
	cross, err := s.db.CrossKeys(ctx, tx, append(slices.Sorted(maps.Keys(r.Signed)), r.UserID))
	if err != nil {
		return nil, err
	}
	for _, k := range cross {
		public, _ := publicKey(k.Public)
		switch {
		case k.Usage == usageMaster:
			w.masters[k.UserID] = k
		case k.UserID != r.UserID:
		case k.Usage == usageSelf:
			w.self, w.selfName = public, "ed25519:"+k.Public
		case k.Usage == usageUser:
			w.user, w.userName = public, "ed25519:"+k.Public
		}
	}
	return w, nil
}

// check returns the new signatures of a key.
func (w *signing) check(owner, id string, raw jsontext.Value) ([]storage.KeySignature, error) {
	k, err := parseKey(raw, "The signed key")
	if err != nil {
		return nil, err
	}
	stored, signer := jsontext.Value(nil), func(string) ed25519.PublicKey { return nil }
	switch master := w.masters[owner]; {
	case master.Public != "" && master.Public == strings.TrimPrefix(id, "ed25519:"):
		stored, id = master.Key, master.Public
		if owner == w.userID {
			signer = func(name string) ed25519.PublicKey {
				device := strings.TrimPrefix(name, "ed25519:")
				return deviceSigner(device, w.devices[device])
			}
		} else {
			signer = w.by(w.userName, w.user)
		}
	case owner == w.userID && w.devices[id] != nil:
		stored, signer = w.devices[id], w.by(w.selfName, w.self)
	}
	if stored == nil {
		return nil, matrixerror.NotFound("There is no such key")
	}
	if !sameKey(stored, raw) {
		return nil, matrixerror.InvalidParam("The key is not the one that is known")
	}
	var had signedKey
	if err := unmarshalKey(stored, &had); err != nil {
		return nil, err
	}
	var out []storage.KeySignature
	for name, text := range k.Signatures[w.userID] {
		if had.Signatures[w.userID][name] == text {
			continue
		}
		public := signer(name)
		if public == nil || gomatrixserverlib.VerifyJSON(w.userID, gomatrixserverlib.KeyID(name), public, raw) != nil {
			return nil, errSignature("the key")
		}
		out = append(out, storage.KeySignature{UserID: owner, KeyID: id, SignerID: w.userID, SignerKey: name, Signature: text})
	}
	if len(out) == 0 && len(k.Signatures[w.userID]) == 0 {
		return nil, errSignature("the key")
	}
	return out, nil
}

// by takes a signature with one key.
func (w *signing) by(name string, public ed25519.PublicKey) func(string) ed25519.PublicKey {
	return func(of string) ed25519.PublicKey {
		if of != name || name == "" {
			return nil
		}
		return public
	}
}
