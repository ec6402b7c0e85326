package logs

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"replicad/replica"
	"replicad/replica/archive"
)

// lines reports events of links and archives and returns what was logged.
func lines(t *testing.T, level slog.Level, format string, screen *Screen, events ...any) string {
	t.Helper()
	var out bytes.Buffer
	log := NewLogger(&out, level, format == "json")
	r := New(log, screen)
	for _, e := range events {
		switch e := e.(type) {
		case replica.Event:
			e.Master = "main"
			r.Observe(e)
		case archive.Event:
			e.Master = "main"
			r.ObserveArchive(e)
		}
	}
	r.Close()
	return out.String()
}

func TestEachEventIsOneLineWithItsMasterAndState(t *testing.T) {
	e := replica.Event{Kind: replica.Resumed, State: replica.Sync, Phase: replica.Psync, ReplID: "new", Text: "old", Offset: 42}
	got := lines(t, LevelNotice, "text", nil, e)
	for _, want := range []string{"level=notice", `msg="partial resync"`, "master=main", "state=SYNC/PSYNC", "replid=new", "offset=42", "former_replid=old"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
	if n := strings.Count(got, "\n"); n != 1 {
		t.Errorf("%d lines, want 1", n)
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(lines(t, LevelNotice, "json", nil, e)), &fields); err != nil || fields["offset"] != 42.0 {
		t.Errorf("as JSON: %v, %v", fields, err)
	}
}

func TestEveryKindThatIsLoggedHasAText(t *testing.T) {
	silent := map[replica.EventKind]bool{replica.Sent: true, replica.Received: true, replica.Advanced: true, replica.TransferProgress: true}
	for k := replica.StateEntered; k <= replica.Stopped; k++ {
		got := lines(t, LevelDebug, "text", nil, replica.Event{Kind: k, Err: syscall.EIO})
		if (got == "") != silent[k] || strings.Contains(got, `msg=""`) {
			t.Errorf("kind %d logs %q", k, got)
		}
	}
	for k := archive.SegmentSealed; k <= archive.Overfull; k++ {
		if got := lines(t, LevelDebug, "text", nil, archive.Event{Kind: k, Err: syscall.EIO}); got == "" || strings.Contains(got, `msg=""`) {
			t.Errorf("kind %d of the archive logs %q", k, got)
		}
	}
}

func TestTextAndJSONHaveTheSameKeysAndDurationsWithTheirUnit(t *testing.T) {
	var events []any
	for k := replica.StateEntered; k <= replica.Stopped; k++ {
		events = append(events, replica.Event{
			Kind: k, Err: syscall.EIO, Took: 1500 * time.Millisecond, Delay: 250 * time.Millisecond, State: replica.Sync, Text: "text", Cause: "cause",
			Bytes: 1, Total: 2, Offset: 3, ReplID: "id", Endpoint: "h:1",
		})
	}
	for k := archive.SegmentSealed; k <= archive.Overfull; k++ {
		events = append(events, archive.Event{
			Kind: k, Err: syscall.EIO, Took: 1500 * time.Millisecond, Delay: 250 * time.Millisecond, Text: "text",
			Bytes: 1, Total: 2, Offset: 3, Generation: 4, Segment: 5,
		})
	}
	for k, e := range events {
		text, asJSON := lines(t, LevelDebug, "text", nil, e), lines(t, LevelDebug, "json", nil, e)
		if text == "" && asJSON == "" {
			continue
		}
		var fields map[string]any
		if err := json.Unmarshal([]byte(asJSON), &fields); err != nil {
			t.Fatalf("%q: %v", asJSON, err)
		}
		if strings.Count(text, "\n") != 1 || strings.Count(text, "=") != len(fields) {
			t.Errorf("event %d: the keys of %v are not those of %q", k, fields, text)
		}
		for key := range fields {
			if !strings.Contains(" "+text, " "+key+"=") {
				t.Errorf("event %d: %q has no %s", k, text, key)
			}
		}
		for key, want := range map[string]any{"took": "1.5s", "next_attempt_in": "250ms"} {
			// Some are told in whole seconds.
			if got, ok := fields[key]; ok && got != want && got != "2s" {
				t.Errorf("event %d: %s is %v, want %v", k, key, got, want)
			}
		}
	}
}

func TestTheLevelKeepsLinesBack(t *testing.T) {
	entered := replica.Event{Kind: replica.StateEntered, State: replica.Connecting}
	failed := replica.Event{Kind: replica.Failed, Err: errors.New("cut")}
	for level, want := range map[slog.Level]int{LevelDebug: 2, LevelVerbose: 2, LevelNotice: 1, LevelWarning: 1, LevelWarning + 1: 0} {
		if got := strings.Count(lines(t, level, "text", nil, entered, failed), "\n"); got != want {
			t.Errorf("level %v: %d lines, want %d", level, got, want)
		}
	}
}

func TestDamageIsAWarningAtEveryLevel(t *testing.T) {
	for _, e := range []any{
		replica.Event{Kind: replica.StoreReset, Err: syscall.EIO},
		archive.Event{Kind: archive.SegmentVerified, Err: syscall.EIO},
		archive.Event{Kind: archive.GenerationPruned, Err: syscall.EIO},
	} {
		if got := lines(t, LevelWarning, "text", nil, e); !strings.Contains(got, "level=warning") || !strings.Contains(got, "error=") {
			t.Errorf("%+v logs %q", e, got)
		}
	}
}

func TestWithoutATerminalProgressComesAsLinesFarApart(t *testing.T) {
	var out bytes.Buffer
	log := NewLogger(&out, LevelNotice, false)
	r := New(log, nil)
	r.Close() // the goroutine's part is called here
	e := replica.Event{Kind: replica.TransferProgress, Master: "main", Bytes: 1, Total: 4, Took: time.Second}
	say := func() bool { return !r.progress(e) }
	count := func(n int) (said int) {
		for range n {
			if say() {
				said++
			}
		}
		return said
	}
	if n := count(5); n != 0 {
		t.Errorf("%d lines before their time", n)
	}
	r.lines["main"] = time.Now().Add(-lineEvery)
	if n := count(5); n != 1 {
		t.Errorf("%d lines after their time, want 1", n)
	}
	if s := strings.Join(texts(OfLink(e).Args), " "); !strings.Contains(s, "percent 25") {
		t.Errorf("the line says %v", s)
	}
}

func texts(args []any) []string {
	var s []string
	for _, a := range args {
		s = append(s, slog.AnyValue(a).String())
	}
	return s
}

// stuck is a reader that reads nothing until it is freed.
type stuck struct {
	free chan struct{}
	mu   sync.Mutex
	got  bytes.Buffer
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.free
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.Write(p)
}

func TestAReaderThatStandsStillStopsNobodyAndIsToldWhatItMissed(t *testing.T) {
	w := &stuck{free: make(chan struct{})}
	log := NewLogger(w, LevelDebug, false)
	r := New(log, nil)
	done := make(chan struct{})
	go func() {
		for range 3 * queued {
			r.Observe(replica.Event{Kind: replica.Paused})
		}
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("Observe waits for the reader")
	}
	close(w.free)
	r.Close()
	if !strings.Contains(w.got.String(), "log lines were dropped") {
		t.Error("nobody is told that lines were dropped")
	}
}

func TestUnknownNamesAreRefused(t *testing.T) {
	if _, err := ParseLevel("loud"); err == nil {
		t.Error("loglevel loud is taken")
	}
	for _, s := range []string{"debug", "verbose", "notice", "warning"} {
		if l, err := ParseLevel(s); err != nil || LevelName(l) != s {
			t.Errorf("%s: %v, %v", s, l, err)
		}
	}
}

func TestALineSaysNothingThatIsNotSo(t *testing.T) {
	if got := lines(t, LevelNotice, "text", nil, replica.Event{Kind: replica.TransferBegun, Total: -1}); strings.Contains(got, "bytes=") || !strings.Contains(got, "diskless") {
		t.Errorf("a transfer without a size: %s", got)
	}
	if got := lines(t, LevelNotice, "text", nil, replica.Event{Kind: replica.FullSyncBegun, Rebase: true, Cause: replica.SyncInitial}); strings.Contains(got, "cause=") {
		t.Errorf("a rebase is no first sync: %s", got)
	}
	if got := lines(t, LevelNotice, "text", nil, replica.Event{Kind: replica.Stopped, Rebase: true}); got != "" {
		t.Errorf("a rebase's end stops nothing: %s", got)
	}
}
