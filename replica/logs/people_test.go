package logs

import (
	"bytes"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"replicad/replica"
)

// shown reports events of the master main as a terminal shows them.
func shown(width int, events ...replica.Event) string {
	var out bytes.Buffer
	screen := NewScreen(&out, func() int { return width })
	r := New(NewPeople(screen, LevelNotice), screen)
	for _, e := range events {
		e.Master, e.Time = "main", time.Now()
		r.Observe(e)
	}
	r.Close()
	return out.String()
}

func TestPeopleReadTheTimeTheMasterAndWhatHappened(t *testing.T) {
	got := shown(80, replica.Event{Kind: replica.FullSyncDone, ReplID: "id", Offset: 42, Bytes: 3 << 20, Took: 1512 * time.Millisecond})
	if !regexp.MustCompile(`^\d\d:\d\d:\d\d  main: full sync done \(offset 42, 3\.0 MiB, took 1\.5s\)\n$`).MatchString(got) {
		t.Errorf("%q", got)
	}
}

func TestAFailureThatRepeatsIsSaidOnceAndThenCounted(t *testing.T) {
	failed := replica.Event{Kind: replica.Failed, Err: errors.New("main (h:1) in state CONNECTING: refused"), Delay: time.Second}
	got := shown(80, failed, failed, failed, failed, replica.Event{Kind: replica.Resumed}, failed)
	if n := strings.Count(got, "main: warning: in state CONNECTING: refused (next attempt in 1s)\n"); n != 2 {
		t.Errorf("the failure is said %d times in full, want once before the link and once behind it:\n%s", n, got)
	}
	for _, want := range []string{"main: the same again, for the 2nd time (next attempt in 1s)\n", "for the 4th time"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s\nlacks %q", got, want)
		}
	}
	if strings.Contains(got, "3rd") {
		t.Errorf("each time is said:\n%s", got)
	}
}

func TestAFailureThatRepeatsIsSaidOnceAMinute(t *testing.T) {
	var out bytes.Buffer
	log := NewPeople(&out, LevelNotice)
	begin := time.Now()
	for i := range 60 { // ten minutes
		r := slog.NewRecord(begin.Add(time.Duration(i)*10*time.Second), LevelWarning, "refused", 0)
		if err := log.Handler().Handle(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(out.String(), "\n"); n < 10 || n > 15 {
		t.Errorf("60 failures in ten minutes make %d lines:\n%s", n, out.String())
	}
}

func TestTheLineOfAFullSyncSaysBytesAndRateAndIsTakenAwayForTheLog(t *testing.T) {
	begun := replica.Event{Kind: replica.FullSyncBegun}
	received := replica.Event{Kind: replica.TransferReceived, Bytes: 100 << 20, Took: 2 * time.Second}
	for want, total := range map[string]int64{
		"main: full sync: 50.0 MiB of 100.0 MiB, 50%, 50.0 MiB/s, 1 s left":                    100 << 20,
		"main: full sync: 50.0 MiB, 50.0 MiB/s; the master is diskless, and tells no size yet": -1,
	} {
		got := shown(120, begun, replica.Event{Kind: replica.TransferProgress, Bytes: 50 << 20, Total: total, Took: time.Second}, received)
		at, wait := strings.Index(got, want), strings.Index(got, "main: full sync: waiting for the master's snapshot")
		if at < 0 || wait < 0 || wait > at {
			t.Errorf("%q\nlacks %q", got, want)
			continue
		}
		if rest := got[at+len(want):]; !strings.HasPrefix(rest, "\r\x1b[K") || !strings.HasSuffix(rest, "\n") || strings.Contains(rest, "full sync: ") {
			t.Errorf("behind the line comes %q", rest)
		}
	}
	if got := shown(20, begun); !strings.Contains(got, "\nmain: full sync: wa\r\x1b[K") {
		t.Errorf("a narrow terminal: %q", got)
	}
}

func TestFullSyncsOfSeveralMastersShareTheLine(t *testing.T) {
	var out bytes.Buffer
	screen := NewScreen(&out, func() int { return 120 })
	r := New(NewPeople(screen, LevelNotice), screen)
	for _, name := range []string{"b", "a"} {
		r.Observe(replica.Event{Kind: replica.FullSyncBegun, Master: name})
	}
	r.Observe(replica.Event{Kind: replica.TransferProgress, Master: "b", Bytes: 50, Total: 100, Took: time.Second})
	r.Observe(replica.Event{Kind: replica.Failed, Master: "a", Err: errors.New("refused")})
	r.Close()
	rest := out.String()
	for _, want := range []string{
		"b: full sync: waiting for the master's snapshot", "2 full syncs: a waiting, b waiting", "2 full syncs: a waiting, b 50%",
		"b: full sync: 50 B of 100 B, 50%", "a: warning: refused",
	} {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Fatalf("%q\nlacks %q there", out.String(), want)
		}
		rest = after
	}
}

func TestWarningsThatDifferAreNotCounted(t *testing.T) {
	var out bytes.Buffer
	log := NewPeople(&out, LevelNotice).With("master", "main")
	log.Warn("order obeyed", "order", "REPLICAOF a 1")
	log.Warn("order obeyed", "order", "REPLICAOF b 1")
	if n := strings.Count(out.String(), "main: warning: order obeyed (order REPLICAOF"); n != 2 {
		t.Error(out.String())
	}
}
