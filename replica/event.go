package replica

import (
	"time"

	"replicad/eventloop"
)

// EventKind says what an [Event] tells, and thereby which of its fields hold.
type EventKind uint8

// The kinds of events. The fields named hold beside Time, Master, State and
// Phase, which always do.
const (
	// StateEntered: From, FromPhase, Took, Endpoint.
	StateEntered EventKind = iota + 1
	// PhaseEntered: From (always SYNC), FromPhase, Took.
	PhaseEntered
	// Resolved: a name's addresses are known. Text lists them.
	Resolved
	// ConnectCalled: connect(2) returned. Endpoint, FD; Err is nil,
	// EINPROGRESS, or why it failed at once.
	ConnectCalled
	// FileEvent: epoll reported Mask; Registered is what was registered.
	// Told for the handshake alone, never for the stream.
	FileEvent
	// SocketError: SO_ERROR was asked. Endpoint, Err (nil for 0).
	SocketError
	// Registered: the registered mask was changed to Registered.
	Registered
	// Sent: Data went to the master, secrets masked.
	Sent
	// Received: Data came from the master. Not told for a payload that
	// never passed through memory.
	Received
	// ReplyNoted: an optional REPLCONF was refused and passed over. Text is
	// the reply.
	ReplyNoted
	// FullSyncBegun: the master answered FULLRESYNC. ReplID, Offset, Cause
	// (SyncInitial ...); Text says why where a partial resync had been asked
	// for.
	FullSyncBegun
	// TransferBegun: the payload starts. Total is its size in bytes, -1 if
	// unknown.
	TransferBegun
	// TransferProgress: Bytes of Total are here.
	TransferProgress
	// TransferReceived: all Bytes are here; they are being made durable.
	TransferReceived
	// FullSyncDone: the base is durable. ReplID, Offset, Bytes, Took.
	FullSyncDone
	// Resumed: the master answered CONTINUE. ReplID, Offset (the last byte
	// held); Text is the former replication id where it changed.
	Resumed
	// Acknowledged: Offset and Durable were sent as ACK and FACK.
	Acknowledged
	// Advanced: the store moved. Received is the offset of the last byte that
	// was received, Offset stored, Durable fsynced; Commands is how many
	// commands were completed since the last time. Told at most once a loop
	// iteration.
	Advanced
	// Paused: the store has no room, the read event is dropped.
	Paused
	// Unpaused: there is room again.
	Unpaused
	// Stalled: the store can't write. Err. Told when it begins and once a
	// minute while it lasts.
	Stalled
	// Healed: it can again. Took.
	Healed
	// StoreReset: the store opened its history anew; Err when it could not.
	// Offset is where it ends now.
	StoreReset
	// Failed: the attempt or the link ended. Err is a *LinkError, Cause one
	// word for it (see Cause); Delay is the time until the next attempt.
	Failed
	// Repointed: the link follows another master, or none, by an order given
	// at run time (REPLICAOF). Endpoint is the new master's address, "" for
	// none.
	Repointed
	// Stopped: the link was told to stop, and has.
	Stopped
)

// Why a full sync was taken; see [FullSyncBegun].
const (
	SyncInitial = "initial"  // there was no history to continue
	SyncBacklog = "backlog"  // the master's backlog does not reach back far enough
	SyncHistory = "history"  // the master has another history
	SyncNoPsync = "no_psync" // the master knows no partial resync
)

// SyncCauses are all of them.
func SyncCauses() []string { return []string{SyncInitial, SyncBacklog, SyncHistory, SyncNoPsync} }

// Event is one thing that happened to a link. It is passed by value and may be
// kept, but for Data, which is valid only during Observe.
type Event struct {
	Time   time.Time
	Master string // the master's name
	Kind   EventKind
	State  State // in force after the event
	Phase  Phase

	From       State
	FromPhase  Phase
	Took       time.Duration
	Delay      time.Duration
	Endpoint   string
	FD         int
	Mask       eventloop.Mask
	Registered eventloop.Mask
	Data       []byte
	Bytes      int64
	Total      int64
	Offset     int64
	Durable    int64
	Received   int64
	Commands   int64
	Cause      string
	ReplID     string
	Text       string
	Err        error
	// Rebase: the event is that of the second link of a rebase.
	Rebase bool
}

// Observer is told what happens to a link, on the loop's thread: it must not
// wait.
type Observer interface {
	Observe(Event)
}

// ObserverFunc is a function as an [Observer].
type ObserverFunc func(Event)

// Observe implements [Observer].
func (f ObserverFunc) Observe(e Event) { f(e) }
