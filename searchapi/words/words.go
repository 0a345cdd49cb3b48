package words

import (
	"strings"
	"unicode"
	"unicode/utf8"

	uax29 "github.com/clipperhouse/uax29/v2/words"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

const (
	// maxRunes is how much of a word counts, and maxMarked of a character with its
	// marks: engines bound their terms.
	maxRunes  = 64
	maxMarked = 8
	// MaxTerms bounds the terms of a text that is indexed.
	MaxTerms = 10_000
)

// Term is what a text is found by.
type Term struct {
	Text string
	// Begins says of a query's term that the terms of a text need only begin so.
	Begins bool
}

// Word is a word of a text, or a stretch of a script that has no spaces.
type Word struct {
	Text string // in the text's case
	// terms of the text, and what finds it in others.
	terms []string
	query []Term
}

// Terms returns the terms of a text, each once, in their order.
func Terms(text string) []string {
	var out []string
	seen := map[string]struct{}{}
	split(text, func(w *Word) bool {
		for _, t := range w.terms {
			if _, twice := seen[t]; !twice && len(out) < MaxTerms {
				seen[t] = struct{}{}
				out = append(out, t)
			}
		}
		return len(out) < MaxTerms
	})
	return out
}

// Query returns the terms that a text must have, each once, and the words that
// they are of; false if there are more than a number of them.
func Query(text string, most int) (terms []Term, list []string, ok bool) {
	seen, ok := map[Term]struct{}{}, true
	split(text, func(w *Word) bool {
		list = append(list, w.Text)
		for _, t := range w.query {
			if _, twice := seen[t]; !twice {
				seen[t] = struct{}{}
				terms = append(terms, t)
			}
		}
		ok = len(terms) <= most
		return ok
	})
	return terms, list, ok
}

// Matching returns the words of a text that a query's terms are found by, each as
// it stands there, at most so many.
func Matching(text string, terms []Term, most int) []string {
	wanted := make(map[string]struct{}, len(terms))
	for _, t := range terms {
		wanted[t.Text] = struct{}{}
	}
	var out []string
	split(text, func(w *Word) bool {
		if len(w.query) != 1 || w.query[0].Begins { // a stretch: the query's own words say what it is
			return true
		}
		if _, found := wanted[w.query[0].Text]; found {
			out = append(out, w.Text)
		}
		return len(out) < most
	})
	return out
}

// split calls f for each word of a text until it returns false.
func split(text string, f func(*Word) bool) {
	text = norm.NFKC.String(strings.ToValidUTF8(text, " "))
	c := cutter{f: f, fold: cases.Fold()}
	for segments := uax29.FromString(text); segments.Next() && !c.done; {
		c.segment(segments.Value())
	}
	c.endStretch()
}

// cutter makes words of segments.
type cutter struct {
	f    func(*Word) bool
	fold cases.Caser
	done bool
	// stretch holds the characters, with their marks, of a script without spaces.
	stretch []string
}

// class says what a rune is to the index.
type class int

const (
	separator class = iota
	letter          // of a word
	spaceless       // a character of a script without spaces
	mark            // belongs to what is before it
	symbol          // an emoji, say
	unseen          // is left out
)

// objectReplacement stands where a picture was in a text.
const objectReplacement = '\uFFFC'

func classOf(r rune) class {
	switch {
	case r < utf8.RuneSelf:
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' {
			return letter
		}
		return separator
	case unicode.In(r, unicode.Cf, unicode.Variation_Selector):
		return unseen
	case unicode.Is(unicode.M, r):
		return mark
	case r == 'ー', unicode.IsLetter(r) && unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul, unicode.Bopomofo,
		unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar, unicode.Tai_Le, unicode.New_Tai_Lue, unicode.Tai_Tham, unicode.Tai_Viet,
		unicode.Javanese, unicode.Balinese):
		return spaceless
	case unicode.IsLetter(r), unicode.IsNumber(r):
		return letter
	case unicode.Is(unicode.So, r) && r != utf8.RuneError && r != objectReplacement:
		return symbol
	}
	return separator
}

// segment cuts a segment into pieces of one class each.
func (c *cutter) segment(s string) {
	for s != "" && !c.done {
		r, size := utf8.DecodeRuneInString(s)
		kind := classOf(r)
		end := size
		for end < len(s) {
			next, n := utf8.DecodeRuneInString(s[end:])
			of := classOf(next)
			if of != mark && of != unseen && (of != kind || kind == spaceless) {
				break
			}
			end += n
		}
		c.piece(kind, s[:end])
		s = s[end:]
	}
}

func (c *cutter) piece(kind class, s string) {
	if kind == spaceless {
		c.stretch = append(c.stretch, s)
		if len(c.stretch) < maxStretch {
			return
		}
	}
	last := ""
	if kind == spaceless { // a stretch too long to wait for its end: it goes on with its last character
		last = s
	}
	if kind != unseen {
		c.endStretch()
	}
	if last != "" {
		c.stretch = append(c.stretch, last)
	}
	if kind == letter || kind == symbol {
		c.word(s)
	}
}

// maxStretch bounds the characters that are looked at together.
const maxStretch = 1000

// word makes a word of a piece.
func (c *cutter) word(s string) {
	term := c.term(s)
	if term != "" && !c.done {
		c.done = !c.f(&Word{Text: s, terms: []string{term}, query: []Term{{Text: term}}})
	}
}

// endStretch makes a word of the characters that belong together.
func (c *cutter) endStretch() {
	characters := c.stretch
	c.stretch = nil
	if len(characters) == 0 || c.done {
		return
	}
	w := &Word{Text: strings.Join(characters, "")}
	for i := range characters {
		characters[i] = clip(seen(characters[i]), maxMarked) // these scripts have no case
	}
	last := characters[len(characters)-1]
	for i := range len(characters) - 1 {
		w.terms = append(w.terms, characters[i]+characters[i+1])
		w.query = append(w.query, Term{Text: characters[i] + characters[i+1]})
	}
	w.terms = append(w.terms, last)
	if len(w.query) == 0 {
		w.query = []Term{{Text: last, Begins: true}}
	}
	c.done = !c.f(w)
}

// term is the form in which a piece is compared.
func (c *cutter) term(s string) string {
	if folded, plain := asciiFold(s); plain {
		return folded
	}
	return clip(norm.NFKC.String(c.fold.String(seen(s))), maxRunes)
}

// clip leaves so many runes.
func clip(s string, most int) string {
	n := 0
	for i := range s {
		if n++; n > most {
			return s[:i]
		}
	}
	return s
}

// seen leaves out what is not seen.
func seen(s string) string {
	return strings.Map(func(r rune) rune {
		if classOf(r) == unseen {
			return -1
		}
		return r
	}, s)
}

// asciiFold is term for what most words are made of.
func asciiFold(s string) (string, bool) {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return "", false
		}
	}
	return strings.ToLower(s[:min(len(s), maxRunes)]), true
}
