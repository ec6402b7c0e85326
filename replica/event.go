package replica

import (
	"time"

	"replicad/eventloop"
)

// EventKind says what an [Event] tells, and which of its fields are set.
type EventKind uint8

// The kinds of events, each with the fields that are set. Time, Master, State,
// Phase and Rebase are set in all.
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
	// Told in the handshake alone, never in the stream.
	FileEvent
	// SocketError: SO_ERROR was read. Endpoint, Err (nil for 0).
	SocketError
	// Registered: the registered mask was changed to Registered.
	Registered
	// Sent: Data went to the master, secrets masked.
	Sent
	// Received: Data came from the master. A payload that never passed
	// through memory is not told.
	Received
	// ReplyNoted: PING, an optional REPLCONF, or PSYNC was refused, and the
	// link goes on all the same. Text is the reply; Err says what the link
	// must do without, or is nil where that does not matter.
	ReplyNoted
	// Waiting: the master has not answered PSYNC yet, or has not begun to send
	// the payload. Text says which, Took how long. Told after a moment, and
	// then once a minute.
	Waiting
	// FullSyncBegun: the master answered FULLRESYNC. ReplID, Offset, Cause
	// (SyncInitial ...). Where a partial resync was asked for, Text says why
	// there is none.
	FullSyncBegun
	// TransferBegun: the payload starts. Total is its size in bytes, -1 if
	// unknown.
	TransferBegun
	// TransferProgress: Bytes of Total have come. Took.
	TransferProgress
	// TransferReceived: all Bytes have come, and are being made durable. Took.
	TransferReceived
	// FullSyncDone: the base is durable. ReplID, Offset, Bytes, Took.
	FullSyncDone
	// Resumed: the master answered CONTINUE. ReplID, Offset (of the last byte
	// that the store has). Text is the former replication id where it changed.
	Resumed
	// Forked: the history went back to a fork, from which the master continues.
	// ReplID, Offset (of the fork), Received (where the history ended before);
	// Text is the id of the new history, "" where the master named none. The
	// store keeps what lay behind the fork.
	Forked
	// Acknowledged: Offset and Durable were sent as ACK and FACK.
	Acknowledged
	// Advanced: the store wrote or fsynced, or more was received while the
	// store is stalled. The last byte that was received has the offset
	// Received, that was written Offset, that was fsynced Durable. Commands
	// were completed since the last Advanced. Told at most once in an
	// iteration of the loop.
	Advanced
	// Paused: the store has no room, so the read event is dropped.
	Paused
	// Unpaused: there is room again.
	Unpaused
	// Stalled: the store can't write. Err, Took. Told at once, and once a
	// minute while that lasts.
	Stalled
	// Healed: the store can write again. Took.
	Healed
	// StoreReset: the store opened its history anew, or Err says why it could
	// not. Offset is where the history ends now.
	StoreReset
	// Failed: the attempt or the connection ended. Err is a *LinkError, Cause
	// one word for it (see Cause), Delay the time until the next attempt.
	Failed
	// Repointed: the link follows another master, or none, by Follow. Endpoint
	// is the new master's address, "" for none.
	Repointed
	// Stopped: the link has stopped.
	Stopped
)

// Why a full sync was taken; see [FullSyncBegun].
const (
	SyncInitial = "initial"  // there was no history to continue
	SyncBacklog = "backlog"  // the master's backlog does not reach back far enough
	SyncAhead   = "ahead"    // the master has lost the end of this history
	SyncHistory = "history"  // the master has another history
	SyncNoPsync = "no_psync" // the master knows no partial resync
	// SyncPoisoned: the stream that the master holds breaks the protocol at the
	// end of this history.
	SyncPoisoned = "poisoned"
)

// SyncCauses are all causes of a full sync.
func SyncCauses() []string {
	return []string{SyncInitial, SyncBacklog, SyncAhead, SyncHistory, SyncNoPsync, SyncPoisoned}
}

// Event is one thing that happened to a link. An observer may keep it, but not
// Data, which is valid only during Observe.
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
	// Rebase: the link takes a base alone; see Config.Until.
	Rebase bool
}

// Observer is told what happens to a link. It is called on the thread of the
// loop, and must not wait, nor call a method of a link that changes it: what is
// to follow from an event is done by Loop.Post.
type Observer interface {
	Observe(Event)
}

// ObserverFunc is a function as an [Observer].
type ObserverFunc func(Event)

// Observe implements [Observer].
func (f ObserverFunc) Observe(e Event) { f(e) }
