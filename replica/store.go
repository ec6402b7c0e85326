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

// Boundary is the end of a command outside MULTI, where a history can be cut.
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
	// Stalled is not nil while the store can't write, as on a full disk, and
	// tries again by itself. The link keeps its connection, and reads no
	// more than the store's buffer takes.
	Stalled error
	// Failed is not nil once the store needs Store.Reset to go on: an fsync
	// failed, or a base proved damaged.
	Failed error
}

// FullSync describes the payload that a master is about to send.
type FullSync struct {
	ReplID string // "" for a master without PSYNC
	Offset int64  // the RDB holds everything up to this offset
	Size   int64  // bytes; -1 when unknown (the $EOF framing)
}

// Store keeps what a link receives. A link uses one store, and a store serves
// one link.
//
// The methods of the first block are called on the loop's thread and must not
// wait. Those of the second may block. They are called on other goroutines,
// never two at a time. The link does not stream meanwhile, except beside a
// [Base] that has begun its history.
type Store interface {
	// Position is where the stored history ends, on a command boundary
	// outside MULTI. It is false where there is no history that could be
	// continued. The link asks when it starts and after Reset.
	Position() (Position, bool)
	// Continue notes that the history goes on under another replication id,
	// from the next byte on.
	Continue(replID string)
	// Buffer returns room to read stream bytes into. Where it is empty, the
	// store calls the notify function as soon as there is room.
	Buffer() []byte
	// Commit takes the first n bytes of what Buffer returned as the next n
	// bytes of the stream. b is the last boundary in the stream so far.
	Commit(n int, b Boundary)
	// Progress may be called from any goroutine.
	Progress() Progress
	// Notify sets the function that the store calls, from any goroutine,
	// after each change of Progress. It is called once, before anything else.
	Notify(func())

	// BeginBase opens a place for the payload of a full sync. The error
	// wraps ErrNoRoom where the payload can't fit.
	BeginBase(FullSync) (Base, error)
	// Room is called before each attempt. After a full sync that found too
	// little room it returns an error until there is more, so that the
	// master does not save again and again in vain. A nil error is no
	// promise.
	Room() error
	// Reset gives up what is not stored safely, and opens the history anew,
	// cut at a boundary. It is called after Progress.Failed, and after a
	// stream that broke the protocol.
	Reset() error
}

// Base takes the payload of a full sync. One goroutine at a time uses it, and
// calls Commit or Abort in the end.
type Base interface {
	io.Writer
	// ReadAt reads back what was written. (io.ReaderAt)
	ReadAt(p []byte, off int64) (int, error)
	// Truncate cuts the payload to size bytes, without its EOF mark.
	Truncate(size int64) error
	// Begin begins the history behind the payload while the payload is on its
	// way: Buffer, Commit, Continue and Progress of the store are of that
	// history from then on. It is false, and has done nothing, as long as the
	// fields that the RDB opens with have not come: only they tell the
	// database. After true it is not called again. The history before can't
	// be continued any more.
	Begin() (Position, bool, error)
	// Commit makes the payload durable, and with it the history behind it,
	// which it begins where Begin did not. It is the history of the store
	// from then on. Commit returns where that history starts; DB is the
	// RDB's repl-stream-db.
	Commit() (Position, error)
	// Abort removes what was written, also of a history that Begin began:
	// the store then has none, its Buffer is empty, and its Commit does
	// nothing. After Commit, Abort does nothing.
	Abort()
}

// Splicer is a [Base] that can take bytes from a pipe by splice(2).
type Splicer interface {
	// SpliceFrom moves up to n bytes that are in the pipe to the end of the
	// payload, at least one, and returns how many.
	SpliceFrom(pipe, n int) (int, error)
}

// Forker is a [Store] that can go back to a place of its history, from which
// another master goes on. Where the store is one, the handshake asks INFO
// replication. The methods are of the second block.
type Forker interface {
	// ForkAt says where the stored history leaves that of a master: the highest
	// place, on a boundary, of anything that is stored and lies in one of the
	// histories that the master can continue. DB is the database selected
	// there. It is false where there is none.
	ForkAt(Replication) (Position, bool)
	// Fork has the history end at a place that ForkAt gave. What lies behind
	// stays readable as it is, but is not continued. Fork returns the place,
	// which is durable then. After an error the history is as it was.
	Fork(Position) (Position, error)
}
