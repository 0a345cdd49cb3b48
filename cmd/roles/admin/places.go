package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/lease"
	"github.com/matrix-org/dendrite/common/sqldb"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	syncs "github.com/matrix-org/dendrite/syncapi/storage"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// Place is how far a consumer has read a partition of a topic, beside what the
// log holds of that.
type Place struct {
	Store     string `json:"store"`
	Consumer  string `json:"consumer"`
	Topic     string `json:"topic"`
	Partition int    `json:"partition"`
	Owner     string `json:"owner,omitzero"` // the instance that has it now
	Address   string `json:"address,omitzero"`
	Live      bool   `json:"-"`
	// TopicID is the identity of the topic that was read, "" if none ever was,
	// and Next the offset to read next.
	TopicID string `json:"topic_id"`
	Next    int64  `json:"next_offset"`
	// Seq is the last position that a reader has applied; -1 if it counts none.
	Seq   int64 `json:"seq"`
	epoch int64
	// What the log holds.
	LogID string `json:"log_topic_id"`
	Start int64  `json:"start"`
	End   int64  `json:"end"`
	Lag   int64  `json:"lag"`
	Wrong string `json:"wrong,omitzero"` // why the consumer cannot go on
}

// settledPlaces are the places once no server runs, with all tables as they are
// now.
func (i *Installation) settledPlaces(ctx context.Context) ([]Place, error) {
	if err := i.prepare(ctx); err != nil {
		return nil, err
	}
	if err := i.stopped(ctx); err != nil {
		return nil, err
	}
	return i.places(ctx)
}

// places returns all places of all stores, compared with the log if it is open.
func (i *Installation) places(ctx context.Context) ([]Place, error) {
	var out []Place
	for _, c := range components() {
		places, err := c.places(ctx, i.Stores[c.store])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.store, err)
		}
		for _, p := range places {
			p.Store = c.store
			if err := i.compare(ctx, &p); err != nil {
				return nil, err
			}
			out = append(out, p)
		}
	}
	return out, nil
}

// compare finds what the log holds of a place's partition, and what is wrong.
func (i *Installation) compare(ctx context.Context, p *Place) error {
	topic, known := i.topics[p.Topic]
	if i.Log == nil || !known {
		return nil
	}
	if p.Partition >= topic.Partitions {
		p.Wrong = "the topic has no such partition"
		return nil
	}
	start, end, err := i.Log.Bounds(ctx, p.Topic, p.Partition)
	if err != nil {
		return fmt.Errorf("%s/%d: %w", p.Topic, p.Partition, err)
	}
	p.LogID, p.Start, p.End = topic.ID, start, end
	switch {
	case p.publishes() || p.TopicID == "":
		p.Lag = end - start
	case p.TopicID != topic.ID:
		p.Wrong = "the topic is not the one that was read"
	case p.Next > end && topic.Durability == eventlog.Durable:
		p.Wrong = "the topic ends before what was read of it"
	case p.Next < start && !slices.Contains(frugal(), p.Consumer):
		p.Wrong = "records were dropped before they were read"
	default:
		p.Lag = max(0, end-p.Next)
	}
	if p.publishes() {
		p.Lag = 0
	}
	return nil
}

// publishes tells that the lease is for writing the topic, not for reading it.
func (p *Place) publishes() bool { return p.Store == "userapi" }

const (
	directoryConsumer = "directory"
	syncConsumer      = "sync"
	pushConsumer      = "push"
	searchConsumer    = "search"
)

// frugal are the consumers that can do without records that were dropped.
func frugal() []string {
	return []string{directoryConsumer, syncConsumer, pushConsumer, searchConsumer}
}

// leasePlaces reads the places in lease's tables. They are of groups as
// consumer.Group names them.
func leasePlaces(ctx context.Context, db *sqldb.DB) ([]Place, error) {
	rows, err := lease.Places(ctx, db)
	if err != nil {
		return nil, err
	}
	out := make([]Place, len(rows))
	for n, r := range rows {
		name, topic, _ := strings.Cut(r.Group, "/")
		out[n] = Place{Consumer: name, Topic: topic, Partition: r.Partition, Live: r.Live, TopicID: r.TopicID, Next: r.NextOffset, Seq: -1, epoch: r.Epoch}
		if r.Live {
			out[n].Owner, out[n].Address = r.Owner, r.Address
		}
	}
	return out, nil
}

// viewPlaces reads the places of a view, with how far it is by its own table.
func viewPlaces[S interface {
	Positions(context.Context) (map[int]int64, error)
}](open func(context.Context, *sqldb.DB) (S, error)) func(context.Context, *sqldb.DB) ([]Place, error) {
	return func(ctx context.Context, db *sqldb.DB) ([]Place, error) {
		out, err := leasePlaces(ctx, db)
		if err != nil {
			return nil, err
		}
		store, err := open(ctx, db)
		if err != nil {
			return nil, err
		}
		seqs, err := store.Positions(ctx)
		for n := range out {
			out[n].Seq = seqs[out[n].Partition]
		}
		return out, err
	}
}

// syncPlaces reads the sync-api's offsets, and who writes the rows that they are
// stored with.
func syncPlaces(ctx context.Context, db *sqldb.DB) ([]Place, error) {
	store, err := syncs.Open(ctx, db)
	if err != nil {
		return nil, err
	}
	var out []Place
	for _, topic := range []string{roomapi.TopicOutput, userapi.TopicUserOutput} {
		offsets, err := store.Offsets(ctx, topic)
		if err != nil {
			return nil, err
		}
		for _, o := range offsets {
			out = append(out, Place{Consumer: syncConsumer, Topic: topic, Partition: o.Partition, TopicID: o.TopicID, Next: o.Next, Seq: o.Seq})
		}
	}
	leases, err := lease.Places(ctx, db)
	for _, l := range leases {
		var rooms, users int
		if _, err := fmt.Sscanf(l.Group, syncs.LeaseGroup, &rooms, &users); err != nil || !l.Live {
			continue
		}
		owned := Place{Consumer: syncConsumer, Topic: roomapi.TopicOutput, Partition: l.Partition}
		if l.Partition >= rooms {
			owned.Topic, owned.Partition = userapi.TopicUserOutput, l.Partition-rooms
		}
		at := slices.IndexFunc(out, func(p Place) bool { return p.Topic == owned.Topic && p.Partition == owned.Partition })
		if at < 0 {
			at, out = len(out), append(out, owned)
		}
		out[at].Owner, out[at].Address, out[at].Live = l.Owner, l.Address, true
	}
	return out, err
}

// put stores a place in its component's way.
func (p *Place) put(ctx context.Context, tx *sqldb.Tx) error {
	if p.Consumer == syncConsumer {
		o := syncs.Offset{Topic: p.Topic, Partition: p.Partition, TopicID: p.TopicID, Next: p.Next, Seq: p.Seq}
		return o.Replace(ctx, tx)
	}
	return lease.PutPlace(ctx, tx, lease.Place{Group: p.Consumer + "/" + p.Topic, Partition: p.Partition, Epoch: p.epoch, NextOffset: p.Next, TopicID: p.TopicID})
}

// seqOf is the position that a record of a topic carries.
func seqOf(topic string, value []byte) (int64, error) {
	switch topic {
	case roomapi.TopicOutput:
		return roomapi.OutputSeq(value)
	case userapi.TopicUserOutput:
		return userapi.ChangeSeq(value)
	}
	return 0, fmt.Errorf("records of %s carry no position", topic)
}

// lastSeq is the position of a partition's last record; 0 if it holds none.
func (i *Installation) lastSeq(ctx context.Context, topic string, partition int) (int64, error) {
	start, end, err := i.Log.Bounds(ctx, topic, partition)
	if err != nil || start == end {
		return 0, err
	}
	return i.seqAt(ctx, topic, partition, end-1)
}

func (i *Installation) seqAt(ctx context.Context, topic string, partition int, offset int64) (int64, error) {
	records, err := i.Log.Read(ctx, topic, partition, offset, 1)
	if err != nil {
		return 0, fmt.Errorf("%s/%d at %d: %w", topic, partition, offset, err)
	}
	return seqOf(topic, records[0].Value)
}
