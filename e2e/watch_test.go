package e2e

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"mime"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/matrix-org/dendrite/e2e/openapi"
)

// watch sees what a site answers: which operations were walked, and whether the
// answers are as the specification has them, which it reports when the test ends.
type watch struct {
	t     testing.TB
	blind atomic.Bool // what is answered is not this release's

	mu     sync.Mutex
	faults map[string]bool // reported
}

// maxFaults is how many faults a site reports.
const maxFaults = 20

func newWatch(t testing.TB) *watch {
	w := &watch{t: t, faults: map[string]bool{}}
	t.Cleanup(w.report)
	return w
}

// report fails the test if there were faults.
func (w *watch) report() {
	w.mu.Lock()
	defer w.mu.Unlock()
	left := maxFaults
	for fault := range w.faults {
		if left--; left >= 0 {
			w.t.Error(fault)
		}
	}
	if left < 0 {
		w.t.Errorf("and %d more answers are not as the specification has them", -left)
	}
}

// see looks at an answer. If it reads the body, that can be read again.
func (w *watch) see(r *http.Request, res *http.Response) {
	if w.blind.Load() {
		return
	}
	op := walked.operation(r.Method, r.URL.EscapedPath())
	if op == "" || !walked.wants(op, res.StatusCode) {
		return
	}
	answer := openapi.Answer{Status: res.StatusCode, ContentType: res.Header.Get("Content-Type")}
	if kind, _, _ := mime.ParseMediaType(answer.ContentType); kind == "application/json" {
		data, err := io.ReadAll(res.Body)
		res.Body = &replay{bytes.NewReader(data), err, res.Body}
		if err != nil {
			return // who asked is to find out
		}
		if answer.Body = data; res.Header.Get("Content-Encoding") == "gzip" {
			if answer.Body, err = unzipped(data); err != nil {
				w.fault(fmt.Sprintf("%s %s answers %d: %v", r.Method, r.URL.Path, res.StatusCode, err), op+" gzip")
				return
			}
		}
	}
	for _, fault := range walked.judge(op, answer) {
		w.fault(fmt.Sprintf("%s %s answers %d %.600s\n%s", r.Method, r.URL.Path, res.StatusCode, answer.Body, fault), op+fault.Where)
	}
}

func unzipped(data []byte) ([]byte, error) {
	plain, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(plain)
}

// replay is a body that was read already, to where it broke off.
type replay struct {
	data *bytes.Reader
	err  error
	io.Closer
}

// Read implements io.Reader.
func (r *replay) Read(p []byte) (int, error) {
	n, err := r.data.Read(p)
	if err == io.EOF && r.err != nil {
		err = r.err
	}
	return n, err
}

// fault keeps a fault, the first of its place.
func (w *watch) fault(text, place string) {
	if walked.first(place) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.faults[text] = true
	}
}

// watcher is a transport that is watched.
type watcher struct {
	watch *watch
	http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (w *watcher) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := w.RoundTripper.RoundTrip(r)
	if err == nil {
		w.watch.see(r, res)
	}
	return res, err
}
