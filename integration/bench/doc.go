// Bench measures replicad beside what Redis itself ships, on the same machine
// and file system, with a master that is nothing but fast.
//
// The master is scripted and plays from memory: it answers the handshake,
// sends a payload, and then a stream, with large buffers that it wrote once. So
// what is measured is the replica, not a Redis that forks, serialises and
// sends. Every time is taken by the master, in the same way for both sides:
//
//   - bulk: a full sync, from its first byte until it is fsynced. replicad
//     beside `redis-cli --rdb`, which fsyncs before it exits.
//   - stream: SETs, from the first byte until the ACK, asked for by REPLCONF
//     GETACK, that covers the last. replicad, which stores them, beside a
//     redis-server replica, which applies them to its dataset.
//   - handshake: from accept to the reply to PSYNC, each time after the master
//     has closed the connection before. replicad beside a redis-server replica.
//     The master reads without going to sleep, and both have a core of their
//     own.
//   - fleet: one daemon that follows many masters, each at a loopback address
//     of its own, beside what the files and the sockets take alone. Only where
//     --only says so.
//
// The two sides take turns within each run, so that a machine that is busy for
// a while is so for both; the table shows medians. A disk that is slower than
// both sides makes them equal: the row "the disk alone" says how long it takes
// for the same bytes, written and fsynced by a program that receives nothing.
package main
