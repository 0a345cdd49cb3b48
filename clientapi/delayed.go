package clientapi

import (
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// msc4140 names delayed events, which are not in the specification yet: an event
// is stored and sent later, unless the user puts that off or cancels it. Calls
// end that way for who has gone.
const (
	msc4140      = "org.matrix.msc4140"
	delayedParam = msc4140 + ".delay"
)

// delayedEndpoints list both the proposal's forms and those that clients use
// from before it was settled; for them, send and state take a delay too.
func (s *Server) delayedEndpoints() []httpapi.Endpoint {
	const base = unstable + "/" + msc4140
	e := func(method, path string, limit httpapi.Limit, h httpapi.Handler) httpapi.Endpoint {
		return httpapi.Endpoint{Method: method, Path: base + path, Access: httpapi.Guest, Limit: limit, MaxBody: maxEventBody, Handler: h}
	}
	return []httpapi.Endpoint{
		e("PUT", "/rooms/{roomId}/delayed_event/{eventType}/{txnId}", httpapi.LimitMessage, s.putDelayed),
		e("GET", "/delayed_events", httpapi.LimitRequest, s.getDelayedEvents),
		e("GET", "/delayed_events/{delayId}", httpapi.LimitRequest, s.getDelayedEvent),
		e("POST", "/delayed_events/{delayId}", httpapi.LimitMessage, s.postDelayed),
		e("POST", "/delayed_events/{delayId}/{action}", httpapi.LimitMessage, s.postDelayedAction),
	}
}

type delayIDResponse struct {
	ID string `json:"delay_id"`
}

// putDelayed serves PUT /rooms/{roomId}/delayed_event/{eventType}/{txnId}.
func (s *Server) putDelayed(r *httpapi.Request) (any, error) {
	roomID, err := pathRoomID(r)
	if err != nil {
		return nil, err
	}
	var body struct {
		DelayMS  *int64         `json:"delay_ms"`
		StateKey *string        `json:"state_key"`
		Content  jsontext.Value `json:"content"`
	}
	if err := r.Decode(&body); err != nil {
		return nil, err
	}
	if body.DelayMS == nil || body.Content == nil {
		return nil, matrixerror.MissingParam("delay_ms and content are needed")
	}
	if body.Content.Kind() != '{' {
		return nil, matrixerror.BadJSON("content is not an object")
	}
	content, err := s.eventContent(r.Context(), roomID, body.Content)
	if err != nil {
		return nil, err
	}
	return s.schedule(r, &userapi.DelayedEvent{RoomID: roomID, Type: r.PathValue("eventType"), StateKey: body.StateKey, Content: content, DelayMS: *body.DelayMS})
}

// delays tells whether a send is to be delayed, in the form of before.
func delays(r *httpapi.Request) bool {
	return strings.Contains(r.URL.RawQuery, delayedParam) && r.Query().Has(delayedParam)
}

// delay stores what a send or a state endpoint would have sent.
func (s *Server) delay(r *httpapi.Request, roomID, typ string, stateKey *string, content jsontext.Value) (any, error) {
	ms, err := strconv.ParseInt(r.QueryString(delayedParam), 10, 64)
	if err != nil {
		return nil, matrixerror.InvalidParam("%s is not a number of milliseconds", delayedParam)
	}
	return s.schedule(r, &userapi.DelayedEvent{RoomID: roomID, Type: typ, StateKey: stateKey, Content: content.Clone(), DelayMS: ms})
}

// schedule checks an event and stores it. Whether the user may send it is seen
// when it is sent.
func (s *Server) schedule(r *httpapi.Request, event *userapi.DelayedEvent) (any, error) {
	limits := s.config.DelayedEvents
	if err := notSuspended(r.Device); err != nil {
		return nil, err
	}
	stateKey := ""
	if event.StateKey != nil {
		stateKey = *event.StateKey
	}
	if err := checkEventType(event.Type, stateKey); err != nil {
		return nil, err
	}
	switch {
	case strings.Contains(event.Type+stateKey, "\x00"):
		return nil, matrixerror.InvalidParam("The event type or state key has a NUL in it") // PostgreSQL stores none
	case limits.Disabled:
		return nil, matrixerror.Forbidden("Events cannot be delayed on this server")
	case event.DelayMS < 1:
		return nil, matrixerror.InvalidParam("The delay has to be above zero")
	case event.DelayMS > limits.MaxDelay.Milliseconds():
		return nil, matrixerror.Forbidden("The delay may be at most %d ms", limits.MaxDelay.Milliseconds())
	case event.Type == typeMember:
		return nil, matrixerror.Forbidden("Memberships cannot be delayed")
	}
	event.UserID = r.Device.UserID
	event.Request = newRequestID()
	if txnID := r.PathValue("txnId"); txnID != "" {
		if err := checkTxnID(txnID); err != nil {
			return nil, err
		}
		event.Request = transactionID(r.Device, "PUT", "/rooms/"+event.RoomID+"/delayed/"+event.Type, txnID)
	}
	var err error
	if event.OriginTS, err = appserviceTime(r); err != nil {
		return nil, err
	}
	res, err := userapi.ScheduleDelayed.Call(r.Context(), s.caller, &userapi.ScheduleDelayedRequest{Event: *event, Max: limits.MaxScheduled})
	if err != nil {
		return nil, err
	}
	s.hurryDelayed()
	return &delayIDResponse{res.ID}, nil
}

// delayedEvent is an event as its user sees it. Delay and RunningSince are how
// the proposal named DelayMS and ScheduledAt before.
type delayedEvent struct {
	ID           string         `json:"delay_id"`
	RoomID       string         `json:"room_id"`
	Type         string         `json:"type"`
	StateKey     *string        `json:"state_key,omitempty"`
	DelayMS      int64          `json:"delay_ms"`
	ScheduledAt  int64          `json:"scheduled_at"`
	Delay        int64          `json:"delay"`
	RunningSince int64          `json:"running_since"`
	Content      jsontext.Value `json:"content"`
	Error        jsontext.Value `json:"error,omitempty"`
	EventID      string         `json:"event_id,omitzero"`
	FinalisedTS  int64          `json:"finalised_ts,omitzero"`
}

func shownDelayed(e *userapi.DelayedEvent) *delayedEvent {
	out := &delayedEvent{ID: e.ID, RoomID: e.RoomID, Type: e.Type, StateKey: e.StateKey, DelayMS: e.DelayMS, ScheduledAt: e.ScheduledTS,
		Delay: e.DelayMS, RunningSince: e.ScheduledTS, Content: e.Content, EventID: e.EventID, FinalisedTS: e.FinalisedTS}
	if e.Error != "" {
		out.Error = jsontext.Value(e.Error)
	}
	return out
}

// getDelayedEvents serves GET /delayed_events: those that are scheduled.
func (s *Server) getDelayedEvents(r *httpapi.Request) (any, error) {
	res, err := userapi.QueryDelayed.Call(r.Context(), s.caller, &userapi.DelayedRequest{UserID: r.Device.UserID})
	if err != nil {
		return nil, err
	}
	list := make([]*delayedEvent, 0, len(res.Events))
	for i := range res.Events {
		list = append(list, shownDelayed(&res.Events[i]))
	}
	return map[string]any{"delayed_events": list}, nil
}

// delayID is that of the path; what cannot be one is looked up as "", which is none.
func delayID(r *httpapi.Request) string {
	if id := r.PathValue("delayId"); cleanText(id) {
		return id
	}
	return ""
}

// getDelayedEvent serves GET /delayed_events/{delayId}.
func (s *Server) getDelayedEvent(r *httpapi.Request) (any, error) {
	id := delayID(r)
	if id == "" {
		return nil, matrixerror.NotFound("There is no such delayed event")
	}
	res, err := userapi.QueryDelayed.Call(r.Context(), s.caller, &userapi.DelayedRequest{UserID: r.Device.UserID, ID: id})
	if err != nil {
		return nil, err
	}
	return shownDelayed(&res.Events[0]), nil
}

// postDelayed serves POST /delayed_events/{delayId}, whose body has the action.
func (s *Server) postDelayed(r *httpapi.Request) (any, error) {
	var body struct {
		Action string `json:"action"`
	}
	if err := r.Decode(&body); err != nil {
		return nil, err
	}
	if body.Action == "" {
		return nil, matrixerror.MissingParam("action is missing")
	}
	return s.updateDelayed(r, body.Action)
}

// postDelayedAction serves POST /delayed_events/{delayId}/{action}.
func (s *Server) postDelayedAction(r *httpapi.Request) (any, error) {
	return s.updateDelayed(r, r.PathValue("action"))
}

func (s *Server) updateDelayed(r *httpapi.Request, action string) (any, error) {
	ctx := r.Context()
	res, err := userapi.UpdateDelayed.Call(ctx, s.caller, &userapi.UpdateDelayedRequest{
		UserID: r.Device.UserID, ID: delayID(r), Action: userapi.DelayedAction(action), Owner: s.jobOwner})
	if err != nil {
		return nil, err
	}
	s.hurryDelayed()
	if !res.Taken {
		return nil, nil
	}
	finish, err := s.sendDelayed(ctx, &res.Event)
	if finish != nil {
		finish.Error = "" // it stays scheduled: it may be allowed by then
		if _, e := userapi.FinishDelayed.Call(ctx, s.caller, finish); e != nil && err == nil {
			err = e
		}
	}
	return nil, err
}

// delayedCapability is told to clients under the proposal's name.
type delayedCapability struct {
	MaxDelayMS   int64 `json:"max_delay_ms"`
	MaxScheduled int   `json:"max_scheduled"`
}

func (s *Server) delayedCapability() *delayedCapability {
	if s.config.DelayedEvents.Disabled {
		return &delayedCapability{}
	}
	return &delayedCapability{int64(s.config.DelayedEvents.MaxDelay / time.Millisecond), s.config.DelayedEvents.MaxScheduled}
}
