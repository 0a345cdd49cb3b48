package storage

import (
	"context"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
)

// PutWords replaces the words of a user within a transaction.
func (d *Database) PutWords(ctx context.Context, tx *sqldb.Tx, userID string, words []string) error {
	if _, err := tx.Exec(ctx, "DELETE FROM user_words WHERE user_id = $1", userID); err != nil {
		return err
	}
	rows := make([][]any, len(words))
	for i, w := range words {
		rows[i] = []any{hex.EncodeToString([]byte(w)), userID}
	}
	if len(rows) == 0 {
		return nil
	}
	_, err := tx.ExecMany(ctx, "INSERT INTO user_words (word, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING", []int{1, 2}, rows)
	return err
}

// Wordless returns users whose words are not known yet, at most limit.
func (d *Database) Wordless(ctx context.Context, limit int) (out []string, err error) {
	err = d.Read(ctx, func(tx *sqldb.Tx) error {
		out, err = tx.Texts(ctx, `SELECT user_id FROM accounts WHERE deactivated = $1
			AND NOT EXISTS (SELECT 1 FROM user_words WHERE user_words.user_id = accounts.user_id) ORDER BY user_id LIMIT $2`, false, limit)
		return err
	})
	return out, err
}

// wordEnd is behind all words in hexadecimal that begin with what stands before it.
const wordEnd = "g"

// FindUsers returns users each of whose words is the beginning of one of theirs,
// without locked accounts: first those who have the first word whole, then in
// the order of their IDs, behind a place in that order; and their names.
func (d *Database) FindUsers(ctx context.Context, words []string, after api.UserPlace, limit int) (out []api.FoundUser, err error) {
	args := []any{hex.EncodeToString([]byte(words[0]))}
	var more strings.Builder
	bound := func(word string) string {
		args = append(args, hex.EncodeToString([]byte(word)), hex.EncodeToString([]byte(word))+wordEnd)
		return ">= $" + strconv.Itoa(len(args)-1) + " AND %.word < $" + strconv.Itoa(len(args))
	}
	first := strings.ReplaceAll(bound(words[0]), "%", "w")
	for _, word := range words[1:] {
		more.WriteString(" AND EXISTS (SELECT 1 FROM user_words o WHERE o.user_id = w.user_id AND o.word " + strings.ReplaceAll(bound(word), "%", "o") + ")")
	}
	n := len(args)
	place := func(i int) string { return "$" + strconv.Itoa(n+i) }
	text := `SELECT user_id, rank FROM (SELECT w.user_id AS user_id, MIN(CASE WHEN w.word = $1 THEN 0 ELSE 1 END) AS rank
		FROM user_words w JOIN accounts a ON a.user_id = w.user_id WHERE w.word ` + first + more.String() +
		` AND a.locked = ` + place(1) + ` AND a.deactivated = ` + place(1) + ` GROUP BY w.user_id) found
		WHERE rank > ` + place(2) + ` OR rank = ` + place(2) + ` AND user_id > ` + place(3) + ` ORDER BY rank, user_id LIMIT ` + place(4)
	args = append(args, false, int64(after.Rank), after.UserID, limit)
	err = d.Read(ctx, func(tx *sqldb.Tx) error {
		out = nil
		err := tx.Each(ctx, func(scan func(...any) error) error {
			var u api.FoundUser
			err := scan(&u.UserID, &u.Rank)
			out = append(out, u)
			return err
		}, text, args...)
		if err != nil {
			return err
		}
		for i := range out {
			profile, err := d.Profile(ctx, tx, out[i].UserID)
			if err != nil {
				return err
			}
			named := api.ProfileResponse{Fields: profile}
			out[i].DisplayName, out[i].AvatarURL = named.String("displayname"), named.String("avatar_url")
		}
		return nil
	})
	return out, err
}
