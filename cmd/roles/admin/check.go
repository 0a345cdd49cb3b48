package admin

import (
	"context"
	"fmt"

	"github.com/matrix-org/dendrite/common/sqldb"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	rooms "github.com/matrix-org/dendrite/roomserver/storage"
	userapi "github.com/matrix-org/dendrite/userapi/api"
	users "github.com/matrix-org/dendrite/userapi/storage"
)

// Finding is something that does not fit together, as after one of the stores
// or the log was put back to an earlier copy. docs/backup.md has them all.
type Finding struct {
	Topic     string `json:"topic"`
	Partition int    `json:"partition"`
	What      string `json:"what"`
	// Repair is what the servers do about it by themselves, if Automatic, or
	// what to do.
	Repair    string `json:"repair"`
	Automatic bool   `json:"automatic"`
}

func (f Finding) String() string {
	who := "to do"
	if f.Automatic {
		who = "by itself"
	}
	return fmt.Sprintf("%s/%d: %s (%s: %s)", f.Topic, f.Partition, f.What, who, f.Repair)
}

// check compares stores and log by the positions that they have come to.
func (i *Installation) check(ctx context.Context, places []Place) ([]Finding, error) {
	heads, err := i.heads(ctx)
	if err != nil {
		return nil, err
	}
	out := []Finding{}
	unread := map[int]bool{} // partitions of room.input that the room server has not read to the end
	for _, p := range places {
		if p.Wrong != "" {
			out = append(out, Finding{p.Topic, p.Partition, p.Consumer + ": " + p.Wrong, "dendrite-admin log reset", false})
		}
		if p.Topic == roomapi.TopicInput && p.Lag > 0 {
			unread[p.Partition] = true
		}
	}
	last := map[string][]int64{}
	for topic, seqs := range heads {
		last[topic] = make([]int64, len(seqs))
		for p, head := range seqs {
			if last[topic][p], err = i.lastSeq(ctx, topic, p); err != nil {
				return nil, err
			}
			if f := compareHead(topic, p, head, last[topic][p], unread[p]); f != nil {
				out = append(out, *f)
			}
		}
	}
	for _, p := range places {
		seqs := heads[p.Topic]
		if p.Seq < 0 || p.Partition >= len(seqs) || p.Topic == roomapi.TopicOutput && unread[p.Partition] {
			continue
		}
		if known := max(seqs[p.Partition], last[p.Topic][p.Partition]); p.Seq > known {
			out = append(out, Finding{p.Topic, p.Partition, fmt.Sprintf("%s has applied %d positions that neither store nor log know", p.Consumer, p.Seq-known),
				"dendrite-admin rebuild " + p.Consumer, false})
		}
	}
	return out, nil
}

// compareHead compares the last position of a writer's store with the last one
// of its topic.
func compareHead(topic string, partition int, head, last int64, unread bool) *Finding {
	switch {
	case last < head:
		return &Finding{topic, partition, fmt.Sprintf("the log lacks %d positions of the store", head-last), "they are published again", true}
	case last == head:
		return nil
	case topic == userapi.TopicUserOutput:
		return &Finding{topic, partition, fmt.Sprintf("the log is ahead of the store by %d positions", last-head), "what is current is published anew", true}
	case unread:
		return &Finding{topic, partition, fmt.Sprintf("the log is ahead of the store by %d positions", last-head), "they are made again from room.input, and adopted", true}
	}
	return &Finding{topic, partition, fmt.Sprintf("the log is ahead of the store by %d positions, and room.input has nothing to make them from", last-head),
		"restore a newer copy of the room server's store; the partition takes nothing before", false}
}

// heads are the last positions that the writers' stores have given.
func (i *Installation) heads(ctx context.Context) (map[string][]int64, error) {
	out := map[string][]int64{}
	store, err := rooms.New(ctx, i.Stores["roomserver"])
	if err != nil {
		return nil, err
	}
	err = store.ReadOne(ctx, func(tx *sqldb.Tx) error {
		p, err := store.Positions(ctx, tx, i.topics[roomapi.TopicOutput].Partitions)
		out[roomapi.TopicOutput] = p.Seqs
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("roomserver: positions: %w", err)
	}
	accounts, err := users.New(ctx, i.Stores["userapi"], userapi.UserOutputPartitions)
	if err == nil {
		out[userapi.TopicUserOutput], err = accounts.Heads(ctx)
	}
	return out, err
}
