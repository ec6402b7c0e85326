// Package server is the RESP port of one master: what redis-cli, Sentinel,
// exporters and dashboards talk to. It answers as a Redis 7 replica does that
// holds no keys: INFO, ROLE, CLIENT, CONFIG, pub/sub, REPLICAOF. Whatever asks
// for data gets an error that says what replicad is.
//
// # A hostile client costs nobody else anything
//
// Each client has a goroutine, and what it may make this process hold is
// bounded: the arguments of a query, the replies it does not read, the messages
// it is subscribed to, the commands of its MULTI. Who goes beyond is cut.
// Nothing of a query runs on the loop's thread but the order of a REPLICAOF or
// BGSAVE; what INFO says of the archive is read from disk at most once a second,
// for all clients.
//
// Replies are written with redcon. Queries are not read with it: its reader
// loops as often as the header of an array says, and calls itself for each piece
// that arrives, so that one client could keep a CPU busy or fill the memory. The
// limits of the reader here are those of processMultibulkBuffer and
// processInlineBuffer in Redis' networking.c.
package server
