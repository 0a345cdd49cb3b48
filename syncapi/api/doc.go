// Package api is what other components ask the sync-api: to read its
// tokens, and to count what is unread.
package api
