package status

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"replicad/replica"
	"replicad/replica/archive"
)

var followed = replica.Master{Name: "m", Host: "10.0.0.1", Port: 6379, User: "u", TLS: true}

// at is a moment of the events that tests make.
func at(second int) time.Time { return time.Unix(1_700_000_000+int64(second), 0) }

// streaming is an event of a link that streams.
func streaming(second int, e replica.Event) replica.Event {
	e.Time, e.State, e.Phase = at(second), replica.Sync, replica.Stream
	return e
}

// taking is one of a link that takes a full sync.
func taking(second int, e replica.Event) replica.Event {
	e.Time, e.State, e.Phase = at(second), replica.Sync, replica.Transfer
	return e
}

// down is one of a link that has ended.
func down(second int, e replica.Event) replica.Event {
	e.Time = at(second)
	return e
}

func ofRebase(e replica.Event) replica.Event {
	e.Rebase = true
	return e
}

func TestBeforeTheLinkStartsItIsDownSinceTheStart(t *testing.T) {
	k := New(followed)
	s := k.Status()
	if s.Name != "m" || s.Address != "10.0.0.1:6379" || !s.TLS || s.User != "u" || !s.Following() || !s.Wanted() || s.Up() ||
		s.Started.IsZero() || s.DownSince != s.Started || s.Entered != s.Started || s.SecondOffset != -1 {
		t.Errorf("%+v", s)
	}
	k.Begin(replica.Position{ReplID: "id", Offset: 30}, true, replica.Progress{Stored: 20, Durable: 10})
	if s := k.Status(); s.ReplID != "id" || s.Received != 30 || s.Stored != 20 || s.Durable != 10 || s.LagBytes() != 20 {
		t.Errorf("%+v", s)
	}
	k = New(followed)
	k.Begin(replica.Position{ReplID: "id", Offset: 30}, false, replica.Progress{})
	if s := k.Status(); s.ReplID != "" || s.Received != 0 {
		t.Errorf("what is not known is taken: %+v", s)
	}
}

func TestAnOrderSaysWhoIsToBeFollowed(t *testing.T) {
	for _, c := range []struct {
		address           string
		noOne             bool
		following, wanted bool
	}{
		{"10.0.0.2:1", false, true, true},
		{"", true, false, false}, // REPLICAOF NO ONE
		{"", false, false, true}, // Sentinel has not named anybody yet
	} {
		k := New(followed)
		k.Order(c.address, c.noOne)
		if s := k.Status(); s.Address != c.address || s.Following() != c.following || s.Wanted() != c.wanted {
			t.Errorf("%+v: %+v", c, s)
		}
	}
}

func TestEachEventMovesWhatItTellsOf(t *testing.T) {
	why := errors.New("why")
	for _, c := range []struct {
		name   string
		events []replica.Event
		moved  func(s *Status) // a zero Status to what is wanted
	}{
		{"received", []replica.Event{streaming(1, replica.Event{Kind: replica.Received, Bytes: 7}), streaming(2, replica.Event{Kind: replica.Received, Bytes: 8})},
			func(s *Status) { s.BytesIn, s.LastByte = 15, at(2) }},
		{"sent", []replica.Event{streaming(1, replica.Event{Kind: replica.Sent, Bytes: 7})},
			func(s *Status) { s.BytesOut = 7 }},
		{"state", []replica.Event{{Time: at(1), Kind: replica.StateEntered, State: replica.Connecting}, {Time: at(2), Kind: replica.Registered, State: replica.Connecting}},
			func(s *Status) { s.State, s.Entered = replica.Connecting, at(1) }},
		{"the stream begins", []replica.Event{streaming(1, replica.Event{Kind: replica.PhaseEntered})},
			func(s *Status) {
				s.State, s.Phase, s.Entered, s.DownSince = replica.Sync, replica.Stream, at(1), time.Time{}
			}},
		{"the stream ends", []replica.Event{streaming(1, replica.Event{Kind: replica.PhaseEntered}), down(2, replica.Event{Kind: replica.StateEntered})},
			func(s *Status) { s.Entered, s.DownSince = at(2), at(2) }},
		{"a full sync begins", []replica.Event{
			down(1, replica.Event{Kind: replica.FullSyncBegun, Cause: replica.SyncBacklog}), down(2, replica.Event{Kind: replica.FullSyncBegun, Cause: replica.SyncBacklog}),
			down(3, replica.Event{Kind: replica.FullSyncBegun, Cause: replica.SyncHistory})},
			func(s *Status) { s.FullSyncs = map[string]int64{replica.SyncBacklog: 2, replica.SyncHistory: 1} }},
		{"a full sync is done", []replica.Event{down(1, replica.Event{Kind: replica.FullSyncDone, ReplID: "new", Offset: 100})},
			func(s *Status) {
				s.FullSyncsDone, s.ReplID, s.Received, s.Stored, s.Durable = 1, "new", 100, 100, 100
			}},
		{"resumed", []replica.Event{down(1, replica.Event{Kind: replica.Resumed, ReplID: "id", Offset: 5})},
			func(s *Status) { s.PartialSyncs, s.ReplID, s.Received = 1, "id", 5 }},
		{"resumed under another id", []replica.Event{down(1, replica.Event{Kind: replica.Resumed, ReplID: "new", Text: "old", Offset: 5})},
			func(s *Status) {
				s.PartialSyncs, s.ReplID, s.FormerReplID, s.SecondOffset, s.Received = 1, "new", "old", 5, 5
			}},
		{"a full sync ends the former id", []replica.Event{
			down(1, replica.Event{Kind: replica.Resumed, ReplID: "new", Text: "old", Offset: 5}), down(2, replica.Event{Kind: replica.FullSyncDone, ReplID: "newer", Offset: 6})},
			func(s *Status) {
				s.PartialSyncs, s.FullSyncsDone, s.ReplID, s.Received, s.Stored, s.Durable = 1, 1, "newer", 6, 6, 6
			}},
		{"acknowledged", []replica.Event{down(1, replica.Event{Kind: replica.Acknowledged, Offset: 9, Durable: 8})},
			func(s *Status) { s.Acked, s.AckTime = 9, at(1) }},
		{"advanced", []replica.Event{
			down(1, replica.Event{Kind: replica.Advanced, Received: 9, Offset: 8, Durable: 7, Commands: 2}),
			down(2, replica.Event{Kind: replica.Advanced, Received: 19, Offset: 18, Durable: 17, Commands: 3})},
			func(s *Status) { s.Received, s.Stored, s.Durable, s.Commands, s.LagSince = 19, 18, 17, 5, at(2) }},
		{"failed", []replica.Event{down(1, replica.Event{Kind: replica.Failed, Cause: replica.CauseClosed, Err: why, Delay: 3 * time.Second})},
			func(s *Status) {
				s.Failures, s.LastFailure, s.LastFailureAt, s.NextAttempt = map[string]int64{replica.CauseClosed: 1}, "why", at(1), at(4)
			}},
		{"the next attempt begins", []replica.Event{down(1, replica.Event{Kind: replica.Failed, Cause: replica.CauseOther, Err: why, Delay: time.Second}), {Time: at(2), Kind: replica.StateEntered, State: replica.Connecting}},
			func(s *Status) {
				s.Failures, s.LastFailure, s.LastFailureAt = map[string]int64{replica.CauseOther: 1}, "why", at(1)
				s.State, s.Entered = replica.Connecting, at(2)
			}},
		{"repointed", []replica.Event{down(1, replica.Event{Kind: replica.Repointed, Endpoint: "10.0.0.2:1"})},
			func(s *Status) { s.Address = "10.0.0.2:1" }},
		{"paused", []replica.Event{down(1, replica.Event{Kind: replica.Paused})}, func(s *Status) { s.Paused = true }},
		{"unpaused", []replica.Event{down(1, replica.Event{Kind: replica.Paused}), down(2, replica.Event{Kind: replica.Unpaused})}, func(*Status) {}},
		{"no link that ended is paused", []replica.Event{streaming(1, replica.Event{Kind: replica.Paused}), down(2, replica.Event{Kind: replica.StateEntered})},
			func(s *Status) { s.Entered, s.DownSince = at(2), at(2) }},
		{"stalled, told twice", []replica.Event{down(1, replica.Event{Kind: replica.Stalled, Err: errors.New("first")}), down(2, replica.Event{Kind: replica.Stalled, Err: why})},
			func(s *Status) { s.Stalled, s.StalledSince = "why", at(1) }},
		{"healed", []replica.Event{down(1, replica.Event{Kind: replica.Stalled, Err: why}), down(2, replica.Event{Kind: replica.Healed})}, func(*Status) {}},
		{"the store is reset", []replica.Event{down(1, replica.Event{Kind: replica.Advanced, Received: 30, Offset: 20, Durable: 10}), down(2, replica.Event{Kind: replica.StoreReset, Offset: 15})},
			func(s *Status) { s.StoreResets, s.Received, s.Stored, s.Durable, s.LagSince = 1, 15, 15, 10, at(1) }},
		{"the store can't be reset", []replica.Event{down(1, replica.Event{Kind: replica.Advanced, Received: 30, Offset: 20, Durable: 10}), down(2, replica.Event{Kind: replica.StoreReset, Err: why})},
			func(s *Status) { s.StoreResets, s.Received, s.Stored, s.Durable, s.LagSince = 1, 30, 20, 10, at(1) }},
		{"a transfer", []replica.Event{taking(1, replica.Event{Kind: replica.TransferBegun, Total: 100}), taking(2, replica.Event{Kind: replica.TransferProgress, Bytes: 40, Total: 100}),
			taking(3, replica.Event{Kind: replica.TransferProgress, Bytes: 40, Total: 100})},
			func(s *Status) {
				s.State, s.Phase, s.Entered = replica.Sync, replica.Transfer, at(1)
				s.BytesIn, s.LastByte = 40, at(2)
				s.Transfer = Transfer{Began: at(1), Bytes: 40, Total: 100}
			}},
		{"a transfer that is here", []replica.Event{taking(1, replica.Event{Kind: replica.TransferBegun, Total: 100}), taking(2, replica.Event{Kind: replica.TransferReceived, Bytes: 100, Total: 100})},
			func(s *Status) {
				s.State, s.Phase, s.Entered = replica.Sync, replica.Transfer, at(1)
				s.BytesIn, s.LastByte = 100, at(2)
				s.Transfer = Transfer{Began: at(1), Bytes: 100, Total: 100, Storing: true}
			}},
		{"a rebase's transfer", []replica.Event{
			ofRebase(taking(1, replica.Event{Kind: replica.TransferBegun, Total: -1})), ofRebase(taking(2, replica.Event{Kind: replica.TransferProgress, Bytes: 40, Total: -1}))},
			func(s *Status) {
				s.BytesIn = 40
				s.Rebase.Transfer = Transfer{Began: at(1), Bytes: 40, Total: -1}
			}},
		{"a rebase's transfer that ended", []replica.Event{
			ofRebase(taking(1, replica.Event{Kind: replica.TransferBegun, Total: -1})), ofRebase(down(2, replica.Event{Kind: replica.Failed, Cause: replica.CauseClosed, Err: why}))},
			func(*Status) {}},
		{"what else a rebase's link does", []replica.Event{
			ofRebase(streaming(1, replica.Event{Kind: replica.Received, Bytes: 5})), ofRebase(streaming(1, replica.Event{Kind: replica.Advanced, Received: 9, Offset: 9, Durable: 9, Commands: 1})),
			ofRebase(streaming(1, replica.Event{Kind: replica.FullSyncBegun, Cause: replica.SyncInitial})), ofRebase(streaming(1, replica.Event{Kind: replica.Acknowledged, Offset: 4}))},
			func(s *Status) { s.BytesIn = 5 }},
	} {
		k := New(followed)
		want := k.Status()
		for _, e := range c.events {
			k.Observe(e)
		}
		c.moved(&want)
		if got := k.Status(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.name, got, want)
		}
	}
}

func TestEachEventOfTheArchiveMovesWhatItTellsOf(t *testing.T) {
	why := errors.New("why")
	filed := func(second int, e archive.Event) archive.Event {
		e.Time = at(second)
		return e
	}
	for _, c := range []struct {
		name   string
		events []archive.Event
		moved  func(s *Status) // a zero Status to what is wanted
	}{
		{"segments", []archive.Event{
			filed(1, archive.Event{Kind: archive.SegmentSealed}), filed(2, archive.Event{Kind: archive.SegmentSealed}), filed(3, archive.Event{Kind: archive.SegmentSealed}),
			filed(4, archive.Event{Kind: archive.SegmentVerified}), filed(5, archive.Event{Kind: archive.SegmentVerified}), filed(6, archive.Event{Kind: archive.SegmentVerified, Err: why})},
			func(s *Status) { s.SegmentsSealed, s.SegmentsVerified, s.SegmentsDamaged = 3, 2, 1 }},
		{"a base is verified", []archive.Event{filed(1, archive.Event{Kind: archive.BaseVerified})}, func(s *Status) { s.BasesVerified = 1 }},
		{"overfull", []archive.Event{filed(1, archive.Event{Kind: archive.Overfull})}, func(s *Status) { s.Overfull = true }},
		{"pruned", []archive.Event{filed(1, archive.Event{Kind: archive.Overfull}), filed(2, archive.Event{Kind: archive.GenerationPruned}), filed(3, archive.Event{Kind: archive.GenerationPruned, Err: why})},
			func(s *Status) { s.GenerationsPruned = 1 }},
		{"a rebase begins", []archive.Event{filed(1, archive.Event{Kind: archive.RebaseBegun, Text: "old"})},
			func(s *Status) { s.Rebase = Rebase{Running: true, Began: at(1), Why: "old"} }},
		{"a rebase is done", []archive.Event{filed(1, archive.Event{Kind: archive.RebaseBegun, Text: "old"}), filed(2, archive.Event{Kind: archive.RebaseDone, Took: time.Second})},
			func(s *Status) { s.Rebase = Rebase{Done: 1, LastTook: time.Second} }},
		{"a rebase fails", []archive.Event{filed(1, archive.Event{Kind: archive.RebaseBegun, Text: "old"}), filed(2, archive.Event{Kind: archive.RebaseFailed, Err: why})},
			func(s *Status) { s.Rebase = Rebase{Failed: 1, LastFailure: "why"} }},
	} {
		k := New(followed)
		want := k.Status()
		for _, e := range c.events {
			k.ObserveArchive(e)
		}
		c.moved(&want)
		if got := k.Status(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.name, got, want)
		}
	}
}

func TestALinkThatTakesThePlaceOfAnotherBeginsInNONE(t *testing.T) {
	k := New(followed)
	k.Observe(streaming(1, replica.Event{Kind: replica.PhaseEntered}))
	k.Begin(replica.Position{}, false, replica.Progress{})
	if s := k.Status(); s.State != replica.None || s.Up() || s.DownSince.IsZero() {
		t.Errorf("%+v", s)
	}
}

func TestTheBytesOfATransferCountOnceAlsoWhereItFails(t *testing.T) {
	k := New(followed)
	for _, e := range []replica.Event{
		taking(1, replica.Event{Kind: replica.TransferBegun, Total: 100}),
		taking(2, replica.Event{Kind: replica.TransferProgress, Bytes: 40, Total: 100}),
		taking(3, replica.Event{Kind: replica.TransferProgress, Bytes: 60, Total: 100}),
		down(4, replica.Event{Kind: replica.Failed, Err: replica.ErrClosed, Cause: replica.CauseClosed}),
		taking(5, replica.Event{Kind: replica.TransferBegun, Total: 100}),
		taking(6, replica.Event{Kind: replica.TransferProgress, Bytes: 90, Total: 100}),
		taking(7, replica.Event{Kind: replica.TransferReceived, Bytes: 100, Total: 100}),
	} {
		k.Observe(e)
	}
	if s := k.Status(); s.BytesIn != 60+100 {
		t.Errorf("%d bytes, want 160", s.BytesIn)
	}
}

func TestTheLagIsSinceTheOldestByteThatWaitsForItsFsync(t *testing.T) {
	k := New(followed)
	for i, c := range []struct {
		received, durable int64
		since             time.Time
	}{
		{10, 10, time.Time{}},
		{20, 10, at(1)},
		{30, 10, at(1)},
		{40, 20, at(3)}, // what waited since 1 is safe; what came after it waits, no longer than since 3
		{40, 30, at(3)},
		{40, 40, time.Time{}},
		{50, 40, at(6)},
	} {
		k.Observe(streaming(i, replica.Event{Kind: replica.Advanced, Received: c.received, Offset: c.received, Durable: c.durable}))
		if got := k.Status().LagSince; !got.Equal(c.since) {
			t.Errorf("event %d: the lag is since %v, want %v", i, got, c.since)
		}
	}
	k.Observe(taking(9, replica.Event{Kind: replica.FullSyncDone, Offset: 1000}))
	if got := k.Status().LagSince; !got.IsZero() {
		t.Errorf("after a full sync the lag is since %v", got)
	}
}

func TestAFailureIsToldWithoutThePlaceThatTheStatusHasAnyway(t *testing.T) {
	for want, err := range map[string]error{
		"timed out: raise it": &replica.LinkError{Master: "m", State: replica.Sync, Cause: replica.ErrDeadline, Remedy: "raise it"},
		"timed out":           &replica.LinkError{Master: "m", State: replica.Sync, Cause: replica.ErrDeadline},
		"plain":               errors.New("plain"),
	} {
		k := New(followed)
		k.Observe(down(1, replica.Event{Kind: replica.Failed, Err: err}))
		if got := k.Status().LastFailure; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestHostAndPortAreAsINFOGivesThem(t *testing.T) {
	for address, want := range map[string]string{"10.0.0.1:6379": "10.0.0.1 6379", "[::1]:7": "::1 7", "unix:///run/r.sock": "/run/r.sock 0", "": " 0"} {
		host, port := Status{Address: address}.HostPort()
		if got := fmt.Sprint(host, " ", port); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
}

func TestAStatusIsOneMomentWhileTheLoopWritesAndManyRead(t *testing.T) {
	k := New(followed)
	const events = 20_000
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			var last Status
			for {
				s := k.Status()
				if s.Received != 3*s.Durable || s.Stored != 2*s.Durable || s.LagBytes() != 2*s.Durable {
					t.Errorf("%d, %d and %d are of two moments", s.Received, s.Stored, s.Durable)
					return
				}
				if s.Durable < last.Durable || s.FullSyncs[replica.SyncInitial] < last.FullSyncs[replica.SyncInitial] || s.BytesIn < last.BytesIn {
					t.Errorf("%+v came after %+v", s, last)
					return
				}
				s.Failures["mine"]++ // the maps are copies
				select {
				case <-done:
					return
				default:
					last = s
				}
			}
		})
	}
	for i := range int64(events) {
		k.Observe(streaming(1, replica.Event{Kind: replica.Received, Bytes: 1}))
		k.Observe(streaming(1, replica.Event{Kind: replica.Advanced, Received: 3 * i, Offset: 2 * i, Durable: i}))
		k.Observe(streaming(1, replica.Event{Kind: replica.FullSyncBegun, Cause: replica.SyncInitial}))
		k.Observe(streaming(1, replica.Event{Kind: replica.Failed, Cause: replica.CauseOther}))
	}
	close(done)
	wg.Wait()
	if s := k.Status(); s.BytesIn != events || s.FullSyncs[replica.SyncInitial] != events || s.Failures["mine"] != 0 || s.Failures[replica.CauseOther] != events {
		t.Errorf("%+v", s)
	}
}

func BenchmarkObserve(b *testing.B) {
	for name, e := range map[string]replica.Event{
		"Received":         {Kind: replica.Received, Bytes: 100},
		"Advanced":         {Kind: replica.Advanced, Received: 1 << 40, Offset: 1 << 39, Durable: 1 << 38, Commands: 1},
		"Acknowledged":     {Kind: replica.Acknowledged, Offset: 1 << 40, Durable: 1 << 40},
		"TransferProgress": {Kind: replica.TransferProgress, Bytes: 100, Total: 1 << 40},
		"Failed":           {Kind: replica.Failed, Cause: replica.CauseClosed, Err: replica.ErrClosed},
	} {
		b.Run(name, func(b *testing.B) {
			k := New(followed)
			e := streaming(1, e)
			b.ReportAllocs()
			for b.Loop() {
				k.Observe(e)
			}
		})
	}
}

func BenchmarkStatus(b *testing.B) {
	k := New(followed)
	for _, c := range replica.Causes() {
		k.Observe(down(1, replica.Event{Kind: replica.Failed, Cause: c}))
	}
	b.ReportAllocs()
	for b.Loop() {
		_ = k.Status()
	}
}
