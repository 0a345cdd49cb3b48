package rpc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// TestPlainAnswers: who does not know blobs, as the previous release, gets and
// gives answers that are all JSON.
func TestPlainAnswers(t *testing.T) {
	h, err := NewHTTPHandler(HandlerOptions{Server: testServer(nil, nil), Secret: testSecret, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Accept")
		h.ServeHTTP(w, r)
	}))
	defer old.Close()
	v := everything{Raw: jsontext.Value(`{"a":[1,{"b":"é"}]}`), Values: map[string]jsontext.Value{"x": jsontext.Value("null"), "y": nil}}
	for name, address := range map[string]string{"an old server": old.URL, "a new one": serveHTTP(t, HandlerOptions{Server: testServer(nil, nil)})} {
		res, err := echo.Call(t.Context(), client(t, address, ClientOptions{}), &v)
		if err != nil || !reflect.DeepEqual(res.Raw, v.Raw) || !reflect.DeepEqual(res.Values, v.Values) {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
	}
}

func TestBlobsLimit(t *testing.T) {
	c := newCodec()
	v := everything{Raw: jsontext.Value(`"` + strings.Repeat("x", 1000) + `"`)}
	if err := c.encodeBlobs(new(bytes.Buffer), 1100, &v); !errors.Is(err, errTooLarge) {
		t.Errorf("more than the limit: %v", err)
	}
	if err := c.encodeBlobs(new(bytes.Buffer), 5000, &v); err != nil {
		t.Error(err)
	}
}

func FuzzBlobs(f *testing.F) {
	c := newCodec()
	var good bytes.Buffer
	v := everything{Raw: jsontext.Value(`{"a":1}`), Values: map[string]jsontext.Value{"x": jsontext.Value("2")}}
	if err := c.encodeBlobs(&good, 1<<20, &v); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	head := func(json, rest string) []byte {
		return append(append(binary.BigEndian.AppendUint32(nil, uint32(len(json))), json...), rest...)
	}
	for _, b := range [][]byte{nil, {0, 0}, {255, 255, 255, 255, 1}, head(`{}`, ""), head(`{"Raw":0}`, ""), head(`{"Raw":1}`, "\x01x"),
		head(`{"Raw":-1}`, "\x01x"), head(`{"Raw":0}`, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x"), head(`{"Raw":1e99}`, "\x01x"), head(`{"Raw":"0"}`, "\x01x")} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var v, again everything
		if c.decodeBlobs(body, &v) != nil {
			return
		}
		var buf bytes.Buffer
		if err := c.encodeBlobs(&buf, 1<<20, &v); err != nil {
			return // not all that can be read can be said
		}
		if err := c.decodeBlobs(buf.Bytes(), &again); err != nil || !reflect.DeepEqual(v, again) {
			t.Errorf("%+v came back as %+v, %v", v, again, err)
		}
	})
}
