package syncapi

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"

	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/syncapi/storage"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// device is what is kept of a device of a user in memory, so that an answer that
// has nothing to tell of it costs no question.
type device struct {
	// counts and unused are the members of answers, as they are written there.
	counts, unused string
	// first and last are the Seqs between which there may be messages that the
	// device has not acknowledged; 0 for none. Another instance may have deleted
	// them: then it is asked for nothing, once.
	first, last int64
}

// noDevice is a device of which nothing is known: it has uploaded no keys.
func noDevice() device { return device{counts: countsText(nil), unused: "[]"} }

// countsText writes the number of keys left. The kind that all clients use is
// there even if there are none.
// spec: client-server-api §e2e-extensions-to-sync
func countsText(counts map[string]int64) string {
	all := map[string]int64{userapi.CurveAlgorithm: 0}
	maps.Copy(all, counts)
	body := []byte{'{'}
	for _, algorithm := range slices.Sorted(maps.Keys(all)) {
		body = strconv.AppendInt(appendKey(body, algorithm), all[algorithm], 10)
	}
	return string(append(body, '}'))
}

func unusedText(algorithms []string) string {
	body := []byte{'['}
	for _, algorithm := range algorithms {
		body = appendString(comma(body), algorithm)
	}
	return string(append(body, ']'))
}

// loadDevices asks for the devices of a user who is being loaded. Changes that are
// in the answer already are not applied again: u.devicesSeq says up to where.
func (v *view) loadDevices(ctx context.Context, u *user) (map[string]device, int64, error) {
	res, err := userapi.QueryDeviceStates.Call(ctx, v.caller, &userapi.DeviceStatesRequest{UserID: u.id})
	if errors.Is(err, rpc.ErrNoMethod) { // of a release that has no keys
		return map[string]device{}, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	out := make(map[string]device, len(res.Devices))
	for _, d := range res.Devices {
		out[d.DeviceID] = device{counts: countsText(d.OneTimeKeys), unused: unusedText(d.Unused), first: d.First, last: d.Last}
	}
	return out, res.Seq, nil
}

// ofDevice returns what is known of a device. u.mu is held.
func (u *user) ofDevice(id string) device {
	if d, ok := u.devices[id]; ok {
		return d
	}
	return noDevice()
}

// deviceKeys notes what a device has left. Nobody is woken: the next answer tells.
func (a *application) deviceKeys(c *userapi.UserChange) {
	a.steps = append(a.steps, func() {
		a.v.mu.Lock()
		defer a.v.mu.Unlock()
		u, ok := a.v.users[c.UserID]
		if !ok {
			return
		}
		u.apply(func() {
			if c.Seq > u.devicesSeq {
				d := u.ofDevice(c.DeviceID)
				d.counts, d.unused = countsText(c.OneTimeKeys), unusedText(c.UnusedFallback)
				u.devices[c.DeviceID] = d
			}
		})
	})
}

// toDevice notes that devices have messages.
func (a *application) toDevice(c *userapi.UserChange) {
	a.withUser(c.UserID, func(u *user) {
		for _, id := range c.DeviceIDs {
			d := u.ofDevice(id)
			switch {
			case c.Again:
				d.first = 1
			case d.first == 0:
				d.first = c.Seq
			}
			d.last = max(d.last, c.Seq)
			u.devices[id] = d
		}
	})
}

// deviceList notes that a user's keys changed, for everybody or for the user who
// has signed them.
func (a *application) deviceList(s *source, c *userapi.UserChange) {
	row := storage.DeviceList{UserID: c.UserID, Seq: c.Seq}
	if c.Kind == userapi.ChangeSignatures {
		row.UserID, row.Viewer = c.Target, c.UserID
	}
	rows := a.rowsOf(s, c.Seq)
	rows.DeviceLists = append(rows.DeviceLists, row)
	l := &listed{user: row.UserID, viewer: row.Viewer, seq: c.Seq}
	a.steps = append(a.steps, func() { a.v.lists.put(s.partition, l) })
	a.listed = append(a.listed, l)
}

// appendDevices appends what end-to-end encryption needs of the device.
// spec: client-server-api §e2e-extensions-to-sync
func (a *answer) appendDevices(body []byte) []byte {
	a.u.mu.Lock()
	d := a.u.ofDevice(a.deviceID)
	a.u.mu.Unlock()
	body = append(appendKey(body, "device_one_time_keys_count"), d.counts...)
	return append(appendKey(body, "device_unused_fallback_key_types"), d.unused...)
}
