// Package archive is the log on disk: what a master's replicas hold in memory,
// kept as the files that redis-server loads. It implements replica.Store and
// knows no sockets.
//
// # Glossary
//
//   - generation: one base and the log behind it, a folder of its own.
//   - base: the RDB file that a generation begins with.
//   - segment: one INCR file of a generation. The log is its segments, in order.
//   - mark: a moment with the offset that the history had reached by then.
//   - boundary: a place where a history may be cut: the end of a command outside
//     MULTI.
//   - timeline: the text file that holds what is known of a generation, one fact
//     a line. Marks are facts, too.
//   - slot: one of the records in the file fsynced. It says up to where the log
//     is durable, or, the third slot, stored.
//   - stored: written to a file. After kill -9 what was stored is there.
//   - durable: fsynced. After a power cut what was durable is there.
//   - sealed: a sealed segment is complete: nothing is written to it any more. A
//     sealed line ends with its checksum.
//   - rotation: the start of the next segment.
//   - fork: the place where the history of a new master leaves ours, before our
//     end. The log goes on there in a new generation; the one before keeps its
//     tail, which is what lies behind the fork.
//   - cursor: a reader of the stream, from any place on, while it is written.
//   - rebase: a new base, taken beside the log while the log goes on, and with
//     it a new generation.
//
// # Layout
//
//	<dir>/                            one master
//	  LOCK                            flock(2): one writer
//	  generation-000001/              one base and the log behind it
//	    appendonlydir/                redis-server --appendonly yes --dir generation-000001
//	      appendonly.aof.manifest
//	      appendonly.aof.1.base.rdb
//	      appendonly.aof.1.incr.aof   SELECT header, then the stream's raw bytes
//	      appendonly.aof.2.incr.aof   likewise, after a rotation
//	    timeline                      facts, one a line; see timeline.go
//	    fsynced                       how far it is durable; see fsynced.go
//	  generation-000002.tmp/          a full sync or a rebase that is under way
//
// A generation is made in a .tmp folder, which is renamed when everything in it
// is fsynced: a generation without a finished base does not exist.
//
// # Offsets
//
// A position in the history is the replication offset of the last byte before
// it. The byte with offset o, in a segment that the timeline says starts at
// from with a header of h bytes, is at position h+(o-from-1) of its file: the
// file's length is the offset, and there is no other bookkeeping.
//
// # What is trusted after a crash
//
// The file fsynced says how far the log is durable. It is overwritten in place,
// for it is written with each fsync: under appendfsync always that is thousands
// of times a second. Every mark of the timeline carries the CRC-32C of its
// segment up to the marked offset. So recovery trusts what was fsynced. It goes
// on behind that as far as the marks, and the third slot, which is written with
// each write, prove the bytes to be those that were received. It cuts what is
// left at a boundary, and the master sends again what the cut took. The CRCs
// find the zeros and garbage that a power cut leaves even inside a value, where
// no parser could. See examine.go.
//
// # Segments
//
// When a segment's file has its size, the writer starts the next one, at a
// boundary, with a SELECT of the database in force there. The writer does not
// wait for the disk: an fsync may take seconds, and the master goes on sending.
// The flusher makes the rotation durable, in this order:
//
//  1. the segments that are complete, without what was allocated ahead of them
//  2. the new one's bytes, and then the names of all files
//  3. the timeline, which tells where the old one ends, with its CRC-32C, and
//     where the new one begins
//  4. the manifest: written anew, fsynced, renamed, its folder fsynced
//  5. the slot in fsynced that names the new segment
//
// So a manifest or a slot that names a segment says that all before it are
// durable; the timeline alone does not. After a crash recovery begins at the
// segment that the slot names, and goes on to the next one only where that is
// whole up to its end. What is behind the first that is not whole goes, and the
// manifest follows the timeline.
//
// # A base beside the log
//
// A rebase takes its base by a link of its own. The base's offset lies anywhere
// in the log, also far before its end. The next generation is the base, a copy
// of what the segment of that offset holds behind the offset, and hard links of
// the later segments, with their marks. All but the last segment is made beside
// the writer. Then the writer, at a boundary, takes over in one act:
//
//  1. The last segment is sealed. All that is stored becomes durable.
//  2. The segment is linked. The new generation's timeline, first slot, next
//     segment and manifest are made and fsynced, and the folders with them.
//  3. The .tmp folder gets its name, and the folder around it is fsynced.
//  4. Only now the writer goes on, in the next segment of the new generation.
//     Meanwhile the ring fills, and then the link reads no more.
//
// Where a step fails, the writer goes on in a next segment of the generation
// before. So a crash finds either generation whole, and both hold what was
// acknowledged.
//
// # A fork
//
// A replica that is promoted may lack what this archive has received. Of all
// sound generations the highest place counts that lies in a history which the
// new master can continue, and no further than where that id ends in OUR
// history: behind that both count the same offsets, and have other bytes. The
// next generation is the base and the whole segments before the place, as hard
// links, and a copied part of the last one. Its timeline names the place and the
// generation that keeps the tail; what the new master did not send again of it
// is lost to everybody else (lost.go).
//
// A file that is linked is never written to again: it is complete, and no
// recovery changes it. A generation that a newer one has followed is not
// recovered any more: it is at most ended, by a line of its timeline.
//
// A complete segment is read again once, in the background, after it is
// durable, and so is the base. The timeline says what was found.
//
// # The way of a byte
//
// The link receives: it reads from the socket into a ring of fixed size. The
// writer goroutine stores from the ring to the segment, and the flusher
// goroutine makes durable, by the policy appendfsync. They pass only offsets to
// each other; see log.go.
package archive
