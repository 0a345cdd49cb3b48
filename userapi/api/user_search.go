package api

import "github.com/matrix-org/dendrite/common/rpc"

// SearchUsers finds local users by the beginnings of words in their names, whoever
// asks: who may see them is not decided here.
var SearchUsers = rpc.NewMethod[SearchUsersRequest, SearchUsersResponse](Service, "search_users").Harmless()

// SearchUsersRequest asks for a page of the users whom a term fits.
type SearchUsersRequest struct {
	Term string
	// After is the place of the last user of the page before.
	After UserPlace
	// Limit is at most 500.
	Limit int
}

// UserPlace is a user's place among those found.
type UserPlace struct {
	Rank   int // 0: has the first word whole
	UserID string
}

// SearchUsersResponse holds them, the best first.
type SearchUsersResponse struct{ Users []FoundUser }

// FoundUser is a user with what the profile says.
type FoundUser struct {
	UserPlace
	DisplayName, AvatarURL string // "" for none
}
