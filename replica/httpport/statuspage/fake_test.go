package statuspage_test

import (
	"errors"
	"math"
	"sync"
	"syscall"
	"time"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/daemon/status"
	"replicad/replica/httpport/statuspage"
)

// fake is a master of which a test says how it stands.
type fake struct {
	name string

	mu     sync.Mutex
	status status.Status
	disk   status.Disk
	lag    time.Duration
	reads  int
	waited time.Duration // the longest wait that was asked for
	began  time.Time
	pace   int64 // bytes a second since then
	still  bool  // the clock stands at began
}

func (f *fake) Name() string { return f.name }

func (f *fake) Status() status.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.status
	now := time.Now()
	if f.still {
		now = f.began
	}
	s.LagSince = now.Add(-f.lag)
	n := int64(time.Since(f.began).Seconds() * float64(f.pace))
	if f.pace > 0 {
		s.LastByte, s.AckTime = time.Now(), time.Now()
	}
	s.BytesIn, s.Received, s.Stored, s.Durable, s.Commands = s.BytesIn+n, s.Received+n, s.Stored+n, s.Durable+n, s.Commands+n/120
	return s
}

func (f *fake) Disk(wait time.Duration) status.Disk {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads, f.waited = f.reads+1, max(f.waited, wait)
	return f.disk
}

func (f *fake) set(change func(*fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

const id = "8371b4fb1155b71f4a04d3e1bc3e18c4a990aeeb"

// streaming is a master that is followed, with an archive of some days.
func streaming(name string) *fake { return streamingAt(name, time.Now()) }

func streamingAt(name string, now time.Time) *fake {
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	const h, m = time.Hour, time.Minute
	gen := func(n int, from, to time.Duration, rebased bool, base, end int64) archive.Generation {
		return archive.Generation{
			Number: n, Complete: true, Closed: true, Rebased: rebased, From: ago(from), To: ago(to), BaseOffset: base, EndOffset: end,
			BaseVerified: true, Segments: 4, Sealed: 4, Verified: 4, Bytes: 1<<28 + (end - base), Frees: 1<<28 + (end - base), FsyncedOffset: end,
		}
	}
	last := gen(12, 9*h, 0, true, 9_400_000_000, 12_345_678_901)
	last.Closed, last.Verified = false, 3
	return &fake{
		name: name, began: now, lag: 700 * time.Millisecond,
		status: status.Status{
			Name: name, Address: "redis-main.internal.example:6379", TLS: true, User: "replicad",
			State: replica.Sync, Phase: replica.Stream, Entered: ago(3 * h), Started: ago(50 * h), LastByte: ago(300 * time.Millisecond),
			ReplID: id, SecondOffset: -1, Received: 12_345_678_901, Stored: 12_345_678_901, Durable: 12_345_670_000,
			Acked: 12_345_678_101, AckTime: ago(time.Second), BytesIn: 12_400_000_000, BytesOut: 31_000_000, Commands: 98_765_432,
			FullSyncs: map[string]int64{replica.SyncInitial: 1, replica.SyncBacklog: 1}, FullSyncsDone: 2, PartialSyncs: 7,
			Failures: map[string]int64{replica.CauseClosed: 6, replica.CauseConnect: 2}, LastFailure: "the master closed the connection", LastFailureAt: ago(3*h + 2*time.Second),
			SegmentsSealed: 47, SegmentsVerified: 47, Rebase: status.Rebase{Done: 8, LastTook: 41 * time.Second},
		},
		disk: status.Disk{At: now, Free: 212 << 30, Size: 1 << 40, Archive: archive.Master{Name: name, Dir: "/var/lib/replicad/" + name, Running: true, Generations: []archive.Generation{
			gen(8, 50*h, 38*h, false, 1, 2_000_000_000), gen(9, 38*h, 30*h, true, 2_000_000_000, 4_100_000_000),
			gen(10, 26*h+20*m, 20*h, false, 4_900_000_000, 7_000_000_000), gen(11, 20*h, 9*h, true, 7_000_000_000, 9_400_000_000), last,
		}}},
	}
}

// minutes are five minutes of a link with waves of load; from cut on, in
// seconds, it is down for a while.
func minutes(cut, down int) []status.Status { return minutesAt(cut, down, time.Now()) }

func minutesAt(cut, down int, now time.Time) []status.Status {
	var all []status.Status
	var s status.Status
	for i := range 300 {
		s.Phase, s.LagSince = replica.NoPhase, time.Time{}
		var lag time.Duration
		if cut == 0 || i < cut || i >= cut+down {
			n := int64(1_300_000 + 900_000*math.Sin(float64(i)/23) + 160_000*math.Sin(float64(i)*1.7))
			s.BytesIn, s.Received, s.Commands = s.BytesIn+n, s.Received+n, s.Commands+n/120
			lag = time.Duration(i*370%1000) * time.Millisecond
			s.Phase, s.LagSince = replica.Stream, now.Add(time.Duration(i-299)*time.Second-lag)
		}
		s.Durable = s.Received - int64(lag.Seconds()*1_300_000)
		all = append(all, s)
	}
	// The last one is as streaming has it.
	for i := range all {
		x := &all[i]
		x.BytesIn, x.Received, x.Durable, x.Commands = x.BytesIn-s.BytesIn+12_400_000_000, x.Received-s.Received+12_345_678_901, x.Durable-s.Received+12_345_678_901, x.Commands-s.Commands+98_765_432
	}
	return all
}

// story is what a link told: the full sync, a cut, a way back.
func story(name string) []any { return storyAt(name, time.Now()) }

func storyAt(name string, now time.Time) []any {
	refused := &replica.LinkError{Master: name + " (redis-main.internal.example:6379)", State: replica.Connecting, Cause: syscall.ECONNREFUSED, Remedy: "is a redis-server running there, and does its bind directive allow this host?"}
	all := []any{
		replica.Event{Kind: replica.FullSyncBegun, State: replica.Sync, Phase: replica.Transfer, ReplID: id, Offset: 1, Cause: replica.SyncInitial},
		replica.Event{Kind: replica.FullSyncDone, State: replica.Sync, Phase: replica.Transfer, ReplID: id, Offset: 1, Bytes: 1 << 28, Took: 2400 * time.Millisecond},
		archive.Event{Kind: archive.BaseVerified, Generation: 1, Bytes: 1 << 28, Took: 900 * time.Millisecond},
		replica.Event{Kind: replica.Failed, State: replica.None, Err: &replica.LinkError{Master: name + " (redis-main.internal.example:6379)", State: replica.Sync, Phase: replica.Stream, Cause: errors.New("the master closed the connection")}},
		replica.Event{Kind: replica.StateEntered, State: replica.None, From: replica.Sync, FromPhase: replica.Stream, Took: time.Hour},
		replica.Event{Kind: replica.Failed, State: replica.None, Err: refused, Delay: 120 * time.Millisecond},
		replica.Event{Kind: replica.Failed, State: replica.None, Err: refused, Delay: 250 * time.Millisecond},
		replica.Event{Kind: replica.StateEntered, State: replica.Connecting, From: replica.None, Took: 250 * time.Millisecond, Endpoint: "10.0.0.7:6379"},
		replica.Event{Kind: replica.StateEntered, State: replica.ReceivePong, From: replica.Connecting, Took: 800 * time.Microsecond, Endpoint: "10.0.0.7:6379"},
		replica.Event{Kind: replica.StateEntered, State: replica.Sync, Phase: replica.Port, From: replica.ReceivePong, Took: 400 * time.Microsecond, Endpoint: "10.0.0.7:6379"},
		replica.Event{Kind: replica.Resumed, State: replica.Sync, Phase: replica.Psync, ReplID: id, Offset: 9_400_000_000},
		archive.Event{Kind: archive.RebaseDone, Generation: 12, Offset: 9_500_000_000, Took: 41 * time.Second},
	}
	for i := range all {
		at := now.Add(time.Duration(i-len(all)) * time.Minute)
		switch e := all[i].(type) {
		case replica.Event:
			e.Master, e.Time = name, at
			all[i] = e
		case archive.Event:
			e.Master, e.Time = name, at
			all[i] = e
		}
	}
	return all
}

// tell has a page observe a story.
func tell(p *statuspage.Page, story []any) {
	for _, e := range story {
		switch e := e.(type) {
		case replica.Event:
			p.Observe(e)
		case archive.Event:
			p.ObserveArchive(e)
		}
	}
}
