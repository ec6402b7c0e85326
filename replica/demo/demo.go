// Package demo shows replicad's main job on the embedded master: take a full
// sync, follow the stream, survive cuts, begin a new generation beside the
// running link, and prove that what is on disk is what the master sent.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/daemon"
	"replicad/replica/minimaster"
)

// Options say where the demo writes.
type Options struct {
	Out io.Writer
	Dir string // an empty folder for the archive; "" for a temporary one that is removed
}

const (
	patience  = 10 * time.Second // for each thing that must happen
	bigValue  = 1 << 20          // bytes
	cutAfter  = 300_000          // bytes sent before the master cuts a link
	databases = 3
	kinds     = 6                 // of keys that are written
	indent    = "               " // of what is no state
	backlog   = 8 << 20           // bytes; more than the demo's stream, so that the master knows all of it
)

// Run is the demo. It takes a few seconds; an error says which promise was not
// kept.
func Run(ctx context.Context, opt Options) error {
	s := &show{out: opt.Out, dir: opt.Dir, start: time.Now(), snapshots: map[int64][]byte{}}
	if entries, err := os.ReadDir(s.dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty: the demo begins a new archive", s.dir)
	}
	if s.dir == "" {
		tmp, err := os.MkdirTemp("", "replicad-demo-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(tmp)
		s.dir = tmp
	}
	var err error
	s.master, err = minimaster.Start(minimaster.Config{
		BacklogSize: backlog, Diskless: true,
		OnSnapshot: func(offset int64, rdb []byte) { s.snapshots[offset] = rdb },
	})
	if err != nil {
		return err
	}
	defer s.master.Close()
	if err := s.follow(ctx); err != nil {
		return err
	}
	return s.prove(ctx)
}

// show is a running demo. Its observer prints from the loop's thread, the script
// from its own goroutine.
type show struct {
	master    *minimaster.Master
	dir       string
	start     time.Time
	snapshots map[int64][]byte // the RDB files that the master sent, by the offset that each stands for

	mu      sync.Mutex
	out     io.Writer
	resumed []int64       // the offsets of the resumes
	rebased bool          // a new generation has taken over
	state   replica.Event // the last event that entered a state or phase
	acked   int64         // the offset that the archive acknowledged last
}

// Observe implements replica.Observer. The demo's output is short: it does not
// wait for a reader longer than a moment.
func (s *show) Observe(e replica.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Rebase && e.Kind != replica.FullSyncBegun && e.Kind != replica.FullSyncDone {
		return // the short link goes the same way as the first one
	}
	switch e.Kind {
	case replica.StateEntered, replica.PhaseEntered:
		name := e.State.String()
		if e.Phase != replica.NoPhase {
			name = "  " + e.Phase.String()
		}
		s.line(e.Time, "%-14s %s", name, e.Endpoint)
		s.state = e
	case replica.ConnectCalled:
		s.line(e.Time, indent+"connect() = %s", errnoName(e.Err))
	case replica.SocketError:
		s.line(e.Time, indent+"SO_ERROR = %s", errnoName(e.Err))
	case replica.FullSyncBegun:
		s.line(e.Time, indent+"+FULLRESYNC %s... %d", e.ReplID[:8], e.Offset)
	case replica.FullSyncDone:
		s.line(e.Time, indent+"%d bytes of RDB are on disk, fsynced", e.Bytes)
	case replica.Resumed:
		s.resumed = append(s.resumed, e.Offset)
		s.line(e.Time, indent+"+CONTINUE at offset %d", e.Offset+1)
	case replica.Failed:
		s.line(e.Time, indent+"%v", errors.Unwrap(e.Err))
	}
}

// ObserveArchive implements archive.Observer.
func (s *show) ObserveArchive(e archive.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Kind == archive.RebaseDone {
		s.rebased = true
		s.line(e.Time, indent+"generation %d has taken over at offset %d", e.Generation, e.Offset)
	}
}

func errnoName(err error) string {
	if err == nil {
		return "0"
	}
	return err.Error()
}

func (s *show) line(at time.Time, format string, args ...any) {
	fmt.Fprintf(s.out, "   %7.3fs  %s\n", at.Sub(s.start).Seconds(), strings.TrimRight(fmt.Sprintf(format, args...), " "))
}

func (s *show) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, "\n"+format+"\n", args...)
}

// await waits until ok, which is called with mu held, says so.
func (s *show) await(ctx context.Context, what string, ok func() bool) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		s.mu.Lock()
		done := ok()
		s.mu.Unlock()
		if err := ctx.Err(); done || err != nil {
			return err
		}
	}
	return fmt.Errorf("not within %v: %s", patience, what)
}

// follow runs a daemon while the script runs.
func (s *show) follow(ctx context.Context) error {
	for db := range databases {
		if err := s.write(db, 0, 100); err != nil {
			return err
		}
	}
	addr, err := replica.ParseMaster("demo=" + s.master.Addr())
	if err != nil {
		return err
	}
	d, err := daemon.Open(daemon.Config{Dir: s.dir, Masters: []replica.Master{addr}, Observer: s})
	if err != nil {
		return err
	}
	s.say("1. An embedded master on %s holds %d keys. replicad connects and takes a full sync:", s.master.Addr(), databases*100*kinds)
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- d.Run(running) }()
	err = s.script(ctx, d)
	if err == nil {
		s.say("6. SIGTERM: everything received is stored and fsynced.")
	}
	stop()
	return errors.Join(err, <-ended)
}

// script is what happens while the daemon runs.
func (s *show) script(ctx context.Context, d *daemon.Daemon) error {
	streaming := func() bool { return s.state.Phase == replica.Stream }
	if err := s.await(ctx, "the full sync", streaming); err != nil {
		return err
	}
	s.say("2. Writes follow, and WAIT asks whether the archive has them:")
	if err := s.writeAndWait(ctx, 1000); err != nil {
		return err
	}
	s.say("3. The link is cut. replicad resumes at the offset that its file's length gives:")
	d.Cut()
	if err := s.await(ctx, "a resume", func() bool { return len(s.resumed) > 0 && streaming() }); err != nil {
		return err
	}
	if err := s.writeAndWait(ctx, 2000); err != nil {
		return err
	}
	s.say("4. The master cuts each link after %d bytes, in the middle of a value of %d bytes:", cutAfter, bigValue)
	if err := s.cutInside(ctx); err != nil {
		return err
	}
	if n := s.master.Stats().SyncFull; n != 1 {
		return fmt.Errorf("%d full syncs, want 1: the cuts were not survived", n)
	}
	s.say("5. A rebase: a short link takes a new base beside the running one, and the log goes on behind it:")
	d.RebaseNow("the demo shows it")
	if err := s.await(ctx, "a new generation", func() bool { return s.rebased }); err != nil {
		return err
	}
	return s.writeAndWait(ctx, 3000)
}

// cutInside has the master cut each link a while after its connect, and sends a
// value that takes several links.
func (s *show) cutInside(ctx context.Context) error {
	start := s.acked
	s.master.SetFaults(minimaster.Faults{CutAfter: cutAfter})
	s.master.CutReplicas() // faults count from the connect
	if _, err := s.master.Do("SET", "big", strings.Repeat("0123456789abcdef", bigValue/16)); err != nil {
		return err
	}
	err := s.await(ctx, "a cut inside the value", func() bool {
		return s.resumed[len(s.resumed)-1] > start+cutAfter/2
	})
	if err != nil {
		return err
	}
	s.master.SetFaults(minimaster.Faults{})
	return s.wait(ctx)
}

// wait asks WAIT until the archive has all.
func (s *show) wait(ctx context.Context) error {
	s.acked = s.master.Offset()
	for deadline := time.Now().Add(patience); s.master.Wait(1, 200*time.Millisecond) < 1; s.acked = s.master.Offset() {
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("not within %v: WAIT 1 counts the archive", patience)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line(time.Now(), "               WAIT 1 = 1 at offset %d", s.acked)
	return nil
}

// write makes n keys of each kind.
func (s *show) write(db, from, n int) error {
	commands := [][]string{{"SELECT", fmt.Sprint(db)}}
	for i := from; i < from+n; i++ {
		n := fmt.Sprint(i)
		commands = append(commands,
			[]string{"SET", "string:" + n, fmt.Sprintf("db %d, value %d", db, i)},
			[]string{"RPUSH", "list:" + n, "a", "b", n},
			[]string{"SADD", "set:" + n, "x", "y", n},
			[]string{"HSET", "hash:" + n, "field", n, "other", "value"},
			[]string{"ZADD", "zset:" + n, "1.5", "one", "2", n},
			[]string{"SET", "expiring:" + n, "soon", "EX", "3600"})
	}
	return s.do(commands)
}

func (s *show) do(commands [][]string) error {
	for _, c := range commands {
		if _, err := s.master.Do(c...); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(c, " "), err)
		}
	}
	return nil
}

// writeAndWait adds keys and changes some in a transaction, and waits for the
// ACK.
func (s *show) writeAndWait(ctx context.Context, from int) error {
	if err := s.write(0, from, 200); err != nil {
		return err
	}
	err := s.do([][]string{
		{"SELECT", "1"}, {"MULTI"}, {"INCRBY", "counter", "7"}, {"LPUSH", "list:1", "z"}, {"DEL", "hash:2"}, {"EXEC"},
	})
	if err != nil {
		return err
	}
	return s.wait(ctx)
}
