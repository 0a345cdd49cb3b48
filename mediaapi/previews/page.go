package previews

import (
	"bytes"
	"io"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
	"golang.org/x/net/html/charset"
)

// Bounds of what is taken from a page.
const (
	maxProperties  = 50
	maxName        = 100  // bytes
	maxText        = 1000 // characters
	maxDescription = 400  // of a text that is none, in characters
	maxToken       = 256 << 10
)

// page is what a page says of itself.
type page struct {
	properties  map[string]string // og:…
	twitter     map[string]string // twitter:…
	title       string
	description string
	text        strings.Builder // the first words that are shown
	image       string          // that it names for want of a better one
	oembed      string
	base        string
}

// readPage reads HTML, whatever is broken in it. What has no end in it, such as a tag,
// ends the reading.
func readPage(data []byte, contentType string) *page {
	p := &page{properties: map[string]string{}, twitter: map[string]string{}}
	encoding, _, _ := charset.DetermineEncoding(data[:min(len(data), 1024)], contentType)
	tokens := html.NewTokenizer(encoding.NewDecoder().Reader(bytes.NewReader(data)))
	tokens.SetMaxBuf(maxToken)
	hidden := 0 // depth of elements whose text is not shown
	inTitle := false
	for {
		switch tokens.Next() {
		case html.ErrorToken:
			return p
		case html.TextToken:
			text := string(tokens.Text())
			switch {
			case inTitle && p.title == "":
				p.title = clean(text, maxText)
			case !inTitle && hidden == 0:
				p.addText(text)
			}
		case html.StartTagToken:
			name, more := tokens.TagName()
			tag := atom.Lookup(name)
			p.tag(tag, attributes(tokens, more))
			inTitle = tag == atom.Title
			switch {
			case tag == atom.Body: // the head may have no end of its own
				hidden = 0
			case concealed(tag):
				hidden++
			}
		case html.SelfClosingTagToken:
			name, more := tokens.TagName()
			p.tag(atom.Lookup(name), attributes(tokens, more))
		case html.EndTagToken:
			name, _ := tokens.TagName()
			tag := atom.Lookup(name)
			inTitle = false
			if concealed(tag) && hidden > 0 {
				hidden--
			}
		}
	}
}

// concealed tells whether an element's text is not what a page is about.
func concealed(tag atom.Atom) bool {
	switch tag {
	case atom.Script, atom.Style, atom.Noscript, atom.Nav, atom.Header, atom.Footer, atom.Aside, atom.Svg, atom.Template, atom.Iframe,
		atom.Textarea, atom.Select, atom.Button, atom.Head:
		return true
	}
	return false
}

func attributes(tokens *html.Tokenizer, more bool) map[string]string {
	out := map[string]string{}
	for more && len(out) < maxProperties {
		var key, value []byte
		key, value, more = tokens.TagAttr()
		if _, there := out[string(key)]; !there {
			out[string(key)] = string(value)
		}
	}
	return out
}

// tag notes what an element says.
func (p *page) tag(tag atom.Atom, a map[string]string) {
	switch tag {
	case atom.Meta:
		p.meta(a)
	case atom.Base:
		if p.base == "" {
			p.base = a["href"]
		}
	case atom.Link:
		rel := strings.Fields(strings.ToLower(a["rel"]))
		for _, r := range rel {
			switch {
			case r == "alternate" && strings.HasPrefix(strings.ToLower(a["type"]), "application/json+oembed") && p.oembed == "":
				p.oembed = a["href"]
			case r == "image_src" && p.image == "":
				p.image = a["href"]
			}
		}
	}
}

func (p *page) meta(a map[string]string) {
	name := strings.ToLower(strings.TrimSpace(a["property"]))
	if name == "" {
		name = strings.ToLower(strings.TrimSpace(a["name"]))
	}
	value := clean(a["content"], maxText)
	if value == "" || len(name) > maxName {
		return
	}
	into := p.properties
	switch {
	case name == "description" && p.description == "":
		p.description = value
		return
	case strings.HasPrefix(name, "twitter:"):
		into = p.twitter
	case !strings.HasPrefix(name, "og:"):
		return
	}
	if isURL(name) { // not cut: half a URL is another one
		if value = strings.TrimSpace(a["content"]); len(value) > maxURL {
			return
		}
	}
	if _, there := into[name]; !there && len(into) < maxProperties && utf8.ValidString(name) {
		into[name] = strings.ToValidUTF8(value, "\uFFFD")
	}
}

func isURL(name string) bool {
	return name == "og:image" || name == "og:url" || strings.HasSuffix(name, ":url") || name == "twitter:image" || name == "twitter:image:src"
}

// addText adds to the page's first words.
func (p *page) addText(text string) {
	if p.text.Len() > 4*maxDescription {
		return
	}
	if text = clean(text, maxDescription); text != "" {
		if p.text.Len() > 0 {
			p.text.WriteByte(' ')
		}
		p.text.WriteString(text)
	}
}

// clean makes text one line of characters that are shown, of at most so many.
func clean(text string, most int) string {
	var b strings.Builder
	n, space := 0, false
	for _, r := range text {
		switch {
		case unicode.IsSpace(r):
			space = b.Len() > 0
			continue
		case unicode.IsControl(r) || r == utf8.RuneError || unicode.Is(unicode.Bidi_Control, r):
			continue
		}
		if n >= most {
			b.WriteRune('…')
			break
		}
		if space {
			b.WriteByte(' ')
			n++
			space = false
		}
		b.WriteRune(r)
		n++
	}
	return b.String()
}

// resolve resolves a URL of the page, which is at some URL itself.
func (p *page) resolve(at *url.URL, text string) (*url.URL, bool) {
	if text == "" || len(text) > maxURL {
		return nil, false
	}
	base := at
	if p.base != "" {
		if b, err := at.Parse(p.base); err == nil {
			base = b
		}
	}
	u, err := base.Parse(strings.TrimSpace(text))
	return u, err == nil
}

// discard reads what is left of a body, so that its connection may be used again.
func discard(body io.Reader) { _, _ = io.CopyN(io.Discard, body, 16<<10) }
