// Package api is what other components know of the directory-api: aliases, the
// published directory, what rooms look like from outside, and the rooms of
// each local user.
package api
