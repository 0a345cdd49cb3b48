// Package pushrules is the model of a user's push rules: the server's default
// rules, a user's own beside them, and how both are changed. They are kept as
// the content of the account data event m.push_rules.
//
// It owns no topic and no table. A Rules is for one goroutine.
package pushrules
