// Package archive is the log on disk: what a master's replicas would hold in
// memory, kept as the files that redis-server loads. It implements
// replica.Store and knows no sockets.
//
// # Layout
//
//	<dir>/                            one master
//	  LOCK                            flock(2): one writer
//	  generation-000001/              one full sync and the stream behind it
//	    appendonlydir/                redis-server --appendonly yes --dir generation-000001
//	      appendonly.aof.manifest
//	      appendonly.aof.1.base.rdb
//	      appendonly.aof.1.incr.aof   SELECT header, then the stream's raw bytes
//	      appendonly.aof.2.incr.aof   likewise, after a rotation
//	    timeline                      facts, one a line; see timeline.go
//	    fsynced                       how far it is durable; see fsynced.go
//	  generation-000002.tmp/          a full sync that is under way
//
// A generation is made in a .tmp folder and renamed when everything in it is
// fsynced: one without a finished base does not exist.
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
// The design's timeline says how far the data was fsynced. Here that fact has
// a file of its own, fsynced, that is overwritten in place: it is written with
// each fsync, under appendfsync always thousands of times a second, and would
// soon outgrow the data. In exchange every mark of the timeline carries the
// CRC-32C of its segment up to the marked offset. So recovery trusts what was
// fsynced, goes on behind it as far as marks, and a last one that is written
// with each write, prove the bytes to be those that were received, and cuts what
// is left at a command boundary outside MULTI. What was lost by the cut the master sends again. Zeros and garbage that a
// power cut leaves behind are found even inside a value, where no parser
// could.
//
// # Segments
//
// When a segment's file has its size the writer starts the next one, at a
// boundary outside MULTI, with a SELECT of the database in force there. It does
// not wait for the disk: an fsync may take seconds, and the master goes on
// sending. The flusher makes the change durable, in this order:
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
// whole up to its end; what is behind the first that is not goes, and the
// manifest follows the timeline.
//
// A complete segment is read again once, in the background, after it is
// durable, and so is the base; what was found the timeline says.
//
// # The way of a byte
//
// The link reads from the socket into a ring of fixed size; a writer goroutine
// writes from the ring to the segment, and a flusher fsyncs by the policy
// appendfsync. Only offsets are passed between them.
package archive
