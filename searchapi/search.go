package searchapi

import (
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/filters"
	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/searchapi/storage"
	"github.com/matrix-org/dendrite/searchapi/words"
	syncapi "github.com/matrix-org/dendrite/syncapi/api"
)

// Bounds of requests.
const (
	maxTermBytes   = 1024
	maxTerms       = 128
	defaultResults = 10
	maxResults     = 100
	// defaultAround and maxAround are how many events before, and after, a result.
	defaultAround = 5
	maxAround     = 20
	// retryLater is when a client is to come again where too much is asked for now.
	retryLater = time.Second
)

// Endpoints are the public endpoints that the search-server serves.
func (s *Server) Endpoints() []httpapi.Endpoint {
	return []httpapi.Endpoint{
		{Method: http.MethodPost, Path: "/_matrix/client/v3/search", Access: httpapi.User, Limit: httpapi.LimitRequest, Handler: s.search},
	}
}

// searchBody is what POST /search takes.
type searchBody struct {
	Categories *struct {
		RoomEvents *criteria `json:"room_events"`
	} `json:"search_categories"`
}

// criteria say what is searched for among rooms' events.
type criteria struct {
	Term    *string        `json:"search_term"`
	Keys    []string       `json:"keys"`
	Filter  jsontext.Value `json:"filter"`
	OrderBy string         `json:"order_by"`
	Context *struct {
		Before   *int64 `json:"before_limit"`
		After    *int64 `json:"after_limit"`
		Profiles bool   `json:"include_profile"`
	} `json:"event_context"`
	State     bool `json:"include_state"`
	Groupings struct {
		GroupBy []struct {
			Key string `json:"key"`
		} `json:"group_by"`
	} `json:"groupings"`
}

// query is a request that was understood.
type query struct {
	userID, deviceID string
	now              int64 // milliseconds
	terms            []words.Term
	words            []string
	keys             []storage.Key // nil: all
	filter           *filters.Event
	limit            int
	byRank           bool
	groups           []string
	context          *syncapi.ContextRequest
	state            bool
	from             place // where the page begins
}

// The keys by which results are grouped.
const (
	groupRoom   = "room_id"
	groupSender = "sender"
)

// search serves POST /search.
// spec: client-server-api §post_matrixclientv3search
func (s *Server) search(r *httpapi.Request) (any, error) {
	var body searchBody
	if err := r.Decode(&body); err != nil {
		return nil, err
	}
	if body.Categories == nil {
		return nil, matrixerror.MissingParam("search_categories is needed")
	}
	if body.Categories.RoomEvents == nil { // nothing is searched for in a category that is known
		return &answer{}, nil
	}
	q, err := body.Categories.RoomEvents.query()
	if err != nil {
		return nil, err
	}
	if token := r.QueryString("next_batch"); token != "" {
		if q.from, err = parsePlace(token, q.byRank); err != nil {
			return nil, err
		}
	}
	q.userID, q.deviceID, q.now = r.Device.UserID, r.Device.DeviceID, s.now().UnixMilli()
	select {
	case s.searching <- struct{}{}:
		defer func() { <-s.searching }()
	default:
		return nil, matrixerror.Unavailable(retryLater, "Too many are searching")
	}
	began := time.Now()
	defer func() { s.metrics.seconds.Observe(time.Since(began).Seconds()) }()
	return s.answer(r.Context(), q)
}

// query checks criteria.
func (c *criteria) query() (*query, error) {
	if c.Term == nil {
		return nil, matrixerror.MissingParam("search_term is needed")
	}
	if len(*c.Term) > maxTermBytes {
		return nil, matrixerror.InvalidParam("search_term has more than %d bytes", maxTermBytes)
	}
	q := &query{byRank: c.OrderBy != "recent", state: c.State, from: place{below: storage.First}}
	var ok bool
	if q.terms, q.words, ok = words.Query(*c.Term, maxTerms); !ok {
		return nil, matrixerror.InvalidParam("search_term has more than %d terms", maxTerms)
	}
	if c.OrderBy != "" && c.OrderBy != "recent" && c.OrderBy != "rank" {
		return nil, matrixerror.InvalidParam("order_by is neither recent nor rank")
	}
	for _, key := range c.Keys {
		at := slices.Index([]string{"content.body", "content.name", "content.topic"}, key)
		if at < 0 {
			return nil, matrixerror.InvalidParam("keys are content.body, content.name and content.topic")
		}
		q.keys = append(q.keys, storage.KeyBody+storage.Key(at))
	}
	for _, g := range c.Groupings.GroupBy {
		if g.Key != groupRoom && g.Key != groupSender {
			return nil, matrixerror.InvalidParam("Results are grouped by room_id or sender")
		}
		if !slices.Contains(q.groups, g.Key) {
			q.groups = append(q.groups, g.Key)
		}
	}
	var err error
	if q.filter, err = filters.ParseEvent(string(c.Filter)); err != nil {
		return nil, err
	}
	q.limit = max(q.filter.Count(defaultResults, maxResults), 1)
	return q, c.around(q)
}

// around checks what is wanted around results.
func (c *criteria) around(q *query) error {
	if c.Context == nil {
		return nil
	}
	q.context = &syncapi.ContextRequest{Before: defaultAround, After: defaultAround, Profiles: c.Context.Profiles}
	for _, of := range []struct {
		asked *int64
		value *int
	}{{c.Context.Before, &q.context.Before}, {c.Context.After, &q.context.After}} {
		switch {
		case of.asked == nil:
		case *of.asked < 0:
			return matrixerror.InvalidParam("before_limit and after_limit are not negative")
		default:
			*of.value = int(min(*of.asked, maxAround))
		}
	}
	return nil
}

// lists are the terms as storage takes them.
func (q *query) lists() [][]sqldb.Term {
	out := make([][]sqldb.Term, len(q.terms))
	for i, t := range q.terms {
		out[i] = []sqldb.Term{{Text: t.Text, Begins: t.Begins}}
	}
	return out
}

// rank is how much of an event's text was asked for.
func (q *query) rank(f *storage.Found) float64 {
	return min(float64(len(q.terms))/math.Max(float64(f.Words), 1), 1)
}
