package httpapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// streaming is an endpoint that tells how much it was sent.
func streaming(limit int64) Endpoint {
	return Endpoint{Method: "POST", Path: "/up", Stream: true, MaxBody: limit, Handler: func(r *Request) (any, error) {
		body, err := r.Stream()
		if err != nil {
			return nil, err
		}
		n, err := io.Copy(io.Discard, body)
		return map[string]int64{"n": n}, err
	}}
}

func TestStreamBounds(t *testing.T) {
	h := newRouter(t, Options{MaxBody: 10, BodyTimeout: time.Minute}, streaming(100_000))
	for size, want := range map[int]int{0: 200, 11: 200, 100_000: 200, 100_001: 413} {
		for _, announced := range []bool{true, false} {
			r := httptest.NewRequest("POST", "/up", strings.NewReader(strings.Repeat("x", size)))
			if !announced {
				r.ContentLength = -1
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != want || want == 200 && w.Body.String() != fmt.Sprintf(`{"n":%d}`, size) {
				t.Errorf("%d bytes, announced %v: %d %s", size, announced, w.Code, w.Body)
			}
			if want == 413 {
				checkError(t, w, 413, "M_TOO_LARGE")
			}
		}
	}
	plain := newRouter(t, Options{}, Endpoint{Method: "POST", Path: "/up", Handler: streaming(1).Handler})
	w := httptest.NewRecorder()
	plain.ServeHTTP(w, httptest.NewRequest("POST", "/up", strings.NewReader("x")))
	checkError(t, w, 500, "M_UNKNOWN")
}

// TestStreamSlow: a client that stops in the middle of a body is answered 408;
// one that is cut off is not taken for one that has finished.
func TestStreamSlow(t *testing.T) {
	outcome := make(chan error, 1)
	e := streaming(1 << 20)
	inner := e.Handler
	e.Handler = func(r *Request) (any, error) {
		v, err := inner(r)
		outcome <- err
		return v, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	handler := newRouter(t, Options{BodyTimeout: 200 * time.Millisecond}, e)
	go func() { done <- Serve(ctx, l, ServerOptions{Handler: handler, Logger: quiet(io.Discard)}) }()
	defer func() { stop(); <-done }()
	for _, cut := range []bool{false, true} {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, "POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
		want := "408"
		if cut {
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			want = "400"
		}
		answer, err := io.ReadAll(conn)
		if err != nil || !cut && !strings.HasPrefix(string(answer), "HTTP/1.1 "+want) {
			t.Errorf("cut %v: %q %v", cut, answer, err)
		}
		if err := <-outcome; err == nil {
			t.Errorf("cut %v: it is taken for a whole body", cut)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}

// file is a Content's body that tells whether it was closed.
type file struct {
	*bytes.Reader
	closed bool
}

func (f *file) Close() error { f.closed = true; return nil }

func TestContent(t *testing.T) {
	var last *file
	modified := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	h := newRouter(t, Options{}, Endpoint{Method: "GET", Path: "/f", Handler: func(*Request) (any, error) {
		last = &file{Reader: bytes.NewReader([]byte("0123456789"))}
		return &Content{Header: http.Header{"Content-Type": {"image/png"}, "Etag": {`"x"`}}, Body: last, Size: 10, Modified: modified}, nil
	}})
	for _, c := range []struct {
		name, value string
		status      int
		body        string
	}{
		{"", "", 200, "0123456789"},
		{"Range", "bytes=2-4", 206, "234"},
		{"Range", "bytes=-3", 206, "789"},
		{"Range", "bytes=20-", 416, "invalid range: failed to overlap\n"},
		{"If-None-Match", `"x"`, 304, ""},
		{"If-None-Match", `"y"`, 200, "0123456789"},
		{"If-Modified-Since", modified.Format(http.TimeFormat), 304, ""},
	} {
		w := ask(h, "GET", "/f", "", c.name, c.value)
		if w.Code != c.status || w.Body.String() != c.body || !last.closed {
			t.Errorf("%s %s: %d %q, closed %v", c.name, c.value, w.Code, w.Body, last.closed)
		}
		if c.status == 200 && (w.Header().Get("Content-Length") != "10" || w.Header().Get("Content-Type") != "image/png" || w.Header().Get("Content-Encoding") != "") {
			t.Errorf("headers %v", w.Header())
		}
	}
	if w := ask(h, "HEAD", "/f", ""); w.Code != 200 || w.Body.Len() != 0 || w.Header().Get("Content-Length") != "10" {
		t.Errorf("HEAD: %d %v", w.Code, w.Header())
	}
}

var errCut = errors.New("cut")

// failing is a body that ends with an error.
type failing struct{ io.Reader }

func (f failing) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if err == io.EOF {
		err = errCut
	}
	return n, err
}

func TestStreamCut(t *testing.T) {
	h := newRouter(t, Options{}, streaming(100))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", "/up", failing{strings.NewReader("abc")}))
	checkError(t, w, 400, "M_UNKNOWN")
}
