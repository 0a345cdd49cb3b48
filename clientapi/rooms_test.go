package clientapi

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
	syncapi "github.com/matrix-org/dendrite/syncapi/api"
)

// testRooms is a room server as small as can be: one partition, everything in
// memory, the real rules. It reads room.input, publishes room.output and
// answers.
type testRooms struct {
	t        *testing.T
	log      eventlog.Log
	mu       sync.Mutex
	rooms    map[string]*testRoom
	verdicts map[string]*api.Verdict
	seq      int64
	// answer is false while verdicts are kept back.
	silent bool
}

type testRoom struct {
	version gomatrixserverlib.RoomVersion
	state   testState
	last    *gomatrixserverlib.Event
	events  map[string]*api.StoredEvent
	at      map[int64]testState
}

func newTestRooms(ctx context.Context, t *testing.T, log eventlog.Log, server *rpc.Server) *testRooms {
	t.Helper()
	for _, spec := range []eventlog.TopicSpec{api.InputTopic(1), api.OutputTopic(1)} {
		if _, err := log.EnsureTopic(ctx, spec); err != nil {
			t.Fatal(err)
		}
	}
	s := &testRooms{t: t, log: log, rooms: map[string]*testRoom{}, verdicts: map[string]*api.Verdict{}}
	api.QueryRoom.Serve(server, s.queryRoom)
	api.QueryState.Serve(server, s.queryState)
	api.QueryEvents.Serve(server, s.queryEvents)
	api.QueryMemberships.Serve(server, s.queryMemberships)
	api.QueryRestrictedJoin.Serve(server, s.queryRestrictedJoin)
	api.QueryVerdict.Serve(server, func(_ context.Context, r *api.VerdictRequest) (*api.VerdictResponse, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return &api.VerdictResponse{Verdict: s.verdicts[r.RequestID]}, nil
	})
	api.QueryHeads.Serve(server, func(context.Context, *api.HeadsRequest) (*api.HeadsResponse, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return &api.HeadsResponse{Seqs: []int64{s.seq}}, nil
	})
	syncapi.QueryPosition.Serve(server, func(_ context.Context, r *syncapi.PositionRequest) (*syncapi.PositionResponse, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		e := s.rooms[r.RoomID].events[r.Token]
		if e == nil {
			return nil, matrixerror.InvalidParam("token")
		}
		return &syncapi.PositionResponse{Position: e.Position}, nil
	})
	return s
}

func (s *testRooms) run(ctx context.Context) error {
	for next := int64(0); ; {
		records, err := s.log.Read(ctx, api.TopicInput, 0, next, 1<<20)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		for _, r := range records {
			next = r.Offset + 1
			if err := s.take(context.WithoutCancel(ctx), r.Value); err != nil {
				return err
			}
		}
	}
}

func (s *testRooms) take(ctx context.Context, value []byte) error {
	rec, lines, err := api.DecodeInput(value)
	if err != nil {
		return err
	}
	s.mu.Lock()
	v, silent := s.verdicts[rec.RequestID], s.silent
	if v == nil {
		var out []eventlog.Message
		v, out = s.apply(rec, lines)
		if v.Status == api.StatusAccepted {
			s.verdicts[rec.RequestID] = v
		}
		if len(out) > 0 {
			if _, err := s.log.Append(ctx, out...); err != nil {
				s.mu.Unlock()
				return err
			}
		}
	}
	s.mu.Unlock()
	if silent {
		return nil
	}
	answer, err := v.Encode()
	if err != nil {
		return err
	}
	_, err = s.log.Append(ctx, eventlog.Message{Topic: api.TopicAnswers, Partition: rec.Answer, Value: answer})
	return err
}

func refused(rec *api.InputRecord, status int, code, message string) *api.Verdict {
	return &api.Verdict{V: 1, RequestID: rec.RequestID, Status: api.StatusRefused, HTTPStatus: status, Code: code, Message: message}
}

// apply applies a record, all or nothing. s.mu is held.
func (s *testRooms) apply(rec *api.InputRecord, lines [][]byte) (*api.Verdict, []eventlog.Message) {
	room := s.rooms[rec.RoomID]
	if room == nil {
		if rec.RoomVersion == "" {
			return refused(rec, 404, "M_NOT_FOUND", "unknown room"), nil
		}
		room = &testRoom{version: gomatrixserverlib.RoomVersion(rec.RoomVersion), state: testState{}, events: map[string]*api.StoredEvent{}, at: map[int64]testState{}}
	}
	next := &testRoom{version: room.version, state: maps.Clone(room.state), last: room.last, events: maps.Clone(room.events), at: maps.Clone(room.at)}
	v := &api.Verdict{V: 1, RequestID: rec.RequestID, Status: api.StatusAccepted}
	seq := s.seq
	var out []eventlog.Message
	for i := range rec.Events {
		in := &rec.Events[i]
		for _, x := range in.Expect {
			is := ""
			if e := next.state.StateEvent(typeMember, x.UserID); e != nil {
				is = e.Membership()
			}
			if !slices.Contains(x.Membership, is) {
				return refused(rec, x.Status, x.Code, x.Message), nil
			}
		}
		if in.UnlessSame {
			if e := next.state.StateEvent(in.Proto.Type, *in.Proto.StateKey); e != nil && e.Sender() == in.Proto.Sender && string(e.Content()) == string(in.Proto.Content) {
				v.EventIDs = append(v.EventIDs, e.EventID())
				continue
			}
		}
		var e *gomatrixserverlib.Event
		var err error
		if in.Proto == nil {
			e, err = gomatrixserverlib.ParseEvent(lines[0], next.version)
		} else {
			e, err = buildProto(next.version, rec.RoomID, int(seq), in.Proto, next.state, next.last)
		}
		if err != nil {
			return refused(rec, 400, "M_BAD_JSON", err.Error()), nil
		}
		if err := gomatrixserverlib.Authorise(e, next.state); err != nil {
			return refused(rec, 403, "M_FORBIDDEN", err.Error()), nil
		}
		seq++
		out = append(out, s.place(rec, in, e, next, seq))
		v.EventIDs = append(v.EventIDs, e.EventID())
	}
	v.Position = api.Position{Seq: seq}
	s.rooms[rec.RoomID], s.seq = next, seq
	return v, out
}

// place stores an event in the room and makes its output.
func (s *testRooms) place(rec *api.InputRecord, in *api.InputEvent, e *gomatrixserverlib.Event, room *testRoom, seq int64) eventlog.Message {
	stored := &api.StoredEvent{Event: e, Position: api.Position{Seq: seq}, Device: in.Device, TxnID: in.TxnID}
	out := &api.OutputRecord{
		V: 1, Kind: api.OutputEvent, Position: stored.Position, RoomID: rec.RoomID, RoomVersion: string(room.version),
		EventID: e.EventID(), Type: e.Type(), StateKey: e.StateKey(), Sender: e.Sender(), Local: true,
	}
	if e.IsState() {
		if old := room.state[e.Key()]; old != nil {
			stored.ReplacesState = old.EventID()
		}
		room.state = maps.Clone(room.state)
		room.state[e.Key()] = e
		out.Changes = []api.StateChange{{Type: e.Type(), StateKey: *e.StateKey(), EventID: e.EventID()}}
	}
	if e.Redacts() != "" && room.events[e.Redacts()] != nil {
		out.Redacts = e.Redacts()
	}
	for key, m := range room.state {
		if key.Type == typeMember && m.Membership() == "join" {
			out.JoinedCount++
		}
	}
	room.last, room.events[e.EventID()], room.at[seq] = e, stored, room.state
	value, err := out.Encode(e.JSON())
	if err != nil {
		s.t.Error(err)
	}
	return eventlog.Message{Topic: api.TopicOutput, Key: []byte(rec.RoomID), Value: value}
}

// room finds a room: 404 when it is unknown.
func (s *testRooms) room(id string) (*testRoom, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.rooms[id]; r != nil {
		return r, nil
	}
	return nil, matrixerror.NotFound("unknown room")
}

func (s *testRooms) queryRoom(_ context.Context, r *api.RoomRequest) (*api.RoomResponse, error) {
	room, err := s.room(r.RoomID)
	if err != nil {
		return nil, err
	}
	return &api.RoomResponse{Version: room.version, ForwardExtremities: []string{room.last.EventID()}}, nil
}

func (s *testRooms) queryState(_ context.Context, r *api.StateRequest) (*api.StateResponse, error) {
	room, err := s.room(r.RoomID)
	if err != nil {
		return nil, err
	}
	state := room.state
	if r.AtSeq > 0 {
		state = testState{}
		for seq := r.AtSeq; seq > 0; seq-- {
			if at, ok := room.at[seq]; ok {
				state = at
				break
			}
		}
	}
	res := &api.StateResponse{RoomVersion: room.version}
	for key, e := range state {
		if r.Keys == nil && r.Types == nil || slices.Contains(r.Keys, key) || slices.Contains(r.Types, key.Type) {
			res.Events = append(res.Events, room.events[e.EventID()])
		}
	}
	return res, nil
}

func (s *testRooms) queryEvents(_ context.Context, r *api.EventsRequest) (*api.EventsResponse, error) {
	room, err := s.room(r.RoomID)
	if err != nil {
		return nil, err
	}
	res := &api.EventsResponse{}
	for _, id := range r.EventIDs {
		if e := room.events[id]; e != nil {
			res.Events = append(res.Events, e)
		}
	}
	return res, nil
}

func (s *testRooms) queryMemberships(_ context.Context, r *api.MembershipsRequest) (*api.MembershipsResponse, error) {
	room, err := s.room(r.RoomID)
	if err != nil {
		return nil, err
	}
	res := &api.MembershipsResponse{}
	for key, e := range room.state {
		if key.Type != typeMember || r.UserIDs != nil && !slices.Contains(r.UserIDs, key.StateKey) ||
			r.UserIDs == nil && r.Membership != nil && !slices.Contains(r.Membership, e.Membership()) {
			continue
		}
		res.Members = append(res.Members, api.Member{
			UserID: key.StateKey, Membership: e.Membership(), EventID: e.EventID(), Position: room.events[e.EventID()].Position, DisplayName: "N",
		})
	}
	return res, nil
}

func (s *testRooms) queryRestrictedJoin(_ context.Context, r *api.RestrictedJoinRequest) (*api.RestrictedJoinResponse, error) {
	room, err := s.room(r.RoomID)
	if err != nil {
		return nil, err
	}
	res := &api.RestrictedJoinResponse{JoinRule: "invite"}
	if e := room.state.StateEvent("m.room.join_rules", ""); e != nil {
		res.JoinRule = stringIn(e.Content(), "join_rule")
	}
	res.Allowed = r.UserID != "@carol:test"
	res.AuthorisedVia = room.state.StateEvent("m.room.create", "").Sender()
	return res, nil
}
