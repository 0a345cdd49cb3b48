package storage

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/directoryapi/api"
)

func TestAvatars(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T) {
		d, err := New(t.Context(), sqldbtest.Open(t, filepath.Join(t.TempDir(), "directory.db")))
		if err != nil {
			t.Fatal(err)
		}
		err = d.Write(t.Context(), func(tx *sqldb.Tx) error {
			return d.PutRooms(t.Context(), tx, []api.Room{{RoomID: "!a:test", AvatarURL: "mxc://a/1"}})
		})
		if err != nil {
			t.Fatal(err)
		}
		if used, err := d.Avatars(t.Context(), []string{"mxc://a/1", "mxc://a/2"}); err != nil || !slices.Equal(used, []string{"mxc://a/1"}) {
			t.Errorf("%q %v", used, err)
		}
	})
}
