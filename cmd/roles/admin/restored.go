package admin

import (
	"context"
	"fmt"
	"io"

	userapi "github.com/matrix-org/dendrite/userapi/api"
	users "github.com/matrix-org/dendrite/userapi/storage"
)

// Restored makes the user-api's store safe after it was put back to an older
// copy: one-time keys that it holds may have been given out since, so they are
// dropped, and all users' device lists are flagged as changed, since they may have
// been. Where the log is newer than the store the user-api does so by itself;
// where both were put back nothing tells it.
func Restored(ctx context.Context, i *Installation, out io.Writer) error {
	if err := i.prepare(ctx); err != nil {
		return err
	}
	if err := i.stopped(ctx); err != nil {
		return err
	}
	db := i.Stores["userapi"]
	store, err := users.New(ctx, db, userapi.UserOutputPartitions)
	if err != nil {
		return err
	}
	if err := store.Restored(ctx); err != nil {
		return fmt.Errorf("userapi: %w", err)
	}
	if err := db.SafePoint(ctx); err != nil {
		return err
	}
	fmt.Fprintln(out, "One-time keys are dropped: devices upload new ones. At the next start clients are told to ask anew for everybody's devices.")
	return nil
}
