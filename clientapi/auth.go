package clientapi

import (
	"context"
	"net/http"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// authHead is what every auth object has.
// spec: client-server-api §user-interactive-authentication-api
type authHead struct {
	Type    string `json:"type"`
	Session string `json:"session"`
}

// authFlow is a list of stages as clients are told of it.
type authFlow struct {
	Stages []string `json:"stages"`
}

// authAnswer is the 401 that tells what is still to be done.
type authAnswer struct {
	ErrCode   string         `json:"errcode,omitzero"`
	Error     string         `json:"error,omitzero"`
	Flows     []authFlow     `json:"flows"`
	Params    map[string]any `json:"params"`
	Session   string         `json:"session"`
	Completed []string       `json:"completed,omitzero"`
}

// readAuthHead reads it of a request's auth, which may not be there.
func readAuthHead(auth jsontext.Value) (head authHead, err error) {
	if len(auth) == 0 {
		return head, nil
	}
	if auth.Kind() != '{' {
		return head, matrixerror.BadJSON("auth is not an object")
	}
	if err := json.Unmarshal(auth, &head); err != nil {
		return head, matrixerror.BadJSON("auth is not what this endpoint takes")
	}
	return head, nil
}

// interactive takes the request one step further through the flows. A nil raw
// answer means that a flow is complete.
func (s *Server) interactive(ctx context.Context, operation, userID string, auth jsontext.Value, flows [][]string, params map[string]any) (*userapi.AuthoriseResponse, *httpapi.Raw, error) {
	head, err := readAuthHead(auth)
	if err != nil {
		return nil, nil, err
	}
	res, err := userapi.Authorise.Call(ctx, s.caller, &userapi.AuthoriseRequest{
		Session: head.Session, Operation: operation, UserID: userID, Flows: flows, Stage: head.Type, Auth: auth,
	})
	if err != nil {
		return nil, nil, err
	}
	if res.Done {
		return res, nil, nil
	}
	answer := authAnswer{ErrCode: res.ErrCode, Error: res.Err, Params: params, Session: res.Session, Completed: res.Completed}
	if params == nil {
		answer.Params = map[string]any{}
	}
	for _, stages := range flows {
		answer.Flows = append(answer.Flows, authFlow{stages})
	}
	body, err := json.Marshal(&answer)
	if err != nil {
		return nil, nil, err
	}
	return nil, &httpapi.Raw{
		Status: http.StatusUnauthorized, Body: body,
		Header: http.Header{"Content-Type": {"application/json"}},
	}, nil
}

// withPassword asks for the password of who calls; nil means that it was given.
func (s *Server) withPassword(r *httpapi.Request, operation string, auth jsontext.Value) (*httpapi.Raw, error) {
	_, raw, err := s.interactive(r.Context(), operation, r.Device.UserID, auth, [][]string{{"m.login.password"}}, nil)
	return raw, err
}
