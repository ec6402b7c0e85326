// Package minimaster is an embedded master that a replica cannot tell from a small Redis.
//
// It is two libraries and the piece between them. In front stands github.com/tidwall/redcon, which
// speaks RESP to whoever connects. Behind stands github.com/alicebob/miniredis, which executes commands
// on data in memory. Between them is what this package is about: everything that makes a server a
// *master*. It turns each write into its effects, appends them to one stream of bytes, counts them,
// remembers the last of them in a backlog, and hands them to any number of replicas, after a
// snapshot or from wherever in the backlog a replica left off.
//
// The smallest use:
//
//	m, err := minimaster.Start(minimaster.Config{})
//	if err != nil { ... }
//	defer m.Close()
//	m.Do("SET", "greeting", "hello")
//	fmt.Println("replicaof", m.Addr()) // point a replica here
//
// # Where to look with replication.c open beside it
//
//	replication.c                          here
//	syncCommand                            clients.go    (*Master).sync
//	replconfCommand                        clients.go    (*Master).replconf
//	masterTryPartialResynchronization      sync.go       (*Master).tryPartialSync
//	addReplyReplicationBacklog             backlog.go    (*backlog).from
//	replicationSetupReplicaForFullResync   sync.go       (*replica).beginFullSync
//	sendBulkToSlave                        sync.go       (*replica).fullSync
//	replicationFeedReplicas                propagate.go  (*Master).feed
//	propagatePendingCommands (server.c)    propagate.go  (*Master).propagate
//	feedReplicationBacklog                 backlog.go    (*backlog).write
//	waitCommand                            wait.go       (*Master).wait
//	replicationCron                        master.go     (*Master).cron
//	rdbSaveRio (rdb.c)                     rdbwrite.go   (*Engine).writeRDB
//	rdbLoadRio (rdb.c)                     rdbread.go    (*Engine).LoadRDB
//	loadSingleAppendOnlyFile (aof.c)       replay.go     (*Engine).ReplayAOF
//
// # One lock
//
// Redis has one thread; this package has one lock, (*Master).mu. Whoever holds it executes, propagates and
// may take a snapshot. So the order in the stream is the order of execution, and a snapshot is exact for
// its offset, without any copy-on-write. Sockets are never written under it: each replica has a bounded
// queue and a goroutine of its own.
//
// # Effects, not intentions
//
// What is sent to replicas is what happened, in a form that gives the same result wherever and whenever it is
// executed: SPOP becomes SREM of the members drawn, EXPIRE becomes PEXPIREAT, XADD * becomes XADD with
// the id. effects.go holds the rule for each command. A command whose effect cannot be said faithfully is
// refused with an error that names it; none is executed here and kept from the replicas.
//
// # Time
//
// miniredis counts a key's time to live down from whatever its clock says. Here its clock stands still at
// 1970-01-01, so that a "time to live" *is* the absolute expiry in milliseconds of Unix time, as exact as in Redis.
// The real clock is read once per command (or transaction), and the keys that are due are deleted, and their
// DEL propagated, before the command runs and ten times a second (see expire.go).
package minimaster
