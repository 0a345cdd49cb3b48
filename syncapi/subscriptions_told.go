package syncapi

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

const (
	defaultSubscriptions = 100
	maxSubscribed        = 1000
)

// toldSubscriptions are subscriptions as clients are told of them, by room and
// thread.
// spec: MSC4308
type toldSubscriptions struct {
	Subscribed   map[string]map[string]toldSubscription `json:"subscribed,omitempty"`
	Unsubscribed map[string]map[string]toldSubscription `json:"unsubscribed,omitempty"`
	PrevBatch    string                                 `json:"prev_batch,omitzero"`
	End          string                                 `json:"end,omitzero"`
}

// toldSubscription has an Automatic unless it is the end of one. Of two that a
// client is told the one with the higher stamp is the later.
type toldSubscription struct {
	Automatic *bool `json:"automatic,omitempty"`
	BumpStamp int64 `json:"bump_stamp"`
}

// changedThread is a thread with what became of the user's subscription.
type changedThread struct {
	threadKey
	subscription
}

// add adds those changed last, first; it returns the Seq below which the rest is, 0
// when there is none.
func (t *toldSubscriptions) add(list []changedThread, limit int) (rest int64) {
	if len(list) > limit {
		list = list[:limit]
		rest = list[limit-1].seq
	}
	for _, c := range list {
		in, told := &t.Unsubscribed, toldSubscription{BumpStamp: c.seq}
		if c.Subscribed {
			in, told.Automatic = &t.Subscribed, &c.Automatic
		}
		if *in == nil {
			*in = map[string]map[string]toldSubscription{}
		}
		if (*in)[c.roomID] == nil {
			(*in)[c.roomID] = map[string]toldSubscription{}
		}
		(*in)[c.roomID][c.root] = told
	}
	return rest
}

// subscriptionsToken makes the token of a Seq below which the rest is.
func subscriptionsToken(seq int64) string {
	if seq == 0 {
		return ""
	}
	return "b" + strconv.FormatInt(seq, 10)
}

// appendSubscriptionsExtension appends what the user has said of threads since the
// client's position; to a client that is new, to which threads it is subscribed.
func (x *slidingAnswer) appendSubscriptionsExtension(ctx context.Context, body []byte, ask *extensionAsk) ([]byte, bool, error) {
	of := struct {
		Limit int `json:"limit"`
	}{defaultSubscriptions}
	if err := json.Unmarshal(ask.raw, &of); err != nil || of.Limit < 1 {
		return nil, false, matrixerror.InvalidParam("The limit of thread subscriptions is not a number above zero")
	}
	if err := x.s.threadsOf(ctx, x.u); err != nil {
		return nil, false, err
	}
	var since int64
	if ask.told {
		since = x.since.user(x.u.partition)
	}
	list := x.u.threadsBetween(since, x.cut.user(x.u.partition))
	if x.since == nil {
		list = slices.DeleteFunc(list, func(c changedThread) bool { return !c.Subscribed })
	}
	told := toldSubscriptions{}
	told.PrevBatch = subscriptionsToken(told.add(list, min(of.Limit, maxSubscribed)))
	text, err := json.Marshal(&told, json.Deterministic(true))
	return append(body, text...), len(list) > 0, err
}

// threadsBetween are the threads of which the user has said something in
// (since, upTo], last first.
func (u *user) threadsBetween(since, upTo int64) (out []changedThread) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.threads == nil || u.threads.last <= since {
		return nil
	}
	for key, is := range u.threads.all {
		if is.seq > since && is.seq <= upTo {
			out = append(out, changedThread{key, is})
		}
	}
	slices.SortFunc(out, func(a, b changedThread) int { return int(b.seq - a.seq) })
	return out
}

// threadSubscriptions answers GET /thread_subscriptions: what the user has said of
// threads, last first, back to a position of sliding sync.
// spec: MSC4308
func (s *Server) threadSubscriptions(r *httpapi.Request) (any, error) {
	q, ask := r.Query(), &userapi.ThreadSubscriptionsRequest{UserID: r.Device.UserID}
	limit, err := boundedLimit(q, defaultSubscriptions, maxSubscribed)
	if err != nil {
		return nil, err
	}
	if q.Get("dir") != "b" {
		return nil, matrixerror.InvalidParam("dir is not b")
	}
	if token := q.Get("from"); token != "" {
		number, ok := strings.CutPrefix(token, "b")
		if ask.Before, err = strconv.ParseInt(number, 10, 64); err != nil || !ok || ask.Before < 1 {
			return nil, errToken()
		}
	}
	if token := q.Get("to"); token != "" {
		at, _, err := parsePos(token, s.view.shape)
		if err != nil {
			return nil, errToken()
		}
		ask.After = at.user(eventlog.PartitionFor(r.Device.UserID, len(s.view.shape.users)))
	}
	ask.Limit = limit + 1
	rows, err := s.askThreads(r.Context(), ask)
	if err != nil {
		return nil, err
	}
	list := make([]changedThread, len(rows))
	for i := range rows {
		t := &rows[i]
		list[i] = changedThread{threadKey{t.RoomID, t.ThreadID}, subscription{t.ThreadState, t.Seq}}
	}
	told := toldSubscriptions{}
	told.End = subscriptionsToken(told.add(list, limit))
	text, err := json.Marshal(&told, json.Deterministic(true))
	return jsontext.Value(text), err
}
