package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"replicad/integration/poll"
	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/minimaster"
)

// recorder keeps the events of the kinds that these tests look at.
type recorder struct {
	mu      sync.Mutex
	events  []replica.Event
	archive []archive.Event
}

func (r *recorder) Observe(e replica.Event) {
	switch e.Kind {
	case replica.Received, replica.Sent, replica.Advanced:
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *recorder) ObserveArchive(e archive.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.archive = append(r.archive, e)
}

// find returns the n-th event of a kind, counted from 1.
func (r *recorder) find(k replica.EventKind, n int) (replica.Event, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return nth(r.events, n, func(e replica.Event) bool { return e.Kind == k })
}

// findArchive does so for the events of the archive.
func (r *recorder) findArchive(k archive.EventKind, n int) (archive.Event, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return nth(r.archive, n, func(e archive.Event) bool { return e.Kind == k })
}

func nth[E any](all []E, n int, is func(E) bool) (none E, found bool) {
	for _, e := range all {
		if is(e) {
			if n--; n == 0 {
				return e, true
			}
		}
	}
	return none, false
}

func (r *recorder) await(t *testing.T, k replica.EventKind, n int) replica.Event {
	t.Helper()
	var e replica.Event
	poll.Until(t, "event "+strconv.Itoa(int(k)), func() (ok bool) { e, ok = r.find(k, n); return ok })
	return e
}

func (r *recorder) awaitArchive(t *testing.T, k archive.EventKind, n int) archive.Event {
	t.Helper()
	var e archive.Event
	poll.Until(t, "event of the archive "+strconv.Itoa(int(k)), func() (ok bool) { e, ok = r.findArchive(k, n); return ok })
	return e
}

// running is a daemon with a recorder, and what to end it with.
func running(t *testing.T, cfg Config) (*Daemon, *recorder, func()) {
	t.Helper()
	rec := &recorder{}
	cfg.Observer = rec
	d, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return d, rec, stop
}

func describe(t *testing.T, dir string) archive.Master {
	t.Helper()
	m, ok, err := archive.Describe(dir)
	if err != nil || !ok {
		t.Fatalf("%s: %v, %v", dir, ok, err)
	}
	return m
}

// writer sets a key again and again until the function it returns is called.
func writer(t *testing.T, m *minimaster.Master) (stop func()) {
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-quit:
				return
			default:
			}
			if _, err := m.Do("SET", "key:"+strconv.Itoa(i%100), strings.Repeat("v", i%3000)); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	return sync.OnceFunc(func() { close(quit); <-ended })
}

// stream gives the bytes of a generation's segments without their headers.
func stream(t *testing.T, g archive.Generation) []byte {
	t.Helper()
	r, err := g.OpenReader()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var all []byte
	for _, s := range r.Segments {
		p, err := os.ReadFile(r.SegmentPath(s))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p[s.Header:s.Size()]...)
	}
	return all
}

func TestARebaseTakesOverUnderLoadWithoutAGap(t *testing.T) {
	t.Parallel()
	m := startMaster(t)
	dir := t.TempDir()
	d, rec, stop := running(t, Config{Dir: dir, Masters: []replica.Master{parse(t, "m="+m.Addr())}})
	awaitStream(t, m)
	quiet := writer(t, m)
	defer quiet()
	const rebases = 3
	for i := range rebases {
		d.RebaseNow("the test says so")
		rec.awaitArchive(t, archive.RebaseDone, i+1)
		awaitAck(t, m)
	}
	quiet()
	awaitAck(t, m)
	stop()
	if s := m.Stats(); s.SyncFull != 1+rebases || s.SyncPartialOK != 0 {
		t.Errorf("%+v, want %d full syncs", s, 1+rebases)
	}
	got := describe(t, filepath.Join(dir, "m"))
	if len(got.Generations) != 1+rebases {
		t.Fatalf("%d generations, want %d", len(got.Generations), 1+rebases)
	}
	for i, g := range got.Generations {
		if g.Problem != "" || !g.Complete || !g.BaseVerified || g.Rebased != (i > 0) {
			t.Errorf("%+v", g)
		}
		if i == 0 {
			continue
		}
		// What two generations both have is the same, and the older one ends
		// where the newer one has long begun.
		before := got.Generations[i-1]
		if before.EndOffset < g.BaseOffset || before.EndOffset > g.EndOffset {
			t.Errorf("generation %d ends at %d, %d has %d to %d", before.Number, before.EndOffset, g.Number, g.BaseOffset, g.EndOffset)
		}
		old, now := stream(t, before), stream(t, g)
		both := old[g.BaseOffset-before.BaseOffset:]
		if !bytes.HasPrefix(now, both) {
			t.Errorf("generations %d and %d differ in the %d bytes that both have", before.Number, g.Number, len(both))
		}
		if g.From.Sub(before.To) > 5*time.Second {
			t.Errorf("generation %d can restore from %v, and the one before to %v", g.Number, g.From, before.To)
		}
	}
	begun, _ := rec.findArchive(archive.RebaseBegun, 1)
	if begun.Text != "the test says so" || begun.Master != "m" || begun.Time.IsZero() {
		t.Errorf("%+v", begun)
	}
}

func TestDuringARebaseWAITCountsOneReplica(t *testing.T) {
	t.Parallel()
	m := startMaster(t)
	d, rec, _ := running(t, Config{Dir: t.TempDir(), Masters: []replica.Master{parse(t, "m="+m.Addr())}})
	awaitStream(t, m)
	m.SetFaults(minimaster.Faults{SaveTime: 300 * time.Millisecond})
	d.RebaseNow("test")
	most := 0
	for {
		do(t, m, "INCR", "n")
		most = max(most, m.Wait(2, 5*time.Millisecond))
		if _, done := rec.findArchive(archive.RebaseDone, 1); done {
			break
		}
	}
	if most != 1 {
		t.Errorf("WAIT counted %d", most)
	}
	do(t, m, "INCR", "n")
	awaitAck(t, m)
}

func TestARebaseThatFailsLeavesTheGenerationAsItWas(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string]minimaster.Faults{
		"a refused PSYNC":       {Replies: map[string]string{"PSYNC": "-ERR no memory\r\n"}},
		"a cut in the transfer": {Replies: map[string]string{"RDB": "$1000\r\nREDIS0011"}},
		"a damaged base":        {CorruptRDB: true},
	} {
		t.Run(name, func(t *testing.T) {
			m := startMaster(t)
			dir := t.TempDir()
			d, rec, stop := running(t, Config{Dir: dir, Masters: []replica.Master{parse(t, "m="+m.Addr())}})
			for i := range 50 {
				do(t, m, "SET", "key:"+strconv.Itoa(i), strings.Repeat("v", 100))
			}
			awaitAck(t, m)
			m.SetFaults(faults)
			d.RebaseNow("test")
			failed := rec.awaitArchive(t, archive.RebaseFailed, 1)
			if failed.Err == nil || failed.Delay < time.Second {
				t.Errorf("%+v", failed)
			}
			do(t, m, "SET", "after", "it")
			awaitAck(t, m)
			poll.Until(t, "the .tmp folder to go", func() bool {
				tmp, _ := filepath.Glob(filepath.Join(dir, "m", "*.tmp"))
				return len(tmp) == 0
			})
			// Then one that does not fail: asked for, it does not wait.
			m.SetFaults(minimaster.Faults{})
			d.RebaseNow("test")
			rec.awaitArchive(t, archive.RebaseDone, 1)
			stop()
			if g := describe(t, filepath.Join(dir, "m")).Generations; len(g) != 2 {
				t.Errorf("%d generations, want 2", len(g))
			}
			rec.mu.Lock()
			defer rec.mu.Unlock()
			for _, e := range rec.events {
				if e.Kind == replica.Failed && !e.Rebase {
					t.Errorf("the first link failed: %v", e.Err)
				}
			}
		})
	}
}

func TestTheDaemonStopsInTheMiddleOfARebase(t *testing.T) {
	t.Parallel()
	m := startMaster(t)
	m.SetFaults(minimaster.Faults{})
	dir := t.TempDir()
	d, rec, stop := running(t, Config{Dir: dir, Masters: []replica.Master{parse(t, "m="+m.Addr())}})
	awaitStream(t, m)
	m.SetFaults(minimaster.Faults{SaveTime: time.Minute})
	d.RebaseNow("test")
	poll.Until(t, "the second link to be in its full sync", func() bool {
		e, ok := rec.find(replica.FullSyncBegun, 2)
		return ok && e.Rebase
	})
	stop()
	if entries, _ := filepath.Glob(filepath.Join(dir, "m", "generation-*")); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestALinkThatIsCutDuringARebaseGoesOnAndSoDoesTheRebase(t *testing.T) {
	t.Parallel()
	m := startMaster(t)
	dir := t.TempDir()
	d, rec, stop := running(t, Config{Dir: dir, Masters: []replica.Master{parse(t, "m="+m.Addr())}})
	awaitStream(t, m)
	m.SetFaults(minimaster.Faults{SaveTime: 500 * time.Millisecond})
	d.RebaseNow("test")
	rec.await(t, replica.FullSyncBegun, 2)
	d.Cut()
	rec.await(t, replica.Resumed, 1)
	do(t, m, "SET", "k", "v")
	rec.awaitArchive(t, archive.RebaseDone, 1)
	awaitAck(t, m)
	stop()
	if g := describe(t, filepath.Join(dir, "m")).Generations; len(g) != 2 {
		t.Errorf("%d generations, want 2", len(g))
	}
}

func TestARebaseEndsWhereTheLinkTakesAFullSyncAForkOrAnotherMaster(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		meanwhile func(*testing.T, *Daemon, *minimaster.Master, *minimaster.Master)
		want      error
	}{
		"a full sync": {func(t *testing.T, d *Daemon, m, _ *minimaster.Master) {
			m.SetFaults(minimaster.Faults{Replies: map[string]string{
				"PSYNC": "+FULLRESYNC " + strings.Repeat("f", 40) + " 1\r\n",
			}})
			d.Cut()
		}, errOvertaken},
		"a fork": {func(t *testing.T, d *Daemon, m, _ *minimaster.Master) {
			do(t, m, "SET", "lost", "by the fork")
			awaitAck(t, m)
			first, _ := m.Backlog()
			text := fmt.Sprintf("role:master\r\nmaster_replid:%s\r\nmaster_repl_offset:%d\r\nmaster_replid2:%s\r\nsecond_repl_offset:%d\r\nrepl_backlog_first_byte_offset:1\r\n",
				strings.Repeat("f", 40), m.Offset(), m.ReplID(), first)
			m.SetFaults(minimaster.Faults{Replies: map[string]string{
				"INFO":  fmt.Sprintf("$%d\r\n%s\r\n", len(text), text),
				"PSYNC": "+CONTINUE " + strings.Repeat("f", 40) + "\r\n",
			}})
			d.Cut()
		}, errForked},
		"an order": {func(t *testing.T, d *Daemon, _, other *minimaster.Master) {
			if err := handle(t, d).ReplicaOf(hostPort(other)); err != nil {
				t.Error(err)
			}
		}, errRepointed},
	} {
		t.Run(name, func(t *testing.T) {
			m, other := startMaster(t), startMaster(t)
			dir := t.TempDir()
			d, rec, stop := running(t, Config{Dir: dir, Masters: []replica.Master{parse(t, "m="+m.Addr())}})
			awaitStream(t, m)
			m.SetFaults(minimaster.Faults{SaveTime: time.Minute})
			d.RebaseNow("test")
			poll.Until(t, "the base to be on its way", func() bool {
				e, ok := rec.find(replica.FullSyncBegun, 2)
				return ok && e.Rebase
			})
			c.meanwhile(t, d, m, other)
			if e := rec.awaitArchive(t, archive.RebaseFailed, 1); !errors.Is(e.Err, c.want) {
				t.Errorf("%v, want %v", e.Err, c.want)
			}
			m.SetFaults(minimaster.Faults{})
			if c.want != errRepointed {
				d.Cut()
				other = m
			}
			awaitStream(t, other)
			d.RebaseNow("test")
			rec.awaitArchive(t, archive.RebaseDone, 1)
			stop()
			if tmp, _ := filepath.Glob(filepath.Join(dir, "m", "*.tmp")); len(tmp) > 0 {
				t.Errorf("left behind: %v", tmp)
			}
			for _, g := range describe(t, filepath.Join(dir, "m")).Generations {
				if g.Problem != "" || !g.Complete {
					t.Errorf("%+v", g)
				}
			}
		})
	}
}

func TestARebaseHangsUpBehindTheBaseWhereRDBOnlyIsRefused(t *testing.T) {
	t.Parallel()
	m := startMaster(t)
	dir := t.TempDir()
	d, rec, stop := running(t, Config{Dir: dir, Masters: []replica.Master{parse(t, "m="+m.Addr())}})
	awaitStream(t, m)
	m.SetFaults(minimaster.Faults{Replies: map[string]string{
		"REPLCONF rdb-only": "-ERR Unrecognized REPLCONF option: rdb-only\r\n",
	}})
	quiet := writer(t, m)
	defer quiet()
	d.RebaseNow("test")
	rec.awaitArchive(t, archive.RebaseDone, 1)
	poll.Until(t, "the short link to hang up", func() bool { return m.Replicas() == 1 })
	quiet()
	awaitAck(t, m)
	stop()
	got := describe(t, filepath.Join(dir, "m")).Generations
	if len(got) != 2 || got[1].Problem != "" || !got[1].Rebased || got[1].EndOffset != m.Offset() {
		t.Errorf("%+v, want 2 generations to offset %d", got, m.Offset())
	}
	if s := m.Stats(); s.SyncFull != 2 || s.SyncPartialOK != 0 {
		t.Errorf("%+v, want 2 full syncs", s)
	}
}

func TestARestartAfterARebaseResumesInTheNewGeneration(t *testing.T) {
	t.Parallel()
	m := startMaster(t)
	dir := t.TempDir()
	cfg := Config{Dir: dir, Masters: []replica.Master{parse(t, "m="+m.Addr())}}
	d, rec, stop := running(t, cfg)
	awaitStream(t, m)
	d.RebaseNow("test")
	rec.awaitArchive(t, archive.RebaseDone, 1)
	stop()
	do(t, m, "SET", "missed", "v")
	stop = follow(t, cfg)
	awaitStream(t, m)
	stop()
	if s := m.Stats(); s.SyncFull != 2 || s.SyncPartialOK != 1 {
		t.Errorf("%+v, want 2 full and 1 partial syncs", s)
	}
}

func TestRebaseIsDueByTheStreamsSizeOrTheBasesAge(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	is := archive.Current{Generation: 1, BaseBytes: 1000, BaseTime: now.Add(-time.Hour)}
	for name, c := range map[string]struct {
		rules  Rebase
		stream int64
		due    bool
	}{
		"nothing set":              {Rebase{}, 1 << 40, false},
		"below the percentage":     {Rebase{Percentage: 400}, 3999, false},
		"at the percentage":        {Rebase{Percentage: 400}, 4000, true},
		"below the minimum":        {Rebase{Percentage: 400, MinSize: 5000}, 4999, false},
		"at the minimum":           {Rebase{Percentage: 400, MinSize: 5000}, 5000, true},
		"young":                    {Rebase{Every: time.Hour + 1}, 0, false},
		"old":                      {Rebase{Every: time.Hour}, 0, true},
		"an empty stream is never": {Rebase{Percentage: 1}, 0, false},
	} {
		if why := c.rules.due(is, c.stream, now); (why != "") != c.due {
			t.Errorf("%s: %q", name, why)
		}
	}
}

func TestAMasterWithoutPSYNCIsNotRebased(t *testing.T) {
	t.Parallel()
	m := startMaster(t)
	m.SetFaults(minimaster.Faults{Replies: map[string]string{"PSYNC": "-ERR unknown command 'PSYNC'\r\n"}})
	d, rec, _ := running(t, Config{Dir: t.TempDir(), Masters: []replica.Master{parse(t, "m="+m.Addr())}})
	rec.await(t, replica.FullSyncDone, 1)
	d.RebaseNow("test")
	if e := rec.awaitArchive(t, archive.RebaseFailed, 1); !errors.Is(e.Err, errNoHistory) {
		t.Errorf("%v", e.Err)
	}
}

func TestAfterARebaseTheGenerationsThatNoTimeNeedsGo(t *testing.T) {
	t.Parallel()
	m := startMaster(t)
	dir := t.TempDir()
	d, rec, stop := running(t, Config{
		Dir: dir, Masters: []replica.Master{parse(t, "m="+m.Addr())},
		Retention: archive.Retention{KeepFor: time.Millisecond, KeepGenerations: 2},
	})
	awaitStream(t, m)
	for i := range 3 {
		d.RebaseNow("test")
		rec.awaitArchive(t, archive.RebaseDone, i+1)
		awaitStream(t, m)
	}
	// Four were made; the first two are needed for nothing, once the third has
	// a time of its own.
	e := rec.awaitArchive(t, archive.GenerationPruned, 1)
	if e.Err != nil || e.Generation != 1 || e.Bytes == 0 || !strings.Contains(e.Text, "keep-for") || !strings.Contains(e.Text, "no longer restorable") {
		t.Errorf("%+v", e)
	}
	stop()
	left := describe(t, filepath.Join(dir, "m")).Generations
	if len(left) < 2 || len(left) > 3 || left[0].Number == 1 || left[len(left)-1].Number != 4 {
		t.Errorf("left are %+v", left)
	}
}

func TestNearMaxBytesARebaseMakesRoom(t *testing.T) {
	t.Parallel()
	m := startMaster(t)
	dir := t.TempDir()
	const bound = 1 << 20
	d, rec, stop := running(t, Config{
		Dir: dir, Masters: []replica.Master{parse(t, "m="+m.Addr())},
		Archive:   archive.Options{SegmentSize: 128 << 10},
		Retention: archive.Retention{KeepFor: time.Hour, KeepGenerations: 2, MaxBytes: bound},
	})
	awaitStream(t, m)
	for range 300 { // of which the base holds one
		do(t, m, "SET", "key", strings.Repeat("v", 4000))
	}
	awaitAck(t, m)
	d.each(func(f *follower) { f.nextPrune = time.Time{} })
	begun := rec.awaitArchive(t, archive.RebaseBegun, 1)
	if !strings.Contains(begun.Text, "max-bytes") {
		t.Errorf("it began because %q", begun.Text)
	}
	rec.awaitArchive(t, archive.RebaseDone, 1)
	gone := rec.awaitArchive(t, archive.GenerationPruned, 1)
	if gone.Err != nil || gone.Generation != 1 || !strings.Contains(gone.Text, "max-bytes") {
		t.Errorf("%+v", gone)
	}
	stop()
	left := describe(t, filepath.Join(dir, "m")).Generations
	if len(left) != 1 || left[0].Number != 2 || left[0].Bytes > bound {
		t.Errorf("left are %+v", left)
	}
}
