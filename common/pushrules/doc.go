// Package pushrules is the model of a user's push rules: the server's default
// rules, a user's own beside them, how both are changed (Rules), and what they
// say of an event (Ruleset). Default rules beside the specification's are Features. They are kept as the content of the account data
// event m.push_rules.
//
// It owns no topic and no table and asks nobody: what a rule asks about a room
// the caller knows (Surroundings). A Rules and a Subject are for one goroutine, a
// Ruleset for any number.
package pushrules
