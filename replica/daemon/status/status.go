// Package status keeps how a link stands: an observer of the daemon's events
// that remembers what they said. INFO, the metrics, the status page and systemd
// read it; none of them asks the link.
//
// The loop's thread writes and any goroutine reads, so a [Tracker] has a lock.
// Nobody holds the lock for longer than it takes to copy a few hundred bytes.
package status

import (
	"errors"
	"maps"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"replicad/replica"
	"replicad/replica/archive"
)

// Status is how the link to one master stands, and what it has done since the
// daemon started. Offsets are replication offsets of the last byte; times are
// zero where the thing has not happened.
type Status struct {
	Name    string // the master's
	Address string // host:port or unix:///path; "" when nobody is followed
	TLS     bool
	User    string // masteruser
	NoOne   bool   // nobody is to be followed, by order (REPLICAOF NO ONE)

	State   replica.State
	Phase   replica.Phase
	Entered time.Time // when State or Phase was entered
	Started time.Time // the daemon
	// DownSince is when the stream ended; the start where there was none yet.
	// Zero while the link streams.
	DownSince time.Time
	LastByte  time.Time // from the master, at any time

	ReplID       string
	FormerReplID string // the one before, where a partial resync changed it
	SecondOffset int64  // up to where that held; -1 without one
	Received     int64
	Stored       int64
	Durable      int64
	Acked        int64 // as the last REPLCONF ACK said
	AckedDurable int64 // and its FACK
	AckTime      time.Time
	// LagSince is when the oldest byte came that was received and is not
	// fsynced; zero where all are fsynced. It is exact to the time between two
	// events Advanced.
	LagSince time.Time

	BytesIn  int64 // of handshakes, payloads and streams, those of rebases too
	BytesOut int64
	Commands int64 // of the stream

	FullSyncs     map[string]int64 // begun, by cause (replica.SyncInitial ...)
	FullSyncsDone int64
	PartialSyncs  int64
	Failures      map[string]int64 // attempts and links that ended, by cause (replica.CauseClosed ...)
	LastFailure   string           // as the log says it
	LastFailureAt time.Time
	NextAttempt   time.Time // zero while one is under way

	Transfer Transfer // of the link; the zero value while there is none

	Stalled      string    // why the archive can't write; "" while it can
	StalledSince time.Time // zero while it can
	Paused       bool      // the read event is dropped: the disk is behind
	StoreResets  int64

	Rebase Rebase

	SegmentsSealed    int64
	SegmentsVerified  int64
	SegmentsDamaged   int64
	BasesVerified     int64
	GenerationsPruned int64
	Overfull          bool // larger than max-bytes, and nothing may go
}

// Transfer is a full sync under way.
type Transfer struct {
	Began   time.Time
	Bytes   int64
	Total   int64     // -1 where the master does not say
	Changed time.Time // when Bytes grew last
	Storing bool      // all is here, and being made durable
}

// Running says whether there is one.
func (t Transfer) Running() bool { return !t.Began.IsZero() }

// Rebase tells of rebases.
type Rebase struct {
	Running     bool
	Began       time.Time
	Why         string
	Transfer    Transfer
	Done        int64
	Failed      int64
	LastFailure string
	LastTook    time.Duration // of the last one that was done
}

// Following says whether there is a master to follow.
func (s Status) Following() bool { return s.Address != "" }

// Wanted says whether the link should stream: somebody is followed, or will be
// as soon as a Sentinel names the master.
func (s Status) Wanted() bool { return !s.NoOne }

// Up says whether the link streams: master_link_status of INFO.
func (s Status) Up() bool { return s.Phase == replica.Stream }

// HostPort is the address as INFO and ROLE give it: the path and 0 for a unix
// socket, "" and 0 when nobody is followed.
func (s Status) HostPort() (string, int) {
	if path, ok := strings.CutPrefix(s.Address, "unix://"); ok {
		return path, 0
	}
	host, port, err := net.SplitHostPort(s.Address)
	if err != nil {
		return "", 0
	}
	n, _ := strconv.Atoi(port)
	return host, n
}

// LagBytes is how much of what was received is not fsynced.
func (s Status) LagBytes() int64 { return max(0, s.Received-s.Durable) }

// Lag is for how long the oldest byte has waited for its fsync; 0 where none
// does.
func (s Status) Lag(now time.Time) time.Duration {
	if s.LagSince.IsZero() {
		return 0
	}
	return max(0, now.Sub(s.LagSince))
}

// Disk is what was read of a master's folder at one moment.
type Disk struct {
	At      time.Time      // when the reading began; zero before a first one has ended
	Archive archive.Master // what can be restored
	Free    int64          // bytes that may still be written to the folder's file system
	Size    int64          // of the folder's file system, in bytes
	// Err is why the folder can't be read. A disk that hangs is one of the
	// reasons: then the other fields are those of the last reading.
	Err error
}

// Tracker is the observer of one master's links. Make it by New.
type Tracker struct {
	mu     sync.Mutex
	s      Status
	lagEnd int64 // Status.LagSince holds until this offset is fsynced
}

// New makes a tracker for a link to m that has not started.
func New(m replica.Master) *Tracker {
	now := time.Now()
	return &Tracker{s: Status{
		Name: m.Name, Address: m.Address(), TLS: m.TLS, User: m.User,
		Entered: now, Started: now, DownSince: now, SecondOffset: -1,
		FullSyncs: map[string]int64{}, Failures: map[string]int64{},
	}}
}

// Begin says where the archive stands before a link starts.
func (t *Tracker) Begin(p replica.Position, known bool, stored replica.Progress) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if known {
		t.s.ReplID, t.s.Received = p.ReplID, p.Offset
	}
	t.s.Stored, t.s.Durable = stored.Stored, stored.Durable
	t.place(replica.Event{Time: time.Now(), State: replica.None})
}

// Order says who is to be followed, by an order; an empty address with noOne is
// nobody, without it somebody whom Sentinels have not named yet.
func (t *Tracker) Order(address string, noOne bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.s.Address, t.s.NoOne = address, noOne
}

// Status is how things stand now. The maps are copies.
func (t *Tracker) Status() Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.s
	s.FullSyncs, s.Failures = maps.Clone(s.FullSyncs), maps.Clone(s.Failures)
	return s
}

// Observe implements replica.Observer. The events of a rebase's second link
// are told apart: until it has taken over, it is not what is followed.
func (t *Tracker) Observe(e replica.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e.Kind {
	case replica.Received:
		t.s.BytesIn += e.Bytes
		if !e.Rebase {
			t.s.LastByte = e.Time
		}
		return
	case replica.Sent:
		t.s.BytesOut += e.Bytes
		return
	case replica.TransferProgress, replica.TransferReceived: // spliced: no event Received told of it
		t.s.BytesIn += max(0, e.Bytes-t.transfer(e).Bytes)
	}
	if e.Rebase {
		t.rebase(e)
		return
	}
	t.place(e)
	t.link(e)
}

// transfer is the one that an event is about, as it was before.
func (t *Tracker) transfer(e replica.Event) Transfer {
	if e.Rebase {
		return t.s.Rebase.Transfer
	}
	return t.s.Transfer
}

// place follows state and phase.
func (t *Tracker) place(e replica.Event) {
	s := &t.s
	if e.State == s.State && e.Phase == s.Phase {
		return
	}
	switch {
	case e.Phase == replica.Stream:
		s.DownSince = time.Time{}
	case s.Phase == replica.Stream:
		s.DownSince = e.Time
	}
	s.State, s.Phase, s.Entered = e.State, e.Phase, e.Time
	if e.State != replica.None {
		s.NextAttempt = time.Time{}
	}
	s.Paused = false
	if e.Phase != replica.Transfer {
		s.Transfer = Transfer{}
	}
}

// link follows what the link says.
func (t *Tracker) link(e replica.Event) {
	s := &t.s
	switch e.Kind {
	case replica.FullSyncBegun:
		s.FullSyncs[e.Cause]++
	case replica.TransferBegun, replica.TransferProgress, replica.TransferReceived:
		s.Transfer.follow(e)
		s.LastByte = s.Transfer.Changed
	case replica.FullSyncDone:
		s.FullSyncsDone++
		s.ReplID, s.FormerReplID, s.SecondOffset = e.ReplID, "", -1
		s.Received, s.Stored, s.Durable = e.Offset, e.Offset, e.Offset
		s.LagSince = time.Time{}
	case replica.Resumed:
		s.PartialSyncs++
		if e.Text != "" {
			s.FormerReplID, s.SecondOffset = e.Text, e.Offset
		}
		s.ReplID, s.Received = e.ReplID, e.Offset
	case replica.Acknowledged:
		s.Acked, s.AckedDurable, s.AckTime = e.Offset, e.Durable, e.Time
	case replica.Advanced:
		t.advanced(e)
	case replica.Failed:
		s.Failures[e.Cause]++
		s.LastFailure, s.LastFailureAt = text(e.Err), e.Time
		s.NextAttempt = e.Time.Add(e.Delay)
	case replica.Repointed:
		s.Address, s.NextAttempt = e.Endpoint, time.Time{}
	case replica.Paused:
		s.Paused = true
	case replica.Unpaused:
		s.Paused = false
	case replica.Stalled:
		if s.StalledSince.IsZero() {
			s.StalledSince = e.Time
		}
		s.Stalled = text(e.Err)
	case replica.Healed:
		s.Stalled, s.StalledSince = "", time.Time{}
	case replica.StoreReset:
		s.StoreResets++
		if e.Err == nil {
			s.Received, s.Stored, s.Durable = e.Offset, e.Offset, min(s.Durable, e.Offset)
		}
	}
}

func (t *Tracker) advanced(e replica.Event) {
	s := &t.s
	s.Received, s.Stored, s.Durable = e.Received, e.Offset, e.Durable
	s.Commands += e.Commands
	switch {
	case s.Durable >= s.Received:
		s.LagSince = time.Time{}
	case s.LagSince.IsZero() || s.Durable >= t.lagEnd: // what came since then still waits
		s.LagSince, t.lagEnd = e.Time, s.Received
	}
}

// ObserveArchive implements archive.Observer.
func (t *Tracker) ObserveArchive(e archive.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.s
	switch e.Kind {
	case archive.SegmentSealed:
		s.SegmentsSealed++
	case archive.SegmentVerified:
		if e.Err != nil {
			s.SegmentsDamaged++
			return
		}
		s.SegmentsVerified++
	case archive.BaseVerified:
		s.BasesVerified++
	case archive.GenerationPruned:
		if e.Err == nil {
			s.GenerationsPruned++
			s.Overfull = false
		}
	case archive.Overfull:
		s.Overfull = true
	case archive.RebaseBegun:
		s.Rebase.Running, s.Rebase.Began, s.Rebase.Why = true, e.Time, e.Text
	case archive.RebaseDone:
		s.Rebase.Done++
		s.Rebase.LastTook = e.Took
		t.rebaseEnded()
	case archive.RebaseFailed:
		s.Rebase.Failed++
		s.Rebase.LastFailure = text(e.Err)
		t.rebaseEnded()
	}
}

func (t *Tracker) rebaseEnded() {
	r := &t.s.Rebase
	r.Running, r.Began, r.Why, r.Transfer = false, time.Time{}, "", Transfer{}
}

// rebase follows the second link.
func (t *Tracker) rebase(e replica.Event) {
	r := &t.s.Rebase
	switch e.Kind {
	case replica.TransferBegun, replica.TransferProgress, replica.TransferReceived:
		r.Transfer.follow(e)
	case replica.FullSyncDone, replica.Failed:
		r.Transfer = Transfer{}
	}
}

func (t *Transfer) follow(e replica.Event) {
	if t.Began.IsZero() {
		t.Began, t.Changed = e.Time, e.Time
	}
	if e.Bytes != t.Bytes {
		t.Changed = e.Time
	}
	t.Bytes, t.Total = e.Bytes, e.Total
	t.Storing = e.Kind == replica.TransferReceived
}

// text is an error as one line; that of a link without its place, which Status
// has.
func text(err error) string {
	var le *replica.LinkError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &le) && le.Remedy != "":
		return le.Cause.Error() + ": " + le.Remedy
	case errors.As(err, &le):
		return le.Cause.Error()
	}
	return err.Error()
}
