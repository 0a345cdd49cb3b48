package gomatrixserverlib

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// The functions of this file read JSON that was found valid before (canonical
// JSON, mostly). On anything else they stay within the slice and end.

// members iterates over the members of a JSON object.
type members struct {
	b []byte
	i int
}

// membersOf starts at an object's first member; of anything else there are
// none.
func membersOf(object []byte) members {
	i := skipSpace(object, 0)
	if i >= len(object) || object[i] != '{' {
		return members{b: object, i: len(object)}
	}
	return members{b: object, i: i + 1}
}

// next returns the next member: its key as it stands between the quotes (in
// canonical JSON the keys that the protocol knows have no escapes) and the
// bounds of its value.
func (m *members) next() (key []byte, start, end int, ok bool) {
	i := skipSpace(m.b, m.i)
	if i < len(m.b) && m.b[i] == ',' {
		i = skipSpace(m.b, i+1)
	}
	if i >= len(m.b) || m.b[i] != '"' {
		return nil, 0, 0, false
	}
	after := skipString(m.b, i)
	if after < 0 {
		return nil, 0, 0, false
	}
	key = m.b[i+1 : after-1]
	i = skipSpace(m.b, after)
	if i >= len(m.b) || m.b[i] != ':' {
		return nil, 0, 0, false
	}
	start = skipSpace(m.b, i+1)
	end = skipValue(m.b, start)
	if end < 0 {
		return nil, 0, 0, false
	}
	m.i = end
	return key, start, end, true
}

// member returns the raw value of an object's member; nil if there is none.
// The key must be one that canonical JSON writes without escapes.
func member(object []byte, key string) []byte {
	for m := membersOf(object); ; {
		k, start, end, ok := m.next()
		if !ok {
			return nil
		}
		if string(k) == key {
			return object[start:end]
		}
	}
}

// elements iterates over the elements of a JSON array.
type elements struct {
	b []byte
	i int
}

// elementsOf starts at an array's first element; of anything else there are
// none.
func elementsOf(array []byte) elements {
	i := skipSpace(array, 0)
	if i >= len(array) || array[i] != '[' {
		return elements{b: array, i: len(array)}
	}
	return elements{b: array, i: i + 1}
}

// next returns the next element, as it stands.
func (e *elements) next() (value []byte, ok bool) {
	i := skipSpace(e.b, e.i)
	if i < len(e.b) && e.b[i] == ',' {
		i = skipSpace(e.b, i+1)
	}
	if i >= len(e.b) || e.b[i] == ']' {
		return nil, false
	}
	end := skipValue(e.b, i)
	if end < 0 {
		return nil, false
	}
	e.i = end
	return e.b[i:end], true
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// skipString returns the position after the string that begins with the quote
// at i; -1 if it does not end.
func skipString(b []byte, i int) int {
	for j := i + 1; ; j++ {
		k := bytes.IndexByte(b[j:], '"')
		if k < 0 {
			return -1
		}
		j += k
		backslashes := 0
		for b[j-1-backslashes] == '\\' {
			backslashes++
		}
		if backslashes%2 == 0 {
			return j + 1
		}
	}
}

// skipValue returns the position after the value at i; -1 if there is none.
func skipValue(b []byte, i int) int {
	if i >= len(b) {
		return -1
	}
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		return skipNested(b, i)
	}
	start := i
	for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ']' && b[i] > ' ' {
		i++
	}
	if i == start {
		return -1
	}
	return i
}

// skipNested returns the position after the object or array at i.
func skipNested(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			if i = skipString(b, i); i < 0 {
				return -1
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
		i++
	}
	return -1
}

// isString reports whether a raw value is a string.
func isString(raw []byte) bool { return len(raw) >= 2 && raw[0] == '"' }

// isObject reports whether a raw value is an object.
func isObject(raw []byte) bool { return len(raw) >= 2 && raw[0] == '{' }

// isArray reports whether a raw value is an array.
func isArray(raw []byte) bool { return len(raw) >= 2 && raw[0] == '[' }

// stringOf decodes a raw value that is a string; false if it is none.
func stringOf(raw []byte) (string, bool) {
	if !isString(raw) {
		return "", false
	}
	inner := raw[1 : len(raw)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner), true
	}
	return string(appendUnescaped(make([]byte, 0, len(inner)), inner)), true
}

// appendUnescaped appends what stands between a JSON string's quotes, decoded.
func appendUnescaped(dst, inner []byte) []byte {
	for i := 0; i < len(inner); {
		c := inner[i]
		if c != '\\' || i+1 >= len(inner) {
			dst = append(dst, c)
			i++
			continue
		}
		if inner[i+1] == 'u' {
			r, n := escapedRune(inner[i:])
			if n == 0 {
				return dst
			}
			dst = utf8.AppendRune(dst, r)
			i += n
			continue
		}
		dst = append(dst, unescapedByte(inner[i+1]))
		i += 2
	}
	return dst
}

// unescapedByte is the byte that a backslash and c stand for; 0 if none.
func unescapedByte(c byte) byte {
	switch c {
	case '"', '\\', '/':
		return c
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return 0
}

// escapedRune decodes the \uXXXX, or the surrogate pair of two, that b begins
// with, and says how many bytes that took: 0 if it is malformed or half a
// pair.
func escapedRune(b []byte) (rune, int) {
	r, ok := hex4(b)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if len(b) < 12 || b[6] != '\\' || b[7] != 'u' {
		return 0, 0
	}
	low, ok := hex4(b[6:])
	if !ok {
		return 0, 0
	}
	if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
		return 0, 0
	}
	return r, 12
}

// hex4 reads the four hexadecimal digits of a \uXXXX.
func hex4(b []byte) (rune, bool) {
	if len(b) < 6 {
		return 0, false
	}
	var r rune
	for _, c := range b[2:6] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// int64Of reads a raw value that is an integer written without fraction and
// exponent and fits; false if it is none.
func int64Of(raw []byte) (int64, bool) {
	i, negative := 0, false
	if len(raw) > 0 && raw[0] == '-' {
		i, negative = 1, true
	}
	if len(raw) == i || len(raw) > 20 {
		return 0, false
	}
	var n uint64
	for ; i < len(raw); i++ {
		c := raw[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		d := uint64(c - '0')
		if n > (1<<63-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	if negative {
		return -int64(n), true
	}
	return int64(n), n < 1<<63
}
