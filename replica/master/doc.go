// Package master is the master's side of replication: it hears the handshake of
// a replica, answers PSYNC and SYNC, sends the base and the stream, and hears
// what the replica acknowledges.
//
// The package knows no commands and no data, and does not listen. The caller
// listens, and hands over a connection that asked for PSYNC. What the replica is sent comes from one of
// two sources, which give an [Answer]: a backlog in memory (package minimaster),
// and an archive (package relay).
//
//	var hand master.Handshake
//	reply := hand.Replconf(args)           // for each REPLCONF before PSYNC
//	ask, refusal := hand.Request(args)     // PSYNC or SYNC
//	answer := ...                          // of the source
//	replicas.Feed(conn, ask, answer)       // until the connection ends
//
// # Where to look with replication.c open beside it
//
//	replconfCommand                        handshake.go  (*Handshake).Replconf
//	syncCommand                            handshake.go  (*Handshake).Request
//	masterTryPartialResynchronization      handshake.go  (Request).Continue
//	replicationSetupReplicaForFullResync   handshake.go  (Request).FullResync
//	sendBulkToSlave                        replica.go    (*Replica).payload
//	replicationCron                        replica.go    (*Replica).keepAlive
//	server.slaves                          replicas.go   Replicas
package master
