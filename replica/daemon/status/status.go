// Package status keeps how a link stands: an observer of the daemon's events
// that remembers what they said. INFO, the metrics, the status page and systemd
// read it; none of them asks the link.
//
// The loop's thread writes and any goroutine reads, so a [Tracker] has a lock.
// Nobody holds the lock for longer than it takes to copy a few hundred bytes.
package status

import (
	"net"
	"strconv"
	"strings"
	"time"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/master"
	"replicad/replica/remote"
)

// Status is how the link to one master stands, and what it has done since the
// daemon started. Offsets are replication offsets of the last byte. A time is
// zero where nothing has happened yet.
type Status struct {
	Name    string // the master's
	Address string // host:port or unix:///path; "" while no master is followed
	TLS     bool
	User    string // masteruser
	NoOne   bool   // REPLICAOF NO ONE was ordered

	State   replica.State
	Phase   replica.Phase
	Entered time.Time // when State or Phase was entered
	Started time.Time // when the daemon started
	// DownSince is when the stream ended; the start where there was none yet.
	// Zero while the link streams.
	DownSince time.Time
	LastByte  time.Time // when a byte came from the master last

	ReplID       string
	FormerReplID string // the replication id before, where a partial resync changed it
	SecondOffset int64  // up to where FormerReplID held; -1 without one
	Received     int64
	Stored       int64
	Durable      int64
	Acked        int64 // as the last REPLCONF ACK said
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
	NextAttempt   time.Time // zero while an attempt is under way

	Transfer Transfer // of the link; the zero value while there is none

	Stalled      string    // why the archive can't write; "" while it can
	StalledSince time.Time // zero while it can
	Paused       bool      // the read event is dropped: the disk is behind
	StoreResets  int64

	Rebase Rebase
	Remote remote.Status // the zero value without a remote

	SegmentsSealed    int64
	SegmentsVerified  int64
	SegmentsDamaged   int64
	BasesVerified     int64
	GenerationsPruned int64
	Frozen            bool         // a master that serves a moment, and follows nobody (replicad serve)
	Relay             bool         // replicas are fed from the archive
	Replicas          []Replica    // of ours, in the order in which they came
	Syncs             master.Stats // of replicas

	Overfull bool // larger than max-bytes, and nothing may go
}

// Replica is one that is fed from the archive.
type Replica struct {
	Host   string
	Port   int    // listening-port; 0 where it named none
	State  string // as INFO gives it: send_bulk or online
	Ack    int64  // the offset that it acknowledged last
	Heard  time.Time
	Behind int64 // bytes of ours that it has not acknowledged
}

// Behind is how many bytes the replica lacks that lacks most.
func (s Status) Behind() (most int64) {
	for _, r := range s.Replicas {
		most = max(most, r.Behind)
	}
	return most
}

// Transfer is a full sync under way.
type Transfer struct {
	Began   time.Time
	Bytes   int64
	Total   int64 // -1 where the master does not say
	Storing bool  // all is here, and being made durable
}

// Running says whether a full sync is under way.
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
	LastTook    time.Duration // of the last rebase that was done
}

// Following says whether there is a master to follow.
func (s Status) Following() bool { return s.Address != "" }

// Wanted says whether the link should stream: a master is followed, or will be as
// soon as a Sentinel names it.
func (s Status) Wanted() bool { return !s.NoOne }

// Up says whether the link streams: master_link_status of INFO.
func (s Status) Up() bool { return s.Phase == replica.Stream }

// HostPort is the address as INFO and ROLE give it: the path and 0 for a unix
// socket, "" and 0 while no master is followed.
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

// HasOffset says whether there is a history, to which the offsets belong.
func (s Status) HasOffset() bool { return s.ReplID != "" || s.Received > 0 }

// LagBytes is how many of the received bytes are not fsynced.
func (s Status) LagBytes() int64 { return max(0, s.Received-s.Durable) }

// Lag is for how long the oldest byte has waited for its fsync; 0 where none
// does.
func (s Status) Lag(now time.Time) time.Duration {
	if s.LagSince.IsZero() {
		return 0
	}
	return max(0, now.Sub(s.LagSince))
}

// Restorable are the generations that can be restored, and from when to when
// moments can be; zero where none can. Where a link was down for long, not each
// moment between them can.
func Restorable(all []archive.Generation) (sound []archive.Generation, from, to time.Time) {
	for _, g := range all {
		if !g.Complete || g.Problem != "" || g.From.IsZero() {
			continue
		}
		sound = append(sound, g)
		if from.IsZero() || g.From.Before(from) { // a clock may have been set back
			from = g.From
		}
		if g.To.After(to) {
			to = g.To
		}
	}
	return sound, from, to
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
