package storage

import (
	"context"
	"path/filepath"
	"slices"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
)

// TestAvatars: what is in a profile is found, however its slashes are written.
func TestAvatars(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T) {
		d, err := New(t.Context(), sqldbtest.Open(t, filepath.Join(t.TempDir(), "users.db")), 1)
		if err != nil {
			t.Fatal(err)
		}
		err = d.Write(t.Context(), func(tx *sqldb.Tx) error {
			return putAvatars(t.Context(), d, tx)
		})
		if err != nil {
			t.Fatal(err)
		}
		used, err := d.Avatars(t.Context(), []string{"mxc://a/1", "mxc://a/2", "mxc://a/3", "mxc://a/4"})
		slices.Sort(used)
		if err != nil || !slices.Equal(used, []string{"mxc://a/1", "mxc://a/2"}) {
			t.Errorf("%q %v", used, err)
		}
	})
}

func putAvatars(ctx context.Context, d *Database, tx *sqldb.Tx) error {
	for user, field := range map[string][2]string{
		"@a:test": {"avatar_url", `"mxc://a/1"`}, "@b:test": {"avatar_url", `"mxc:\/\/a\/2"`}, "@c:test": {"displayname", `"mxc://a/3"`}, "@d:test": {"avatar_url", `"mxc://a/1"`},
	} {
		if err := d.PutProfileField(ctx, tx, user, field[0], jsontext.Value(field[1])); err != nil {
			return err
		}
	}
	return nil
}
