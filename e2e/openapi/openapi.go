package openapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// Specification is what the files of a folder say.
type Specification struct {
	operations map[string]*operation
	events     map[string]string // the locations of their schemas, by type

	mu       sync.Mutex // guards what follows
	compiler *jsonschema.Compiler
	schemas  map[string]*jsonschema.Schema // by location
}

// operation is a method and a path, which may be described more than once.
type operation struct {
	described []map[string]response // by status
	errcodes  map[string]bool       // that any description names
}

// response is what an operation may answer with a status.
type response struct {
	schema string // the location of the JSON's schema; "" for none
	other  bool   // something that is not JSON
}

// document is a file, as far as it is read here.
type document struct {
	Servers []struct {
		Variables struct {
			BasePath struct {
				Default string `yaml:"default"`
			} `yaml:"basePath"`
		} `yaml:"variables"`
	} `yaml:"servers"`
	Paths      map[string]map[string]described `yaml:"paths"`
	Components struct {
		Responses map[string]any `yaml:"responses"`
	} `yaml:"components"`
}

type described struct {
	Description string         `yaml:"description"`
	Responses   map[string]any `yaml:"responses"`
}

var (
	parameter = regexp.MustCompile(`\{[^}]*\}`)
	errcode   = regexp.MustCompile(`\bM_[A-Z_]+\b`)
)

// Operation names a method and a path, whatever its parameters are called and
// whether it ends in a slash.
func Operation(method, path string) string {
	path = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSpace(path), "{$}"), "/")
	return method + " " + parameter.ReplaceAllString(path, "{}")
}

// Folder is where the files of the client-server API are in the specification.
const Folder = "data/api/client-server"

// Beside finds a copy of the specification in the folder shared beside a checkout of
// the repository, or one further up; "" where there is none.
func Beside(checkout string) string {
	for _, up := range []string{"..", filepath.Join("..", "..")} {
		root := filepath.Join(checkout, up, "shared", "matrix-spec")
		if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(Folder))); err == nil {
			return root
		}
	}
	return ""
}

// Load reads the files of a copy of the specification.
func Load(root string) (*Specification, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("openapi: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(Folder), "*.yaml"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("openapi: no files in %s: %v", root, err)
	}
	s := &Specification{operations: map[string]*operation{}, events: map[string]string{}, compiler: newCompiler(), schemas: map[string]*jsonschema.Schema{}}
	for _, typ := range serversEvents() {
		s.events[typ] = "file://" + filepath.Join(root, "data", "event-schemas", "schema", typ+".yaml")
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("openapi: %w", err)
		}
		var d document
		if err := yaml.Unmarshal(text, &d); err != nil {
			return nil, fmt.Errorf("openapi: %s: %w", file, err)
		}
		if len(d.Servers) == 0 {
			return nil, fmt.Errorf("openapi: %s names no server", file)
		}
		if err := s.add(file, &d); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// add adds the operations of a file.
func (s *Specification) add(file string, d *document) error {
	for _, path := range slices.Sorted(maps.Keys(d.Paths)) { // the order that descriptions of one operation keep
		for method, of := range d.Paths[path] {
			name := Operation(strings.ToUpper(method), d.Servers[0].Variables.BasePath.Default+path)
			op := s.operations[name]
			if op == nil {
				op = &operation{errcodes: map[string]bool{}}
				s.operations[name] = op
			}
			op.name(of.Description, of.Responses)
			answers := map[string]response{}
			for status, r := range of.Responses {
				at := "#/paths/" + escape(path) + "/" + method + "/responses/" + status
				fields, _ := r.(map[string]any)
				if ref, ok := fields["$ref"].(string); ok {
					at = ref
					if fields, ok = d.Components.Responses[strings.TrimPrefix(ref, "#/components/responses/")].(map[string]any); !ok {
						return fmt.Errorf("openapi: %s: there is no %s", file, ref)
					}
				}
				op.name(fields)
				answers[status] = readResponse("file://"+file+at, fields)
			}
			op.described = append(op.described, answers)
		}
	}
	return nil
}

// name notes the errcodes that a description names.
func (op *operation) name(described ...any) {
	for _, code := range errcode.FindAllString(fmt.Sprint(described...), -1) {
		op.errcodes[code] = true
	}
}

func readResponse(at string, fields map[string]any) (r response) {
	content, _ := fields["content"].(map[string]any)
	for kind := range content {
		if kind == "application/json" {
			r.schema = at + "/content/application~1json/schema"
		} else {
			r.other = true
		}
	}
	return r
}

// escape makes a path a part of a JSON pointer in a URL.
func escape(path string) string {
	return url.PathEscape(strings.NewReplacer("~", "~0", "/", "~1").Replace(path))
}

// Operations are the names of all operations.
func (s *Specification) Operations() []string { return slices.Sorted(maps.Keys(s.operations)) }

// Has tells whether the specification has an operation.
func (s *Specification) Has(operation string) bool { return s.operations[operation] != nil }

// schema compiles what stands at a location, once.
func (s *Specification) schema(at string) (*jsonschema.Schema, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known := s.schemas[at]; known != nil {
		return known, nil
	}
	compiled, err := s.compiler.Compile(at)
	if err != nil {
		return nil, fmt.Errorf("openapi: %w", err)
	}
	s.schemas[at] = compiled
	return compiled, nil
}

func newCompiler() *jsonschema.Compiler {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020) // OpenAPI 3.1's
	c.UseLoader(loader{})
	c.AssertFormat()
	for _, f := range formats() {
		c.RegisterFormat(f)
	}
	return c
}

// loader reads YAML files.
type loader struct{}

// Load implements jsonschema.URLLoader.
func (loader) Load(address string) (any, error) {
	file, err := jsonschema.FileLoader{}.ToFile(address)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var v any
	if err := yaml.Unmarshal(text, &v); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	// What JSON knows of it: the compiler takes nothing else.
	plain, err := json.Marshal(named(v))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(plain))
}

// named makes the keys of objects strings: YAML takes the status of an answer for
// a number.
func named(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = named(v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = named(v[key])
		}
	case map[any]any:
		out := make(map[string]any, len(v))
		for key, member := range v {
			out[fmt.Sprint(key)] = named(member)
		}
		return out
	}
	return v
}
