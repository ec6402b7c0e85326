// Package minimaster is an embedded master that a replica cannot tell from a
// small Redis. The demo, the study and the tests follow it.
//
// It is two libraries and the piece between them. In front stands
// github.com/tidwall/redcon, which speaks RESP to the clients. Behind stands
// github.com/alicebob/miniredis, which executes commands on data in memory.
// Between them is what makes a server a master: it turns each write into its
// effects, appends the effects to one stream of bytes, counts the bytes,
// remembers the last of them in a backlog, and sends them to any number of
// replicas, behind a snapshot or from the place in the backlog where a replica
// left off.
//
//	m, err := minimaster.Start(minimaster.Config{})
//	if err != nil { ... }
//	defer m.Close()
//	m.Do("SET", "greeting", "hello")
//	fmt.Println("replicaof", m.Addr()) // point a replica here
//
// # Where to look with replication.c open beside it
//
//	syncCommand                            clients.go      (*Master).syncCommand
//	masterTryPartialResynchronization      sync.go         (*replication).tryPartialSync
//	addReplyReplicationBacklog             backlog.go      (*backlog).from
//	replicationSetupReplicaForFullResync   sync.go         (*replication).fullSync
//	replicationFeedReplicas                replication.go  (*replication).feed
//	feedReplicationBacklog                 backlog.go      (*backlog).write
//	waitCommand                            wait.go         (*replication).Wait
//	propagatePendingCommands (server.c)    master.go       (*Master).propagate
//	replicationCron                        master.go       (*Master).cron
//	rdbSaveRio (rdb.c)                     rdbwrite.go     (*engine).rdb
//
// Package master hears the handshake of the replicas and feeds them. The type
// replication is the source of what they are sent: it knows no commands and no
// data, but has a stream of bytes, and a function that takes a snapshot. Its
// files are replication.go, backlog.go, stream.go, sync.go and wait.go. The other
// files are about clients and data.
//
// # One lock
//
// Redis has one thread; this package has one lock, replication.mu. The holder of
// the lock executes, propagates and takes snapshots. So the order in the stream
// is the order of execution, and a snapshot is exact for its offset. Nobody
// writes to a socket under the lock: each replica has a bounded queue and
// goroutines of its own.
//
// # Commands and effects
//
// The master knows the commands in commands.go and no others: every other command
// is refused with an error, so that nothing is executed that the replicas are not
// told. A replica gets what happened, in a form that gives the same result
// wherever and whenever it is executed: SET with EX becomes SET with PXAT, and a
// key whose time is over becomes a DEL.
//
// # Time
//
// miniredis counts a key's time to live down from what its clock says. Here that
// clock stands still at 1970-01-01, so that a time to live is the absolute expiry
// in milliseconds of Unix time. The real clock is read once per command or
// transaction. The keys that are due are deleted, and their DEL propagated,
// before the command runs and ten times a second.
package minimaster
