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
// TRANSFER and STREAM. Whatever fails leads back to NONE, and from there to a
// new attempt with exponential backoff.
//
// The package knows no disk: what a link receives goes to a [Store], which it
// declares and package archive implements. Nor does it print: what happens is
// told as [Event] values to an [Observer]; logs, progress bars and the like
// are all observers.
//
// # Threads
//
// A Link belongs to the thread of its event loop; its methods are called there
// (or before the loop runs) unless they say otherwise. What can block runs on
// goroutines and comes back by Loop.Post: name resolution, and the transfer of
// a full sync, for which the loop lends the socket to a goroutine that splices
// it into the store's file (see transfer.go).
//
// # The way of a byte
//
// In STREAM the link reads from the socket straight into the store's buffer,
// walks the bytes in place with a resp.Scanner to find command boundaries and
// GETACK, and commits them. No byte is copied on the way. When the store has
// no room the link drops its read event, and TCP slows the master down.
//
// The shortest program:
//
//	loop, _ := eventloop.New()
//	master, _ := replica.ParseMaster("127.0.0.1:6379")
//	link := replica.NewLink(loop, store, replica.Config{Master: master})
//	loop.Post(link.Start)
//	loop.Run()
package replica
