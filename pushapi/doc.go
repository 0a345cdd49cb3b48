// Package pushapi is the push-server: the reader that notifies users through push
// gateways when they do not look.
//
// It decides which events a user's gateways are told of, by the user's push rules,
// and when a gateway that is away is asked again. What is unread, the badge, is the
// sync-api's to count: it is asked when a request is really made, so that no two
// numbers can differ.
//
// It reads room.output and user.output and writes no topic. It owns the tables in
// storage: positions, news (references to the events that a pusher's gateway has yet
// to be told of) and states (when it is to be asked next). It asks the user-api for
// pushers and rules, the directory-api for who is in which room, the room server for
// events and, where a rule needs it, state, and the sync-api for counts. It serves
// the endpoints by which pushers are listed and set.
//
// People (people.go): every instance knows all users who have pushers, with their
// rules, compiled once for all who have the same. It asks for them when it starts
// and then follows user.output. Nothing else is known of anybody: who has no pusher
// costs nothing. What people have said of threads (threads.go) is known by hashes.
//
// Judging (consume.go, judge.go): instances share the partitions of room.output by
// lease. For its partitions an instance has in memory which people are in which
// room: asked for when it takes the partition or somebody gets a first pusher, then
// followed. Each event is judged once for each of these but its sender; what the
// rules ask of a room is asked only if a condition needs it. What is to be told is
// written with the offset in one transaction, so each event is judged with effect
// once, whatever crashes when.
//
// What is purged leaves no news behind.
//
// Telling (deliver.go, notify.go, gateway.go): instances share the partitions of
// user.output by lease; who has a user's partition makes the requests for the user's
// pushers, one at a time for each, oldest event first. There a receipt, too, makes a
// pusher due (badges.go): its gateway is told the counts if they are others than
// before. An event leaves news only when the gateway has taken it: if an instance dies
// in between, the gateway gets it twice, and knows it by its ID. A gateway that fails
// is asked again after growing waits, which are rows, so that restarts do not shorten
// them; what is a day old is dropped, and so is the oldest of too much. A pushkey that
// a gateway rejects ends the pusher. Nobody follows redirects, and addresses inside are
// not connected to.
//
// Concurrency: what is in memory of rooms is the consumer's loop's alone; people
// are replaced, not changed, under a lock; requests are made by at most
// push.max_at_once goroutines.
package pushapi
