package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// States of marks. A target is unfinished while rows and records are copied,
// and finishing once all is there and compared, while marks are taken away. A
// source is moved from then on.
const (
	stateUnfinished = "unfinished"
	stateFinishing  = "finishing"
	stateMoved      = "moved"
)

var (
	errDiffers  = errors.New("source and target differ")
	errOccupied = errors.New("the target holds an installation already")
)

// Move takes an installation, stopped, to another log and other databases,
// which have to be empty. What was broken off goes on when it is called again;
// the target is marked until the end, so that no server runs on it, and from
// then on the source is.
//
// Positions (Seqs) are Dendrite's own and stay as they are, and so do sync
// tokens and everything else that names one (design rule 4). Offsets are the
// log's: each consumer's place is rewritten.
func Move(ctx context.Context, from, to *Installation, out io.Writer) error {
	if from.Partitions != to.Partitions {
		return fmt.Errorf("event_log.partitions differ, %d and %d: that is what dendrite-admin repartition does", from.Partitions, to.Partitions)
	}
	return move(ctx, from, to, out)
}

// Repartition is Move to an installation with another number of partitions of
// the topics that hold rooms. Everything must have been read: see roles.Settle.
func Repartition(ctx context.Context, from, to *Installation, out io.Writer) error {
	if from.Partitions == to.Partitions {
		return fmt.Errorf("event_log.partitions is %d in both configurations", from.Partitions)
	}
	return move(ctx, from, to, out)
}

func move(ctx context.Context, from, to *Installation, out io.Writer) error {
	if from.ServerName != to.ServerName {
		return fmt.Errorf("the configurations are of different servers: %s and %s", from.ServerName, to.ServerName)
	}
	finishing, err := to.claim(ctx, from)
	if err != nil {
		return err
	}
	if !finishing {
		if err := copyAll(ctx, from, to, out); err != nil {
			return err
		}
		if err := to.markAll(ctx, sqldb.Mark{State: stateFinishing, Reason: "a move from " + from.Name + " is about to be finished: run dendrite-admin move again"}); err != nil {
			return err
		}
	}
	if err := from.markAll(ctx, sqldb.Mark{State: stateMoved, Reason: "the installation was moved to " + to.Name + "; to go on here without what has happened there, run dendrite-admin reopen"}); err != nil {
		return err
	}
	for _, c := range components() {
		if err := to.unmark(ctx, c.store); err != nil {
			return fmt.Errorf("%s: %w", c.store, err)
		}
	}
	fmt.Fprintf(out, "Moved. Start the servers on %s; no server starts on %s any more.\n", to.Name, from.Name)
	return nil
}

// claim marks the target, if it is empty or an earlier move has left it so.
// finishing tells that only marks are left to be taken away.
func (i *Installation) claim(ctx context.Context, from *Installation) (finishing bool, err error) {
	started, occupied := false, ""
	for _, c := range components() {
		db := i.Stores[c.store]
		m, err := db.Marked(ctx)
		if err != nil {
			return false, err
		}
		all, err := db.Tables(ctx)
		if err != nil {
			return false, err
		}
		switch {
		case m != nil && m.State == stateFinishing:
			finishing = true
		case m != nil && m.State == stateUnfinished:
			started = true
		case len(all) > 0:
			occupied = c.store
		}
	}
	if finishing {
		return true, nil
	}
	if occupied != "" {
		return false, fmt.Errorf("%w: see the database of %s", errOccupied, occupied)
	}
	if moved, err := from.moved(ctx); err != nil || moved != "" {
		return false, errors.Join(err, fmt.Errorf("%s: %s", from.Name, moved))
	}
	if !started {
		if err := i.emptyLog(ctx); err != nil {
			return false, err
		}
	}
	return false, i.markAll(ctx, sqldb.Mark{State: stateUnfinished, Reason: "a move from " + from.Name + " has not been finished: run dendrite-admin move again"})
}

// moved returns why a source is marked; "" if it is not.
func (i *Installation) moved(ctx context.Context) (string, error) {
	for _, c := range components() {
		if m, err := i.Stores[c.store].Marked(ctx); err != nil || m != nil {
			if err == nil {
				return m.Reason, nil
			}
			return "", err
		}
	}
	return "", nil
}

// emptyLog fails if the log holds records.
func (i *Installation) emptyLog(ctx context.Context) error {
	for _, spec := range storedTopics(i.Partitions) {
		topic, err := i.Log.EnsureTopic(ctx, spec)
		if err != nil {
			return fmt.Errorf("%s: %w", spec.Name, err)
		}
		for p := range topic.Partitions {
			if _, end, err := i.Log.Bounds(ctx, topic.Name, p); err != nil || end != 0 {
				return errors.Join(err, fmt.Errorf("%w: its log holds, or held, records of %s", errOccupied, topic.Name))
			}
		}
	}
	return nil
}

func (i *Installation) markAll(ctx context.Context, m sqldb.Mark) error {
	for _, c := range components() {
		if err := i.Stores[c.store].SetMark(ctx, m); err != nil {
			return fmt.Errorf("%s: %w", c.store, err)
		}
	}
	return nil
}

// unmark lets servers run on a store.
func (i *Installation) unmark(ctx context.Context, store string) error {
	db := i.Stores[store]
	err := db.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Script(ctx, "DROP TABLE IF EXISTS "+copiedTable)
		return err
	})
	return errors.Join(err, db.ClearMark(ctx))
}

// copyAll copies stores, log and places, and compares what came of it.
func copyAll(ctx context.Context, from, to *Installation, out io.Writer) error {
	for _, i := range []*Installation{from, to} {
		if err := i.prepare(ctx); err != nil {
			return fmt.Errorf("%s: %w", i.Name, err)
		}
	}
	if err := from.stopped(ctx); err != nil {
		return err
	}
	parts, err := from.stretches(ctx)
	if err != nil {
		return err
	}
	var p plan
	if from.Partitions != to.Partitions {
		if p, err = from.repartitioning(ctx, to.Partitions); err != nil {
			return err
		}
	}
	for _, c := range components() {
		rows, err := c.transfer(ctx, from.Stores[c.store], to.Stores[c.store], p)
		if err != nil {
			return fmt.Errorf("%s: %w", c.store, err)
		}
		fmt.Fprintf(out, "%-13s %9s rows\n", c.store, rows)
	}
	if err := copyLog(ctx, from, to, p, parts, out); err != nil {
		return err
	}
	if err := movePlaces(ctx, from, to, p, parts); err != nil {
		return err
	}
	return to.safe(ctx)
}

func copyLog(ctx context.Context, from, to *Installation, plan plan, parts map[string][]stretch, out io.Writer) error {
	if err := plan.begin(ctx, to, out); err != nil {
		return err
	}
	for _, spec := range storedTopics(from.Partitions) {
		if plan.repartitioned(spec.Name) {
			continue
		}
		var records int64
		for p, s := range parts[spec.Name] {
			err := copyPartition(ctx, from.Log, to.Log, spec.Name, p, s)
			if err == nil {
				err = comparePartition(ctx, from.Log, to.Log, spec.Name, p, s)
			}
			if err != nil {
				return fmt.Errorf("%s/%d: %w", spec.Name, p, err)
			}
			records += s.end - s.from
		}
		fmt.Fprintf(out, "%-13s %9d records\n", spec.Name, records)
	}
	return nil
}

// movePlaces makes consumers go on at the target where they stopped at the source.
func movePlaces(ctx context.Context, from, to *Installation, plan plan, parts map[string][]stretch) error {
	places, err := from.places(ctx)
	if err != nil {
		return err
	}
	for _, p := range plan.spread(places) {
		if plan.repartitioned(p.Topic) {
			p.TopicID = to.topics[p.Topic].ID
		} else {
			p = p.moved(parts[p.Topic][p.Partition], to.topics[p.Topic].ID)
		}
		if remade(p.Store) {
			p.Next, p.Seq = -1, 0 // before the topic's beginning: what is there is not all
		}
		err := to.Stores[p.Store].Write(ctx, func(tx *sqldb.Tx) error { return p.put(ctx, tx) })
		if err != nil {
			return fmt.Errorf("%s: place of %s: %w", p.Store, p.Consumer, err)
		}
	}
	return nil
}

// safe returns once all that was written is on disk.
func (i *Installation) safe(ctx context.Context) error {
	var errs []error
	for _, db := range i.Stores {
		errs = append(errs, db.SafePoint(ctx))
	}
	// A log closes once what was appended is durable; it is not needed any more.
	errs = append(errs, i.Log.Close())
	i.Log = nil
	return errors.Join(errs...)
}

// Reopen lets servers run again on an installation that was moved away, or
// whose move was given up. What has happened at the other place since is not
// here.
func Reopen(ctx context.Context, i *Installation, out io.Writer) error {
	var states []string
	for _, c := range components() {
		m, err := i.Stores[c.store].Marked(ctx)
		if err != nil {
			return err
		}
		if m != nil && m.State != stateMoved {
			return fmt.Errorf("%s is the unfinished target of a move: move again, or empty it", c.store)
		}
		if m != nil && !slices.Contains(states, m.Reason) {
			states = append(states, m.Reason)
		}
	}
	for _, c := range components() {
		if err := i.Stores[c.store].ClearMark(ctx); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "Servers may run on %s. It was closed because: %s\n", i.Name, strings.Join(states, "; "))
	return nil
}
