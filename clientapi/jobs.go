package clientapi

import (
	"context"
	"errors"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
	directoryapi "github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/roomserver/api"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// jobsEvery is how often jobs are looked for that nobody hurried.
const jobsEvery = 5 * time.Second

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
		if err := s.withdrawGuests(ctx); err != nil && ctx.Err() == nil {
			s.logger.WithError(err).Warn("Guests cannot be made to leave now; it is tried again later")
		}
		select {
		case <-ctx.Done():
			return
		case <-s.jobs:
		case <-ticker.C:
		}
	}
}

// takeJobs does what nobody does, one after the other. One that fails stays
// taken until its lease runs out: it is tried again then, and keeps no other
// waiting.
func (s *Server) takeJobs(ctx context.Context) error {
	for ctx.Err() == nil {
		res, err := userapi.TakeJob.Call(ctx, s.caller, &userapi.TakeJobRequest{Owner: s.jobOwner})
		if err != nil || !res.Found {
			return err
		}
		err = s.doJob(ctx, res.Job)
		if err == nil {
			_, err = userapi.FinishJob.Call(ctx, s.caller, &userapi.FinishJobRequest{Owner: s.jobOwner, Job: res.Job})
		}
		if err != nil && ctx.Err() == nil {
			s.logger.WithError(err).WithField("kind", res.Job.Kind).Warn("A job of an account is not done; it is tried again later")
		}
	}
	return nil
}

// errJobLost says that a job is somebody else's by now, or another one.
var errJobLost = errors.New("clientapi: the job was taken or replaced")

// doJob does one job in all rooms of its user. A room that refuses it is
// passed over; what may succeed later fails the job, which is tried again with
// the same request IDs.
func (s *Server) doJob(ctx context.Context, job userapi.Job) error {
	membership := []string{"join"}
	if job.Kind == userapi.JobLeave {
		membership = []string{"join", "invite", "knock"}
	}
	rooms, err := s.roomsOf(ctx, job.UserID, membership)
	if err != nil {
		return err
	}
	renewed := time.Now()
	for _, room := range rooms {
		if time.Since(renewed) > userapi.JobLease/3 {
			res, err := userapi.RenewJob.Call(ctx, s.caller, &userapi.RenewJobRequest{Owner: s.jobOwner, Job: job})
			if err != nil {
				return err
			}
			if !res.Held {
				return errJobLost
			}
			renewed = time.Now()
		}
		event, err := s.jobEvent(ctx, job, room.RoomID)
		if err == nil {
			_, err = s.writer.Append(ctx, &api.InputRecord{RoomID: room.RoomID, RequestID: jobRequestID(job, room.RoomID), Events: []api.InputEvent{event}})
		}
		if passes(err) {
			return err
		}
	}
	return nil
}

// roomsOf lists a local user's rooms as of now.
func (s *Server) roomsOf(ctx context.Context, userID string, membership []string) ([]directoryapi.UserRoom, error) {
	heads, err := api.Heads(ctx, s.caller, false)
	if err != nil {
		return nil, err
	}
	res, err := directoryapi.QueryUserRooms.Call(ctx, s.caller, &directoryapi.UserRoomsRequest{UserID: userID, Membership: membership, AtLeast: heads})
	if err != nil {
		return nil, err
	}
	return res.Rooms, nil
}

// jobEvent is the member event that a job wants in a room.
func (s *Server) jobEvent(ctx context.Context, job userapi.Job, roomID string) (api.InputEvent, error) {
	expect := api.Expectation{UserID: job.UserID, Membership: []string{"join", "invite", "knock"}, Status: 403, Code: "M_FORBIDDEN", Message: "The user has left"}
	event, err := memberEvent(job.UserID, job.UserID, memberContent{Membership: "leave"})
	if job.Kind == userapi.JobProfile {
		expect.Membership = []string{"join"}
		event.Proto.Content, err = s.newProfile(ctx, job.UserID, roomID)
	}
	event.UnlessSame = true
	event.Expect = []api.Expectation{expect}
	return event, err
}

// newProfile is the content of a user's member event in a room with the profile
// as it is now. What else clients put there stays, but what was about the join
// alone: its reason, and who let the user in. To say that again would want the
// signature of that user's server, and who is joined already needs nobody's leave.
// spec: rooms/v8 §authorization-rules
func (s *Server) newProfile(ctx context.Context, userID, roomID string) (jsontext.Value, error) {
	profile, err := userapi.QueryProfile.Call(ctx, s.caller, &userapi.ProfileRequest{UserID: userID})
	if err != nil {
		return nil, err
	}
	current, err := s.currentContent(ctx, roomID, typeMember, userID)
	if err != nil {
		return nil, err
	}
	content := map[string]jsontext.Value{}
	if current != nil {
		if err := json.Unmarshal(current, &content); err != nil {
			return nil, matrixerror.BadJSON("The membership cannot be read: %v", err)
		}
	}
	for _, key := range []string{"reason", "join_authorised_via_users_server", "third_party_invite", "displayname", "avatar_url"} {
		delete(content, key)
	}
	content["membership"] = jsontext.Value(`"join"`)
	for _, key := range []string{"displayname", "avatar_url"} {
		if profile.String(key) != "" {
			content[key] = profile.Fields[key]
		}
	}
	return json.Marshal(content, json.Deterministic(true))
}

func jobRequestID(job userapi.Job, roomID string) string {
	return hashedID([]byte("job\x00" + job.ID + "\x00" + roomID))
}
