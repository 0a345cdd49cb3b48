package sqldb_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
)

func TestFullText(t *testing.T) { sqldbtest.Each(t, testFullText) }

func testFullText(t *testing.T) {
	db, err := sqldb.Open(t.Context(), sqldbtest.Options(t, filepath.Join(t.TempDir(), "text.db")))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	migration := "-- +goose Up\nCREATE TABLE other (id BIGINT PRIMARY KEY);\n" +
		"CREATE TABLE found (rowid BIGINT PRIMARY KEY, terms TSVECTOR NOT NULL);\nCREATE INDEX found_terms ON found USING gin (terms);\n"
	if err := db.Migrate(t.Context(), "text", fstest.MapFS{"migrations/00001_text.sql": {Data: []byte(migration)}}); err != nil {
		t.Fatal(err)
	}
	put := func(rows ...[]any) {
		t.Helper()
		if err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
			_, err := tx.ExecMany(t.Context(), "INSERT INTO found (rowid, terms) VALUES ($1, "+db.Terms("$2")+")", nil, rows)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(id int64) {
		t.Helper()
		if err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
			_, err := tx.ExecMany(t.Context(), "DELETE FROM found WHERE rowid = $1", []int{1}, [][]any{{id}})
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	find := func(all ...[]sqldb.Term) (out []int64) {
		t.Helper()
		if err := db.ReadOne(t.Context(), func(tx *sqldb.Tx) error {
			out = nil
			return tx.Each(t.Context(), func(scan func(...any) error) error {
				var id int64
				err := scan(&id)
				out = append(out, id)
				return err
			}, db.FindTerms("found", "terms", "$1", "$2", "$3"), db.TermQuery(all), int64(1)<<62, 10)
		}); err != nil {
			t.Fatal(err)
		}
		return out
	}
	all := func(texts ...string) (out [][]sqldb.Term) {
		for _, text := range texts {
			out = append(out, []sqldb.Term{{Text: text}})
		}
		return out
	}
	expect := func(what string, got []int64, want ...int64) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, not %v", what, got, want)
		}
	}
	put([]any{int64(5), "and hello wörld 東京 \ue000a 🎉"}, []any{int64(9), "hello or 京都 hello \ue000b"}, []any{int64(7), "not hello 都 near \ue000a"})
	expect("one term", find(all("hello")...), 9, 7, 5)
	expect("two terms", find(all("hello", "wörld")...), 5)
	expect("no part of a term", find(all("hell")...))
	expect("an emoji", find(all("🎉")...), 5)
	expect("words of query languages", find(all("and")...), 5)
	expect("words of query languages", find(all("not", "near")...), 7)
	expect("a beginning", find([]sqldb.Term{{Text: "京", Begins: true}}), 9)
	expect("some of a list", find([]sqldb.Term{{Text: "\ue000a"}, {Text: "\ue000c"}}, []sqldb.Term{{Text: "hello"}}), 7, 5)
	expect("nothing", find(all("hello", "nobody")...))
	remove(5)
	expect("after a removal", find(all("hello")...), 9, 7)
	put([]any{int64(5), "again"})
	expect("put again", find(all("again")...), 5)
	expect("put again", find(all("wörld")...))
	put([]any{int64(6), strings.Repeat("東", 64) + " x"})
	expect("a long term", find(all(strings.Repeat("東", 64))...), 6)

	tables, err := db.Tables(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		if strings.HasPrefix(table.Name, "found") {
			t.Errorf("%s is told of as a table of its own", table.Name)
		}
	}
}
