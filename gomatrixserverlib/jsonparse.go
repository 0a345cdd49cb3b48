package gomatrixserverlib

import "fmt"

// jsonNode is a value of a parsed JSON document, in place.
type jsonNode struct {
	kind             byte  // one of { [ " 0 (a number) and l (true, false, null)
	start, end       int32 // the value
	keyStart, keyEnd int32 // of a member: what stands between its key's quotes
	first, next      int32 // first child, next sibling; 0 is none
}

// jsonParser reads any JSON document into nodes and checks its grammar. The
// bytes must be valid UTF-8.
type jsonParser struct {
	b     []byte
	i     int
	nodes []jsonNode
}

func (p *jsonParser) bad(what string) error {
	return fmt.Errorf("%w: %s at byte %d", ErrBadJSON, what, p.i)
}

// document parses the whole input and returns the root node.
func (p *jsonParser) document() (int32, error) {
	p.nodes = make([]jsonNode, 1, 2+len(p.b)/24) // node 0 stands for none
	root, err := p.value(0)
	if err != nil {
		return 0, err
	}
	if p.i = skipSpace(p.b, p.i); p.i != len(p.b) {
		return 0, p.bad("trailing data")
	}
	return root, nil
}

func (p *jsonParser) value(depth int) (int32, error) {
	p.i = skipSpace(p.b, p.i)
	if p.i >= len(p.b) {
		return 0, p.bad("unexpected end")
	}
	n := int32(len(p.nodes))
	p.nodes = append(p.nodes, jsonNode{start: int32(p.i)})
	var err error
	kind := p.b[p.i]
	switch kind {
	case '"':
		err = p.str()
	case '{', '[':
		err = p.nested(n, kind, depth+1)
	case 't':
		kind, err = 'l', p.literal("true")
	case 'f':
		kind, err = 'l', p.literal("false")
	case 'n':
		kind, err = 'l', p.literal("null")
	default:
		kind, err = '0', p.number()
	}
	p.nodes[n].kind = kind
	p.nodes[n].end = int32(p.i)
	return n, err
}

// nested parses the object or array at the position, which is node n and of
// that depth: 1 if nothing is around it.
func (p *jsonParser) nested(n int32, kind byte, depth int) error {
	if depth > MaxJSONDepth {
		return p.bad("nested too deeply")
	}
	closing := kind + 2 // } and ]
	p.i = skipSpace(p.b, p.i+1)
	if p.i < len(p.b) && p.b[p.i] == closing {
		p.i++
		return nil
	}
	for last := int32(0); ; {
		var keyStart, keyEnd int
		if kind == '{' {
			var err error
			if keyStart, keyEnd, err = p.key(); err != nil {
				return err
			}
		}
		child, err := p.value(depth)
		if err != nil {
			return err
		}
		p.nodes[child].keyStart, p.nodes[child].keyEnd = int32(keyStart), int32(keyEnd)
		if last == 0 {
			p.nodes[n].first = child
		} else {
			p.nodes[last].next = child
		}
		last = child
		p.i = skipSpace(p.b, p.i)
		if p.i >= len(p.b) {
			return p.bad("unexpected end")
		}
		switch p.b[p.i] {
		case closing:
			p.i++
			return nil
		case ',':
			p.i++
		default:
			return p.bad("expected a comma or an end")
		}
	}
}

// key parses a member's key and the colon.
func (p *jsonParser) key() (start, end int, err error) {
	p.i = skipSpace(p.b, p.i)
	if p.i >= len(p.b) || p.b[p.i] != '"' {
		return 0, 0, p.bad("expected a key")
	}
	start = p.i + 1
	if err := p.str(); err != nil {
		return 0, 0, err
	}
	end = p.i - 1
	p.i = skipSpace(p.b, p.i)
	if p.i >= len(p.b) || p.b[p.i] != ':' {
		return 0, 0, p.bad("expected a colon")
	}
	p.i++
	return start, end, nil
}

func (p *jsonParser) literal(word string) error {
	if len(p.b)-p.i < len(word) || string(p.b[p.i:p.i+len(word)]) != word {
		return p.bad("unknown literal")
	}
	p.i += len(word)
	return nil
}

func (p *jsonParser) number() error {
	end, _ := scanNumber(p.b, p.i)
	if end < 0 {
		return p.bad("not a value")
	}
	p.i = end
	return nil
}

func (p *jsonParser) str() error {
	for p.i++; p.i < len(p.b); {
		switch c := p.b[p.i]; {
		case c == '"':
			p.i++
			return nil
		case c < ' ':
			return p.bad("control character in a string")
		case c != '\\':
			p.i++
		case p.i+1 < len(p.b) && p.b[p.i+1] == 'u':
			_, n := escapedRune(p.b[p.i:])
			if n == 0 {
				return p.bad("bad escape")
			}
			p.i += n
		default:
			if p.i+1 >= len(p.b) || unescapedByte(p.b[p.i+1]) == 0 {
				return p.bad("bad escape")
			}
			p.i += 2
		}
	}
	return p.bad("unterminated string")
}
