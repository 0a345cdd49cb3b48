package openapi

import (
	"bytes"
	"errors"
	"fmt"
	"mime"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// Answer is what a server said.
type Answer struct {
	Status      int
	ContentType string
	Body        []byte
}

// Fault is a way in which an answer is not as the specification has it.
type Fault struct {
	Where string // the part of the specification
	What  string
}

// String says both.
func (f Fault) String() string { return f.What + " (" + f.Where + ")" }

// Check judges an answer of an operation that the specification has. Where it is
// described more than once, the description that fits best counts.
func (s *Specification) Check(operation string, a Answer) []Fault {
	op := s.operations[operation]
	var best []Fault
	for n, d := range op.described {
		faults := without(s.check(op, d, a), operation, a.Status)
		if n == 0 || len(faults) < len(best) {
			best = faults
		}
	}
	return best
}

func (s *Specification) check(op *operation, answers map[string]response, a Answer) []Fault {
	described, ok := answers[strconv.Itoa(a.Status)]
	kind, _, _ := mime.ParseMediaType(a.ContentType)
	switch {
	case !ok && a.Status < 400:
		return []Fault{{"responses", fmt.Sprintf("no answer with status %d is described", a.Status)}}
	case kind != "application/json":
		if described.other || ok && described.schema == "" {
			return nil
		}
		return []Fault{{"responses", fmt.Sprintf("the body is %q, not application/json", a.ContentType)}}
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(a.Body))
	if err != nil {
		return []Fault{{"responses", "the body is not JSON: " + err.Error()}}
	}
	var faults []Fault
	if described.schema != "" {
		faults = s.against(described.schema, v)
	}
	if a.Status >= 400 {
		return append(faults, refusal(op, a.Status, v)...)
	}
	return s.within(faults, v)
}

// against judges a value by a schema.
func (s *Specification) against(at string, v any) []Fault {
	schema, err := s.schema(at)
	if err != nil {
		return []Fault{{at, err.Error()}}
	}
	var invalid *jsonschema.ValidationError
	if err = schema.Validate(v); errors.As(err, &invalid) {
		return leaves(nil, invalid, message.NewPrinter(language.English))
	}
	return nil
}

// leaves are the innermost reasons why a value does not fit.
func leaves(out []Fault, e *jsonschema.ValidationError, p *message.Printer) []Fault {
	for _, cause := range e.Causes {
		out = leaves(out, cause, p)
	}
	if len(e.Causes) > 0 {
		return out
	}
	where := e.SchemaURL[strings.LastIndexByte(e.SchemaURL, '/')+1:]
	if file, pointer, ok := strings.Cut(e.SchemaURL, "#"); ok {
		where = file[strings.LastIndexByte(file, '/')+1:] + "#" + pointer
	}
	where += "/" + strings.Join(e.ErrorKind.KeywordPath(), "/")
	return append(out, Fault{where, "/" + strings.Join(e.InstanceLocation, "/") + ": " + e.ErrorKind.LocalizedString(p)})
}

// refusal judges what every refusal has.
// spec: client-server-api §standard-error-response
func refusal(op *operation, status int, v any) []Fault {
	fields, ok := v.(map[string]any)
	if !ok {
		return []Fault{{"§standard-error-response", "the body is not an object"}}
	}
	code, coded := fields["errcode"].(string)
	if _, interactive := fields["flows"]; interactive && status == 401 {
		// spec: client-server-api §user-interactive-api-in-the-rest-api: what the stage
		// was refused for, if one was tried.
		if _, ok := fields["session"].(string); ok && (!coded || op.errcodes[code] || general(403, code) || code == "M_UNAUTHORIZED") {
			return nil
		}
		return []Fault{{"§user-interactive-api-in-the-rest-api", "there is no session, or it is refused in another way"}}
	}
	var faults []Fault
	if text, ok := fields["error"].(string); !ok || text == "" {
		faults = append(faults, Fault{"§standard-error-response", "there is no error for people"})
	}
	if !op.errcodes[code] && !general(status, code) {
		faults = append(faults, Fault{"§common-error-codes", fmt.Sprintf("%d %q is not an errcode of this operation, nor of all", status, code)})
	}
	return faults
}

// general tells whether any endpoint may answer so.
// spec: client-server-api §common-error-codes, §other-error-codes
func general(status int, code string) bool {
	if code == "M_USER_LIMIT_EXCEEDED" {
		return status < 500 // "will depend on the particular endpoint"
	}
	for _, known := range map[int][]string{
		400: {"M_BAD_JSON", "M_NOT_JSON", "M_MISSING_PARAM", "M_INVALID_PARAM", "M_UNKNOWN"},
		401: {"M_MISSING_TOKEN", "M_UNKNOWN_TOKEN", "M_USER_LOCKED"},
		403: {"M_FORBIDDEN", "M_USER_SUSPENDED", "M_GUEST_ACCESS_FORBIDDEN", "M_RESOURCE_LIMIT_EXCEEDED"},
		404: {"M_NOT_FOUND", "M_UNRECOGNIZED"},
		405: {"M_UNRECOGNIZED"},
		413: {"M_TOO_LARGE"},
		429: {"M_LIMIT_EXCEEDED"},
		500: {"M_UNKNOWN"},
		502: {"M_UNKNOWN"},
		503: {"M_UNKNOWN"},
		504: {"M_UNKNOWN"},
	}[status] {
		if code == known {
			return true
		}
	}
	return false
}

// serversEvents are the types of events that servers alone make, which a schema
// of their own describes.
func serversEvents() []string {
	return []string{"m.fully_read", "m.presence", "m.push_rules", "m.receipt", "m.tag", "m.typing"}
}

// within judges the events in a value that are a server's own.
func (s *Specification) within(faults []Fault, v any) []Fault {
	switch v := v.(type) {
	case []any:
		for _, one := range v {
			faults = s.within(faults, one)
		}
	case map[string]any:
		typ, _ := v["type"].(string)
		if _, is := v["content"]; !is {
			for _, member := range v {
				faults = s.within(faults, member)
			}
		} else if at := s.events[typ]; at != "" && v["event_id"] == nil {
			faults = append(faults, s.against(at, v)...)
		}
	}
	return faults
}
