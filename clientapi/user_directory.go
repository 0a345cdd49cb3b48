package clientapi

import (
	"context"
	"unicode/utf8"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	directory "github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/roomserver/api"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// Bounds of a search for users.
const (
	defaultFoundUsers = 10
	maxFoundUsers     = 100
	// Users whom the term fits are looked at in pages, until enough of them may be
	// seen, or that many pages were looked at.
	userPage  = 250
	userPages = 8
)

type userSearchRequest struct {
	Term  *string `json:"search_term"`
	Limit *int    `json:"limit"`
}

type foundUser struct {
	UserID      string `json:"user_id"`
	DisplayName string `json:"display_name,omitzero"`
	AvatarURL   string `json:"avatar_url,omitzero"`
}

type userSearchResponse struct {
	Results []foundUser `json:"results"`
	Limited bool        `json:"limited"`
}

// postUserSearch serves POST /user_directory/search: users whose ID or display
// name has words that begin as those of the term, if the searcher shares a room
// with them or they are in one that is open to all; or all of the server, where
// the configuration says so.
// spec: client-server-api §post_matrixclientv3user_directorysearch
func (s *Server) postUserSearch(r *httpapi.Request) (any, error) {
	var req userSearchRequest
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	limit := defaultFoundUsers
	switch {
	case req.Term == nil:
		return nil, matrixerror.MissingParam("search_term is missing")
	case len(*req.Term) > maxSearchTerm || !utf8.ValidString(*req.Term):
		return nil, matrixerror.InvalidParam("The search term is longer than %d bytes", maxSearchTerm)
	case req.Limit != nil && *req.Limit < 1:
		return nil, matrixerror.InvalidParam("limit has to be above zero")
	case req.Limit != nil:
		limit = min(*req.Limit, maxFoundUsers)
	}
	search := &userSearch{s: s, viewer: r.Device.UserID}
	var err error
	if search.ignored, err = s.ignoredBy(r.Context(), r.Device.UserID); err != nil {
		return nil, err
	}
	return search.run(r.Context(), *req.Term, limit)
}

// userSearch is a search of somebody's.
type userSearch struct {
	s       *Server
	viewer  string
	ignored map[string]struct{}
}

func (u *userSearch) run(ctx context.Context, term string, limit int) (*userSearchResponse, error) {
	out := &userSearchResponse{Results: []foundUser{}}
	ask := &userapi.SearchUsersRequest{Term: term, Limit: userPage}
	for range userPages {
		page, err := userapi.SearchUsers.Call(ctx, u.s.caller, ask)
		if err != nil {
			return nil, err
		}
		visible, err := u.visible(ctx, page.Users)
		if err != nil {
			return nil, err
		}
		for _, user := range page.Users {
			if !visible[user.UserID] {
				continue
			}
			if len(out.Results) == limit {
				out.Limited = true
				return out, nil
			}
			out.Results = append(out.Results, foundUser{UserID: user.UserID, DisplayName: user.DisplayName, AvatarURL: user.AvatarURL})
		}
		if len(page.Users) < userPage {
			return out, nil
		}
		next := *ask // what was sent is shared
		next.After = page.Users[len(page.Users)-1].UserPlace
		ask = &next
	}
	out.Limited = true // there may be more
	return out, nil
}

// visible are those of some users whom the searcher is shown.
func (u *userSearch) visible(ctx context.Context, users []userapi.FoundUser) (map[string]bool, error) {
	out, ids := map[string]bool{}, make([]string, 0, len(users))
	for _, user := range users {
		if _, is := u.ignored[user.UserID]; is {
			continue
		}
		ids = append(ids, user.UserID)
		out[user.UserID] = u.s.config.SearchAllUsers
	}
	if u.s.config.SearchAllUsers || len(ids) == 0 {
		return out, nil
	}
	heads, err := api.Heads(ctx, u.s.caller, false)
	if err != nil {
		return nil, err
	}
	res, err := directory.QueryVisibleUsers.Call(ctx, u.s.caller, &directory.VisibleUsersRequest{Viewer: u.viewer, UserIDs: ids, AtLeast: heads})
	if err != nil {
		return nil, err
	}
	for _, id := range res.UserIDs {
		out[id] = true
	}
	return out, nil
}

// ignoredBy are the users whom a user ignores.
func (s *Server) ignoredBy(ctx context.Context, userID string) (map[string]struct{}, error) {
	content, err := s.accountDataOf(ctx, userID, "", userapi.TypeIgnoredUsers)
	return userapi.IgnoredUsers(content), err
}
