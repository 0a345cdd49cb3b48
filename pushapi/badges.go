package pushapi

import (
	"context"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/common/consumer"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/pushapi/storage"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// note takes a batch of user.output for the people whose pushers this instance
// serves: who has read something may have another badge, and pushers that are gone
// have nothing new any more.
func (s *Server) note(ctx context.Context, batch *consumer.Batch) error {
	read, had := map[string]int64{}, map[string][]string{}
	for i := range batch.Records {
		var c userapi.UserChange
		if err := json.Unmarshal(batch.Records[i].Value, &c); err != nil {
			return fmt.Errorf("pushapi: %s: partition %d, offset %d: %w", userapi.TopicUserOutput, batch.Records[i].Partition, batch.Records[i].Offset, err)
		}
		switch c.Kind {
		case userapi.ChangeReceipt, userapi.ChangePushRules:
			if s.people.get(c.UserID) != nil && !c.Again {
				read[c.UserID] = c.Seq
			}
		case userapi.ChangePushers:
			var list []userapi.Pusher
			if err := json.Unmarshal(c.Content, &list); err != nil {
				return fmt.Errorf("pushapi: pushers of %s: %w", c.UserID, err)
			}
			had[c.UserID] = idsOf(list)
		}
	}
	marks := s.readMarks(read)
	if s.skipped += len(batch.Records); len(marks)+len(had) == 0 && s.skipped < maxSkip {
		batch.Skip()
		return nil
	}
	err := s.db.Write(ctx, func(tx *sqldb.Tx) error {
		for userID, ids := range had {
			known, err := s.db.PushersOf(ctx, tx, userID)
			if err != nil {
				return err
			}
			gone := slices.DeleteFunc(known, func(id string) bool { return slices.Contains(ids, id) })
			if err := s.db.DropTx(ctx, tx, gone); err != nil {
				return err
			}
		}
		if err := s.db.PutMarks(ctx, tx, marks); err != nil {
			return err
		}
		return batch.Commit(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("pushapi: badges: %w", err)
	}
	s.skipped = 0
	if len(marks) > 0 {
		s.hurry()
	}
	return nil
}

func idsOf(list []userapi.Pusher) []string {
	ids := make([]string, len(list))
	for i := range list {
		ids[i] = list[i].ID
	}
	return ids
}

// readMarks makes the pushers due of who has read something.
func (s *Server) readMarks(read map[string]int64) (out []storage.Mark) {
	for userID, seq := range read {
		u := s.people.get(userID)
		if u == nil {
			continue
		}
		for i := range u.pushers {
			out = append(out, storage.Mark{PusherID: u.pushers[i].ID, UserID: userID, UserPartition: s.partitionOf(userID), ReadSeq: seq})
		}
	}
	return out
}
