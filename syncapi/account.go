package syncapi

import (
	"context"
	"maps"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/filters"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// accountChange is a piece of account data that the client does not have.
type accountChange struct {
	typ     string
	content jsontext.Value // nil: to be asked for
}

// collectAccount finds what changed in the user's account data. u.mu is held.
func (a *answer) collectAccount() {
	since, cut := a.since.user(a.u.partition), a.cut.user(a.u.partition)
	if a.since == nil || a.u.accountSeq <= since {
		return
	}
	for key, mark := range a.u.account {
		if mark.seq <= since || mark.seq > cut { // that is told with the next answer
			continue
		}
		c := accountChange{key.typ, mark.content}
		if key.roomID == "" {
			a.global = append(a.global, c)
			continue
		}
		if a.account == nil {
			a.account = map[string][]accountChange{}
		}
		a.account[key.roomID] = append(a.account[key.roomID], c)
	}
}

// appendGlobal appends what is not about a room: account data, presence,
// messages to the device, keys.
func (a *answer) appendGlobal(ctx context.Context, body []byte) ([]byte, error) {
	list := a.global
	if a.since == nil {
		data, err := a.allAccount(ctx)
		if err != nil {
			return nil, err
		}
		list = changesFrom(data[""])
	}
	body, err := a.appendAccount(ctx, body, "", list, &a.filter.AccountData)
	if err != nil {
		return nil, err
	}
	if body, err = a.appendPresence(ctx, body); err != nil {
		return nil, err
	}
	body, listed, err := a.appendDeviceLists(ctx, a.appendToDevice(body))
	if err != nil {
		return nil, err
	}
	a.something = a.something || listed
	return a.appendDevices(body), nil
}

// allAccount asks for all of the user's account data, once for an answer.
func (a *answer) allAccount(ctx context.Context) (map[string]map[string]jsontext.Value, error) {
	if a.accountAll == nil {
		res, err := userapi.QueryAccountData.Call(ctx, a.s.caller, &userapi.AccountDataRequest{UserID: a.u.id})
		if err != nil {
			return nil, err
		}
		a.accountAll = res.Data
		if a.accountAll == nil {
			a.accountAll = map[string]map[string]jsontext.Value{}
		}
	}
	return a.accountAll, nil
}

func changesFrom(data map[string]jsontext.Value) []accountChange {
	out := make([]accountChange, 0, len(data))
	for _, typ := range slices.Sorted(maps.Keys(data)) {
		out = append(out, accountChange{typ, data[typ]})
	}
	return out
}

// appendRoomAccount appends the account data of a room: all of a room that is
// new to the client, else what changed.
func (a *answer) appendRoomAccount(ctx context.Context, body []byte, p *part) ([]byte, error) {
	if !a.filter.Room.AccountData.WantsRoom(p.room.id) {
		return body, nil
	}
	list := a.account[p.room.id]
	if p.fresh && p.lower == 0 {
		data, err := a.allAccount(ctx)
		if err != nil {
			return nil, err
		}
		list = changesFrom(data[p.room.id])
	}
	return a.appendAccount(ctx, body, p.room.id, list, &a.filter.Room.AccountData)
}

// appendAccount appends the member account_data, unless nothing is left of it.
func (a *answer) appendAccount(ctx context.Context, body []byte, roomID string, list []accountChange, f *filters.Event) ([]byte, error) {
	list = slices.DeleteFunc(slices.Clone(list), func(c accountChange) bool { return !f.Wants(c.typ, a.u.id) })
	if len(list) == 0 {
		return body, nil
	}
	body, err := a.appendAccountEvents(ctx, append(appendKey(body, "account_data"), `{"events":`...), roomID, list)
	a.something = a.something || a.since != nil
	return append(body, '}'), err
}

// appendAccountEvents appends account data as an array of events.
func (a *answer) appendAccountEvents(ctx context.Context, body []byte, roomID string, list []accountChange) ([]byte, error) {
	var missing []string
	for _, c := range list {
		if c.content == nil {
			missing = append(missing, c.typ)
		}
	}
	var found map[string]jsontext.Value
	if len(missing) > 0 {
		res, err := userapi.QueryAccountData.Call(ctx, a.s.caller, &userapi.AccountDataRequest{UserID: a.u.id, RoomIDs: []string{roomID}, Types: missing})
		if err != nil {
			return nil, err
		}
		found = res.Data[roomID]
	}
	body = append(body, '[')
	for _, c := range list {
		content := c.content
		if content == nil {
			content = found[c.typ]
		}
		if len(content) == 0 || content.Kind() == 'n' {
			content = jsontext.Value("{}") // deleted
		}
		body = appendPlain(comma(body), c.typ, content)
	}
	return append(body, ']'), nil
}
