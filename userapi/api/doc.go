// Package api is what other components know of the user-api: devices and their
// tokens, profiles, account data, push rules, filters and receipts, the methods
// to ask for them, and the records of the topics user.output, user.activity
// and ephemeral.
package api
