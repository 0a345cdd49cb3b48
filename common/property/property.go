package property

import (
	"bytes"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Path splits a path such as content.body; a backslash takes a dot or a backslash
// into a name.
// spec: appendices §dot-separated-property-paths
func Path(path string) []string {
	var names []string
	var name strings.Builder
	for i := 0; i < len(path); i++ {
		switch c := path[i]; {
		case c == '\\' && i+1 < len(path) && (path[i+1] == '.' || path[i+1] == '\\'):
			i++
			name.WriteByte(path[i])
		case c == '.':
			names = append(names, name.String())
			name.Reset()
		default:
			name.WriteByte(c)
		}
	}
	return append(names, name.String())
}

// Member finds a member of an object; false where it is not there, or there is
// no object.
func Member(object jsontext.Value, name string) (jsontext.Value, bool) {
	d := jsontext.NewDecoder(bytes.NewBuffer(object))
	tok, err := d.ReadToken()
	if err != nil || tok.Kind() != '{' {
		return nil, false
	}
	for d.PeekKind() == '"' {
		key, err := d.ReadToken()
		if err != nil {
			return nil, false
		}
		if key.String() == name {
			v, err := d.ReadValue()
			return v, err == nil
		}
		if err := d.SkipValue(); err != nil {
			return nil, false
		}
	}
	return nil, false
}

// Text is the text of a value that is a string; false where it is none.
func Text(v jsontext.Value) (string, bool) {
	if v.Kind() != '"' {
		return "", false
	}
	text, err := jsontext.AppendUnquote(nil, v)
	return string(text), err == nil
}

// TextOf is the text of an object's member; "" where it is none.
func TextOf(object jsontext.Value, name string) string {
	v, _ := Member(object, name)
	text, _ := Text(v)
	return text
}
