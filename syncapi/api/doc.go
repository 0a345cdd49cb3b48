// Package api is what other components ask the sync-api: to read its
// tokens, to count what is unread, to tell what a user may see, and to show
// events as they stand in its answers.
package api
