package httpapi

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
)

// own is a type with rules of its own.
type own struct{}

func (*own) UnmarshalJSON([]byte) error { return matrixerror.InvalidParam("never") }

type thing struct {
	Name string         `json:"name"`
	N    int            `json:"n"`
	Raw  jsontext.Value `json:"raw"`
	Own  *own           `json:"own"`
}

func bodyRequest(body string, limit int64) *Request {
	return &Request{Request: httptest.NewRequest("POST", "/", strings.NewReader(body)), maxBody: limit}
}

func TestDecode(t *testing.T) {
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, c := range []struct{ name, body, code string }{
		{"object", `{"name":"a","n":1,"raw":{"b":[1]}}`, ""},
		{"unknown member", `{"more":true}`, ""},
		{"space around", " \n{} \t", ""},
		{"escaped quotes", `{"name":"\\\"[[["}`, ""},
		{"deep as allowed", `{"raw":` + nested(MaxDepth-1) + `}`, ""},
		{"empty", ``, "M_NOT_JSON"},
		{"space only", ` `, "M_NOT_JSON"},
		{"word", `hello`, "M_NOT_JSON"},
		{"cut", `{"name":"a`, "M_NOT_JSON"},
		{"trailing", `{} {}`, "M_NOT_JSON"},
		{"trailing comma", `{"n":1,}`, "M_NOT_JSON"},
		{"not UTF-8", "{\"name\":\"\xff\"}", "M_NOT_JSON"},
		{"half a surrogate pair", `{"name":"\ud800"}`, "M_NOT_JSON"},
		{"wrong type, then broken", `{"n":"x",`, "M_NOT_JSON"},
		{"null", `null`, "M_BAD_JSON"},
		{"list", `[]`, "M_BAD_JSON"},
		{"wrong type", `{"n":"x"}`, "M_BAD_JSON"},
		{"not whole", `{"n":1.5}`, "M_BAD_JSON"},
		{"too large a number", `{"n":1e99}`, "M_BAD_JSON"},
		{"duplicate", `{"n":1,"n":2}`, "M_BAD_JSON"},
		{"duplicate within", `{"raw":{"n":1,"n":2}}`, "M_BAD_JSON"},
		{"duplicate in what is skipped", `{"more":{"n":1,"n":2}}`, "M_BAD_JSON"},
		{"too deep", `{"raw":` + nested(MaxDepth) + `}`, "M_BAD_JSON"},
		{"far too deep", nested(100_000), "M_BAD_JSON"},
		{"own rules", `{"own":{}}`, "M_INVALID_PARAM"},
		{"too long", `{"name":"` + strings.Repeat("x", 2_000_000) + `"}`, "M_TOO_LARGE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var v thing
			checkCode(t, bodyRequest(c.body, 1<<20).Decode(&v), c.code)
		})
	}
	var v thing
	err := bodyRequest(`{"n":"x"}`, 0).Decode(&v)
	if err == nil || !strings.Contains(err.Error(), "/n") || strings.Contains(err.Error(), "thing") {
		t.Errorf("a wrong type is told as %v", err)
	}
}

func checkCode(t *testing.T, err error, code string) {
	t.Helper()
	got := ""
	if err != nil {
		e := matrixerror.From(err)
		if e == nil {
			t.Fatalf("not a Matrix error: %v", err)
		}
		got = e.Code
	}
	if got != code {
		t.Errorf("got %q (%v), want %q", got, err, code)
	}
}

func TestDecodeOptional(t *testing.T) {
	for body, code := range map[string]string{"": "", " ": "", "{}": "", `{"n":1}`: "", "x": "M_NOT_JSON", "null": "M_BAD_JSON"} {
		var v thing
		checkCode(t, bodyRequest(body, 0).DecodeOptional(&v), code)
	}
}

func TestDecodeRaw(t *testing.T) {
	raw, err := bodyRequest(" {\"a\": 1}\n", 0).DecodeRaw()
	if err != nil || string(raw) != `{"a": 1}` {
		t.Errorf("%s, %v", raw, err)
	}
	for body, code := range map[string]string{"": "M_NOT_JSON", "{}x": "M_NOT_JSON", `{"a":1,"a":1}`: "M_BAD_JSON"} {
		_, err := bodyRequest(body, 0).DecodeRaw()
		checkCode(t, err, code)
	}
}

func TestBodyLimit(t *testing.T) {
	for _, announced := range []int64{-1, 11} { // chunked or not
		r := bodyRequest("01234567890", 10)
		r.ContentLength = announced
		_, err := r.ReadBody()
		if e := matrixerror.From(err); e == nil || e.Status != http.StatusRequestEntityTooLarge {
			t.Errorf("announced %d: %v", announced, err)
		}
	}
	r := bodyRequest("0123456789", 10)
	for range 2 { // read once, returned as often as asked for
		if body, err := r.ReadBody(); err != nil || len(body) != 10 {
			t.Errorf("%q, %v", body, err)
		}
	}
}

func TestQuery(t *testing.T) {
	r := &Request{Request: httptest.NewRequest("GET", "/?n=5&bad=x&yes=true&no=false&s=a%2Fb", nil)}
	if n, err := r.QueryInt("n", 1); n != 5 || err != nil {
		t.Error(n, err)
	}
	if n, err := r.QueryInt("none", 1); n != 1 || err != nil {
		t.Error(n, err)
	}
	_, err := r.QueryInt("bad", 1)
	checkCode(t, err, "M_INVALID_PARAM")
	for name, want := range map[string]bool{"yes": true, "no": false, "none": true} {
		if b, err := r.QueryBool(name, true); b != want || err != nil {
			t.Error(name, b, err)
		}
	}
	_, err = r.QueryBool("bad", true)
	checkCode(t, err, "M_INVALID_PARAM")
	if s := r.QueryString("s"); s != "a/b" {
		t.Error(s)
	}
}

// FuzzDecode checks that whatever is sent gives a Matrix error or a value, the
// same in all ways of decoding, and that what is taken is JSON.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{`{"name":"a"}`, `{"n":1,"n":2}`, `[[[[`, `"\ud800"`, "{\"name\":\"\xff\"}", `{} x`, `null`, `{"raw":[{"a":"\\\""}]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var v thing
		var raw jsontext.Value
		err, rawErr := decode(body, &v), decode(body, &raw)
		for _, e := range []error{err, rawErr} {
			if e != nil && matrixerror.From(e) == nil {
				t.Fatalf("%q: not a Matrix error: %v", body, e)
			}
		}
		if (validate(body) == nil) != (rawErr == nil) {
			t.Fatalf("%q: validated %v, decoded %v", body, validate(body), rawErr)
		}
		if err == nil && rawErr != nil {
			t.Fatalf("%q is taken, but %v", body, rawErr)
		}
		if rawErr == nil {
			if _, err := json.Marshal(raw); err != nil {
				t.Fatalf("%q is not JSON: %v", body, err)
			}
		}
	})
}
