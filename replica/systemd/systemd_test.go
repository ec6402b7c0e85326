package systemd_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"replicad/replica"
	"replicad/replica/daemon/status"
	"replicad/replica/systemd"
)

const patience = time.Minute

// manager plays systemd's end of the socket.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

// listen sets NOTIFY_SOCKET, and WATCHDOG_USEC where watchdog is not "".
func listen(t *testing.T, watchdog string) *manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", watchdog)
	t.Setenv("WATCHDOG_PID", "")
	return &manager{t, conn}
}

// next is the next message; "" when none came in time.
func (m *manager) next(within time.Duration) string {
	m.t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		m.t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := m.conn.Read(b)
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		return ""
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return string(b[:n])
}

// until reads up to the message that holds a text, and returns it.
func (m *manager) until(text string) string {
	m.t.Helper()
	var seen []string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		got := m.next(time.Until(deadline))
		if strings.Contains(got, text) {
			return got
		}
		seen = append(seen, got)
	}
	m.t.Fatalf("no message with %q; seen: %q", text, seen)
	return ""
}

// loop is a thread that runs what is posted, unless it hangs.
type loop struct{ posts chan func() }

func newLoop(t *testing.T) *loop {
	l := &loop{make(chan func(), 16)}
	go func() {
		for fn := range l.posts {
			fn()
		}
	}()
	t.Cleanup(func() { close(l.posts) })
	return l
}

func (l *loop) post(fn func()) bool { l.posts <- fn; return true }

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func streaming() []status.Status {
	return []status.Status{{Name: "main", Address: "10.0.0.1:6379", State: replica.Sync, Phase: replica.Stream, Received: 7, Durable: 5}}
}

func TestReadyComesWhenTheLoopAnswersAndStoppingOnce(t *testing.T) {
	m := listen(t, "")
	hold := make(chan struct{})
	l := newLoop(t)
	l.post(func() { <-hold })
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	n := systemd.Start(ctx, systemd.Service{Post: l.post, Status: streaming, Log: quiet()})
	if got := m.next(50 * time.Millisecond); got != "" {
		t.Errorf("%q before the loop ran", got)
	}
	close(hold)
	want := "READY=1\nSTATUS=main: follows 10.0.0.1:6379, offset 7, fsynced up to 5"
	if got := m.next(patience); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	stop()
	if got := m.next(patience); !strings.HasPrefix(got, "STOPPING=1\nSTATUS=") {
		t.Errorf("%q after the signal", got)
	}
	n.Stop()
	n.Stop()
	if got := m.next(10 * time.Millisecond); got != "" {
		t.Errorf("%q after the end", got)
	}
}

func TestADaemonThatEndsByItselfSaysStopping(t *testing.T) {
	m := listen(t, "")
	n := systemd.Start(t.Context(), systemd.Service{Post: newLoop(t).post, Status: streaming, Log: quiet()})
	m.until("READY=1")
	n.Stop()
	m.until("STOPPING=1")
}

func TestAnUnchangedStatusIsSentOnce(t *testing.T) {
	m := listen(t, "")
	n := systemd.Start(t.Context(), systemd.Service{Post: newLoop(t).post, Status: streaming, Log: quiet()})
	defer n.Stop()
	m.until("READY=1")
	if got := m.next(1500 * time.Millisecond); got != "" {
		t.Errorf("%q, though nothing changed", got)
	}
}

func TestAHungLoopIsNotReportedAlive(t *testing.T) {
	m := listen(t, "20000")
	l := newLoop(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	n := systemd.Start(ctx, systemd.Service{Post: l.post, Status: streaming, Log: quiet()})
	defer n.Stop()
	m.until("READY=1")
	for range 3 {
		m.until("WATCHDOG=1")
	}
	hold := make(chan struct{})
	hung := make(chan struct{})
	l.post(func() { close(hung); <-hold })
	<-hung
	// What was answered before it hung may be on its way, once.
	alive := 0
	for m.next(200*time.Millisecond) == "WATCHDOG=1" {
		if alive++; alive > 1 {
			t.Fatal("the watchdog is fed, and the loop hangs")
		}
	}
	close(hold)
	m.until("WATCHDOG=1")
	// While it stops the loop may be gone: TimeoutStopSec is the bound then.
	l.post(func() { select {} })
	stop()
	m.until("STOPPING=1")
	for range 3 {
		m.until("WATCHDOG=1")
	}
}

func TestAReloadIsToldFromItsBeginningToItsEnd(t *testing.T) {
	m := listen(t, "")
	n := systemd.Start(t.Context(), systemd.Service{Post: newLoop(t).post, Status: streaming, Log: quiet()})
	defer n.Stop()
	m.until("READY=1")
	n.Reload(func() {
		if got := m.until("RELOADING=1"); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
			t.Errorf("%q", got)
		}
		if got := m.next(10 * time.Millisecond); got != "" {
			t.Errorf("%q while it reloads", got)
		}
	})
	m.until("READY=1")
}

func TestWithoutAManagerNothingIsDone(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	n := systemd.Start(t.Context(), systemd.Service{
		Post:   func(func()) bool { t.Error("posted"); return false },
		Status: func() []status.Status { t.Error("asked"); return nil },
	})
	done := false
	if n.Reload(func() { done = true }); !done {
		t.Error("the reload was not done")
	}
	n.Stop()
}

func TestAManagerThatIsAwayIsLoggedOnce(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	t.Setenv("WATCHDOG_USEC", "2000")
	t.Setenv("WATCHDOG_PID", "")
	r, w := io.Pipe()
	l := newLoop(t)
	asked := make(chan struct{})
	post := func(fn func()) bool {
		l.post(fn)
		select {
		case asked <- struct{}{}:
		case <-t.Context().Done():
		}
		return true
	}
	go func() {
		defer w.Close()
		n := systemd.Start(t.Context(), systemd.Service{Post: post, Status: streaming, Log: slog.New(slog.NewTextHandler(w, nil))})
		for range 5 { // READY=1, and then each time the watchdog
			<-asked
		}
		go func() {
			for range asked {
			}
		}()
		n.Stop()
		close(asked)
	}()
	log, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(log), "\n") != 1 || !strings.Contains(string(log), "can't be told") {
		t.Errorf("%s", log)
	}
}

func TestTheStatusLineSaysHowTheLinksStand(t *testing.T) {
	at := time.Date(2026, 11, 24, 16, 40, 2, 0, time.Local)
	up := streaming()[0]
	for want, all := range map[string][]status.Status{
		"main: follows 10.0.0.1:6379, offset 7, fsynced up to 5": {up},
		"m: connecting to h:1":   {{Name: "m", Address: "h:1", State: replica.Connecting}},
		"m: SYNC/PSYNC with h:1": {{Name: "m", Address: "h:1", State: replica.Sync, Phase: replica.Psync, LastFailure: "x"}},
		"m: no stream from h:1 since 2026-11-24 16:40:02: connection refused": {{Name: "m", Address: "h:1", DownSince: at, LastFailure: "connection refused"}},
		"m: follows nobody (REPLICAOF NO ONE)":                                {{Name: "m", NoOne: true}},
		"m: no Sentinel has named the master yet":                             {{Name: "m"}},
		"m: full sync from h:1, 25 %": {{Name: "m", Address: "h:1", State: replica.Sync, Phase: replica.Transfer,
			Transfer: status.Transfer{Began: at, Bytes: 1, Total: 4}}},
		"m: full sync from h:1, 9 bytes": {{Name: "m", Address: "h:1", State: replica.Sync, Phase: replica.Transfer,
			Transfer: status.Transfer{Began: at, Bytes: 9, Total: -1}}},
		"m: can't write since 2026-11-24 16:40:02: no space left on device": {{Name: "m", Address: "h:1", Phase: replica.Stream,
			Stalled: "no space left on device", StalledSince: at}},
		"1 of 2 links stream; main: follows 10.0.0.1:6379, offset 7, fsynced up to 5; m: connecting to h:1": {up, {Name: "m", Address: "h:1"}},
		"m: no stream from h:1 since 2026-11-24 16:40:02: -ERR two lines":                                   {{Name: "m", Address: "h:1", DownSince: at, LastFailure: "-ERR two\nlines"}},
	} {
		if got := systemd.Line(all); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	many := make([]status.Status, 100)
	for i := range many {
		many[i] = up
		many[i].Name = "häuser"
	}
	if got := systemd.Line(many); len(got) > 1000 || !strings.HasPrefix(got, "100 of 100 links stream; ") || !strings.HasSuffix(got, "...") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}
