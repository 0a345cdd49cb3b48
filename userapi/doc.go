// Package userapi is the user-api role: it decides who somebody is and keeps
// what belongs to users. It owns the tables of userapi/storage, in a database
// opened as durable.
//
// It reads user.activity (devices' last use, presence) and writes user.output
// and ephemeral. Each change that others see takes the next Seq of the user's
// partition of user.output and a row of the outbox, in the transaction that
// makes the change; who has the lease of a partition publishes its rows in their
// order, and keeps the presence of its users. A row is kept for some minutes
// after it was published, so that a topic that lost its end gets it again; one
// that lost more is told so (ChangeResync) and gets all current rows, as does one
// whose reader asks for that (Resync): records are kept for a week.
// Transactions that make or end sessions take turns by the account's row.
//
// It also keeps what others do: jobs, and events that are to be sent later
// (delayed.go). They are given out to one instance of whoever asks, for a time
// by the database's clock. Words by which users are found (user_search.go) are
// written with the profile that they are of.
//
// Keys of devices and users (keys.go, cross_signing.go, signatures.go), key
// backups and dehydrated devices are rows here. One-time keys are given out once,
// in the order of their uploads: claims, uploads and deletions of a device take
// turns by its row of key_turns. A key that was given out is known for a day, so
// that the retry of an upload does not bring it back. Messages to devices
// (to_device.go) are rows until they are acknowledged, in the order of the Seqs of
// the changes that tell of them; the row of the request that sent them makes its
// retries do nothing. They are acknowledged when these changes are published
// (published.go), or a second later: a key is to be there before what needs it. Keys
// of other servers' users are not here.
//
// Of push rules the last ones of a user stay when they are replaced, with the time
// until which they were in force: for who tells what notified the user.
//
// Subscriptions to threads (threads.go) are rows that stay when they end, with the
// place in the room at which they did: what came before does not begin them again,
// unless the user does. Each row has the Seq of its last change.
//
// Pushers (pushers.go) are rows that end with the session that made them; each change
// tells all that the user has then. Of a pushkey only one user has a pusher, unless it
// is asked for otherwise: who sets one takes a turn by the key.
//
// It asks nobody. All methods are safe for concurrent use.
//
// Any instance answers anything. Who has the lease of a partition also keeps the
// presence of its users and who types in its rooms; the others hand it what they
// are told, on user.activity, and there too tell it of new rows of the outbox.
// Who types is in memory only, and taken over from what was told on ephemeral; what
// is said of it in the moment in which nobody has the partition is lost, since
// clients say it again.
// When a device was last heard of, and what that makes of the user's presence, is
// settled for all that is heard of within some 50 ms at once; what was heard of
// last is lost when an instance dies, and is said again soon.
//
// Access tokens that were used lately are known in memory, here and where requests of
// clients come in (api.Ends). They are taken for 400 ms after a look, in the database, at
// whose tokens have ended, which whoever uses one after that time has made anew. Whoever
// ends a session (logout, password, deactivation, another login of the device) is answered
// no sooner than that: so once it has been told, no instance takes the token. Tokens that were replaced by
// refreshing may be taken that much longer. All this is left out, with the
// waiting, where the log says that there is no other instance. Limits on wrong
// passwords are rows and hold for all instances; other rate limits are each
// process's own.
package userapi
