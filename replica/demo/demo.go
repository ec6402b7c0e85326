// Package demo shows replicad's main job on the embedded master: sync, follow,
// survive cuts, and prove that what is on disk is what the master holds.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/daemon"
	"replicad/replica/minimaster"
	"replicad/replica/tables"
)

// Options say where the demo writes.
type Options struct {
	Out io.Writer
	Dir string // where the archive is kept; "" for a temporary folder that is removed
}

const (
	patience  = 10 * time.Second // for each thing that must happen
	bigValue  = 1 << 20
	cutAfter  = 300_000 // bytes sent before the master cuts a link
	masterDBs = 3
)

// Run is the demo. It takes a few seconds; an error says which promise was not
// kept.
func Run(ctx context.Context, opt Options) error {
	dir := opt.Dir
	if dir == "" {
		tmp, err := os.MkdirTemp("", "replicad-demo-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(tmp)
		dir = tmp
	} else if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty: the demo begins a new archive", dir)
	}
	m, err := minimaster.Start(minimaster.Config{BacklogSize: 8 << 20, Diskless: true})
	if err != nil {
		return err
	}
	defer m.Close()
	s := &show{out: opt.Out, start: time.Now(), master: m, dir: dir}
	return s.run(ctx)
}

// show is a running demo. Its observer prints from the loop's thread, the
// script from its own goroutine.
type show struct {
	master *minimaster.Master
	dir    string
	start  time.Time

	mu      sync.Mutex
	out     io.Writer
	events  []replica.Event // resumes, full syncs and streams, for the script to wait for
	changed chan struct{}   // closed, and replaced, at each of them
	state   replica.Event   // the last one that entered a state or phase
}

// Observe implements replica.Observer. The demo's output is short: it does not
// wait for a reader longer than a moment.
func (s *show) Observe(e replica.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e.Kind {
	case replica.StateEntered, replica.PhaseEntered:
		name := e.State.String()
		if e.Phase != replica.NoPhase {
			name = "  " + e.Phase.String()
		}
		s.line(e.Time, "%-14s %s", name, e.Endpoint)
		s.state = e
	case replica.ConnectCalled:
		s.line(e.Time, "               connect() = %v", errnoName(e.Err))
	case replica.SocketError:
		s.line(e.Time, "               SO_ERROR = %s", errnoName(e.Err))
	case replica.FullSyncBegun:
		s.line(e.Time, "               +FULLRESYNC %s... %d", e.ReplID[:8], e.Offset)
	case replica.FullSyncDone:
		s.line(e.Time, "               %d bytes of RDB are on disk, fsynced", e.Bytes)
	case replica.Resumed:
		s.line(e.Time, "               +CONTINUE at offset %d", e.Offset+1)
	case replica.Failed:
		s.line(e.Time, "               %v", errors.Unwrap(e.Err))
	default:
		return
	}
	s.events = append(s.events, e)
	close(s.changed)
	s.changed = make(chan struct{})
}

// ObserveArchive implements archive.Observer. The demo shows the link.
func (s *show) ObserveArchive(archive.Event) {}

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

// count says how many events of a kind were seen.
func (s *show) count(kind replica.EventKind) int {
	n := 0
	for _, e := range s.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// await waits until ok, which is asked after each event, says so.
func (s *show) await(ctx context.Context, what string, ok func() bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("not within %v: %s", patience, what))
	defer cancel()
	for {
		s.mu.Lock()
		done, changed := ok(), s.changed
		s.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *show) streaming() bool { return s.state.Phase == replica.Stream }

func (s *show) run(ctx context.Context) error {
	s.changed = make(chan struct{})
	if err := s.fill(); err != nil {
		return err
	}
	s.say("1. An embedded master on %s holds %d keys. replicad connects and takes a full sync:", s.master.Addr(), s.master.Dump().Keys())
	addr, err := replica.ParseMaster("demo=" + s.master.Addr())
	if err != nil {
		return err
	}
	d, err := daemon.Open(daemon.Config{Dir: s.dir, Masters: []replica.Master{addr}, Observer: s})
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- d.Run(running) }()
	err = s.script(ctx, d)
	if err == nil {
		s.say("5. SIGTERM: everything received is stored and fsynced.")
	}
	stop()
	if e := <-ended; err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return s.prove(ctx)
}

// script is what happens while the daemon runs.
func (s *show) script(ctx context.Context, d *daemon.Daemon) error {
	if err := s.await(ctx, "the full sync", s.streaming); err != nil {
		return err
	}
	s.say("2. Writes follow, and WAIT asks whether the archive has them:")
	if err := s.write(ctx, 0); err != nil {
		return err
	}
	s.say("3. The link is cut. replicad resumes at the offset that its file's length gives:")
	if err := s.cut(ctx, func() { d.Cut() }); err != nil {
		return err
	}
	if err := s.write(ctx, 1000); err != nil {
		return err
	}
	s.say("4. The master cuts each link after %d bytes, in the middle of a value of %d bytes:", cutAfter, bigValue)
	return s.cutInside(ctx)
}

// cut breaks the link and waits until it has resumed.
func (s *show) cut(ctx context.Context, breakIt func()) error {
	s.mu.Lock()
	before := s.count(replica.Resumed)
	s.mu.Unlock()
	breakIt()
	return s.await(ctx, "a partial resync", func() bool { return s.count(replica.Resumed) > before && s.streaming() })
}

// cutInside has the master cut each link a while after its connect, and sends
// a value that takes several links.
func (s *show) cutInside(ctx context.Context) error {
	start := s.master.Offset()
	s.master.SetFaults(minimaster.Faults{CutAfter: cutAfter})
	err := s.cut(ctx, func() {
		s.master.CutReplicas() // faults count from the connect
		_, _ = s.master.Do("SET", "big", strings.Repeat("0123456789abcdef", bigValue/16))
	})
	if err != nil {
		return err
	}
	end := s.master.Offset()
	err = s.await(ctx, "a cut inside the value", func() bool {
		for _, e := range s.events {
			if e.Kind == replica.Resumed && e.Offset > start+100 && e.Offset < end-100 {
				return true
			}
		}
		return false
	})
	if err != nil {
		return err
	}
	s.master.SetFaults(minimaster.Faults{})
	return s.acknowledged(ctx)
}

// acknowledged asks WAIT until the archive has all, and nothing was synced anew.
func (s *show) acknowledged(ctx context.Context) error {
	for deadline := time.Now().Add(patience); s.master.Wait(1, 200*time.Millisecond) < 1; {
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("not within %v: WAIT 1 counts the archive", patience)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line(time.Now(), "               WAIT 1 = 1 at offset %d", s.master.Offset())
	if n := s.count(replica.FullSyncBegun); n != 1 {
		return fmt.Errorf("%d full syncs, want 1", n)
	}
	return nil
}

// fill gives the master something to begin with.
func (s *show) fill() error {
	for db := range masterDBs {
		if err := s.do([][]string{{"SELECT", fmt.Sprint(db)}}); err != nil {
			return err
		}
		for i := range 100 {
			if err := s.do(sample(db, i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// sample is one key of each type.
func sample(db, i int) [][]string {
	n := fmt.Sprint(i)
	return [][]string{
		{"SET", "string:" + n, fmt.Sprintf("db %d, value %d", db, i)},
		{"RPUSH", "list:" + n, "a", "b", n},
		{"SADD", "set:" + n, "x", "y", n},
		{"HSET", "hash:" + n, "field", n, "other", "value"},
		{"ZADD", "zset:" + n, "1.5", "one", "2", n},
		{"XADD", "stream:" + n, "*", "field", n},
		{"SET", "expiring:" + n, "soon", "EX", "3600"},
	}
}

func (s *show) do(cmds [][]string) error {
	for _, c := range cmds {
		if _, err := s.master.Do(c...); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(c, " "), err)
		}
	}
	return nil
}

// write changes and adds keys, also in a transaction, and waits for the ACK.
func (s *show) write(ctx context.Context, from int) error {
	for i := from; i < from+200; i++ {
		if err := s.do(sample(0, i)); err != nil {
			return err
		}
	}
	c := s.master.NewClient()
	for _, args := range [][]string{
		{"SELECT", "1"}, {"MULTI"}, {"INCRBY", "counter", "7"}, {"LPUSH", "list:1", "z"}, {"DEL", "hash:2"}, {"EXEC"},
	} {
		if _, err := c.Do(args...); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(args, " "), err)
		}
	}
	return s.acknowledged(ctx)
}

// prove shows the archive, and compares what it restores to with the master.
func (s *show) prove(ctx context.Context) error {
	masters, err := archive.List(s.dir)
	if err != nil {
		return err
	}
	s.say("6. replicad list --dir %s", s.dir)
	if err := tables.Archives(s.out, s.dir, masters); err != nil {
		return err
	}
	if len(masters) != 1 || len(masters[0].Generations) != 1 {
		return errors.New("the archive does not hold one generation of one master")
	}
	generation := masters[0].Generations[0].Dir
	restored, how, err := load(ctx, generation)
	if err != nil {
		return err
	}
	want := s.master.Dump()
	if diff := want.Diff(restored); diff != nil {
		return fmt.Errorf("the archive is not what the master holds: %s", strings.Join(diff[:min(len(diff), 5)], "; "))
	}
	s.say("7. The proof: %s, and every one of the %d keys in %d databases is the master's.", how, want.Keys(), len(want))
	return nil
}

// replay loads a generation into a fresh engine.
func replay(generation string) (minimaster.Dump, error) {
	e, err := minimaster.NewEngine()
	if err != nil {
		return nil, err
	}
	defer e.Close()
	for _, name := range []string{"appendonly.aof.1.base.rdb", "appendonly.aof.1.incr.aof"} {
		f, err := os.Open(filepath.Join(generation, archive.AOFDir, name))
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(name, ".rdb") {
			err = e.LoadRDB(f)
		} else {
			_, err = e.ReplayAOF(f)
		}
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return e.Dump(), nil
}
