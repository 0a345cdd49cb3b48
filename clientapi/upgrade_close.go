package clientapi

import (
	"context"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
	directory "github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// closeRoom ends the old room: the tombstone, and where the user may also the
// end of its canonical alias and power levels under which nobody talks on.
// spec: client-server-api §room-upgrades
func (s *Server) closeRoom(ctx context.Context, up *directory.Upgrade, old *oldRoom, newID string) error {
	tombstone, err := json.Marshal(map[string]string{
		"body": "This room has been replaced", "replacement_room": newID,
	}, json.Deterministic(true))
	if err != nil {
		return err
	}
	powers, err := s.powersIn(ctx, up.RoomID, up.UserID)
	if err != nil {
		return err
	}
	events := []api.InputEvent{oldRoomEvent(up, typeTombstone, tombstone)}
	if old.state[gomatrixserverlib.StateKey{Type: typeCanonicalAlias}] != nil && powers.maySend(typeCanonicalAlias) {
		events = append(events, oldRoomEvent(up, typeCanonicalAlias, jsontext.Value(`{}`)))
	}
	if levels := closedLevels(old, powers); levels != nil {
		events = append(events, oldRoomEvent(up, "m.room.power_levels", levels))
	}
	_, err = s.writer.Append(ctx, &api.InputRecord{RequestID: stepID(up, "close"), RoomID: up.RoomID, Events: events})
	if len(events) == 1 || !matrixerror.Is(err, "M_FORBIDDEN") {
		return err
	}
	// What goes with the tombstone was not allowed after all: the tombstone
	// alone says what has to be said.
	_, err = s.writer.Append(ctx, &api.InputRecord{RequestID: stepID(up, "tombstone"), RoomID: up.RoomID, Events: events[:1]})
	return err
}

func oldRoomEvent(up *directory.Upgrade, typ string, content jsontext.Value) api.InputEvent {
	key := ""
	return api.InputEvent{Proto: &api.Proto{Type: typ, StateKey: &key, Sender: up.UserID, Content: content}}
}

// closedLevels raises events_default and invite to what ordinary members have
// not got; nil when the user may not, or the room has no power levels.
func closedLevels(old *oldRoom, p *powers) jsontext.Value {
	if old.levels == nil || !p.maySend("m.room.power_levels") {
		return nil
	}
	fields := map[string]jsontext.Value{}
	if err := json.Unmarshal(old.levels.Content(), &fields); err != nil {
		return nil
	}
	users, _ := wholeLevel(fields["users_default"])
	needed := max(levelModerator, users+1)
	own := p.levels.UserLevel(p.userID)
	changed := false
	for _, key := range []string{"events_default", "invite"} {
		current, _ := wholeLevel(fields[key])
		if current >= needed || own < needed || own < current {
			continue
		}
		fields[key] = strconv.AppendInt(nil, needed, 10)
		changed = true
	}
	if !changed {
		return nil
	}
	raw, err := json.Marshal(fields, json.Deterministic(true))
	if err != nil {
		return nil
	}
	return raw
}

// Upgrades that are older than this are not being worked on by a request any
// more.
const (
	upgradeStale = 2 * time.Minute
	upgradeCheck = time.Minute
)

// resumeUpgrades takes up upgrades that a crash interrupted, until ctx is done.
// Several instances may do so at once: each step is idempotent.
func (s *Server) resumeUpgrades(ctx context.Context) {
	ticker := time.NewTicker(upgradeCheck)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		before := time.Now().Add(-upgradeStale).UnixMilli()
		res, err := directory.QueryUpgrades.Call(ctx, s.caller, &directory.UpgradesRequest{Before: before})
		if err != nil {
			s.logger.WithError(err).Warn("cannot look for interrupted room upgrades")
			continue
		}
		for i := range res.Upgrades {
			up := &res.Upgrades[i]
			logger := s.logger.WithField("room_id", up.RoomID)
			if _, err := s.runUpgrade(ctx, up); err != nil {
				logger.WithError(err).Warn("an interrupted room upgrade could not be finished")
				continue
			}
			logger.Info("finished an interrupted room upgrade")
		}
	}
}
