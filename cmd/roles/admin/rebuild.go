package admin

import (
	"context"
	"fmt"
	"io"

	"github.com/matrix-org/dendrite/common/sqldb"
	directory "github.com/matrix-org/dendrite/directoryapi/storage"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	search "github.com/matrix-org/dendrite/searchapi/storage"
	syncs "github.com/matrix-org/dendrite/syncapi/storage"
)

// Rebuild empties a consumer's view, so that it is built anew at the next start.
// What no log can restore stays.
func Rebuild(ctx context.Context, i *Installation, consumer string, out io.Writer) error {
	places, err := i.settledPlaces(ctx)
	if err != nil {
		return err
	}
	var store string
	var clear func(context.Context, *sqldb.Tx) error
	switch consumer {
	case directoryConsumer:
		store, clear = "directoryapi", directory.ClearView
	case syncConsumer:
		store, clear = "syncapi", syncs.Clear
	case searchConsumer:
		store, clear = "searchapi", search.Clear
	default:
		return fmt.Errorf("there is no view of %q: say %s, %s or %s", consumer, directoryConsumer, syncConsumer, searchConsumer)
	}
	db := i.Stores[store]
	err = db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := clear(ctx, tx); err != nil {
			return err
		}
		for _, p := range places {
			if p.Store != store || p.Topic != roomapi.TopicOutput {
				continue
			}
			// Before the topic's beginning: what is there now is not all.
			p.Next, p.Seq, p.TopicID = -1, 0, p.LogID
			if err := p.put(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", store, err)
	}
	fmt.Fprintf(out, "The view of %s is built anew when it starts next.\n", consumer)
	return db.SafePoint(ctx)
}
