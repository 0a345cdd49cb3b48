package sqldb

import (
	"database/sql"
	"strings"
	"unicode/utf8"
)

// Text that strangers send may hold what PostgreSQL refuses in TEXT: NUL, and
// bytes that are not UTF-8. Such a text is stored in another form, on both
// engines, and given back as it was: \x00 and \x01 become \x01\x01 and \x01\x02,
// which keeps the order, and a byte b that is not part of a character becomes
// \x01\x03 and the character of that number. Nobody else's text changes.
const (
	escape     = '\x01'
	escapedNUL = '\x01'
	escapedSOH = '\x02'
	notUTF8    = '\x03'
)

// storable returns the form in which a text is stored.
func storable(s string) string {
	plain := true
	for i := range len(s) {
		if s[i] <= escape || s[i] >= utf8.RuneSelf {
			plain = false
			break
		}
	}
	if plain || !strings.ContainsAny(s, "\x00\x01") && utf8.ValidString(s) {
		return s
	}
	b := make([]byte, 0, len(s)+8)
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == 0:
			b = append(b, escape, escapedNUL)
		case r == escape:
			b = append(b, escape, escapedSOH)
		case r == utf8.RuneError && size == 1:
			b = utf8.AppendRune(append(b, escape, notUTF8), rune(s[i]))
		default:
			b = append(b, s[i:i+size]...)
		}
		i += size
	}
	return string(b)
}

// restored is the inverse of storable.
func restored(s string) string {
	if strings.IndexByte(s, escape) < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != escape || i+1 == len(s) {
			b = append(b, s[i])
			continue
		}
		i++
		switch s[i] {
		case escapedNUL:
			b = append(b, 0)
		case escapedSOH:
			b = append(b, escape)
		default:
			r, size := utf8.DecodeRuneInString(s[i+1:])
			b = append(b, byte(r))
			i += size
		}
	}
	return string(b)
}

// Rows are the rows that a statement returns.
type Rows struct {
	*sql.Rows
	tx *Tx
}

// Scan copies the columns of the current row.
func (r *Rows) Scan(dest ...any) error {
	err := r.Rows.Scan(dest...)
	restore(dest)
	return err
}

// Err returns what ended the rows early, if something did.
func (r *Rows) Err() error { return r.tx.note(r.Rows.Err()) }

// restore gives texts their own form.
func restore(dest []any) {
	for _, d := range dest {
		if s, ok := d.(*string); ok {
			*s = restored(*s)
		}
	}
}
