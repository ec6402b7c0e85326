package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/minimaster"
)

func startMaster(t *testing.T) *minimaster.Master {
	t.Helper()
	m, err := minimaster.Start(minimaster.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func parse(t *testing.T, s string) replica.Master {
	t.Helper()
	m, err := replica.ParseMaster(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// follow runs a daemon; the function it returns ends it.
func follow(t *testing.T, cfg Config) (stop func()) {
	t.Helper()
	d, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func do(t *testing.T, m *minimaster.Master, args ...string) {
	t.Helper()
	if _, err := m.Do(args...); err != nil {
		t.Fatal(err)
	}
}

func awaitAck(t *testing.T, m *minimaster.Master) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); m.Wait(1, 100*time.Millisecond) < 1; {
		if time.Now().After(deadline) {
			t.Fatal("WAIT 1 never counts the archive")
		}
	}
}

// awaitStream waits until the daemon has taken the full sync and follows the
// stream: until then WAIT may be content with the acknowledgement of the base.
func awaitStream(t *testing.T, m *minimaster.Master) {
	t.Helper()
	awaitAck(t, m)
	do(t, m, "SET", "streaming", "yes")
	awaitAck(t, m)
}

func TestSeveralMastersAreFollowedOnOneLoopEachIntoItsOwnArchive(t *testing.T) {
	t.Parallel()
	a, b := startMaster(t), startMaster(t)
	dir := t.TempDir()
	stop := follow(t, Config{Dir: dir, Masters: []replica.Master{parse(t, "a="+a.Addr()), parse(t, "b="+b.Addr()), parse(t, "dead=127.0.0.1:1")}})
	awaitStream(t, a)
	awaitStream(t, b)
	do(t, a, "SET", "of", "a")
	do(t, b, "SET", "of", "b")
	written := map[string]int64{"a": a.Offset(), "b": b.Offset()} // before WAIT's own GETACK, which nobody waits for
	awaitAck(t, a)
	awaitAck(t, b)
	stop()
	masters, err := archive.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range masters {
		want := map[string]int{"a": 1, "b": 1, "dead": 0}[m.Name]
		if len(m.Generations) != want {
			t.Errorf("%s has %d generations, want %d", m.Name, len(m.Generations), want)
		}
	}
	for name, offset := range written {
		p, err := os.ReadFile(filepath.Join(dir, name, "generation-000001", "appendonlydir", "appendonly.aof.1.incr.aof"))
		if err != nil || int64(len(p)) < offset {
			t.Errorf("%s: %d bytes on disk, offset %d, %v", name, len(p), offset, err)
		}
	}
}

func TestARestartedDaemonResumesByPartialResync(t *testing.T) {
	t.Parallel()
	m := startMaster(t)
	dir := t.TempDir()
	cfg := Config{Dir: dir, Masters: []replica.Master{parse(t, "m="+m.Addr())}}
	for i := range 5 {
		stop := follow(t, cfg)
		awaitStream(t, m)
		do(t, m, "SET", "round", strings.Repeat("x", i+1))
		awaitAck(t, m)
		stop()
		do(t, m, "SET", "missed", strings.Repeat("y", i+1))
	}
	if s := m.Stats(); s.SyncFull != 1 || s.SyncPartialOK != 4 {
		t.Errorf("%+v, want 1 full and 4 partial syncs", s)
	}
}

func TestUnderAppendFsyncAlwaysWAITWaitsForTheFsync(t *testing.T) {
	t.Parallel()
	m := startMaster(t)
	dir := t.TempDir()
	stop := follow(t, Config{Dir: dir, Masters: []replica.Master{parse(t, "m="+m.Addr())}, Archive: archive.Options{AppendFsync: archive.Always}})
	defer stop()
	awaitStream(t, m)
	for range 10 {
		do(t, m, "SET", "k", "v")
		written := m.Offset() // before WAIT's own GETACK, which nobody waits for
		awaitAck(t, m)
		d, _, err := archive.Describe(filepath.Join(dir, "m"))
		if err != nil || len(d.Generations) != 1 || d.Generations[0].FsyncedOffset < written {
			t.Fatalf("WAIT counted offset %d, and what is fsynced is %+v, %v", written, d.Generations, err)
		}
	}
}

func TestWhatNoWaitingMendsIsAnErrorAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	one := parse(t, "m=127.0.0.1:1")
	d, err := Open(Config{Dir: dir, Masters: []replica.Master{one}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	for name, c := range map[string]struct {
		cfg  Config
		want error
		says string
	}{
		"locked":  {Config{Dir: dir, Masters: []replica.Master{one}}, archive.ErrLocked, "locked by another replicad"},
		"no dir":  {Config{Dir: file, Masters: []replica.Master{one}}, nil, "not a directory"},
		"doubled": {Config{Dir: t.TempDir(), Masters: []replica.Master{one, one}}, nil, "NAME=ADDR"},
	} {
		_, err := Open(c.cfg)
		if !errors.Is(err, ErrSetup) || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAChangedPasswordIsUsedAtTheNextConnect(t *testing.T) {
	t.Parallel()
	m, err := minimaster.Start(minimaster.Config{RequirePass: "right"})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	target := parse(t, "m="+m.Addr())
	target.Password = "wrong"
	d, rec, stop := running(t, Config{Dir: t.TempDir(), Masters: []replica.Master{target}})
	rec.await(t, replica.Failed, 1)
	h := d.Handles()[0]
	if err := h.SetCredentials("", "right"); err != nil {
		t.Fatal(err)
	}
	awaitStream(t, m)
	// The link of a rebase has it too, and an order does not bring the old one
	// back.
	d.RebaseNow("test")
	rec.awaitArchive(t, archive.RebaseDone, 1)
	if err := h.NoOne(); err != nil {
		t.Fatal(err)
	}
	if err := h.ReplicaOf(hostPort(m)); err != nil {
		t.Fatal(err)
	}
	awaitStream(t, m)
	stop()
	if err := h.SetCredentials("", "late"); !errors.Is(err, ErrStopped) {
		t.Errorf("%v", err)
	}
}
