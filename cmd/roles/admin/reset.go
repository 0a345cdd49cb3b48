package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/matrix-org/dendrite/common/sqldb"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// Reset says which consumers are to go on where.
type Reset struct {
	// Consumer and Topic choose; "" stands for all whose place is wrong, and
	// Partition -1 for all of them.
	Consumer, Topic string
	Partition       int
	To              string // start, end or an offset
	Yes             bool   // do it; otherwise it is only shown
}

// ResetPlaces shows what is wrong with the places of consumers, and sets those
// chosen to another one (design rule 2: an operator decides).
func ResetPlaces(ctx context.Context, i *Installation, r Reset, out io.Writer) error {
	places, err := i.settledPlaces(ctx)
	if err != nil {
		return err
	}
	chosen := 0
	for _, p := range places {
		if !r.chooses(&p) {
			continue
		}
		chosen++
		fmt.Fprintf(out, "%s, %s/%d: place %d of topic %s; the log has %d to %d of topic %s. %s\n",
			p.Consumer, p.Topic, p.Partition, p.Next, name(p.TopicID), p.Start, p.End, p.LogID, p.Wrong)
		if r.To == "" {
			continue
		}
		if err := i.reset(ctx, p, r, out); err != nil {
			return fmt.Errorf("%s, %s/%d: %w", p.Consumer, p.Topic, p.Partition, err)
		}
	}
	switch {
	case chosen == 0:
		fmt.Fprintln(out, "There is no such place, or nothing is wrong with any.")
	case r.To == "":
		fmt.Fprintln(out, "Nothing is changed: say --to start, --to end or --to OFFSET.")
	case !r.Yes:
		fmt.Fprintln(out, "Nothing is changed: say --yes.")
	}
	return nil
}

func name(id string) string {
	if id == "" {
		return "(none)"
	}
	return id
}

func (r *Reset) chooses(p *Place) bool {
	if p.publishes() || r.Consumer != "" && r.Consumer != p.Consumer || r.Topic != "" && r.Topic != p.Topic || r.Partition >= 0 && r.Partition != p.Partition {
		return false
	}
	return p.Wrong != "" || r.Consumer != ""
}

// reset sets a place, or says what that would mean.
func (i *Installation) reset(ctx context.Context, p Place, r Reset, out io.Writer) error {
	to, err := r.offset(&p)
	if err != nil {
		return err
	}
	if err := i.noGap(ctx, &p, to); err != nil {
		return err
	}
	fmt.Fprintf(out, "  to %d: %s\n", to, consequence(&p, to))
	if !r.Yes {
		return nil
	}
	p.Next, p.TopicID = to, p.LogID
	db := i.Stores[p.Store]
	if err := db.Write(ctx, func(tx *sqldb.Tx) error { return p.put(ctx, tx) }); err != nil {
		return err
	}
	return db.SafePoint(ctx)
}

func (r *Reset) offset(p *Place) (int64, error) {
	switch r.To {
	case "start":
		return p.Start, nil
	case "end":
		return p.End, nil
	}
	to, err := strconv.ParseInt(r.To, 10, 64)
	if err != nil || to < p.Start || to > p.End {
		return 0, fmt.Errorf("--to is start, end or an offset from %d to %d", p.Start, p.End)
	}
	return to, nil
}

// errGap refuses a place behind which a reader would wait for ever.
var errGap = errors.New("the reader would lack positions that come before: choose an earlier place, or build its view anew (dendrite-admin rebuild)")

// noGap fails if a reader that counts positions would miss some.
func (i *Installation) noGap(ctx context.Context, p *Place, to int64) error {
	if p.Seq < 0 || p.Start == p.End {
		return nil
	}
	seq, err := i.seqAt(ctx, p.Topic, p.Partition, min(to, p.End-1))
	if err != nil {
		return err
	}
	if to == p.End {
		seq++ // the next record's
	}
	if seq > p.Seq+1 {
		return fmt.Errorf("%w (it has come to %d, and would go on with %d)", errGap, p.Seq, seq)
	}
	return nil
}

// consequence says what a new place means, and what may be lost.
func consequence(p *Place, to int64) string {
	switch {
	case p.Topic != roomapi.TopicInput:
		return "nothing is lost: records that the reader knows by their positions are passed over"
	case p.TopicID == p.LogID && p.Next > p.End && to == p.End:
		return "nothing is lost: what was read is in the room server's store, and what comes next is read"
	case p.TopicID == p.LogID && to > max(p.Next, p.Start):
		return fmt.Sprintf("%d records are never handled: requests that were not answered yet are lost", to-max(p.Next, p.Start))
	case p.TopicID == p.LogID && p.Next < p.Start:
		return fmt.Sprintf("%d records that the log dropped are never handled: what they did is missing, unless the store had it already", p.Start-p.Next)
	case p.TopicID == p.LogID:
		return "records are handled again: events that are stored and requests that were accepted change nothing; requests that were refused are judged anew"
	case to < p.End:
		return "the records of the other topic from here on are handled: events that are stored and requests that were accepted change nothing; what the old topic held behind the place is lost"
	}
	return "what the old topic held behind the place, and the new one before, is never handled: requests that were not answered yet are lost"
}
