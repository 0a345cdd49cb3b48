package userapi

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
)

// Bounds of the words by which users are found.
const (
	maxUserWords   = 60 // of a user
	maxWordBytes   = 120
	maxSearchWords = 6
	maxFoundUsers  = 500
	// wordlessBatch is how many accounts of before are given words at once.
	wordlessBatch = 200
	wordlessRetry = 5 * time.Second
)

// folded is a text in which case, accents and width do not matter.
func folded(s string) string {
	var b strings.Builder
	for _, c := range norm.NFKD.String(cases.Fold().String(s)) {
		if !unicode.Is(unicode.Mn, c) {
			b.WriteRune(c)
		}
	}
	return norm.NFC.String(b.String())
}

// words are those of a text, folded.
func words(s string) []string {
	out := strings.FieldsFunc(folded(s), func(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsNumber(c) && !unicode.IsMark(c) })
	for i, w := range out {
		if len(w) > maxWordBytes {
			out[i] = strings.ToValidUTF8(w[:maxWordBytes], "")
		}
	}
	return out
}

// unspaced tells whether a letter is of a script that puts no spaces between
// words.
func unspaced(c rune) bool {
	return unicode.In(c, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar)
}

// userWords are the words by which a user is found: the localpart, what it is
// made of, and those of the display name; in scripts without spaces, also what a
// word ends with.
func userWords(userID, displayName string) []string {
	localpart, _, _ := strings.Cut(strings.TrimPrefix(userID, "@"), ":")
	whole := folded(localpart)
	if len(whole) > maxWordBytes {
		whole = strings.ToValidUTF8(whole[:maxWordBytes], "")
	}
	set := map[string]bool{whole: true}
	for _, w := range slices.Concat(words(displayName), words(localpart)) {
		for i, c := range w {
			if len(set) < maxUserWords && (i == 0 || unspaced(c)) {
				set[w[i:]] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// putWords notes by which words a user is found now.
func (s *Server) putWords(ctx context.Context, tx *sqldb.Tx, userID string) error {
	profile, err := s.db.Profile(ctx, tx, userID)
	if err != nil {
		return err
	}
	named := api.ProfileResponse{Fields: profile}
	return s.db.PutWords(ctx, tx, userID, userWords(userID, named.String("displayname")))
}

// indexUsers gives words to accounts that are older than these, until all have
// some or ctx is done. Instances may do it at the same time.
func (s *Server) indexUsers(ctx context.Context) {
	for ctx.Err() == nil {
		users, err := s.db.Wordless(ctx, wordlessBatch)
		if err == nil && len(users) == 0 {
			return
		}
		for _, user := range users {
			if err == nil {
				err = s.indexUser(ctx, user)
			}
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		s.logger.WithError(err).Warn("Users cannot be made to be found by their names now")
		select {
		case <-ctx.Done():
		case <-time.After(wordlessRetry):
		}
	}
}

func (s *Server) indexUser(ctx context.Context, userID string) error {
	return s.db.Write(ctx, func(tx *sqldb.Tx) error {
		account, ok, err := s.db.LockAccount(ctx, tx, userID)
		if err != nil || !ok || account.Deactivated {
			return err
		}
		return s.putWords(ctx, tx, userID)
	})
}

// searchWords are the words of a search term. What begins with @ is a user ID, or
// the beginning of one, and fits only users of this server.
func (s *Server) searchWords(term string) []string {
	id, isID := strings.CutPrefix(strings.TrimSpace(term), "@")
	if !isID {
		return words(term)
	}
	localpart, server, _ := strings.Cut(id, ":")
	if localpart == "" || !strings.HasPrefix(s.serverName, strings.ToLower(server)) {
		return nil
	}
	return []string{folded(localpart)}
}

func (s *Server) searchUsers(ctx context.Context, r *api.SearchUsersRequest) (*api.SearchUsersResponse, error) {
	list := s.searchWords(r.Term)
	if len(list) == 0 || !utf8.ValidString(r.After.UserID) {
		return &api.SearchUsersResponse{}, nil
	}
	users, err := s.db.FindUsers(ctx, list[:min(len(list), maxSearchWords)], r.After, min(r.Limit, maxFoundUsers))
	return &api.SearchUsersResponse{Users: users}, err
}
