package archive

import "time"

// EventKind says what an [Event] tells, and thereby which of its fields hold.
type EventKind uint8

// The kinds of events. The fields named hold beside Time, Master and Kind. The
// archive tells the first three, the daemon the others.
const (
	// SegmentSealed: a segment is complete and the next one has begun.
	// Generation, Segment, Offset (where the segment ends), Bytes (its file).
	SegmentSealed EventKind = iota + 1
	// SegmentVerified: a sealed segment was read again. Err is nil where it
	// is what was written. Generation, Segment, Bytes, Took.
	SegmentVerified
	// BaseVerified: the base was read again, and is what the master sent.
	// Generation, Bytes, Took.
	BaseVerified
	// NotPlain: base or stream have what a server without modules and renamed
	// commands does not load. Generation, Offset; Text names it.
	NotPlain
	// RebaseBegun: a short link takes the base of the next generation.
	// Text says why.
	RebaseBegun
	// RebaseDone: the log goes on in the new generation. Generation, Offset (of
	// its base), Took.
	RebaseDone
	// RebaseFailed: the generation before goes on as it was. Err; Delay is
	// the time until the next rebase may begin.
	RebaseFailed
	// GenerationForked: the history went back to a fork, from which another
	// master goes on, in a generation of its own. Generation, Offset (of the
	// fork), Bytes (behind it, in the generation before). The archive tells it.
	GenerationForked
	// TailLost: it is known what the failover behind a fork has lost. Generation
	// (that holds it), Offset (of the last byte before it), Bytes; Text counts
	// the commands. The daemon tells it.
	TailLost
	// GenerationPruned: a generation was removed. Generation, Bytes; Text says
	// why, and which times can't be restored any more. Only Err where the
	// removal failed.
	GenerationPruned
	// Overfull: the archive is larger than it may be, and holds nothing that
	// may go. Bytes, Total (the size that is allowed).
	Overfull
	// RemoteFailed: the remote can't be written to; it is tried again and again.
	// Err, Delay. RemoteMended: it takes what is written again.
	RemoteFailed
	RemoteMended
	// RemoteBase: the remote has the base of a generation, and can be restored
	// from. Generation, Offset, Bytes, Took.
	RemoteBase
	// RemoteContradiction: the remote has other bytes of the same range. Offset
	// (of the last byte before it), Bytes, Err.
	RemoteContradiction
)

// Event is one thing that happened to an archive. It may be kept.
type Event struct {
	Time   time.Time
	Master string // the master's name
	Kind   EventKind

	Generation int
	Segment    int
	Offset     int64
	Bytes      int64
	Total      int64
	Took       time.Duration
	Delay      time.Duration
	Text       string
	Err        error
}

// Observer is told what happens to an archive. It must not wait.
type Observer interface {
	ObserveArchive(Event)
}
