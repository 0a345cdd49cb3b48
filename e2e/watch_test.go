package e2e

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"net/http"
	"sync"
	"testing"

	"github.com/matrix-org/dendrite/e2e/openapi"
)

// watch sees what a site answers: which operations were walked, and whether the
// answers are as the specification has them, which it reports when the test ends.
type watch struct {
	t     testing.TB
	blind bool // what is answered is not this release's

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

// see looks at an answer. It reads the body and puts it back, if it wants to.
func (w *watch) see(r *http.Request, res *http.Response) error {
	if w.blind {
		return nil
	}
	op := walked.operation(r.Method, r.URL.EscapedPath())
	if op == "" || !walked.wants(op, res.StatusCode) {
		return nil
	}
	answer := openapi.Answer{Status: res.StatusCode, ContentType: res.Header.Get("Content-Type")}
	if kind, _, _ := mime.ParseMediaType(answer.ContentType); kind == "application/json" {
		var err error
		if answer.Body, err = io.ReadAll(res.Body); err != nil {
			return err
		}
		_ = res.Body.Close()
		res.Body = io.NopCloser(bytes.NewReader(answer.Body))
	}
	for _, fault := range walked.judge(op, answer) {
		w.fault(fmt.Sprintf("%s %s answers %d %.600s\n%s", r.Method, r.URL.Path, res.StatusCode, answer.Body, fault), op+fault.Where)
	}
	return nil
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
		err = w.watch.see(r, res)
	}
	return res, err
}
