package admin

import (
	"context"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/go-json-experiment/json"

	userapi "github.com/matrix-org/dendrite/userapi/api"
	users "github.com/matrix-org/dendrite/userapi/storage"
)

// maxReports bounds the reports shown at once.
const maxReports = 1000

func reportsCommand(set *flag.FlagSet) func(context.Context, *run) error {
	all := set.Bool("all", false, "also those that are resolved")
	asJSON := set.Bool("json", false, "write JSON")
	resolve := set.String("resolve", "", "`ID` of a report that is done with")
	note := set.String("note", "", "what to note of it")
	return func(ctx context.Context, r *run) error {
		return r.with(ctx, true, func(i *Installation) error {
			if *resolve != "" {
				return ResolveReport(ctx, i, *resolve, *note)
			}
			return Reports(ctx, i, *all, *asJSON, r.out)
		})
	}
}

// Reports writes what users have reported, newest first.
func Reports(ctx context.Context, i *Installation, all, asJSON bool, out io.Writer) error {
	store, err := users.New(ctx, i.Stores["userapi"], userapi.UserOutputPartitions)
	if err != nil {
		return err
	}
	list, err := store.Reports(ctx, all, maxReports)
	if err != nil {
		return fmt.Errorf("reports: %w", err)
	}
	if asJSON {
		text, err := json.Marshal(list)
		if err == nil {
			_, err = fmt.Fprintf(out, "%s\n", text)
		}
		return err
	}
	for _, r := range list {
		if _, err := fmt.Fprintln(out, reportLine(&r)); err != nil {
			return err
		}
	}
	if len(list) == 0 {
		_, err = fmt.Fprintln(out, "no reports")
	}
	return err
}

// reportLine shows a report. What strangers wrote is quoted, so that it cannot
// steer a terminal.
func reportLine(r *userapi.Report) string {
	line := fmt.Sprintf("%s  %s  %s reports the %s", r.ID, time.UnixMilli(r.CreatedTS).UTC().Format(time.DateTime), r.Reporter, r.Kind)
	for _, what := range []struct{ name, value string }{{"", r.EventID}, {"in", r.RoomID}, {"of", r.UserID}} {
		switch {
		case what.value == "":
		case what.name == "" || r.Kind != userapi.ReportEvent:
			line += fmt.Sprintf(" %q", what.value)
		default:
			line += fmt.Sprintf(" %s %q", what.name, what.value)
		}
	}
	line += fmt.Sprintf(": %q", r.Reason)
	if r.ResolvedTS != 0 {
		line += fmt.Sprintf(" (resolved %s: %q)", time.UnixMilli(r.ResolvedTS).UTC().Format(time.DateTime), r.Note)
	}
	return line
}

// ResolveReport notes that a report is done with.
func ResolveReport(ctx context.Context, i *Installation, id, note string) error {
	store, err := users.New(ctx, i.Stores["userapi"], userapi.UserOutputPartitions)
	if err != nil {
		return err
	}
	ok, err := store.ResolveReport(ctx, id, note, time.Now().UnixMilli())
	if err == nil && !ok {
		err = fmt.Errorf("there is no report %q", id)
	}
	return err
}
