package clientapi

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"github.com/matrix-org/dendrite/common/matrixerror"
	directoryapi "github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/roomserver/api"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

const (
	// jobsEvery is how often jobs are looked for that nobody hurried.
	jobsEvery = 5 * time.Second
	// jobsAtOnce bounds the jobs taken up at once.
	jobsAtOnce = 50
)

// hurryJobs has jobs looked for now.
func (s *Server) hurryJobs() {
	select {
	case s.jobs <- struct{}{}:
	default: // they will be
	}
}

// runJobs does what changes of accounts bring in rooms, until ctx is done. A
// job that was interrupted is done again, with the same request IDs.
func (s *Server) runJobs(ctx context.Context) {
	ticker := time.NewTicker(jobsEvery)
	defer ticker.Stop()
	for {
		if err := s.takeJobs(ctx); err != nil && ctx.Err() == nil {
			s.logger.WithError(err).Warn("Jobs of accounts cannot be done now")
		}
		select {
		case <-ctx.Done():
			return
		case <-s.jobs:
		case <-ticker.C:
		}
	}
}

func (s *Server) takeJobs(ctx context.Context) error {
	res, err := userapi.QueryJobs.Call(ctx, s.caller, &userapi.JobsRequest{Limit: jobsAtOnce})
	if err != nil {
		return err
	}
	for _, job := range res.Jobs {
		if err := s.doJob(ctx, job); err != nil {
			return err
		}
		if _, err := userapi.FinishJob.Call(ctx, s.caller, &userapi.FinishJobRequest{Job: job}); err != nil {
			return err
		}
	}
	return nil
}

// doJob does one job in all rooms of its user. A room that refuses it is
// passed over; what may succeed later fails the job, which is tried again.
func (s *Server) doJob(ctx context.Context, job userapi.Job) error {
	membership := []string{"join"}
	if job.Kind == userapi.JobLeave {
		membership = []string{"join", "invite", "knock"}
	}
	rooms, err := s.roomsOf(ctx, job.UserID, membership)
	if err != nil {
		return err
	}
	for _, room := range rooms {
		event, err := s.jobEvent(ctx, job)
		if err == nil {
			_, err = s.writer.Append(ctx, &api.InputRecord{RoomID: room.RoomID, RequestID: jobRequestID(job, room.RoomID), Events: []api.InputEvent{event}})
		}
		if known := matrixerror.From(err); err != nil && (known == nil || known.Status >= 500 || known.Status == 429) {
			return err
		}
	}
	return nil
}

// roomsOf lists a local user's rooms as of now.
func (s *Server) roomsOf(ctx context.Context, userID string, membership []string) ([]directoryapi.UserRoom, error) {
	heads, err := api.QueryHeads.Call(ctx, s.caller, &api.HeadsRequest{})
	if err != nil {
		return nil, err
	}
	res, err := directoryapi.QueryUserRooms.Call(ctx, s.caller, &directoryapi.UserRoomsRequest{UserID: userID, Membership: membership, AtLeast: heads.Seqs})
	if err != nil {
		return nil, err
	}
	return res.Rooms, nil
}

// jobEvent is the member event that a job wants in a room.
func (s *Server) jobEvent(ctx context.Context, job userapi.Job) (api.InputEvent, error) {
	content := memberContent{Membership: "leave"}
	expect := api.Expectation{UserID: job.UserID, Membership: []string{"join", "invite", "knock"}, Status: 403, Code: "M_FORBIDDEN", Message: "The user has left"}
	if job.Kind == userapi.JobProfile {
		var err error
		if content, err = s.profiled(ctx, job.UserID, memberContent{Membership: "join"}); err != nil {
			return api.InputEvent{}, err
		}
		expect.Membership = []string{"join"}
	}
	event, err := memberEvent(job.UserID, job.UserID, content)
	event.UnlessSame = true
	event.Expect = []api.Expectation{expect}
	return event, err
}

func jobRequestID(job userapi.Job, roomID string) string {
	sum := sha256.Sum256([]byte("job\x00" + job.ID + "\x00" + roomID))
	return base64.RawURLEncoding.EncodeToString(sum[:])[:32]
}
