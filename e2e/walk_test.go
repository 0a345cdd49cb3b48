package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/matrix-org/dendrite/e2e/openapi"
)

// walk is what the tests of this package have asked of the operations that
// docs/endpoints.txt lists as served. Each must have been asked with success, and
// be refused with an errcode, by the end of a whole run.
type walk struct {
	paths  *segment
	served []string
	spec   *openapi.Specification // nil where no copy of it is at hand

	mu      sync.Mutex
	done    map[string]bool
	refused map[string]map[string]bool // errcodes by operation
	judged  map[string]int             // answers by operation and status
	known   map[string]bool            // faults that were told
	spent   time.Duration              // with judging
}

// judgeMost bounds how many answers of an operation with a status are judged.
const judgeMost = 200

// walked is set by TestMain.
var walked *walk

// unrefused are the operations that refuse nobody, and why.
var unrefused = map[string]string{
	"GET /_matrix/client/versions": "it is for everybody, and takes nothing that could be wrong",
	"GET /_matrix/client/v3/login": "it is for everybody, and takes nothing that could be wrong",
}

// newWalk reads docs/endpoints.txt, and the specification where there is a copy.
func newWalk() (*walk, error) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "endpoints.txt"))
	if err != nil {
		return nil, err
	}
	w := walkOf(string(text))
	if root := openapi.Beside(".."); root != "" {
		w.spec, err = openapi.Load(root)
		return w, err
	}
	fmt.Println("There is no copy of the Matrix specification in ../shared/matrix-spec: answers are not checked against it.")
	return w, nil
}

// walkOf begins a walk of what a list has.
func walkOf(list string) *walk {
	w := &walk{paths: &segment{}, done: map[string]bool{}, refused: map[string]map[string]bool{}, judged: map[string]int{}, known: map[string]bool{}}
	heading := ""
	for line := range strings.Lines(list) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			heading = strings.Trim(line, "[]")
		}
		method, path, ok := strings.Cut(line, " ")
		if !ok || !strings.HasPrefix(path, "/") {
			continue
		}
		op := openapi.Operation(method, path)
		w.paths.add(op)
		if heading == "served" {
			w.served = append(w.served, op)
		}
	}
	return w
}

// segment is a part of a path, and what may come after it.
type segment struct {
	next  map[string]*segment // "{}" is any
	names map[string]string   // operations that end here, by method
}

func (s *segment) add(operation string) {
	method, path, _ := strings.Cut(operation, " ")
	for _, part := range strings.Split(path, "/")[1:] {
		if s.next == nil {
			s.next = map[string]*segment{}
		}
		if s.next[part] == nil {
			s.next[part] = &segment{}
		}
		s = s.next[part]
	}
	if s.names == nil {
		s.names = map[string]string{}
	}
	s.names[method] = operation
}

func (s *segment) find(method string, parts []string) string {
	if len(parts) == 0 {
		return s.names[method]
	}
	for _, part := range []string{parts[0], "{}"} {
		if next := s.next[part]; next != nil {
			if op := next.find(method, parts[1:]); op != "" {
				return op
			}
		}
	}
	return ""
}

// operation finds what a request asks for; "" for what is not listed.
func (w *walk) operation(method, escapedPath string) string {
	path := strings.TrimSuffix(strings.Replace(escapedPath, "/_matrix/client/r0/", "/_matrix/client/v3/", 1), "/")
	op := w.paths.find(method, strings.Split(path, "/")[1:])
	if strings.HasSuffix(op, "/rooms/{}/state/{}") {
		op += "/{}" // an empty state key may be left out
	}
	return op
}

// wants tells whether there is something to learn from one more answer.
func (w *walk) wants(op string, status int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := fmt.Sprint(op, status)
	w.judged[key]++
	return w.judged[key] <= judgeMost
}

// judge notes what was answered, and judges it.
func (w *walk) judge(op string, a openapi.Answer) []openapi.Fault {
	var refusal struct {
		Code string `json:"errcode"`
	}
	if a.Status >= 400 && a.Status < 500 {
		_ = json.Unmarshal(a.Body, &refusal) // what is no JSON is told below
	}
	w.mu.Lock()
	switch {
	case a.Status < 400:
		w.done[op] = true
	case refusal.Code != "" && refusal.Code != "M_UNRECOGNIZED":
		if w.refused[op] == nil {
			w.refused[op] = map[string]bool{}
		}
		w.refused[op][refusal.Code] = true
	}
	w.mu.Unlock()
	if w.spec == nil || !w.spec.Has(op) {
		return nil
	}
	began := time.Now()
	faults := w.spec.Check(op, a)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.spent += time.Since(began)
	return faults
}

// first tells whether a fault has not been told yet.
func (w *walk) first(place string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.known[place]
	w.known[place] = true
	return !was
}

// end tells after all tests what they have not walked, if all were run and passed:
// 1 when there is something.
func (w *walk) end(failed int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.spec != nil {
		fmt.Printf("judging answers took %v\n", w.spent.Round(time.Millisecond))
	}
	for _, name := range []string{"test.run", "test.skip", "test.list"} {
		if f := flag.Lookup(name); failed != 0 || f != nil && f.Value.String() != "" {
			return failed
		}
	}
	missing := w.missing()
	for _, m := range missing {
		fmt.Println(m)
	}
	return min(len(missing), 1)
}

// missing are the operations that were not walked. The caller holds mu.
func (w *walk) missing() (out []string) {
	for _, op := range w.served {
		if !w.done[op] {
			out = append(out, op+" is asked with success by no test")
		}
		if len(w.refused[op]) == 0 && unrefused[op] == "" {
			out = append(out, op+" is refused in no test")
		}
	}
	for op := range unrefused {
		if !slices.Contains(w.served, op) || len(w.refused[op]) > 0 {
			out = append(out, op+" is not served, or refused after all: "+strings.Join(slices.Sorted(maps.Keys(w.refused[op])), " "))
		}
	}
	return out
}

// TestWalk: what no test has asked, or seen refused, is told.
func TestWalk(t *testing.T) {
	w := walkOf("[served]\nGET /a/{x}\nGET /a/b\nPUT /a/{x}/state/{type}\n[beyond]\nGET /c\n")
	for path, want := range map[string]string{"/a/%2F": "GET /a/{}", "/a/b/": "GET /a/b", "/c": "GET /c", "/a": "", "/a/b/c": ""} {
		if got := w.operation("GET", path); got != want {
			t.Errorf("GET %s asks for %q, not %q", path, got, want)
		}
	}
	answer := func(op string, status int, body string) {
		w.judge(op, openapi.Answer{Status: status, ContentType: "application/json", Body: []byte(body)})
	}
	answer("GET /a/{}", 200, "{}")
	answer("GET /a/{}", 404, `{"errcode":"M_NOT_FOUND"}`)
	answer("GET /a/b", 200, "{}")
	answer("GET /a/b", 404, `{"errcode":"M_UNRECOGNIZED"}`) // by what does not know it
	answer("GET /a/b", 500, `{"errcode":"M_UNKNOWN"}`)
	want := []string{"GET /a/b is refused in no test", "PUT /a/{}/state/{} is asked with success by no test", "PUT /a/{}/state/{} is refused in no test"}
	got := slices.DeleteFunc(w.missing(), func(m string) bool { return strings.Contains(m, "is not served") }) // of unrefused
	if !slices.Equal(got, want) {
		t.Errorf("missing are %q", got)
	}
}
