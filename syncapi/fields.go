package syncapi

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/property"
)

// fieldTree is a filter's event_fields: which members of an event are shown.
// A nil child means the whole member.
// spec: appendices §dot-separated-property-paths
type fieldTree struct{ children map[string]*fieldTree }

// newFieldTree reads paths such as content.body; a backslash takes a dot or a
// backslash into a name.
func newFieldTree(paths []string) *fieldTree {
	root := &fieldTree{children: map[string]*fieldTree{}}
	for _, path := range paths {
		at := root
		names := property.Path(path)
		for i, name := range names {
			child, ok := at.children[name]
			switch {
			case ok && child == nil: // already whole
			case i == len(names)-1:
				at.children[name] = nil
			case !ok:
				child = &fieldTree{children: map[string]*fieldTree{}}
				at.children[name] = child
			}
			if child == nil {
				break
			}
			at = child
		}
	}
	return root
}

// project appends the members of the object that the tree names. What is no
// object is appended as it is.
func (t *fieldTree) project(dst []byte, object []byte) []byte {
	d := jsontext.NewDecoder(bytes.NewBuffer(object))
	if tok, err := d.ReadToken(); err != nil || tok.Kind() != '{' {
		return append(dst, object...)
	}
	dst = append(dst, '{')
	first := true
	for d.PeekKind() == '"' {
		key, err := d.ReadToken()
		if err != nil {
			break
		}
		name := key.String()
		value, err := d.ReadValue()
		if err != nil {
			break
		}
		child, ok := t.children[name]
		if !ok {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = appendString(dst, name)
		dst = append(dst, ':')
		if child == nil {
			dst = append(dst, value...)
		} else {
			dst = child.project(dst, value)
		}
	}
	return append(dst, '}')
}
