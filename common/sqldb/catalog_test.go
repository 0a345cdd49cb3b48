package sqldb_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/matrix-org/dendrite/common/sqldb"
)

func TestTables(t *testing.T) {
	engines(t, func(t *testing.T, db *sqldb.DB) {
		put(t, db, "CREATE TABLE pairs (b BOOLEAN NOT NULL, second BIGINT NOT NULL, first TEXT NOT NULL, PRIMARY KEY (first, second))")
		all, err := db.Tables(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]sqldb.Table{}
		for _, table := range all {
			found[table.Name] = table
		}
		want := map[string]sqldb.Table{
			"pairs": {Name: "pairs", Columns: []sqldb.Column{{"b", sqldb.Boolean}, {"second", sqldb.Integer}, {"first", sqldb.Text}}, Key: []string{"first", "second"}},
			"t":     {Name: "t", Columns: []sqldb.Column{{"k", sqldb.Text}, {"n", sqldb.Integer}, {"b", sqldb.Bytes}}, Key: []string{"k"}},
		}
		for name, table := range want {
			if !reflect.DeepEqual(found[name], table) {
				t.Errorf("%s is %+v, want %+v", name, found[name], table)
			}
		}
		if _, ok := found["goose_test"]; !ok {
			t.Errorf("goose's table is not among %v", all)
		}
		put(t, db, "CREATE TABLE odd (k TEXT PRIMARY KEY, at TIMESTAMP)")
		if _, err := db.Tables(t.Context()); err == nil {
			t.Error("a column of a type that nobody uses is taken")
		}
	})
}

func TestMark(t *testing.T) {
	engines(t, func(t *testing.T, db *sqldb.DB) {
		ctx := t.Context()
		if m, err := db.Marked(ctx); err != nil || m != nil {
			t.Fatalf("a new database is marked: %v, %v", m, err)
		}
		for _, state := range []string{"half", "nearly"} {
			if err := db.SetMark(ctx, sqldb.Mark{State: state, Reason: "not whole"}); err != nil {
				t.Fatal(err)
			}
			if m, err := db.Marked(ctx); err != nil || m == nil || *m != (sqldb.Mark{state, "not whole"}) {
				t.Fatalf("the mark is %v, %v", m, err)
			}
		}
		if err := db.Migrate(ctx, "test", schema); !errors.Is(err, sqldb.ErrMarked) {
			t.Fatalf("a marked database is opened: %v", err)
		}
		db.SetMaintenance(true)
		if err := db.Migrate(ctx, "test", schema); err != nil {
			t.Fatalf("a marked database is not open to tools: %v", err)
		}
		db.SetMaintenance(false)
		if err := db.ClearMark(ctx); err != nil {
			t.Fatal(err)
		}
		if err := db.Migrate(ctx, "test", schema); err != nil {
			t.Fatal(err)
		}
	})
}
