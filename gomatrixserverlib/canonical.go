package gomatrixserverlib

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"
)

// jsonMode says what canonicalisation lets pass.
type jsonMode uint8

const (
	exactNumbers   jsonMode = 1 << iota // numbers must be integers of at most 2^53-1
	exponents                           // with exactNumbers: 1e10 is an integer too
	duplicatesLast                      // of members with the same key the last counts; else an error

	modeStrict  = exactNumbers | exponents
	modeEvent   = exactNumbers // events of v6 and later: strict enforcement
	modeLenient = duplicatesLast
	modeSigned  = jsonMode(0) // signed objects: another server's numbers, but nothing ambiguous
)

// CanonicalJSON returns the canonical form of a JSON value: no white space,
// keys sorted by Unicode code point, shortest strings. If the input has that
// form already, it is returned itself. Numbers must be integers of at most
// 2^53-1 without a fraction; -0 becomes 0 and 1e10 is written out. Duplicate
// keys, invalid UTF-8, halves of surrogate pairs and more than MaxJSONDepth
// levels are refused. Errors wrap ErrBadJSON.
// spec: appendices §canonical-json
func CanonicalJSON(in []byte) ([]byte, error) { return canonicalise(in, modeStrict) }

// CanonicalJSONLenient is CanonicalJSON for room versions 1 to 5, whose events
// may break its rules: numbers are kept as they were written (but for -0), of
// duplicate keys the last counts.
// spec: rooms/v1 §canonical-json
func CanonicalJSONLenient(in []byte) ([]byte, error) { return canonicalise(in, modeLenient) }

// canonicalise returns the canonical form; in itself if it has it already.
func canonicalise(in []byte, mode jsonMode) ([]byte, error) {
	if len(in) > math.MaxInt32 {
		return nil, fmt.Errorf("%w: %d bytes", ErrBadJSON, len(in))
	}
	if !utf8.Valid(in) {
		return nil, fmt.Errorf("%w: not UTF-8", ErrBadJSON)
	}
	check := canonicalCheck{b: in, exact: mode&exactNumbers != 0}
	if check.value(0) && check.i == len(in) {
		return in, nil
	}
	p := jsonParser{b: in}
	root, err := p.document()
	if err != nil {
		return nil, err
	}
	enc := canonicalEncoder{b: in, nodes: p.nodes, mode: mode, dst: make([]byte, 0, len(in)+16)}
	if err := enc.value(root); err != nil {
		return nil, err
	}
	return enc.dst, nil
}

// canonicalCheck finds out in one pass whether JSON is canonical already.
// A false answer says nothing about what it is instead.
type canonicalCheck struct {
	b     []byte
	i     int
	exact bool
}

func (c *canonicalCheck) value(depth int) bool {
	if c.i >= len(c.b) {
		return false
	}
	switch c.b[c.i] {
	case '"':
		_, ok := c.str()
		return ok
	case '{':
		return depth < MaxJSONDepth && c.object(depth+1)
	case '[':
		return depth < MaxJSONDepth && c.array(depth+1)
	case 't':
		return c.literal("true")
	case 'f':
		return c.literal("false")
	case 'n':
		return c.literal("null")
	}
	return c.number()
}

func (c *canonicalCheck) literal(word string) bool {
	if len(c.b)-c.i < len(word) || string(c.b[c.i:c.i+len(word)]) != word {
		return false
	}
	c.i += len(word)
	return true
}

func (c *canonicalCheck) object(depth int) bool {
	c.i++
	if c.skip('}') {
		return true
	}
	var previous []byte
	for first := true; ; first = false {
		if c.i >= len(c.b) || c.b[c.i] != '"' {
			return false
		}
		start := c.i + 1
		plain, ok := c.str()
		if !ok || !plain { // keys with escapes are compared the slow way
			return false
		}
		key := c.b[start : c.i-1]
		if !first && bytes.Compare(previous, key) >= 0 {
			return false
		}
		previous = key
		if !c.skip(':') || !c.value(depth) {
			return false
		}
		if c.skip('}') {
			return true
		}
		if !c.skip(',') {
			return false
		}
	}
}

func (c *canonicalCheck) array(depth int) bool {
	c.i++
	if c.skip(']') {
		return true
	}
	for {
		if !c.value(depth) {
			return false
		}
		if c.skip(']') {
			return true
		}
		if !c.skip(',') {
			return false
		}
	}
}

func (c *canonicalCheck) skip(want byte) bool {
	if c.i < len(c.b) && c.b[c.i] == want {
		c.i++
		return true
	}
	return false
}

// str passes over the string at the position; plain if it has no escapes.
func (c *canonicalCheck) str() (plain, ok bool) {
	plain = true
	b := c.b
	for i := c.i + 1; i < len(b); i++ {
		switch ch := b[i]; {
		case ch == '"':
			c.i = i + 1
			return plain, true
		case ch < ' ':
			return false, false
		case ch == '\\':
			n := canonicalEscape(b[i:])
			if n == 0 {
				return false, false
			}
			plain = false
			i += n - 1
		}
	}
	return false, false
}

// canonicalEscape returns the length of the escape sequence that b begins
// with; 0 if canonical JSON has no such sequence.
func canonicalEscape(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) < 6 || b[2] != '0' || b[3] != '0' {
			return 0
		}
		r, ok := hex4(b)
		if !ok || r >= ' ' || b[5] >= 'A' && b[5] <= 'F' {
			return 0
		}
		switch r {
		case '\b', '\f', '\n', '\r', '\t':
			return 0
		}
		return 6
	}
	return 0
}

func (c *canonicalCheck) number() bool {
	end, integer := scanNumber(c.b, c.i)
	if end < 0 {
		return false
	}
	raw := c.b[c.i:end]
	if string(raw) == "-0" || c.exact && !(integer && inRange(raw)) {
		return false
	}
	c.i = end
	return true
}

// inRange reports whether an integer is one of canonical JSON's.
func inRange(raw []byte) bool {
	n, ok := int64Of(raw)
	return ok && n >= -maxInteger && n <= maxInteger
}

// scanNumber returns the end of the number at i, and whether it is an integer
// without fraction and exponent; -1 if there is none.
func scanNumber(b []byte, i int) (end int, integer bool) {
	if i < len(b) && b[i] == '-' {
		i++
	}
	start := i
	i = skipDigits(b, i)
	if i == start || b[start] == '0' && i > start+1 {
		return -1, false
	}
	integer = true
	if i < len(b) && b[i] == '.' {
		integer = false
		from := i + 1
		if i = skipDigits(b, from); i == from {
			return -1, false
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		integer = false
		from := i + 1
		if from < len(b) && (b[from] == '+' || b[from] == '-') {
			from++
		}
		if i = skipDigits(b, from); i == from {
			return -1, false
		}
	}
	return i, integer
}

func skipDigits(b []byte, i int) int {
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		i++
	}
	return i
}

// canonicalEncoder writes the canonical form of a parsed document.
type canonicalEncoder struct {
	b     []byte
	nodes []jsonNode
	mode  jsonMode
	dst   []byte
	order []int32 // members of the objects that are being written, sorted
}

func (e *canonicalEncoder) value(n int32) error {
	node := &e.nodes[n]
	switch node.kind {
	case '{':
		return e.object(node)
	case '[':
		e.dst = append(e.dst, '[')
		for c := node.first; c != 0; c = e.nodes[c].next {
			if c != node.first {
				e.dst = append(e.dst, ',')
			}
			if err := e.value(c); err != nil {
				return err
			}
		}
		e.dst = append(e.dst, ']')
	case '"':
		e.str(e.b[node.start+1 : node.end-1])
	case '0':
		return e.number(e.b[node.start:node.end])
	default:
		e.dst = append(e.dst, e.b[node.start:node.end]...)
	}
	return nil
}

func (e *canonicalEncoder) object(node *jsonNode) error {
	base := len(e.order)
	for c := node.first; c != 0; c = e.nodes[c].next {
		e.order = append(e.order, c)
	}
	slices.SortFunc(e.order[base:], func(x, y int32) int {
		if c := compareKeys(e.key(x), e.key(y)); c != 0 {
			return c
		}
		return int(x) - int(y)
	})
	end := len(e.order)
	e.dst = append(e.dst, '{')
	first := len(e.dst)
	for i := base; i < end; i++ {
		key := e.key(e.order[i])
		if i+1 < end && compareKeys(key, e.key(e.order[i+1])) == 0 {
			if e.mode&duplicatesLast == 0 {
				return fmt.Errorf("%w: duplicate key", ErrBadJSON)
			}
			continue
		}
		if len(e.dst) > first {
			e.dst = append(e.dst, ',')
		}
		e.str(key)
		e.dst = append(e.dst, ':')
		if err := e.value(e.order[i]); err != nil {
			return err
		}
	}
	e.order = e.order[:base]
	e.dst = append(e.dst, '}')
	return nil
}

// key returns what stands between the quotes of a member's key.
func (e *canonicalEncoder) key(n int32) []byte {
	return e.b[e.nodes[n].keyStart:e.nodes[n].keyEnd]
}

// compareKeys compares keys as they stand between quotes by code point, which
// is the order of their UTF-8.
func compareKeys(x, y []byte) int {
	if bytes.IndexByte(x, '\\') >= 0 {
		x = appendUnescaped(nil, x)
	}
	if bytes.IndexByte(y, '\\') >= 0 {
		y = appendUnescaped(nil, y)
	}
	return bytes.Compare(x, y)
}

func (e *canonicalEncoder) str(inner []byte) {
	e.dst = append(e.dst, '"')
	if bytes.IndexByte(inner, '\\') < 0 {
		e.dst = append(e.dst, inner...)
	} else {
		e.dst = appendEscaped(e.dst, appendUnescaped(make([]byte, 0, len(inner)), inner))
	}
	e.dst = append(e.dst, '"')
}

// appendEscaped appends text as canonical JSON has it between quotes.
func appendEscaped[T string | []byte](dst []byte, text T) []byte {
	const hex = "0123456789abcdef"
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c >= ' ':
			dst = append(dst, c)
		case c == '\b':
			dst = append(dst, '\\', 'b')
		case c == '\f':
			dst = append(dst, '\\', 'f')
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return dst
}

// appendString appends text as a canonical JSON string.
func appendString(dst []byte, text string) []byte {
	dst = append(dst, '"')
	dst = appendEscaped(dst, text)
	return append(dst, '"')
}

func (e *canonicalEncoder) number(raw []byte) error {
	if e.mode&exactNumbers == 0 {
		if string(raw) == "-0" {
			raw = raw[1:]
		}
		e.dst = append(e.dst, raw...)
		return nil
	}
	if e.mode&exponents != 0 {
		var ok bool
		if raw, ok = writeOut(raw); !ok {
			return fmt.Errorf("%w: a number is not an integer in range", ErrBadJSON)
		}
	}
	if !inRange(raw) {
		return fmt.Errorf("%w: a number is not an integer in range", ErrBadJSON)
	}
	if string(raw) == "-0" {
		raw = raw[1:]
	}
	e.dst = append(e.dst, raw...)
	return nil
}

// writeOut writes an integer such as 1e10 without its exponent; false if that
// takes more digits than an integer of canonical JSON has.
func writeOut(raw []byte) ([]byte, bool) {
	i := bytes.IndexAny(raw, "eE")
	if i < 0 {
		return raw, true
	}
	exponent := bytes.TrimPrefix(raw[i+1:], []byte("+"))
	n, ok := int64Of(exponent)
	if !ok || n < 0 {
		return nil, false
	}
	mantissa := raw[:i:i]
	if string(mantissa) == "0" || string(mantissa) == "-0" {
		return []byte("0"), true
	}
	if n > 16 {
		return nil, false
	}
	return append(mantissa, bytes.Repeat([]byte("0"), int(n))...), true
}
