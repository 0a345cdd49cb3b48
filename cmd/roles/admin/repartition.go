package admin

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/sqldb"
	directory "github.com/matrix-org/dendrite/directoryapi/storage"
	push "github.com/matrix-org/dendrite/pushapi/storage"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	rooms "github.com/matrix-org/dendrite/roomserver/storage"
)

// Another number of partitions of the topics that hold rooms, in an installation
// that is moved: each room is in the partition that its ID says, and Seqs of all
// partitions go on above the highest that any old one had. So the Seqs of a room
// only grow, no number is given twice, and tokens and positions of before keep
// their meaning. The new topics begin with a record that says how far the Seqs
// were; the old records are not taken along: who reads them has to have read all.

// plan is what a move does beside moving.
type plan struct {
	// partitions of the topics that hold rooms; zero leaves them.
	partitions int
	// first is the Seq that all partitions begin with: nothing has it.
	first int64
}

// readers are the consumers of room.output that must have read all.
func readers() []string { return []string{directoryConsumer, syncConsumer} }

// errUnsettled says that somebody has not read all.
var errUnsettled = errors.New("not everything has been read yet: run the command again")

// repartitioning makes the plan for another number of partitions.
func (i *Installation) repartitioning(ctx context.Context, partitions int) (plan, error) {
	p := plan{partitions: partitions}
	heads, err := i.heads(ctx)
	if err != nil {
		return p, err
	}
	places, err := i.places(ctx)
	if err != nil {
		return p, err
	}
	at := map[string]map[int]int64{}
	for _, reader := range frugal() {
		at[reader] = map[int]int64{}
	}
	for _, place := range places {
		switch place.Topic {
		case roomapi.TopicInput:
			if place.Wrong != "" || place.Lag > 0 {
				return p, fmt.Errorf("%w (%s, partition %d of %s: %d records, %s)", errUnsettled, place.Consumer, place.Partition, place.Topic, place.Lag, place.Wrong)
			}
		case roomapi.TopicOutput:
			at[place.Consumer][place.Partition] = place.Seq
		}
	}
	for n, head := range heads[roomapi.TopicOutput] {
		for _, reader := range readers() {
			if at[reader][n] != head {
				return p, fmt.Errorf("%w (%s, partition %d: at %d of %d)", errUnsettled, reader, n, at[reader][n], head)
			}
		}
	}
	store, err := rooms.New(ctx, i.Stores["roomserver"])
	if err != nil {
		return p, err
	}
	err = store.ReadOne(ctx, func(tx *sqldb.Tx) error {
		p.first, err = store.HighestSeq(ctx, tx)
		return err
	})
	return p, err
}

// repartitioned tells whether a topic gets other partitions.
func (p plan) repartitioned(topic string) bool {
	return p.partitions > 0 && (topic == roomapi.TopicInput || topic == roomapi.TopicOutput)
}

// repartitionRooms and repartitionDirectory change a copied store.
func repartitionRooms(ctx context.Context, tx *sqldb.Tx, p plan) error {
	return rooms.Repartition(ctx, tx, p.partitions, p.first)
}

func repartitionDirectory(ctx context.Context, tx *sqldb.Tx, p plan) error {
	return directory.Repartition(ctx, tx, p.partitions, p.first)
}

// repartitionPush goes on behind what there was: nobody is notified of it again.
func repartitionPush(ctx context.Context, tx *sqldb.Tx, p plan) error {
	return push.Repartition(ctx, tx, p.partitions, p.first)
}

// begin makes the first records of a new room.output.
func (p plan) begin(ctx context.Context, to *Installation, out io.Writer) error {
	if p.partitions == 0 {
		return nil
	}
	for n := range p.partitions {
		_, end, err := to.Log.Bounds(ctx, roomapi.TopicOutput, n)
		if err != nil || end > 0 {
			if err == nil && end > 1 {
				err = errDiffers
			}
			if err != nil {
				return fmt.Errorf("%s/%d: %w", roomapi.TopicOutput, n, err)
			}
			continue // an earlier try's
		}
		value, err := (&roomapi.OutputRecord{V: 1, Kind: roomapi.OutputPurged, Position: roomapi.Position{Partition: n, Seq: p.first}}).Encode()
		if err != nil {
			return err
		}
		if _, err := to.Log.Append(ctx, eventlog.Message{Topic: roomapi.TopicOutput, Partition: n, Value: value}); err != nil {
			return fmt.Errorf("%s/%d: %w", roomapi.TopicOutput, n, err)
		}
	}
	fmt.Fprintf(out, "%d partitions, beginning at %d\n", p.partitions, p.first)
	return nil
}

// spread makes of the places in old partitions those in the new ones.
func (p plan) spread(places []Place) []Place {
	var out []Place
	type consumer struct{ store, name, topic string }
	epochs := map[consumer]int64{}
	var order []consumer
	for _, place := range places {
		if !p.repartitioned(place.Topic) {
			out = append(out, place)
			continue
		}
		c := consumer{place.Store, place.Consumer, place.Topic}
		if _, known := epochs[c]; !known {
			order = append(order, c)
		}
		epochs[c] = max(epochs[c], place.epoch)
	}
	for _, c := range order {
		for n := range p.partitions {
			place := Place{Store: c.store, Consumer: c.name, Topic: c.topic, Partition: n, Seq: p.first, epoch: epochs[c]}
			if c.topic == roomapi.TopicOutput {
				place.Next = 1 // behind the record of begin
			}
			out = append(out, place)
		}
	}
	return out
}
