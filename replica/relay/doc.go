// Package relay makes a master of an archive: any Redis or Valkey that can load
// the base is seeded from the files, and resumes at any offset that the kept
// bytes lead on from. Ids and offsets are those of the archive's own master, so
// such a replica can be moved to that master, and back, by a partial resync.
//
//	r := relay.New(relay.Config{Lineage: archive.Lineage{Dir: dir}})
//	defer r.Close()
//	answer, refusal := r.Answer(request, from) // of PSYNC or SYNC
//	r.Feed(conn, request, answer)              // until the connection ends
//
// # What is sent
//
// Behind the RDB or +CONTINUE exactly the bytes of the history go out: no PING,
// no SELECT, no newline. Each byte of ours would shift all offsets behind it, and
// the master would continue the replica with wrong data.
//
// Bytes go out only when they are stored: what a kill -9 takes from the archive,
// no replica has. After a power cut a replica may have more than the archive, and
// is told to wait (-NOMASTERLINK) until the archive's own link has brought the
// same bytes again.
//
// A replica is told the replication id in force at the end of the archive. When
// that changes, or the history goes back to a fork, the replica is cut: it asks
// again, and learns the new id.
//
// # Who waits for what
//
// Each replica has a cursor and two goroutines. [Disk] bounds how many of them
// use the disk at a time; nobody holds a turn at the disk while a socket is full.
// So a replica that does not read holds up nobody. It keeps the generation that
// it reads, however, until [Relay.LetGo] has it cut.
package relay
