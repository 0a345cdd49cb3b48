package searchapi

import (
	"encoding/base64"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/searchapi/storage"
)

// place is where a page of results begins: a token for it names nothing but
// positions, so it is valid on every instance for as long as the event is there, and
// after that.
type place struct {
	// below bounds the events that are looked at: where a ranking began.
	below int64
	// after is the last result of the page before, by rank also its words; 0 for none.
	after, words int64
	// group and value are the group that the page is of; "" for all results.
	group, value string
	// count is what the first page said.
	count int64
}

// token is a place as it travels.
type token struct {
	Below int64  `json:"b"`
	After int64  `json:"a,omitzero"`
	Words int64  `json:"w,omitzero"`
	Group string `json:"g,omitzero"`
	Value string `json:"v,omitzero"`
	Count int64  `json:"c"`
}

// The first character says which order a token is of.
const (
	byRecent = 'r'
	byRank   = 'k'
)

func (p *place) token(rank bool) string {
	body, err := json.Marshal(&token{p.below, p.after, p.words, p.group, p.value, p.count})
	if err != nil {
		return "" // a value that is no UTF-8, which no identifier is
	}
	kind := byRecent
	if rank {
		kind = byRank
	}
	return string(kind) + base64.RawURLEncoding.EncodeToString(body)
}

// parsePlace reads what token made; anything else is 400 M_INVALID_PARAM, and so is
// a token of another order.
func parsePlace(text string, rank bool) (place, error) {
	bad := matrixerror.InvalidParam("next_batch is not a token of this search")
	kind := string(byRecent)
	if rank {
		kind = string(byRank)
	}
	if len(text) > 1024 || !strings.HasPrefix(text, kind) {
		return place{}, bad
	}
	body, err := base64.RawURLEncoding.Strict().DecodeString(text[1:])
	if err != nil {
		return place{}, bad
	}
	var t token
	if json.Unmarshal(body, &t, json.RejectUnknownMembers(true)) != nil || t.Below <= 0 || t.After < 0 || t.Words < 0 || t.Count < 0 || t.After > 0 && t.After >= t.Below ||
		len(t.Value) > gomatrixserverlib.MaxIDBytes || (t.Group != "" && t.Group != groupRoom && t.Group != groupSender) || (t.Group == "") != (t.Value == "") {
		return place{}, bad
	}
	return place{t.Below, t.After, t.Words, t.Group, t.Value, t.Count}, nil
}

// passed tells whether a result comes in a page before.
func (p *place) passed(f *storage.Found, rank bool) bool {
	switch {
	case p.after == 0:
		return false
	case rank && int64(f.Words) != p.words:
		return int64(f.Words) < p.words
	}
	return f.NID >= p.after
}
