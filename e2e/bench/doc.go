// Command bench measures a whole server from outside: real processes, real requests,
// one line for each figure. `make bench` runs it.
//
//	bench [-small] [-run NAME,NAME] [-profiles DIR] [SIZES]     on a server of its own, all in one
//	bench -cluster DIR ...                                      on what `scripts/cluster start DIR` runs
//	bench -url URL -pids NAME=PID,... [-brokers PID,...] [-metrics HOST:PORT,...] [-secret-file FILE] ...
//
// A line says: operations a second, the latency of half and of 99 % of the requests,
// CPU of the server per operation, from /proc, with all that it goes on to do because of
// them (PostgreSQL's counted, Kafka's apart), SQL statements per operation, and memory:
// before, after, and the most in between. The load average beside it tells whether the
// machine was quiet: then latencies mean something. The client runs on the same machine.
//
// It decides only what is asked in which order; what it measures is never loosened by
// what it finds: an answer that is not as it has to be ends it with an error.
//
// Rate limits have to be off at a server that it has not started itself, and of
// registration.open, registration.guests_open and a shared secret at least one way to
// make accounts has to be there. Its users and rooms stay there.
//
// It imports nothing of the server and runs only on Linux. Scenarios run one after the
// other; within one, as many goroutines ask as the scenario says, and each operation
// belongs to one of them.
package main
