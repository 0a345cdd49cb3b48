// Package e2e holds the end-to-end tests: they start real binaries, speak to
// them over HTTP alone, with clients of their own and with a real client
// library (clients/), kill them, and judge what they answered with package
// history. They import nothing of the server.
//
// -e2e.soak makes the tests of faults run for that long each.
package e2e
