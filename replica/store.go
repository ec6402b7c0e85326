package replica

import "io"

// Position is a place in a master's replication history.
type Position struct {
	// ReplID is the replication id, 40 characters; "" for a master without
	// PSYNC, whose history cannot be continued.
	ReplID string
	// Offset is the replication offset of the last byte that is held: PSYNC
	// asks for Offset+1.
	Offset int64
	// DB is the database that is selected behind Offset.
	DB int
}

// Boundary is the end of a command outside MULTI: a place where a history can
// be cut.
type Boundary struct {
	Offset int64 // replication offset of the last byte before the cut
	DB     int   // the database selected there
}

// Progress is how far a store has come.
type Progress struct {
	// Stored is the offset up to which bytes were written to their file.
	Stored int64
	// Durable is the offset up to which they were fsynced.
	Durable int64
	// Stalled is not nil while the store can't write and tries again by
	// itself, as on a full disk. The link keeps its connection and reads
	// nothing beyond what the store's buffer takes.
	Stalled error
	// Failed is not nil once the store can go on only by Store.Reset: an
	// fsync failed, or a base proved damaged.
	Failed error
}

// FullSync describes the payload that a master is about to send.
type FullSync struct {
	ReplID string // "" for a master without PSYNC
	Offset int64  // the RDB holds everything up to this offset
	Size   int64  // bytes; -1 when unknown (the $EOF framing)
}

// Store keeps what a link receives. A link uses one store, a store serves one
// link.
//
// The methods in the first block are called on the loop's thread and must not
// wait. Those in the second may block and are called on other goroutines,
// never two at a time, and never while the link streams.
type Store interface {
	// Position tells where the stored history ends, on a command boundary
	// outside MULTI; false when there is none that could be continued. The
	// link asks when it starts and after Reset; in between it knows itself.
	Position() (Position, bool)
	// Continue notes that the history goes on under another replication id,
	// from the next byte on.
	Continue(replID string)
	// Buffer returns room to read stream bytes into; empty when there is
	// none at the moment: the notify function is called when that changes.
	Buffer() []byte
	// Commit takes the first n bytes of what Buffer returned as the next n
	// bytes of the stream. b is the last boundary in the stream so far.
	Commit(n int, b Boundary)
	// Progress may be called from any goroutine.
	Progress() Progress
	// Notify sets the function that the store calls, from any goroutine,
	// after each change of Progress. It is set once, before anything else.
	Notify(func())

	// BeginBase opens a place for the payload of a full sync. The error is
	// ErrNoRoom where the payload can't fit.
	BeginBase(FullSync) (Base, error)
	// Room tells, before an attempt, whether a full sync could be stored at
	// all: after one that found too little room it fails until there is
	// more, so that the master need not save again and again in vain. A nil
	// error is no promise.
	Room() error
	// Reset gives up what is not stored safely and opens the history anew,
	// cut at a boundary. It serves after Progress.Failed, and after a
	// stream that broke the protocol.
	Reset() error
}

// Base takes the payload of a full sync. One goroutine at a time uses it. It
// ends with Commit or Abort.
type Base interface {
	io.Writer
	// ReadAt reads back what was written. (io.ReaderAt)
	ReadAt(p []byte, off int64) (int, error)
	// Truncate cuts the payload to size bytes: the EOF mark is no part of it.
	Truncate(size int64) error
	// Commit makes the payload durable and begins a history behind it, which
	// from then on is the store's. It returns where that history starts;
	// DB is the RDB's repl-stream-db.
	Commit() (Position, error)
	// Abort removes what was written. After Commit it does nothing.
	Abort()
}

// Splicer is a [Base] that can take bytes from a pipe by splice(2).
type Splicer interface {
	// SpliceFrom moves up to n bytes that are in the pipe to the end of the
	// payload, at least one, and returns how many.
	SpliceFrom(pipe, n int) (int, error)
}
