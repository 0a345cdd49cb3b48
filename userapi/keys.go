package userapi

import (
	"context"
	"crypto/ed25519"
	"maps"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
	"github.com/matrix-org/dendrite/userapi/storage"
)

func (s *Server) registerKeys(srv *rpc.Server) {
	api.UploadKeys.Serve(srv, s.uploadKeys)
	api.QueryKeys.Serve(srv, s.queryKeys)
	api.ClaimKeys.Serve(srv, s.claimKeys)
	api.PutCrossSigning.Serve(srv, s.putCrossSigning)
	api.PutSignatures.Serve(srv, s.putSignatures)
	api.QueryDeviceStates.Serve(srv, s.queryDeviceStates)
	api.PutDehydrated.Serve(srv, s.putDehydrated)
	api.QueryDehydrated.Serve(srv, s.queryDehydrated)
	api.DeleteDehydrated.Serve(srv, s.deleteDehydrated)
	api.SendToDevice.Serve(srv, s.sendToDevice)
	api.QueryToDevice.Serve(srv, s.queryToDevice)
	api.AckToDevice.Serve(srv, s.ackToDevice)
	s.registerKeyBackup(srv)
}

// errNoDevice is said to a device that was deleted meanwhile.
func errNoDevice() error { return matrixerror.UnknownToken("The device is not there any more") }

func (s *Server) uploadKeys(ctx context.Context, r *api.UploadKeysRequest) (*api.UploadKeysResponse, error) {
	dev := storage.DeviceName{UserID: r.UserID, DeviceID: r.DeviceID}
	res := &api.UploadKeysResponse{}
	if len(r.DeviceKeys) == 0 && len(r.OneTimeKeys) == 0 && len(r.FallbackKeys) == 0 { // who only asks for the counts
		err := s.db.Read(ctx, func(tx *sqldb.Tx) error {
			left, err := s.db.PrekeysOf(ctx, tx, []storage.DeviceName{dev})
			res.Counts = told(left[dev].Counts)
			return err
		})
		return res, err
	}
	if len(r.OneTimeKeys) > maxPrekeys || len(r.FallbackKeys) > maxFallbackKeys {
		return nil, matrixerror.InvalidParam("There are more than %d one-time keys or %d fallback keys", maxPrekeys, maxFallbackKeys)
	}
	err := s.write(ctx, func(tx *sqldb.Tx) (err error) {
		if ok, err := s.db.KeepDevice(ctx, tx, r.UserID, r.DeviceID); err != nil {
			return err
		} else if !ok {
			return errNoDevice()
		}
		res.Counts, err = s.storeKeys(ctx, tx, dev, r)
		return err
	})
	return res, err
}

// storeKeys stores keys of a device, with the changes that tell of them, and
// returns the counts as they are then.
func (s *Server) storeKeys(ctx context.Context, tx *sqldb.Tx, dev storage.DeviceName, r *api.UploadKeysRequest) (map[string]int64, error) {
	upload, err := s.db.TakeTurn(ctx, tx, dev.UserID, dev.DeviceID)
	if err != nil {
		return nil, err
	}
	signer, listed, renewed, err := s.storeDeviceKeys(ctx, tx, dev, r.DeviceKeys)
	if err != nil {
		return nil, err
	}
	counted, err := s.storePrekeys(ctx, tx, dev, upload, r, signer)
	if err != nil {
		return nil, err
	}
	left, err := s.db.PrekeysOf(ctx, tx, []storage.DeviceName{dev})
	if err != nil {
		return nil, err
	}
	total := int64(0)
	for _, n := range left[dev].Counts {
		total += n
	}
	if total > maxPrekeys {
		return nil, matrixerror.UserLimit(403, "The device has too many one-time keys")
	}
	var changes []api.UserChange
	if listed {
		changes = append(changes, api.UserChange{UserID: dev.UserID, Kind: api.ChangeDeviceList})
	}
	if counted || renewed {
		changes = append(changes, leftChange(dev, left[dev]))
	}
	_, err = s.db.Changes(ctx, tx, changes)
	return told(left[dev].Counts), err
}

func leftChange(dev storage.DeviceName, left storage.Prekeys) api.UserChange {
	return api.UserChange{UserID: dev.UserID, Kind: api.ChangeDeviceKeys, DeviceID: dev.DeviceID, OneTimeKeys: left.Counts, UnusedFallback: left.Unused}
}

// storeDeviceKeys stores identity keys, if there are any and they say anything
// new (listed), and returns the key that signs what else the device uploads. With
// another ed25519 key the device is another one to everybody: what the old one
// had left goes (renewed).
func (s *Server) storeDeviceKeys(ctx context.Context, tx *sqldb.Tx, dev storage.DeviceName, given jsontext.Value) (signer ed25519.PublicKey, listed, renewed bool, err error) {
	old, err := s.db.KeysOfDevice(ctx, tx, dev.UserID, dev.DeviceID)
	if err != nil {
		return nil, false, false, err
	}
	before := deviceSigner(dev.DeviceID, old)
	if len(given) == 0 {
		return before, false, false, nil
	}
	if signer, err = checkDeviceKeys(dev.UserID, dev.DeviceID, given); err != nil {
		return nil, false, false, err
	}
	keys, err := without(given, "unsigned")
	if err != nil || string(keys) == string(old) {
		return signer, false, false, err
	}
	if !sameKey(keys, old) {
		if err := s.db.DropKeySignatures(ctx, tx, dev.UserID, dev.DeviceID); err != nil {
			return nil, false, false, err
		}
	}
	if before != nil && !signer.Equal(before) {
		renewed = true
		if err := s.db.DropPrekeys(ctx, tx, dev.UserID, dev.DeviceID); err != nil {
			return nil, false, false, err
		}
	}
	return signer, true, renewed, s.db.PutDeviceKeys(ctx, tx, dev.UserID, dev.DeviceID, keys)
}

// storePrekeys stores one-time and fallback keys; it tells whether any was new.
func (s *Server) storePrekeys(ctx context.Context, tx *sqldb.Tx, dev storage.DeviceName, upload int64, r *api.UploadKeysRequest, signer ed25519.PublicKey) (counted bool, err error) {
	keys, err := checkPrekeys(dev, r.OneTimeKeys, signer)
	if err != nil {
		return false, err
	}
	if keys, err = s.newKeys(ctx, tx, keys); err != nil {
		return false, err
	}
	if len(keys) > 0 {
		if err := s.db.PutOneTimeKeys(ctx, tx, upload, keys); err != nil {
			return false, err
		}
	}
	fallback, err := checkPrekeys(dev, r.FallbackKeys, signer)
	if err != nil {
		return false, err
	}
	algorithms := map[string]struct{}{}
	for _, k := range fallback {
		algorithms[k.Algorithm] = struct{}{}
	}
	if len(algorithms) != len(fallback) {
		return false, matrixerror.InvalidParam("There are several fallback keys of an algorithm")
	}
	changed := int64(0)
	if len(fallback) > 0 {
		changed, err = s.db.PutFallbackKeys(ctx, tx, fallback)
	}
	return len(keys) > 0 || changed > 0, err
}

// newKeys returns those of the one-time keys that are not known yet. One that
// was given out already is not stored again; an ID that stands for another key,
// which may be given out yet, is an error.
func (s *Server) newKeys(ctx context.Context, tx *sqldb.Tx, keys []storage.Prekey) ([]storage.Prekey, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	known, err := s.db.OneTimeKeys(ctx, tx, keys)
	if err != nil {
		return nil, err
	}
	byName := make(map[[2]string]storage.Prekey, len(known))
	for _, k := range known {
		byName[[2]string{k.Algorithm, k.KeyID}] = k
	}
	out := keys[:0]
	for _, k := range keys {
		old, ok := byName[[2]string{k.Algorithm, k.KeyID}]
		same := ok && string(old.Key) == string(k.Key)
		if ok && !same && !old.Claimed {
			return nil, matrixerror.InvalidParam("The one-time key %s:%s is another one than that of before", k.Algorithm, k.KeyID)
		}
		if !same {
			out = append(out, k)
		}
	}
	return out, nil
}

// claimKeys gives out keys: each one-time key once, however many ask at a time,
// since a device's claims take turns.
// spec: client-server-api §post_matrixclientv3keysclaim
func (s *Server) claimKeys(ctx context.Context, r *api.ClaimKeysRequest) (*api.ClaimKeysResponse, error) {
	var kinds []storage.Prekey
	for user, devices := range r.Devices {
		for device, algorithm := range devices {
			kinds = append(kinds, storage.Prekey{DeviceName: storage.DeviceName{UserID: user, DeviceID: device}, Algorithm: algorithm})
		}
	}
	res := &api.ClaimKeysResponse{Keys: map[string]map[string]map[string]jsontext.Value{}}
	if len(kinds) == 0 {
		return res, nil
	}
	var keys []storage.Prekey
	err := s.write(ctx, func(tx *sqldb.Tx) error {
		var changed []storage.DeviceName
		var err error
		if keys, changed, err = s.db.Claim(ctx, tx, kinds, s.now().UnixMilli()); err != nil || len(changed) == 0 {
			return err
		}
		left, err := s.db.PrekeysOf(ctx, tx, changed)
		if err != nil {
			return err
		}
		changes := make([]api.UserChange, 0, len(left))
		for dev, of := range left {
			changes = append(changes, leftChange(dev, of))
		}
		_, err = s.db.Changes(ctx, tx, changes)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if res.Keys[k.UserID] == nil {
			res.Keys[k.UserID] = map[string]map[string]jsontext.Value{}
		}
		res.Keys[k.UserID][k.DeviceID] = map[string]jsontext.Value{k.Algorithm + ":" + k.KeyID: k.Key}
	}
	return res, nil
}

// queryKeys returns keys with the signatures that the viewer may see.
// spec: client-server-api §post_matrixclientv3keysquery
func (s *Server) queryKeys(ctx context.Context, r *api.KeysRequest) (*api.KeysResponse, error) {
	users := slices.Sorted(maps.Keys(r.Devices))
	var known []string
	var devices []storage.DeviceKeys
	var cross []storage.CrossKey
	var signatures []storage.KeySignature
	err := s.db.Read(ctx, func(tx *sqldb.Tx) (err error) {
		if known, err = s.db.Known(ctx, tx, users); err != nil {
			return err
		}
		if devices, err = s.db.KeysOfDevices(ctx, tx, users); err != nil {
			return err
		}
		if cross, err = s.db.CrossKeys(ctx, tx, users); err != nil {
			return err
		}
		signatures, err = s.db.KeySignatures(ctx, tx, users, r.Viewer)
		return err
	})
	if err != nil {
		return nil, err
	}
	res := &api.KeysResponse{Devices: map[string]map[string]jsontext.Value{}, Master: map[string]jsontext.Value{},
		SelfSigning: map[string]jsontext.Value{}, UserSigning: map[string]jsontext.Value{}}
	for _, user := range known {
		res.Devices[user] = map[string]jsontext.Value{}
	}
	of := map[[2]string][]storage.KeySignature{}
	for _, sig := range signatures {
		key := [2]string{sig.UserID, sig.KeyID}
		of[key] = append(of[key], sig)
	}
	for _, k := range devices {
		if wanted := r.Devices[k.UserID]; res.Devices[k.UserID] == nil || len(wanted) > 0 && !slices.Contains(wanted, k.DeviceID) {
			continue
		}
		if res.Devices[k.UserID][k.DeviceID], err = withSignatures(k.Keys, of[[2]string{k.UserID, k.DeviceID}], k.DisplayName); err != nil {
			return nil, err
		}
	}
	for _, k := range cross {
		key, err := withSignatures(k.Key, of[[2]string{k.UserID, k.Public}], "")
		if err != nil {
			return nil, err
		}
		switch {
		case k.Usage == usageMaster:
			res.Master[k.UserID] = key
		case k.Usage == usageSelf:
			res.SelfSigning[k.UserID] = key
		case k.UserID == r.Viewer:
			res.UserSigning[k.UserID] = key
		}
	}
	return res, nil
}

// queryDeviceStates reads how far the partition is first: what is read then may
// be newer, never older.
func (s *Server) queryDeviceStates(ctx context.Context, r *api.DeviceStatesRequest) (*api.DeviceStatesResponse, error) {
	res := &api.DeviceStatesResponse{}
	var left map[storage.DeviceName]storage.Prekeys
	var inboxes map[string][2]int64
	err := s.db.Read(ctx, func(tx *sqldb.Tx) (err error) {
		if res.Seq, err = s.db.HeadOf(ctx, tx, r.UserID); err != nil {
			return err
		}
		if left, err = s.db.PrekeysOfUser(ctx, tx, r.UserID); err != nil {
			return err
		}
		inboxes, err = s.db.Inboxes(ctx, tx, r.UserID)
		return err
	})
	for dev, keys := range left {
		seqs := inboxes[dev.DeviceID]
		delete(inboxes, dev.DeviceID)
		res.Devices = append(res.Devices, api.DeviceState{DeviceID: dev.DeviceID, OneTimeKeys: keys.Counts, Unused: keys.Unused, First: seqs[0], Last: seqs[1]})
	}
	for id, seqs := range inboxes {
		res.Devices = append(res.Devices, api.DeviceState{DeviceID: id, First: seqs[0], Last: seqs[1]})
	}
	return res, err
}
