package userapi

import (
	"context"
	"crypto/ed25519"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/userapi/api"
	"github.com/matrix-org/dendrite/userapi/storage"
)

// What cross-signing keys are for.
const (
	usageMaster = "master"
	usageSelf   = "self_signing"
	usageUser   = "user_signing"
)

// crossKey is a cross-signing key with what it holds.
type crossKey struct {
	storage.CrossKey
	public ed25519.PublicKey
}

// checkCrossKey checks a key of a usage by itself.
// spec: client-server-api §cross-signing
func checkCrossKey(userID, usage string, raw jsontext.Value) (*crossKey, error) {
	k, err := parseKey(raw, usage+"_key")
	if err != nil {
		return nil, err
	}
	if k.UserID != userID {
		return nil, matrixerror.InvalidParam("The %s key is another user's", usage)
	}
	if !slices.Equal(k.Usage, []string{usage}) {
		return nil, matrixerror.InvalidParam("The usage of the %s key is another one", usage)
	}
	if len(k.Keys) != 1 {
		return nil, matrixerror.InvalidParam("The %s key is not exactly one", usage)
	}
	out := &crossKey{CrossKey: storage.CrossKey{UserID: userID, Usage: usage}}
	for name, text := range k.Keys {
		public, ok := publicKey(text)
		if !ok || name != "ed25519:"+text {
			return nil, matrixerror.InvalidParam("The %s key is not an ed25519 key that is named by itself", usage)
		}
		out.Public, out.public = text, public
	}
	out.Key, err = without(raw, "unsigned")
	return out, err
}

// givenKeys checks the keys of a request; those not given are nil.
func givenKeys(r *api.PutCrossSigningRequest) ([]*crossKey, error) {
	var out []*crossKey
	for _, one := range []struct {
		usage string
		raw   jsontext.Value
	}{{usageMaster, r.Master}, {usageSelf, r.SelfSigning}, {usageUser, r.UserSigning}} {
		if len(one.raw) == 0 {
			continue
		}
		k, err := checkCrossKey(r.UserID, one.usage, one.raw)
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
}

// putCrossSigning stores keys. It is for the user alone to replace keys: without
// new authentication only the first ones are taken, and those that are there
// already.
// spec: client-server-api §post_matrixclientv3keysdevice_signingupload
func (s *Server) putCrossSigning(ctx context.Context, r *api.PutCrossSigningRequest) (*api.PutCrossSigningResponse, error) {
	given, err := givenKeys(r)
	if err != nil {
		return nil, err
	}
	res := &api.PutCrossSigningResponse{}
	err = s.write(ctx, func(tx *sqldb.Tx) error {
		*res = api.PutCrossSigningResponse{}
		account, ok, err := s.db.LockAccount(ctx, tx, r.UserID)
		if err != nil {
			return err
		}
		if !ok || account.Deactivated {
			return errDeactivated()
		}
		list, err := s.db.CrossKeys(ctx, tx, []string{r.UserID})
		if err != nil {
			return err
		}
		old := map[string]storage.CrossKey{}
		for _, k := range list {
			old[k.Usage] = k
		}
		if err := s.fitting(ctx, tx, r.UserID, given, old); err != nil {
			return err
		}
		fresh := slices.ContainsFunc(given, func(k *crossKey) bool { return old[k.Usage].Public != k.Public })
		if _, first := old[usageMaster]; first && fresh && !r.Authorised {
			res.Unauthorised = true
			return nil
		}
		return s.replaceCrossKeys(ctx, tx, r.UserID, given, old)
	})
	return res, err
}

// dropUserKeys deletes what a user has beside devices, whose account ends.
func (s *Server) dropUserKeys(ctx context.Context, tx *sqldb.Tx, userID string) error {
	had, err := s.db.CrossKeys(ctx, tx, []string{userID})
	if err != nil {
		return err
	}
	if err := s.db.DropUserKeys(ctx, tx, userID); err != nil || len(had) == 0 {
		return err
	}
	_, err = s.db.Change(ctx, tx, api.UserChange{UserID: userID, Kind: api.ChangeDeviceList})
	return err
}

// fitting checks that keys go with each other and with the user's devices.
func (s *Server) fitting(ctx context.Context, tx *sqldb.Tx, userID string, given []*crossKey, old map[string]storage.CrossKey) error {
	var names []string
	master := ""
	if k, ok := old[usageMaster]; ok {
		master = k.Public
	}
	for _, k := range given {
		names = append(names, k.Public)
		if k.Usage == usageMaster {
			master = k.Public
		}
	}
	if len(given) > 0 && master == "" {
		return matrixerror.MissingParam("There is no master key")
	}
	public, _ := publicKey(master) // which was checked when it was stored
	for _, k := range given {
		if k.Usage != usageMaster && gomatrixserverlib.VerifyJSON(userID, gomatrixserverlib.KeyID("ed25519:"+master), public, k.Key) != nil {
			return errSignature("the " + k.Usage + " key")
		}
	}
	used, err := s.db.DeviceNamed(ctx, tx, userID, names)
	if err == nil && used {
		err = matrixerror.Forbidden("A device of yours has the name of a key")
	}
	return err
}

// replaceCrossKeys stores keys and drops those whose place they take, with all
// that a master key that is no longer the user's had signed.
func (s *Server) replaceCrossKeys(ctx context.Context, tx *sqldb.Tx, userID string, given []*crossKey, old map[string]storage.CrossKey) error {
	changed := false
	for _, k := range given {
		before, ok := old[k.Usage]
		if ok && string(before.Key) == string(k.Key) {
			continue
		}
		changed = true
		if ok && before.Public != k.Public {
			gone := []storage.CrossKey{before}
			if k.Usage == usageMaster { // the others are signed by it
				gone = append(gone, old[usageSelf], old[usageUser])
			}
			for _, g := range gone {
				if g.Usage == "" {
					continue
				}
				if err := s.db.DropCrossKey(ctx, tx, g); err != nil {
					return err
				}
			}
		}
		if err := s.db.PutCrossKey(ctx, tx, k.CrossKey); err != nil {
			return err
		}
	}
	if !changed {
		return nil
	}
	_, err := s.db.Change(ctx, tx, api.UserChange{UserID: userID, Kind: api.ChangeDeviceList})
	return err
}
