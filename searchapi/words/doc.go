// Package words makes search terms of texts: of what is indexed and of what is
// searched for alike. It is pure.
//
// A text is brought to one form (NFKC) and cut into words as Unicode says (UAX #29),
// these again at whatever is no letter, digit or mark within them, so that a name is
// found in an address and a word behind its article ("l'avion"). A word's term is the
// word without case (Unicode's full folding) and without characters that are not seen.
//
// Where a script has no spaces between words (Chinese, Japanese, Thai, Lao, Khmer,
// Burmese), or has whole clauses between them (Korean), the terms are all pairs of
// neighbouring characters, and the last character by itself. So a word is found
// wherever it stands, without a dictionary: by its pairs or, if it is a single
// character, as the beginning of a term. Emoji and other symbols are words too.
package words
