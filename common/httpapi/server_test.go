package httpapi

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// listen serves the endpoints until stop is called, which returns Serve's error.
func listen(t *testing.T, o ServerOptions, router Options, endpoints ...Endpoint) (address string, stop func() error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.Handler, o.Logger = newRouter(t, router, endpoints...), quiet(io.Discard)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, l, o) }()
	return l.Addr().String(), func() error {
		cancel()
		return <-served
	}
}

func TestServeStops(t *testing.T) {
	entered, told := make(chan bool), make(chan bool)
	address, stop := listen(t, ServerOptions{Grace: time.Minute, OnStop: func() { close(told) }}, Options{},
		Endpoint{Method: "GET", Path: "/poll", Handler: func(r *Request) (any, error) {
			close(entered)
			select {
			case <-Stopping(r.Context()):
				<-told
				return map[string]string{"answered": "early"}, nil
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
		}})
	answer := make(chan string, 1)
	go func() {
		res, err := http.Get("http://" + address + "/poll")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		answer <- fmt.Sprint(res.StatusCode, string(body), err)
	}()
	<-entered
	if err := stop(); err != nil {
		t.Error(err)
	}
	if got := <-answer; !strings.Contains(got, `200{"answered":"early"}`) {
		t.Errorf("the poll got %s", got)
	}
	if _, err := http.Get("http://" + address + "/poll"); err == nil {
		t.Error("a stopped server answers")
	}
}

// TestServeAnswersWhatItAccepted: a connection that was accepted before the server
// began to stop, and brings its request after that, gets an answer, and is told to
// bring no other.
func TestServeAnswersWhatItAccepted(t *testing.T) {
	stopping := make(chan bool)
	address, stop := listen(t, ServerOptions{OnStop: func() { close(stopping) }}, Options{},
		Endpoint{Method: "POST", Path: "/x", Handler: func(r *Request) (any, error) { return nil, nil }})
	first, err := net.Dial("tcp", address) // accepted in the order of dialling
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	res, err := http.Post("http://"+address+"/x", "application/json", nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	<-stopping
	for { // until it is not listened any more
		c, err := net.Dial("tcp", address)
		if err != nil {
			break
		}
		c.Close()
	}
	fmt.Fprintf(first, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
	res, err = http.ReadResponse(bufio.NewReader(first), nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 || !res.Close {
		t.Errorf("answered %s, closed: %v", res.Status, res.Close)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestServeClosesAfterGrace(t *testing.T) {
	entered, left := make(chan bool), make(chan bool)
	address, stop := listen(t, ServerOptions{Grace: time.Millisecond}, Options{},
		Endpoint{Method: "GET", Path: "/hang", Handler: func(r *Request) (any, error) {
			close(entered)
			<-r.Context().Done()
			close(left)
			return nil, r.Context().Err()
		}})
	go func() {
		if res, err := http.Get("http://" + address + "/hang"); err == nil {
			res.Body.Close()
		}
	}()
	<-entered
	if err := stop(); err != nil {
		t.Error(err)
	}
	<-left
}

func TestServeFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Serve(context.Background(), l, ServerOptions{Handler: http.NotFoundHandler(), Logger: quiet(io.Discard)}); err == nil {
		t.Error("a closed listener is served")
	}
}

func TestSlowBody(t *testing.T) {
	address, stop := listen(t, ServerOptions{Grace: time.Millisecond}, Options{BodyTimeout: 20 * time.Millisecond},
		Endpoint{Method: "POST", Path: "/x", Handler: func(r *Request) (any, error) { return nil, r.Decode(new(any)) }})
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusRequestTimeout {
		t.Errorf("answered %s", res.Status)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestWaitAfterBody checks that the deadline of a body does not end a request
// that waits after it.
func TestWaitAfterBody(t *testing.T) {
	const timeout = 30 * time.Millisecond
	address, stop := listen(t, ServerOptions{}, Options{BodyTimeout: timeout},
		Endpoint{Method: "POST", Path: "/x", Handler: func(r *Request) (any, error) {
			if err := r.Decode(new(any)); err != nil {
				return nil, err
			}
			select {
			case <-r.Context().Done():
				return nil, r.Context().Err()
			case <-time.After(3 * timeout):
				return nil, nil
			}
		}})
	for range 2 { // also on the kept connection
		res, err := http.Post("http://"+address+"/x", "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, res.Body)
		if err != nil || res.StatusCode != 200 {
			t.Errorf("answered %s, %v", res.Status, err)
		}
		res.Body.Close()
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestHeaderLimit(t *testing.T) {
	address, stop := listen(t, ServerOptions{}, Options{}, Endpoint{Method: "GET", Path: "/x", Handler: echo()})
	req, err := http.NewRequest("GET", "http://"+address+"/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Long", strings.Repeat("x", 100<<10))
	res, err := http.DefaultClient.Do(req)
	if err == nil {
		res.Body.Close()
		if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("answered %s", res.Status)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestRefusedBodyOfProxy: who sends a body that is too large, on a connection that
// ends with the request, still gets the answer.
func TestRefusedBodyOfProxy(t *testing.T) {
	address, _ := listen(t, ServerOptions{}, Options{}, Endpoint{Method: "PUT", Path: "/small", MaxBody: 1000, Handler: func(r *Request) (any, error) {
		_, err := r.ReadBody()
		return nil, err
	}})
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const size = 5 << 20
	if _, err := fmt.Fprintf(conn, "PUT /small HTTP/1.0\r\nContent-Length: %d\r\n\r\n", size); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(conn, zeros{}, size); err != nil {
		t.Fatalf("the connection was closed before the body was read: %v", err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("answered %d", res.StatusCode)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
