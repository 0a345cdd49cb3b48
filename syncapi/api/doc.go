// Package api is what other components ask the sync-api: to read its tokens.
package api
