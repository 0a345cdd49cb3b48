package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/matrixerror"
)

const testSecret = "a-secret-that-is-long-enough"

// opaque stands for types of the protocol: nothing of it is exported, and it
// says itself how it travels.
type opaque struct{ text string }

func (o *opaque) MarshalJSONTo(e *jsontext.Encoder) error {
	return e.WriteToken(jsontext.String(o.text))
}

func (o *opaque) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	token, err := d.ReadToken()
	o.text = token.String()
	return err
}

type key struct{ Type, StateKey string }

// entry embeds as the room server's entries of state do.
type entry struct {
	key
	Key2    key
	EventID string `json:"id,omitzero"`
}

type everything struct {
	Text       string
	Number     int64
	Natural    uint64
	Float      float64
	Yes        bool
	Bytes      []byte
	Strings    []string
	Nested     [][]string
	Map        map[string]int
	Values     map[string]jsontext.Value
	Raw        jsontext.Value
	OmittedRaw jsontext.Value `json:"omitted_raw,omitzero"`
	Wait       time.Duration
	At         time.Time
	Pointer    *string
	Entries    []entry
	Opaque     *opaque
	Opaques    []*opaque
}

var (
	echo    = NewMethod[everything, everything]("test", "echo")
	nothing = NewMethod[struct{}, everything]("test", "nothing")
	failing = NewMethod[struct{ Case string }, struct{}]("test", "failing")
	waiting = NewMethod[struct{}, struct{}]("test", "waiting")
	missing = NewMethod[struct{}, struct{}]("test", "missing")
)

// errorCases are what methods return, and what callers have to see of it.
func errorCases() map[string]error {
	full := &matrixerror.Error{
		Status: 429, Code: "M_LIMIT_EXCEEDED", Message: "slower: é\n", RetryAfter: 1500 * time.Millisecond, SoftLogout: true,
		Fields: map[string]any{"room_version": "9", "yes": true, "none": nil, "list": []any{"a"}},
	}
	return map[string]error{
		"plain":   errors.New("the disk is full"),
		"full":    full,
		"empty":   &matrixerror.Error{Status: 400, Code: "M_UNKNOWN", Fields: map[string]any{}},
		"wrapped": fmt.Errorf("reading state: %w", matrixerror.NotFound("no such room")),
		"joined":  errors.Join(errors.New("first"), matrixerror.Forbidden("no")),
	}
}

// testServer serves the methods of the suite. waiting tells on entered that it
// has begun, and on left that its context has ended.
func testServer(entered, left chan<- bool) *Server {
	s := NewServer()
	echo.Serve(s, func(_ context.Context, r *everything) (*everything, error) { return r, nil })
	nothing.Serve(s, func(context.Context, *struct{}) (*everything, error) { return nil, nil })
	failing.Serve(s, func(_ context.Context, r *struct{ Case string }) (*struct{}, error) { return nil, errorCases()[r.Case] })
	waiting.Serve(s, func(ctx context.Context, _ *struct{}) (*struct{}, error) {
		entered <- true
		<-ctx.Done()
		left <- true
		return nil, ctx.Err()
	})
	return s
}

func quiet() *logrus.Entry {
	l := logrus.New()
	l.SetOutput(io.Discard)
	l.SetLevel(logrus.DebugLevel)
	return logrus.NewEntry(l)
}

// serveHTTP serves s to other processes and returns its address.
func serveHTTP(t testing.TB, o HandlerOptions) string {
	t.Helper()
	o.Secret, o.Logger = testSecret, quiet()
	h, err := NewHTTPHandler(o)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

// client calls the server at an address.
func client(t testing.TB, address string, o ClientOptions) *HTTPClient {
	t.Helper()
	if o.Address == nil {
		o.Address = func(context.Context, string, string) (string, error) { return address + "/", nil }
	}
	if o.Secret == "" {
		o.Secret = testSecret
	}
	o.Logger = quiet()
	c, err := NewHTTPClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestCallers holds every Caller to the same behaviour.
func TestCallers(t *testing.T) {
	for name, remote := range map[string]bool{"local": false, "remote": true} {
		t.Run(name, func(t *testing.T) {
			entered, left := make(chan bool, 1), make(chan bool, 1)
			s := testServer(entered, left)
			var c Caller = s
			if remote {
				c = client(t, serveHTTP(t, HandlerOptions{Server: s}), ClientOptions{})
			}
			t.Run("values", func(t *testing.T) { testValues(t, c) })
			t.Run("errors", func(t *testing.T) { testErrors(t, c) })
			t.Run("cancel", func(t *testing.T) { testCancel(t, c, entered, left) })
			t.Run("at once", func(t *testing.T) { testAtOnce(t, c) })
		})
	}
}

func testValues(t *testing.T, c Caller) {
	text := "s"
	for name, v := range map[string]everything{
		"zero": {},
		"empty": {
			Bytes: []byte{}, Strings: []string{}, Nested: [][]string{nil, {}}, Map: map[string]int{}, Values: map[string]jsontext.Value{},
			Entries: []entry{}, Opaques: []*opaque{},
		},
		"full": {
			Text: "é\u2028<&>\x00\"\\", Number: math.MinInt64, Natural: math.MaxUint64, Float: 1e300, Yes: true, Bytes: []byte{0, 255},
			Strings: []string{"", "a"}, Nested: [][]string{{"a"}, {"b", "c"}}, Map: map[string]int{"": 1, "a.b": -1},
			Values:     map[string]jsontext.Value{"nil": nil, "null": jsontext.Value("null"), "object": jsontext.Value(`{"a":[1]}`)},
			OmittedRaw: jsontext.Value("null"), Wait: 90*time.Minute + 1, At: time.Date(2030, 2, 3, 4, 5, 6, 7, time.UTC), Pointer: &text,
			Entries: []entry{{EventID: "$1", Key2: key{"m.room.member", "@a:b"}}},
			Opaque:  &opaque{`{"x":1}`}, Opaques: []*opaque{{"1"}, nil, {"2"}},
		},
		// What clients and servers sent is kept as it is, however odd.
		"raw": {Raw: jsontext.Value(`{ "b" : 1.0e2, "b":"\u0041\ud800", "a":"é" }` + "\n")},
	} {
		res, err := echo.Call(t.Context(), c, &v)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !reflect.DeepEqual(*res, v) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", name, *res, v)
		}
	}
	if res, err := nothing.Call(t.Context(), c, &struct{}{}); res != nil || err != nil {
		t.Errorf("a nil response arrives as %+v, %v", res, err)
	}
}

func testErrors(t *testing.T, c Caller) {
	for name, want := range errorCases() {
		res, err := failing.Call(t.Context(), c, &struct{ Case string }{name})
		if err == nil || res != nil {
			t.Errorf("%s: got %v, %v", name, res, err)
			continue
		}
		if got, want := matrixerror.From(err), matrixerror.From(want); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %#v, want %#v", name, got, want)
		}
		if matrixerror.From(want) == nil && !strings.Contains(err.Error(), want.Error()) {
			t.Errorf("%s: %q does not say %q", name, err, want)
		}
	}
	_, err := missing.Call(t.Context(), c, &struct{}{})
	if !errors.Is(err, ErrNoMethod) || matrixerror.From(err) != nil || !strings.Contains(err.Error(), "test/missing") {
		t.Errorf("a method that is not served gives %v", err)
	}
}

func testCancel(t *testing.T, c Caller, entered, left <-chan bool) {
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := waiting.Call(ctx, c, &struct{}{})
		failed <- err
	}()
	<-entered
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) || matrixerror.From(err) != nil {
		t.Errorf("a cancelled call gives %v", err)
	}
	<-left
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	// It may end before the method has begun.
	if _, err := waiting.Call(ctx, c, &struct{}{}); !errors.Is(err, context.DeadlineExceeded) || matrixerror.From(err) != nil {
		t.Errorf("a call over its caller's deadline gives %v", err)
	}
}

func testAtOnce(t *testing.T, c Caller) {
	var group sync.WaitGroup
	for i := range 64 {
		group.Go(func() {
			v := everything{Number: int64(i), Raw: jsontext.Value(strings.Repeat("[", i))}
			if res, err := echo.Call(t.Context(), c, &v); err != nil || !reflect.DeepEqual(*res, v) {
				t.Errorf("call %d: %+v, %v", i, res, err)
			}
		})
	}
	group.Wait()
}

// TestStrings shows what becomes of strings that JSON cannot hold.
func TestStrings(t *testing.T) {
	c := client(t, serveHTTP(t, HandlerOptions{Server: testServer(nil, nil)}), ClientOptions{})
	res, err := echo.Call(t.Context(), c, &everything{Text: "!\xff:b"})
	if err != nil || res.Text != "!\ufffd:b" {
		t.Errorf("got %+v, %v", res, err)
	}
	if _, err := echo.Call(t.Context(), c, &everything{Raw: jsontext.Value("\"\xff\"")}); err == nil {
		t.Error("raw JSON that is not UTF-8 is sent in a request")
	}
}

// TestOpaque shows that a type that does not say how it travels is an error,
// rather than something that arrives empty.
func TestOpaque(t *testing.T) {
	type silent struct{ text string }
	type holder struct{ *silent }
	m := NewMethod[silent, silent]("test", "silent")
	held := NewMethod[holder, holder]("test", "held")
	s := NewServer()
	m.Serve(s, func(_ context.Context, r *silent) (*silent, error) { return r, nil })
	held.Serve(s, func(_ context.Context, r *holder) (*holder, error) { return r, nil })
	c := client(t, serveHTTP(t, HandlerOptions{Server: s}), ClientOptions{})
	if res, err := m.Call(t.Context(), c, &silent{"lost"}); err == nil {
		t.Errorf("got %+v", res)
	}
	if res, err := held.Call(t.Context(), c, &holder{&silent{"lost"}}); err == nil {
		t.Errorf("got %+v", res)
	}
}

func FuzzHandler(f *testing.F) {
	h, err := NewHTTPHandler(HandlerOptions{Server: testServer(nil, nil), Secret: testSecret, Logger: quiet(), MaxRequest: 1 << 16})
	if err != nil {
		f.Fatal(err)
	}
	for _, body := range []string{`{}`, `null`, ``, `{"Raw":1}`, `{"Raw":"{"}`, `{"Wait":1.5}`, `{"Opaque":"x","Entries":[{"id":"\ud800"}]}`, `{"Text":1}x`} {
		f.Add(pathPrefix+"test/echo", []byte(body))
	}
	f.Add(pathPrefix+"test/failing", []byte(`{"Case":"full"}`))
	f.Add(pathPrefix+"..//%2F", []byte("{}"))
	f.Fuzz(func(t *testing.T, path string, body []byte) {
		if strings.Contains(path, "waiting") {
			return
		}
		r := httptest.NewRequest(http.MethodPost, "http://x/", strings.NewReader(string(body)))
		r.URL.Path, r.URL.RawPath = path, ""
		r.Header.Set("Authorization", bearer+testSecret)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code == http.StatusOK && !jsontext.Value(w.Body.Bytes()).IsValid(jsontext.AllowInvalidUTF8(true)) {
			t.Errorf("%q", w.Body)
		}
	})
}

func BenchmarkCall(b *testing.B) {
	s := testServer(nil, nil)
	v := everything{Text: "!room:example.org", Strings: []string{"a", "b"}, Raw: jsontext.Value(`{"membership":"join","displayname":"Alice"}`)}
	for name, c := range map[string]Caller{"local": s, "remote": client(b, serveHTTP(b, HandlerOptions{Server: s}), ClientOptions{})} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := echo.Call(b.Context(), c, &v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
