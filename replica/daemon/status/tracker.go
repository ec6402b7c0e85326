package status

import (
	"errors"
	"maps"
	"sync"
	"time"

	"replicad/replica"
	"replicad/replica/archive"
)

// Tracker is the observer of one master's links and archive. Make it by New.
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

// Order says which master is to be followed, by an order. An empty address is
// none by REPLICAOF NO ONE (noOne), or one that no Sentinel has named yet.
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

// Observe implements replica.Observer. Of the short link
// of a rebase it follows only bytes and transfer.
func (t *Tracker) Observe(e replica.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.s
	switch e.Kind {
	case replica.Received:
		s.BytesIn += e.Bytes
		if !e.Rebase {
			s.LastByte = e.Time
		}
		return
	case replica.Sent:
		s.BytesOut += e.Bytes
		return
	}
	transfer := &s.Transfer
	if e.Rebase {
		transfer = &s.Rebase.Transfer
	} else {
		t.place(e)
		t.link(e)
	}
	switch e.Kind {
	case replica.TransferBegun, replica.TransferProgress, replica.TransferReceived:
		grown := max(0, e.Bytes-transfer.Bytes)
		s.BytesIn += grown // spliced: no event Received told of them
		if !e.Rebase && (grown > 0 || !transfer.Running()) {
			s.LastByte = e.Time
		}
		transfer.follow(e)
	case replica.FullSyncDone, replica.Failed:
		*transfer = Transfer{}
	}
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
		s.Acked, s.AckTime = e.Offset, e.Time
	case replica.Advanced:
		t.advanced(e)
	case replica.Failed:
		s.Failures[e.Cause]++
		s.LastFailure, s.LastFailureAt = text(e.Err), e.Time
		s.NextAttempt = e.Time.Add(e.Delay)
	case replica.Repointed:
		s.Address, s.NextAttempt = e.Endpoint, time.Time{}
	case replica.Paused, replica.Unpaused:
		s.Paused = e.Kind == replica.Paused
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

// follow follows the events of a transfer.
func (t *Transfer) follow(e replica.Event) {
	if !t.Running() {
		t.Began = e.Time
	}
	t.Bytes, t.Total = e.Bytes, e.Total
	t.Storing = e.Kind == replica.TransferReceived
}

// ObserveArchive implements archive.Observer.
func (t *Tracker) ObserveArchive(e archive.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.s
	ended := Rebase{Done: s.Rebase.Done, Failed: s.Rebase.Failed, LastFailure: s.Rebase.LastFailure, LastTook: s.Rebase.LastTook}
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
		s.Rebase = ended
		s.Rebase.Done++
		s.Rebase.LastTook = e.Took
	case archive.RebaseFailed:
		s.Rebase = ended
		s.Rebase.Failed++
		s.Rebase.LastFailure = text(e.Err)
	}
}

// text is an error as one line. That of a link has no place, which Status has.
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
