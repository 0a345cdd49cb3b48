package deploy

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var parameter = regexp.MustCompile(`\{[^}]*\}`)

// operation is a method and a path, as two lists are compared by it.
func operation(method, path string) string {
	path = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSpace(path), "{$}"), "/")
	return method + " " + parameter.ReplaceAllString(path, "{}")
}

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
		op := operation(method, path)
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
			registered[operation(e.Method, e.Path)] = true
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

// specification finds a copy of the specification's data beside the repository.
func specification() string {
	for _, up := range []string{"..", filepath.Join("..", "..")} {
		dir := filepath.Join("..", up, "shared", "matrix-spec", "data", "api", "client-server")
		if _, err := os.Stat(dir); err == nil {
			return dir
		}
	}
	return ""
}

// specified reads the operations of the specification's OpenAPI files.
func specified(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var doc struct {
			Servers []struct {
				Variables struct {
					BasePath struct {
						Default string `yaml:"default"`
					} `yaml:"basePath"`
				} `yaml:"variables"`
			} `yaml:"servers"`
			Paths map[string]map[string]any `yaml:"paths"`
		}
		if err := yaml.Unmarshal(text, &doc); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if len(doc.Servers) == 0 {
			t.Fatalf("%s names no server", file)
		}
		for path, methods := range doc.Paths {
			for method := range methods {
				out[operation(strings.ToUpper(method), doc.Servers[0].Variables.BasePath.Default+path)] = true
			}
		}
	}
	return out
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
	dir := specification()
	if dir == "" {
		// The list still has to be about all of it: spec 1.19 has so many.
		if n := len(fromSpec) - len(list[beyond]); n != operationsOfSpec {
			t.Errorf("%d operations of the specification are listed, there are %d", n, operationsOfSpec)
		}
		return
	}
	spec := specified(t, dir)
	if len(spec) != operationsOfSpec {
		t.Errorf("the specification has %d operations, this test knows of %d", len(spec), operationsOfSpec)
	}
	for op := range spec {
		if !fromSpec[op] {
			t.Errorf("%s of the specification is not listed, or as something beyond it", op)
		}
	}
	for op, is := range fromSpec {
		if is && !spec[op] {
			t.Errorf("%s is listed, and not in the specification", op)
		}
	}
}

// operationsOfSpec is how many there are in 1.19; two are in it twice.
const operationsOfSpec = 164
