// Package admin is what an operator does to an installation as a whole, from
// outside of its roles: dendrite-admin.
//
// It decides nothing about rooms or users. It knows which stores there are, how
// each makes its tables, and where each consumer has stored how far it has read
// which topic (components.go, places.go): with that it shows an installation
// (status.go), compares its parts with each other (check.go), sets consumers to
// another place of their topics (reset.go), has views built anew (rebuild.go),
// keeps media from users or deletes them (media.go), has servers purge history and
// rooms (purge.go), and takes an installation to
// another log and other databases (move.go, movestore.go, movelog.go).
//
// It owns the table maintenance_copied in a database that it moves an
// installation to, until that is done, and marks databases so that no server
// runs on what is not whole (sqldb.Mark). But for status, media and purges, no server may
// run on the installation meanwhile: that the embedded log is locked, or that no
// lease holds, is checked first.
package admin
