package syncapi

import (
	"strconv"

	"github.com/matrix-org/dendrite/syncapi/storage"
)

// appendRoomEphemeral appends who types and what was read.
func (a *answer) appendRoomEphemeral(body []byte, p *part) []byte {
	f := &a.filter.Room.Ephemeral
	if !f.WantsRoom(p.room.id) {
		return body
	}
	mark := len(body)
	body = append(appendKey(body, "ephemeral"), `{"events":[`...)
	empty := len(body)
	since := a.since
	if p.fresh && p.lower == 0 {
		since = nil
	}
	if f.WantsType("m.typing") {
		body = a.appendTyping(body, p, since)
	}
	if f.WantsType("m.receipt") {
		if list := p.room.receiptsSince(since, a.cut, a.u.id); len(list) > 0 {
			body = appendReceipts(comma(body), list)
		}
	}
	if len(body) == empty {
		return body[:mark]
	}
	return append(body, `]}`...)
}

// appendTyping appends m.typing when it has changed since the token.
// spec: client-server-api §typing-notifications
func (a *answer) appendTyping(body []byte, p *part, since *vector) []byte {
	p.room.mu.RLock()
	t := p.room.typing
	p.room.mu.RUnlock()
	if t.pos <= since.sinceEph(t.partition, a.cut.ephID) || t.pos > a.cut.sinceEph(t.partition, a.cut.ephID) || since == nil && len(t.users) == 0 {
		return body
	}
	body = append(comma(body), `{"content":{"user_ids":[`...)
	for _, id := range t.users {
		body = appendString(comma(body), id)
	}
	return append(body, `]},"type":"m.typing"}`...)
}

// appendReceipts appends m.receipt: by event, type and user.
// spec: client-server-api §mreceipt
func appendReceipts(body []byte, list []storage.Receipt) []byte {
	type group map[string][]storage.Receipt
	events := map[string]group{}
	for _, r := range list {
		if events[r.EventID] == nil {
			events[r.EventID] = group{}
		}
		events[r.EventID][r.Type] = append(events[r.EventID][r.Type], r)
	}
	// A user may have several receipts of a type on one event, for different
	// threads, where an object has one place: those go into events of their own.
	var again []storage.Receipt
	body = append(body, `{"content":{`...)
	for id, types := range events {
		body = append(appendKey(body, id), '{')
		for typ, receipts := range types {
			body = append(appendKey(body, typ), '{')
			seen := map[string]struct{}{}
			for _, r := range receipts {
				if _, ok := seen[r.UserID]; ok {
					again = append(again, r)
					continue
				}
				seen[r.UserID] = struct{}{}
				body = append(appendKey(body, r.UserID), `{"ts":`...)
				body = strconv.AppendInt(body, r.TS, 10)
				if r.ThreadID != "" {
					body = appendString(append(body, `,"thread_id":`...), r.ThreadID)
				}
				body = append(body, '}')
			}
			body = append(body, '}')
		}
		body = append(body, '}')
	}
	body = append(body, `},"type":"m.receipt"}`...)
	if len(again) > 0 {
		return appendReceipts(append(body, ','), again)
	}
	return body
}
