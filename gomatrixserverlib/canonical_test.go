package gomatrixserverlib

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The examples of appendices §canonical-json.
var canonicalExamples = []struct{ in, want string }{
	{`{}`, `{}`},
	{"{\n    \"one\": 1,\n    \"two\": \"Two\"\n}", `{"one":1,"two":"Two"}`},
	{"{\n    \"b\": \"2\",\n    \"a\": \"1\"\n}", `{"a":"1","b":"2"}`},
	{`{"b":"2","a":"1"}`, `{"a":"1","b":"2"}`},
	{`{
    "auth": {
        "success": true,
        "mxid": "@john.doe:example.com",
        "profile": {
            "display_name": "John Doe",
            "three_pids": [
                {
                    "medium": "email",
                    "address": "john.doe@example.org"
                },
                {
                    "medium": "msisdn",
                    "address": "123456789"
                }
            ]
        }
    }
}`, `{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":[{"address":"john.doe@example.org","medium":"email"},{"address":"123456789","medium":"msisdn"}]},"success":true}}`},
	{`{ "a": "日本語" }`, `{"a":"日本語"}`},
	{`{ "本": 2, "日": 1 }`, `{"日":1,"本":2}`},
	{`{ "a": "\u65E5" }`, `{"a":"日"}`},
	{`{ "a": null }`, `{"a":null}`},
	{`{ "a": -0, "b": 1e10 }`, `{"a":0,"b":10000000000}`},
}

func TestCanonicalExamples(t *testing.T) {
	for _, test := range canonicalExamples {
		got, err := CanonicalJSON([]byte(test.in))
		if err != nil || string(got) != test.want {
			t.Errorf("CanonicalJSON(%s) = %s, %v; want %s", test.in, got, err, test.want)
		}
	}
}

func TestCanonicalJSON(t *testing.T) {
	// An empty want means that the form refuses the input.
	tests := []struct{ name, in, strict, lenient, event string }{
		{"null", " null ", "null", "null", "null"},
		{"literals", "[true , false]", "[true,false]", "[true,false]", "[true,false]"},
		{"empty string key", `{"a":1,"":2}`, `{"":2,"a":1}`, `{"":2,"a":1}`, `{"":2,"a":1}`},
		{"prefix first", `{"aa":1,"a":2}`, `{"a":2,"aa":1}`, `{"a":2,"aa":1}`, `{"a":2,"aa":1}`},
		{"code points, not UTF-16", `{"😀":1,"\uffff":2}`, "{\"\uffff\":2,\"😀\":1}", "{\"\uffff\":2,\"😀\":1}", "{\"\uffff\":2,\"😀\":1}"},
		{"surrogate pair", `"\ud83d\ude00"`, `"😀"`, `"😀"`, `"😀"`},
		{"escapes", `"\/\u0041\u000A\u001F\u001f\u0000\"\\\b\f\n\r\t\u007f"`,
			`"/A\n\u001f\u001f\u0000\"\\\b\f\n\r\t` + "\u007f\"", `"/A\n\u001f\u001f\u0000\"\\\b\f\n\r\t` + "\u007f\"",
			`"/A\n\u001f\u001f\u0000\"\\\b\f\n\r\t` + "\u007f\""},
		{"escaped key order", `{"\\":1,"A":2,"\"":3,"\n":4}`, `{"\n":4,"\"":3,"A":2,"\\":1}`,
			`{"\n":4,"\"":3,"A":2,"\\":1}`, `{"\n":4,"\"":3,"A":2,"\\":1}`},
		{"largest", `9007199254740991`, `9007199254740991`, `9007199254740991`, `9007199254740991`},
		{"smallest", `-9007199254740991`, `-9007199254740991`, `-9007199254740991`, `-9007199254740991`},
		{"too large", `9007199254740992`, "", `9007199254740992`, ""},
		{"too small", `-9007199254740992`, "", `-9007199254740992`, ""},
		{"far too large", `123456789012345678901234567890`, "", `123456789012345678901234567890`, ""},
		{"float", `1.5`, "", `1.5`, ""},
		{"whole float", `1.0`, "", `1.0`, ""},
		{"exponent", `1E+3`, `1000`, `1E+3`, ""},
		{"negative exponent", `100e-1`, "", `100e-1`, ""},
		{"zero with exponent", `-0e99`, `0`, `-0e99`, ""},
		{"large exponent", `1e16`, "", `1e16`, ""},
		{"huge exponent", `1e99999999999999999999`, "", `1e99999999999999999999`, ""},
		{"exponent at the limit", `9e15`, `9000000000000000`, `9e15`, ""},
		{"minus zero", `[-0]`, `[0]`, `[0]`, `[0]`},
		{"duplicate key", `{"a":1,"b":0,"a":2}`, "", `{"a":2,"b":0}`, ""},
		{"duplicate escaped key", `{"a":1,"\u0061":2}`, "", `{"a":2}`, ""},
		{"nested duplicate", `[{"x":{"a":1,"a":[1,2]}}]`, "", `[{"x":{"a":[1,2]}}]`, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for mode, want := range map[jsonMode]string{
				modeStrict: test.strict, modeLenient: test.lenient, modeEvent: test.event,
			} {
				got, err := canonicalise([]byte(test.in), mode)
				switch {
				case want == "" && !errors.Is(err, ErrBadJSON):
					t.Errorf("mode %d: got %s, %v; want an error", mode, got, err)
				case want != "" && (err != nil || string(got) != want):
					t.Errorf("mode %d: got %s, %v; want %s", mode, got, err, want)
				}
			}
		})
	}
}

func TestCanonicalJSONRefuses(t *testing.T) {
	bad := []string{
		``, ` `, `{`, `[`, `"`, `{"a"}`, `{"a":}`, `{"a":1,}`, `[1,]`, `[1 2]`, `{,}`, `{a:1}`, `{"a":1 "b":2}`,
		`01`, `-`, `+1`, `1.`, `.5`, `1e`, `1e+`, `NaN`, `Infinity`, `-Infinity`, `tru`, `nul`, `truex`, `1 1`, `{}x`,
		`"\x"`, `"\u12"`, `"\u12g4"`, `"\ud800"`, `"\ud800\u0041"`, `"\udc00"`, `"\udc00\ud800"`, `"\`, `"\"`,
		"\"\n\"", "\"\x00\"", "\"\xff\"", "\"\xed\xa0\x80\"", "\xef\xbb\xbf{}", "// c\n1", `{"a":1}}`, `]`, `}`,
	}
	for _, in := range bad {
		for _, mode := range []jsonMode{modeStrict, modeLenient, modeEvent, modeSigned} {
			if got, err := canonicalise([]byte(in), mode); !errors.Is(err, ErrBadJSON) {
				t.Errorf("mode %d: %q gave %q, %v; want ErrBadJSON", mode, in, got, err)
			}
		}
	}
}

func TestCanonicalJSONDepth(t *testing.T) {
	for _, space := range []string{"", " "} { // the fast way and the slow way
		nested := func(n int) []byte {
			return []byte(strings.Repeat("[", n) + space + strings.Repeat("]", n))
		}
		if _, err := CanonicalJSON(nested(MaxJSONDepth)); err != nil {
			t.Errorf("%d levels: %v", MaxJSONDepth, err)
		}
		if _, err := CanonicalJSON(nested(MaxJSONDepth + 1)); !errors.Is(err, ErrBadJSON) {
			t.Errorf("%d levels: %v, want ErrBadJSON", MaxJSONDepth+1, err)
		}
	}
}

func TestCanonicalJSONKeepsCanonicalInput(t *testing.T) {
	in := []byte(`{"":[],"a":{"b":[1,"x\n",null],"c":-5},"b":"é","é":{}}`)
	got, err := CanonicalJSON(in)
	if err != nil || &got[0] != &in[0] {
		t.Errorf("got another slice: %s, %v", got, err)
	}
	if allocs := testing.AllocsPerRun(10, func() { _, _ = CanonicalJSON(in) }); allocs != 0 {
		t.Errorf("%v allocations for canonical input", allocs)
	}
}

// oracleCanonical is the canonical form by way of the json package's values:
// slow and plain. ok is false for what it does not decide (numbers that
// float64 does not hold).
func oracleCanonical(dst []byte, value any) (out []byte, ok bool) {
	switch v := value.(type) {
	case map[string]any:
		keys := make([]string, 0, len(v))
		for key := range v {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		dst = append(dst, '{')
		for i, key := range keys {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendString(dst, key), ':')
			if dst, ok = oracleCanonical(dst, v[key]); !ok {
				return nil, false
			}
		}
		return append(dst, '}'), true
	case []any:
		dst = append(dst, '[')
		for i, element := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, ok = oracleCanonical(dst, element); !ok {
				return nil, false
			}
		}
		return append(dst, ']'), true
	case string:
		return appendString(dst, v), true
	case float64:
		if v != math.Trunc(v) || math.Abs(v) > maxInteger {
			return nil, false
		}
		return fmt.Appendf(dst, "%d", int64(v)), true
	case bool:
		return fmt.Append(dst, v), true
	}
	return append(dst, "null"...), true
}

func FuzzCanonicalJSON(f *testing.F) {
	for _, example := range canonicalExamples {
		f.Add([]byte(example.in))
	}
	for _, s := range []string{
		`{"a":1,"a":2}`, `[1.0,1e3,-0,1E400]`, `"\ud83d\ude00\u0000"`, `{"\\":1,"A":2}`, "\xff", `[[[[]]]]`, `{"😀":1,"\uffff":2}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		before := bytes.Clone(in)
		for _, mode := range []jsonMode{modeStrict, modeLenient, modeEvent, modeSigned} {
			checkCanonical(t, in, mode)
		}
		if !bytes.Equal(before, in) {
			t.Fatalf("the input was changed")
		}
	})
}

// checkCanonical checks one form of the input against another JSON library.
func checkCanonical(t *testing.T, in []byte, mode jsonMode) {
	out, err := canonicalise(in, mode)
	valid := jsontext.Value(in).IsValid(jsontext.AllowDuplicateNames(mode&duplicatesLast != 0))
	if mode == modeLenient || mode == modeSigned {
		shallow := bytes.Count(in, []byte("["))+bytes.Count(in, []byte("{")) <= MaxJSONDepth
		if shallow && (err == nil) != valid {
			t.Fatalf("mode %d: error %v, but the json package says valid=%v: %q", mode, err, valid, in)
		}
	}
	if err != nil {
		if !errors.Is(err, ErrBadJSON) {
			t.Fatalf("unexpected kind of error: %v", err)
		}
		return
	}
	if !valid {
		t.Fatalf("mode %d accepted what is not JSON: %q", mode, in)
	}
	again, err := canonicalise(out, mode)
	if err != nil || !bytes.Equal(again, out) {
		t.Fatalf("mode %d: not a fixed point: %q, then %q, %v", mode, out, again, err)
	}
	if len(again) > 0 && &again[0] != &out[0] && !bytes.Contains(out, []byte(`\`)) {
		t.Fatalf("mode %d: canonical input was not recognised: %q", mode, out)
	}
	var value any
	if err := json.Unmarshal(in, &value, jsontext.AllowDuplicateNames(false)); err != nil {
		return // duplicate keys, numbers out of float64's range
	}
	if want, ok := oracleCanonical(nil, value); ok && mode&exactNumbers != 0 && !bytes.Equal(out, want) {
		t.Fatalf("mode %d: got %q, want %q", mode, out, want)
	}
}
