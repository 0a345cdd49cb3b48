package admin

import (
	"context"
	"fmt"
	"io"

	"github.com/matrix-org/dendrite/common/sqldb"
	directory "github.com/matrix-org/dendrite/directoryapi/storage"
	syncs "github.com/matrix-org/dendrite/syncapi/storage"
)

// Rebuild empties a consumer's view, so that it is built anew at the next start.
// What no log can restore stays.
func Rebuild(ctx context.Context, i *Installation, consumer string, out io.Writer) error {
	if err := i.prepare(ctx); err != nil {
		return err
	}
	if err := i.stopped(ctx); err != nil {
		return err
	}
	places, err := i.places(ctx)
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
	default:
		return fmt.Errorf("there is no view of %q: say %s or %s", consumer, directoryConsumer, syncConsumer)
	}
	db := i.Stores[store]
	err = db.Write(ctx, func(tx *sqldb.Tx) error {
		for _, p := range places {
			if p.Store != store || p.Consumer == syncConsumer { // whose offsets are cleared with the rest
				continue
			}
			p.Next, p.TopicID = -1, p.LogID // before the topic's beginning: see consumer.Options.Rebuild
			if err := p.put(ctx, tx); err != nil {
				return err
			}
		}
		return clear(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", store, err)
	}
	fmt.Fprintf(out, "The view of %s is built anew when it starts next.\n", consumer)
	return db.SafePoint(ctx)
}
