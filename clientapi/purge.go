package clientapi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/retention"
	"github.com/matrix-org/dendrite/roomserver/api"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

const (
	// purgeEvery is how often purges are looked for at most.
	purgeEvery = 2 * time.Second
	// purgeRooms is how many rooms are looked at at once, purgePage how many events
	// of one.
	purgeRooms = 500
	purgePage  = 1000
	// maxUnpurged bounds the rooms that may refuse before what expires is left for
	// later: then it is not for the rooms.
	maxUnpurged = 10
	// othersEvery is how often events are looked for that no timeline shows: they are
	// many in a room of other servers, few of them may go, and nobody sees them.
	othersEvery = 12 * time.Hour
)

// runPurges purges what administrators want purged, and what has expired, until ctx
// is done. This is where the clock is that says what has: the room server is told
// what to forget. A purge is a row of the user-api, which one instance has at a time;
// what was interrupted goes on where it was, and what is done again has no effect.
func (s *Server) runPurges(ctx context.Context) {
	every := purgeEvery
	if s.retention != nil {
		every = min(every, s.purgeInterval)
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if err := s.takePurges(ctx); err != nil && ctx.Err() == nil {
			s.logger.WithError(err).Warn("Nothing can be purged now; it is tried again later")
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// takePurges does what is due, one after the other. What fails stays taken until its
// lease runs out.
func (s *Server) takePurges(ctx context.Context) error {
	partitions := 0
	if s.retention != nil {
		partitions = s.writer.partitions
	}
	for ctx.Err() == nil {
		res, err := userapi.TakePurge.Call(ctx, s.caller, &userapi.TakePurgeRequest{Owner: s.jobOwner, Partitions: partitions})
		if err != nil || !res.Found {
			return err
		}
		p := &purging{s: s, job: res.Purge, kept: time.Now()}
		if err := p.do(ctx); err != nil && ctx.Err() == nil {
			s.logger.WithError(err).WithField("kind", res.Purge.Kind).WithField("room_id", res.Purge.RoomID).
				Warn("A purge is not finished; it goes on later")
		}
	}
	return nil
}

// purging is a purge that this instance has taken.
type purging struct {
	s     *Server
	job   userapi.Purge
	place purgePlace
	// purged counts events since kept, when it was stored how far the purge is.
	purged int64
	kept   time.Time
}

// purgePlace is how far a purge is.
type purgePlace struct {
	// Room is the last room of a partition that is done; At is how far the next one
	// is, or the only one.
	Room string         `json:"room,omitzero"`
	At   api.PurgePlace `json:"at,omitzero"`
	// Before is where the event stands that says what is old: it may be purged itself
	// meanwhile, as it expires.
	Before api.Position `json:"before,omitzero"`
}

// do does the purge and says that it is over. An error says that it is not.
func (p *purging) do(ctx context.Context) error {
	if p.job.Place != "" {
		if err := json.Unmarshal([]byte(p.job.Place), &p.place); err != nil {
			return fmt.Errorf("clientapi: the place of a purge: %w", err)
		}
	}
	finish := &userapi.FinishPurgeRequest{Owner: p.s.jobOwner, ID: p.job.ID}
	var err error
	switch p.job.Kind {
	case userapi.PurgeExpired:
		finish.AgainMS = p.s.purgeInterval.Milliseconds()
		err = p.expired(ctx)
	case userapi.PurgeHistory:
		err = p.history(ctx)
	case userapi.PurgeRoom:
		err = p.room(ctx)
	default:
		err = fmt.Errorf("clientapi: purges of kind %q are another version's", p.job.Kind)
	}
	if err != nil && !passes(err) && !matrixerror.Is(err, "M_UNRECOGNIZED") { // a room server of before does not know such records
		finish.Error, err = matrixerror.From(err).Message, nil // for good
	}
	if err != nil {
		return errors.Join(err, p.keep(ctx))
	}
	finish.Purged = p.purged
	_, err = userapi.FinishPurge.Call(ctx, p.s.caller, finish)
	return err
}

// keep stores how far the purge is.
func (p *purging) keep(ctx context.Context) error {
	place, err := json.Marshal(&p.place)
	if err != nil {
		return err
	}
	res, err := userapi.KeepPurge.Call(ctx, p.s.caller, &userapi.KeepPurgeRequest{Owner: p.s.jobOwner, ID: p.job.ID, Place: string(place), Purged: p.purged})
	if err != nil {
		return err
	}
	if !res.Held {
		return errJobLost
	}
	p.purged, p.kept = 0, time.Now()
	return nil
}

// keepSometimes is keep where there is something worth it, or the lease wants it.
func (p *purging) keepSometimes(ctx context.Context) error {
	if p.purged == 0 && time.Since(p.kept) < userapi.JobLease/3 {
		return nil
	}
	return p.keep(ctx)
}

// expired purges what has expired in the rooms of a partition. Rooms that refuse are
// passed over: their turn comes again.
func (p *purging) expired(ctx context.Context) error {
	s, refused := p.s, []error(nil)
	began := time.Now()
	last, ok := s.others.Load(p.job.Partition)
	others := !ok || began.Sub(last.(time.Time)) > othersEvery
	for {
		page, err := api.QueryRetention.Call(ctx, s.caller, &api.RetentionRequest{
			Partition: p.job.Partition, After: p.place.Room, Types: retention.Types(), Limit: purgeRooms})
		if err != nil {
			return err
		}
		for _, room := range page.Rooms {
			if before := s.retention.Effective(room.RoomID, room.Content).ExpiredBefore(time.Now()); before > 0 {
				err := p.old(ctx, &api.PurgeableRequest{RoomID: room.RoomID, BeforeTS: before, Others: others})
				if matrixerror.From(err) == nil && err != nil {
					return err
				}
				if err != nil && !matrixerror.Is(err, "M_NOT_FOUND") {
					refused = append(refused, fmt.Errorf("%s: %w", room.RoomID, err))
				}
				if len(refused) > maxUnpurged {
					return errors.Join(refused...)
				}
			}
			p.place = purgePlace{Room: room.RoomID}
		}
		if err := p.keepSometimes(ctx); err != nil {
			return err
		}
		if !page.More {
			break
		}
	}
	if others {
		s.others.Store(p.job.Partition, began)
	}
	if err := errors.Join(refused...); err != nil {
		s.logger.WithError(err).Warn("Rooms from which nothing can be purged now")
	}
	return nil
}

// history purges what is older in a room than a time or an event.
func (p *purging) history(ctx context.Context) error {
	req := &api.PurgeableRequest{RoomID: p.job.RoomID, BeforeTS: p.job.BeforeTS, Others: true}
	if p.job.EventID != "" && p.place.Before.Seq == 0 {
		res, err := api.QueryEvents.Call(ctx, p.s.caller, &api.EventsRequest{RoomID: p.job.RoomID, EventIDs: []string{p.job.EventID}})
		if err != nil {
			return err
		}
		if len(res.Events) == 0 || res.Events[0].Position.Seq == 0 {
			return matrixerror.NotFound("There is no such event in the room")
		}
		p.place.Before = res.Events[0].Position
	}
	req.Before = p.place.Before
	return p.old(ctx, req)
}

// old purges old events of a room, from the place on that the purge has reached.
func (p *purging) old(ctx context.Context, req *api.PurgeableRequest) error {
	req.Limit = purgePage
	for {
		next := *req // the one before may still be read
		next.After = p.place.At
		page, err := api.QueryPurgeable.Call(ctx, p.s.caller, &next)
		if err != nil {
			return err
		}
		for ids := range slices.Chunk(page.EventIDs, api.MaxPurge) {
			if _, err := p.s.writer.Append(ctx, &api.InputRecord{RoomID: req.RoomID, Kind: api.KindPurgeHistory, Purge: ids}); err != nil {
				return err
			}
			p.purged += int64(len(ids))
			p.s.purged.WithLabelValues(string(p.job.Kind)).Add(float64(len(ids)))
		}
		p.place.At = page.Next
		if !page.More {
			return nil
		}
		if err := p.keepSometimes(ctx); err != nil {
			return err
		}
	}
}
