package syncapi

import (
	"context"
	"maps"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/syncapi/storage"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// extension is a part of an answer that is not about rooms' events.
// spec: MSC4186 §extensions
type extension struct {
	name string
	// append appends the extension's object and tells whether there is anything in
	// it that the client has to be told now; if not, it is left out, unless it always
	// belongs to an answer.
	append func(x *slidingAnswer, ctx context.Context, body []byte, ask *extensionAsk) ([]byte, bool, error)
	always bool
	// off tells that the server does not have it; nil: it does.
	off func(*Server) bool
}

// extensionTable has the extensions that are served. Its rows have numbers by
// their place, which stored connections have: new ones go to the end.
func extensionTable() []extension {
	return []extension{
		{"account_data", (*slidingAnswer).appendAccountExtension, false, nil}, // MSC3959
		{"receipts", (*slidingAnswer).appendReceiptsExtension, false, nil},    // MSC3960
		{"typing", (*slidingAnswer).appendTypingExtension, false, nil},        // MSC3961
		{"e2ee", (*slidingAnswer).appendEncryptionExtension, true, nil},       // MSC3884
		{"to_device", (*slidingAnswer).appendToDeviceExtension, true, nil},    // MSC3885
		{"io.element.msc4308.thread_subscriptions", (*slidingAnswer).appendSubscriptionsExtension, false, func(s *Server) bool { return s.noThreads }},
		{"io.element.msc4360.threads", (*slidingAnswer).appendThreadsExtension, false, nil},
	}
}

// extensionAsk is what a client asks of an extension.
type extensionAsk struct {
	Enabled bool `json:"enabled"`
	// Lists and Rooms limit it to the rooms of some lists and subscriptions; nil
	// and "*" stand for all.
	Lists []string `json:"lists"`
	Rooms []string `json:"rooms"`
	// raw is all of it.
	raw jsontext.Value
	// told is set when the client was told all up to its position; else it is to be
	// told all that there is.
	told bool
}

// maxExtensionNames bounds the names of lists and rooms.
const maxExtensionNames = 1000

// appendExtensions appends what the extensions that are asked for have to say.
func (x *slidingAnswer) appendExtensions(ctx context.Context, body []byte) ([]byte, error) {
	body = append(appendKey(body, "extensions"), '{')
	for i, e := range extensionTable() {
		bit := uint64(1) << i
		ask := &extensionAsk{}
		if raw := x.ask.extensions[e.name]; raw.Kind() == '{' {
			if err := json.Unmarshal(raw, ask); err != nil {
				return nil, matrixerror.BadJSON("The extension %s is not asked for in the right way", e.name)
			}
			ask.raw = raw
		}
		if len(ask.Lists)+len(ask.Rooms) > maxExtensionNames {
			return nil, matrixerror.InvalidParam("The extension %s names too many lists and rooms", e.name)
		}
		if !ask.Enabled || e.off != nil && e.off(x.s) {
			x.extensions &^= bit
			continue
		}
		ask.told = x.before.extensions&bit != 0
		mark := len(body)
		body = appendKey(body, e.name)
		written, something, err := e.append(x, ctx, body, ask)
		if err != nil {
			return nil, err
		}
		x.extensions |= bit
		if body = written; !something && !e.always {
			body = body[:mark]
		}
		x.something = x.something || something
	}
	return append(body, '}'), nil
}

// covers tells whether an extension is about a room.
func (ask *extensionAsk) covers(x *slidingAnswer, r *slidingRoom) bool {
	in := func(names []string, name string) bool {
		return names == nil || slices.Contains(names, "*") || slices.Contains(names, name)
	}
	return r.subscribed && in(ask.Rooms, r.room.id) ||
		slices.ContainsFunc(r.lists, func(i int) bool { return in(ask.Lists, x.ask.lists[i].name) })
}

// covered are the joined rooms that an extension is about.
func (x *slidingAnswer) covered(ask *extensionAsk) (out []*slidingRoom) {
	for _, r := range x.rooms {
		if r.now.Membership == "join" && r.matched() && ask.covers(x, r) {
			out = append(out, r)
		}
	}
	return out
}

// appendPerRoom appends the member rooms, of what f appends for each; f leaves
// the body as it is where there is nothing.
func appendPerRoom(body []byte, rooms []*slidingRoom, f func([]byte, *slidingRoom) ([]byte, error)) ([]byte, bool, error) {
	body = append(appendKey(body, "rooms"), '{')
	empty := len(body)
	for _, r := range rooms {
		mark := len(body)
		body = appendKey(body, r.room.id)
		open := len(body)
		written, err := f(body, r)
		if err != nil {
			return nil, false, err
		}
		if body = written; len(body) == open {
			body = body[:mark]
		}
	}
	return append(body, '}'), len(body) > empty, nil
}

// appendAccountExtension appends account data: what has changed, and all of rooms
// that are new to the client.
func (x *slidingAnswer) appendAccountExtension(ctx context.Context, body []byte, ask *extensionAsk) ([]byte, bool, error) {
	var rooms []*slidingRoom
	for _, r := range x.rooms {
		if r.matched() && ask.covers(x, r) {
			rooms = append(rooms, r)
		}
	}
	all, err := x.accountOf(ctx, rooms, ask)
	if err != nil {
		return nil, false, err
	}
	list := x.global
	if !ask.told {
		list = changesFrom(all[""])
	}
	body = append(body, '{')
	if len(list) > 0 {
		if body, err = x.appendAccountEvents(ctx, appendKey(body, "global"), "", list); err != nil {
			return nil, false, err
		}
	}
	body, something, err := appendPerRoom(body, rooms, func(body []byte, r *slidingRoom) ([]byte, error) {
		list := x.account[r.room.id]
		if !ask.told || r.whole() {
			list = changesFrom(all[r.room.id])
		}
		if len(list) == 0 {
			return body, nil
		}
		return x.appendAccountEvents(ctx, body, r.room.id, list)
	})
	return append(body, '}'), something || len(list) > 0, err
}

// accountOf asks for the account data that is told as a whole, by room.
func (x *slidingAnswer) accountOf(ctx context.Context, rooms []*slidingRoom, ask *extensionAsk) (map[string]map[string]jsontext.Value, error) {
	var ids []string
	if !ask.told {
		ids = append(ids, "")
	}
	for _, r := range rooms {
		if !ask.told || r.whole() {
			ids = append(ids, r.room.id)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	res, err := userapi.QueryAccountData.Call(ctx, x.s.caller, &userapi.AccountDataRequest{UserID: x.u.id, RoomIDs: ids})
	if err != nil {
		return nil, err
	}
	return res.Data, nil
}

// appendReceiptsExtension appends receipts: those that are new; of rooms that are
// new to the client the user's own, and those of the events told.
func (x *slidingAnswer) appendReceiptsExtension(_ context.Context, body []byte, ask *extensionAsk) ([]byte, bool, error) {
	body, something, err := appendPerRoom(append(body, '{'), x.covered(ask), func(body []byte, r *slidingRoom) ([]byte, error) {
		since := x.since
		if !ask.told || r.whole() {
			since = nil
		}
		list := r.room.receiptsSince(since, x.cut, x.u.id)
		if r.fresh {
			events := map[string]struct{}{}
			for _, ev := range r.shown {
				events[ev.EventID()] = struct{}{}
			}
			list = slices.DeleteFunc(list, func(rec storage.Receipt) bool {
				_, shown := events[rec.EventID]
				return !shown && rec.UserID != x.u.id
			})
		}
		if len(list) == 0 {
			return body, nil
		}
		return appendReceipts(body, oneEach(list)), nil
	})
	return append(body, '}'), something, err
}

// oneEach leaves a user one receipt of a type on an event, the last: a room has
// one m.receipt here, which has no place for those of several threads.
func oneEach(list []storage.Receipt) []storage.Receipt {
	last := map[[3]string]storage.Receipt{}
	for _, rec := range list {
		if key := [3]string{rec.EventID, rec.Type, rec.UserID}; last[key].Seq <= rec.Seq {
			last[key] = rec
		}
	}
	return slices.Collect(maps.Values(last))
}

// appendTypingExtension appends who types, where that has changed.
func (x *slidingAnswer) appendTypingExtension(_ context.Context, body []byte, ask *extensionAsk) ([]byte, bool, error) {
	body, something, err := appendPerRoom(append(body, '{'), x.covered(ask), func(body []byte, r *slidingRoom) ([]byte, error) {
		since := x.since
		if !ask.told || r.whole() {
			since = nil
		}
		return x.appendTyping(body, r.part, since), nil
	})
	return append(body, '}'), something, err
}

// appendEncryptionExtension appends whose keys changed, and what is left of the
// device's own.
func (x *slidingAnswer) appendEncryptionExtension(ctx context.Context, body []byte, ask *extensionAsk) ([]byte, bool, error) {
	body = append(body, '{')
	listed := false
	if ask.told {
		var err error
		if body, listed, err = x.appendDeviceLists(ctx, body); err != nil {
			return nil, false, err
		}
	}
	return append(x.appendDevices(body), '}'), listed, nil
}

// appendToDeviceExtension appends the messages to the device behind the token that
// the client was given with those before; it deletes those, which the client has.
// The token is a Seq of user.output.
func (x *slidingAnswer) appendToDeviceExtension(ctx context.Context, body []byte, ask *extensionAsk) ([]byte, bool, error) {
	var of struct {
		Since string `json:"since"`
		Limit int    `json:"limit"`
	}
	if err := json.Unmarshal(ask.raw, &of); err != nil {
		return nil, false, matrixerror.BadJSON("The extension to_device is not asked for in the right way")
	}
	cut := x.cut.user(x.u.partition)
	var since int64
	if of.Since != "" {
		var err error
		if since, err = strconv.ParseInt(of.Since, 10, 64); err != nil || since < 0 {
			return nil, false, matrixerror.InvalidParam("The extension to_device has a token that was not given out")
		}
	}
	if since > cut { // of an instance that was ahead: what is behind it will come here, too
		body = appendString(appendKey(append(body, '{'), "next_batch"), of.Since)
		return append(appendMessages(body, nil), '}'), false, nil
	}
	most := maxToDevice
	if of.Limit > 0 {
		most = min(of.Limit, most)
	}
	messages, err := x.messages(ctx, since, most+1)
	if err != nil {
		return nil, false, err
	}
	next := cut
	if len(messages) > most {
		messages = messages[:most]
		next = messages[most-1].Seq
	}
	body = appendString(appendKey(append(body, '{'), "next_batch"), strconv.FormatInt(next, 10))
	return append(appendMessages(body, messages), '}'), len(messages) > 0, nil
}
