package deploy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/matrix-org/dendrite/e2e/openapi"
)

// listed reads docs/endpoints.txt: operations by the heading above them.
func listed(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", "endpoints.txt"))
	if err != nil {
		t.Fatal(err)
	}
	out, heading, seen := map[string][]string{}, "", map[string]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
			continue
		case line[0] == '[':
			heading = strings.Trim(line, "[]")
			if kind, reason, _ := strings.Cut(heading, ": "); kind == "left out" && len(reason) < 20 || kind == "not yet" && reason == "" {
				t.Errorf("[%s] gives no reason", heading)
			}
			continue
		}
		method, path, ok := strings.Cut(line, " ")
		if !ok || !strings.HasPrefix(path, "/") || heading == "" {
			t.Fatalf("endpoints.txt: %q is not an operation below a heading", line)
		}
		op := openapi.Operation(method, path)
		if other, twice := seen[op]; twice {
			t.Errorf("%s is listed as %s and as %s", op, other, heading)
		}
		seen[op] = heading
		out[heading] = append(out[heading], op)
	}
	return out
}

const (
	inSpec = "served"
	beyond = "served beyond the specification"
)

// TestEndpointsAreListed: docs/endpoints.txt says what is served, neither more
// nor less. What is served now must leave the lists of what is not.
func TestEndpointsAreListed(t *testing.T) {
	list, registered := listed(t), map[string]bool{}
	for _, endpoints := range served() {
		for _, e := range endpoints {
			registered[openapi.Operation(e.Method, e.Path)] = true
		}
	}
	for heading, operations := range list {
		says := heading == inSpec || heading == beyond
		for _, op := range operations {
			if registered[op] != says {
				t.Errorf("%s is listed as %q; served: %v", op, heading, registered[op])
			}
		}
	}
	all := slices.Concat(list[inSpec], list[beyond])
	for op := range registered {
		if !slices.Contains(all, op) {
			t.Errorf("%s is served, and not listed as that", op)
		}
	}
}

// TestSpecificationIsListed: each operation of the specification is listed, and
// what is listed as the specification's is.
func TestSpecificationIsListed(t *testing.T) {
	list, fromSpec := listed(t), map[string]bool{}
	for heading, operations := range list {
		for _, op := range operations {
			fromSpec[op] = heading != beyond
		}
	}
	root := openapi.Beside("..")
	if root == "" {
		// The list still has to be about all of it: spec 1.19 has so many.
		if n := len(fromSpec) - len(list[beyond]); n != operationsOfSpec {
			t.Errorf("%d operations of the specification are listed, there are %d", n, operationsOfSpec)
		}
		return
	}
	api, err := openapi.Load(root)
	if err != nil {
		t.Fatal(err)
	}
	spec := api.Operations()
	if len(spec) != operationsOfSpec {
		t.Errorf("the specification has %d operations, this test knows of %d", len(spec), operationsOfSpec)
	}
	for _, op := range spec {
		if !fromSpec[op] {
			t.Errorf("%s of the specification is not listed, or as something beyond it", op)
		}
	}
	for op, is := range fromSpec {
		if is && !api.Has(op) {
			t.Errorf("%s is listed, and not in the specification", op)
		}
	}
}

// operationsOfSpec is how many there are in 1.19; two are in it twice.
const operationsOfSpec = 164
