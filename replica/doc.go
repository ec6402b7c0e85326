// Package replica is one link to one master: the replica's side of Redis
// replication as a state machine on an event loop.
//
// A [Link] steps through the states of replication.c,
//
//	NONE --connect()=EINPROGRESS--> CONNECTING
//	CONNECTING --EPOLLOUT, SO_ERROR=0, drop the write event, PING--> RECEIVE_PONG
//	RECEIVE_PONG --EPOLLIN, +PONG--> SYNC
//
// and inside SYNC through the phases AUTH, PORT, IP, CAPA, VERSION, PSYNC,
// TRANSFER and STREAM. A failure leads back to NONE, and from there to a new
// attempt with exponential backoff. A link may be told to end earlier: behind
// the handshake, or behind TRANSFER (Config.Until). What lives as long as one
// attempt is in a conn (conn.go); what is in the Link itself outlives it.
//
// The package knows no disk: what a link receives goes to a [Store], an
// interface that package archive implements. Nor does the package print: it
// tells what happens as [Event] values to an [Observer]. Logs, metrics and
// progress bars are observers. The example of [NewLink] is the shortest program.
//
// # Threads
//
// A Link belongs to the thread of its event loop: its methods are called there,
// or before the loop runs. What can block runs on a goroutine, whose end comes
// back by Loop.Post: name resolution, a reset of the store, and the transfer of
// a full sync. For a transfer the loop lends the socket to the goroutine, which
// splices the payload into the store's file (transfer.go).
//
// # The way of a byte
//
// In STREAM the link reads from the socket straight into the store's buffer,
// walks the bytes in place with a resp.Scanner to find command boundaries and
// GETACK, and commits them. No byte is copied on the way. When the store has
// no room the link drops its read event, and TCP slows the master down.
//
// # A failover, and two connections
//
// With a history the handshake also asks INFO replication. Where the master's
// history left ours before our end, the store goes back to the fork, and PSYNC
// names the byte behind it (fork.go). Without a history the link offers a full
// sync on two connections (channel.go).
package replica
