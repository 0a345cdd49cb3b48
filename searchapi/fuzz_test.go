package searchapi

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/searchapi/storage"
	"github.com/matrix-org/dendrite/searchapi/words"
)

// FuzzSearch: whatever is searched for is a query that the index takes, and finds a
// text that is the same.
func FuzzSearch(f *testing.F) {
	db, err := sqldb.Open(f.Context(), sqldb.Options{URL: "file:" + filepath.Join(f.TempDir(), "search.db")})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := db.Close(); err != nil {
			f.Error(err)
		}
	})
	store, err := storage.New(f.Context(), db)
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"hello", `a "b" OR NOT c*`, "東京", "👍", "-x (y) {z}", "near(a b)", "ﷺ", "a'b\\c", "words : *"} {
		f.Add(s)
	}
	n := 0
	f.Fuzz(func(t *testing.T, text string) {
		q, err := (&criteria{Term: &text}).query()
		if err != nil || len(q.terms) == 0 {
			return
		}
		n++
		c := storage.NewChanges(func(string) int { return 0 })
		id := fmt.Sprint("$", n)
		c.Events[id] = storage.Event{EventID: id, RoomID: roomA, Sender: alice, TS: int64(n), Seq: int64(n), Key: storage.KeyBody}
		c.Texts[id] = words.Terms(text)
		if err := store.Write(context.Background(), func(tx *sqldb.Tx) error { return store.Apply(context.Background(), tx, c) }); err != nil {
			t.Fatal(err)
		}
		found, err := store.Find(context.Background(), q.lists(), nil, storage.First, 10)
		if err != nil || !slices.ContainsFunc(found, func(f storage.Found) bool { return f.EventID == id }) {
			t.Fatalf("%q, by %+v: %+v %v", text, q.terms, found, err)
		}
	})
}

// FuzzPlace: a token is refused, or says the same when it is made again.
func FuzzPlace(f *testing.F) {
	f.Add((&place{below: 5, after: 3, words: 2, group: groupRoom, value: roomA, count: 7}).token(true), true)
	f.Add((&place{below: storage.First, after: 3}).token(false), false)
	f.Add("re30", false)
	f.Fuzz(func(t *testing.T, text string, rank bool) {
		p, err := parsePlace(text, rank)
		if err != nil {
			return
		}
		if again, err := parsePlace(p.token(rank), rank); err != nil || again != p {
			t.Fatalf("%s: %+v, then %+v %v", text, p, again, err)
		}
	})
}
