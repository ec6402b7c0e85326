package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"replicad/integration/poll"
	"replicad/integration/redistest"
)

// moments is a writer that writes down, once a tick, what time it is: in the
// key moment, and in a transaction, so that a cut inside MULTI would show.
type moments struct {
	mu      sync.Mutex
	written []write // of each number
	outages []span
}

// write is what the clock said before a write was sent, and when the archive
// had acknowledged it; acked is zero where it had not within a second.
type write struct{ begun, acked time.Time }

// span is a time in which the archive may have received nothing.
type span struct{ from, to time.Time }

func startMoments(t *testing.T, s *redistest.Server, tick time.Duration) (m *moments, stop func()) {
	t.Helper()
	m = &moments{}
	c := s.NewClient(1)
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		pace := time.NewTicker(tick)
		defer pace.Stop()
		for n := 0; ; n++ {
			p := c.TxPipeline()
			p.Set(context.Background(), "moment", n, 0)
			p.Set(context.Background(), "again", n, 0)
			w := write{begun: time.Now()}
			if _, err := p.Exec(context.Background()); err != nil {
				t.Errorf("writing moment %d: %v", n, err)
				return
			}
			got, err := c.Wait(context.Background(), 1, time.Second).Result()
			if err != nil {
				t.Errorf("waiting for moment %d: %v", n, err)
				return
			}
			if got > 0 {
				w.acked = time.Now()
			}
			m.mu.Lock()
			m.written = append(m.written, w)
			m.mu.Unlock()
			select {
			case <-quit:
				return
			case <-pace.C:
			}
		}
	}()
	stop = sync.OnceFunc(func() { close(quit); <-done })
	t.Cleanup(func() { stop(); c.Close() })
	return m, stop
}

// outage does something that may interrupt the archive for a while.
func (m *moments) outage(do func()) {
	from := time.Now()
	do()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.outages = append(m.outages, span{from, time.Now()})
}

// exact is how long after the archive has a write a restore to that time must
// have it: the timeline's resolution, and what a busy machine takes to get there.
const exact = 400 * time.Millisecond

// between chooses a time at which number n is what a restore must show; there is
// none where the archive had the number late, or the next one came soon.
func (m *moments) between(r *rand.Rand, n int) (at time.Time, ok bool) {
	from, to := m.written[n].acked.Add(exact), m.written[n+1].begun
	if m.written[n].acked.IsZero() || !from.Before(to) {
		return at, false
	}
	return from.Add(time.Duration(r.Int64N(int64(to.Sub(from))))), true
}

// pick chooses a time, and the number that a restore to it must show. Times in
// which two numbers would be right are not chosen.
func (m *moments) pick(r *rand.Rand) (at time.Time, number int, ok bool) {
	n := 1 + r.IntN(len(m.written)-2)
	at, ok = m.between(r, n)
	for _, o := range m.outages {
		if at.After(o.from.Add(-exact)) && at.Before(o.to.Add(exact)) {
			return at, 0, false
		}
	}
	return at, n, ok
}

func TestAnyMomentIsRestoredAcrossRotationResumeAndRebase(t *testing.T) {
	t.Parallel()
	seconds := count(t, "seconds of writing", 10, 120)
	restores := count(t, "restores to random times", 6, 30)
	master := redistest.Start(t, largeBacklog)
	everyType(master, 0)
	dir := t.TempDir()
	args := append(byAddress(t, master), "--segment-size", "256kb")
	d := run(t, dir, args...)
	d.waitLog(`msg="full sync done"`)
	load := startLoad(t, master, loadRate)
	m, stop := startMoments(t, master, time.Second)
	began := time.Now()
	elapsed := func(share float64) { // the run's length is the test's; nothing is waited for
		time.Sleep(time.Until(began.Add(time.Duration(share * float64(seconds) * float64(time.Second)))))
	}
	resumed := func() {
		n := len(d.log.from(0))
		m.outage(func() {
			killReplicas(master)
			d.waitLogAfter(n, `msg="partial resync"`)
		})
	}
	rebased := func() {
		n := len(d.log.from(0))
		if err := d.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		d.waitLogAfter(n, `msg="rebase done`)
	}
	elapsed(0.15)
	resumed()
	elapsed(0.3)
	rebased()
	elapsed(0.45)
	m.outage(func() {
		d.kill()
		d = run(t, dir, args...)
		d.waitLog(`msg="partial resync"`)
	})
	elapsed(0.6)
	rebased()
	elapsed(0.75)
	resumed()
	elapsed(1)
	load.stop(t)
	stop()
	caughtUp(t, master, dir, "main")
	all := generations(t, dir, "main")
	if len(all) != 3 {
		t.Fatalf("%d generations, want 3", len(all))
	}
	for _, g := range all {
		if g.Segments < 2 {
			t.Errorf("generation %d has %d segments: nothing was rotated", g.Number, g.Segments)
		}
	}
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	used := map[int]int{}
	for done, tries := 0, 0; done < restores; tries++ {
		if tries > 100*restores {
			t.Fatalf("%d times found, want %d: the machine is too slow for any", done, restores)
		}
		at, number, ok := m.pick(r)
		if !ok {
			continue
		}
		done++
		used[restoredTo(t, dir, at, number)]++
	}
	t.Logf("restores by generation: %v", used)
	if out, _, code := once(t, nil, "verify", "--dir", dir); code != 0 {
		t.Errorf("verify: code %d\n%s", code, out)
	}
}

// restoredTo restores to a time and checks the number there. It returns the
// generation that was used.
func restoredTo(t *testing.T, dir string, at time.Time, number int) int {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	when := at.Format("2006-01-02T15:04:05.000Z07:00")
	stdout, stderr, code := once(t, nil, "restore", "--dir", dir, "--to", when, "--out", out, "--json")
	if code != 0 {
		t.Fatalf("restore --to %s: code %d\n%s%s", when, code, stdout, stderr)
	}
	var result struct {
		Generation int `json:"generation"`
	}
	if err := json.Unmarshal([]byte(stdout), &result); err != nil {
		t.Fatalf("restore --json printed %q: %v", stdout, err)
	}
	loaded := redistest.Load(t, out)
	defer loaded.Kill()
	for _, key := range []string{"moment", "again"} {
		if got := loaded.DoIn(1, "GET", key); got != strconv.Itoa(number) {
			t.Errorf("restored to %s from generation %d, %s is %v, want %d", when, result.Generation, key, got, number)
		}
	}
	return result.Generation
}

func TestARebaseUnderLoadHasNoGapAndTakesLittleMemory(t *testing.T) {
	const limit = 64 << 20
	keys := count(t, "keys of 1000 bytes", 30_000, 1_000_000)
	rate := count(t, "bytes a second", 8<<20, 100<<20)
	master := redistest.Start(t, largeBacklog, "client-output-buffer-limit replica 0 0 0")
	master.Do("DEBUG", "POPULATE", keys, "key", 1000)
	dir := t.TempDir()
	d := run(t, dir, byAddress(t, master)...)
	d.waitLog(`msg="full sync done"`)
	m, stop := startMoments(t, master, 500*time.Millisecond)
	load := startLoad(t, master, rate)
	poll.Seen(t, "some moments", func() (bool, string) { m.mu.Lock(); defer m.mu.Unlock(); return len(m.written) > 2, "" })
	buffered := sampleBuffers(t, master)
	wrote := d.written()
	before := newest(t, dir, "main").EndOffset
	began := time.Now()
	if err := d.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	d.waitLog(`msg="rebase done`)
	took := time.Since(began)
	wrote = d.written() - wrote
	after := newest(t, dir, "main")
	t.Logf("written to the disk: %d bytes, of which are stream %d, and base %d", wrote, after.EndOffset-before, after.BaseBytes)
	if most := (after.EndOffset-before+after.BaseBytes)/100*102 + 1<<20; wrote > most {
		t.Errorf("%d bytes were written, want at most %d", wrote, most)
	}
	links, most := buffered()
	t.Logf("the master had %d replica links, and buffered at most %d bytes for one", links, most)
	if links < 2 || most > 1<<20 {
		t.Errorf("of %d replica links one had a buffer of %d bytes, want at most 1 MiB", links, most)
	}
	m.mu.Lock()
	n := len(m.written)
	m.mu.Unlock()
	poll.Seen(t, "some moments after it", func() (bool, string) { m.mu.Lock(); defer m.mu.Unlock(); return len(m.written) > n+2, "" })
	load.stop(t)
	stop()
	equal(t, master, dir, "main")
	peak := d.status("VmHWM")
	t.Logf("rebase: %v, peak RSS %d MiB", took.Round(time.Millisecond), peak>>20)
	if peak > limit && !raceBinary() {
		t.Errorf("peak RSS is %d bytes, want at most %d", peak, limit)
	}
	if partial := d.matches(`msg="partial resync"`); partial != 0 {
		t.Errorf("the link was cut %d times", partial)
	}
	all := generations(t, dir, "main")
	if len(all) != 2 || !all[0].Complete || !all[1].Complete {
		t.Fatalf("want two generations, have %+v", all)
	}
	if half, _ := filepath.Glob(filepath.Join(dir, "main", "*.tmp")); len(half) > 0 {
		t.Errorf("half done: %v", half)
	}
	if gap := all[1].From.Sub(all[0].To); gap > exact {
		t.Errorf("from %v to %v, %v, nothing can be restored", all[0].To, all[1].From, gap)
	}
	// The moments around the change of generations.
	r := rand.New(rand.NewPCG(3, 4))
	for i, done := 1, 0; i < len(m.written)-1 && done < 6; i++ {
		if w := m.written[i].begun; w.Before(all[1].From.Add(-3*time.Second)) || w.After(all[1].From.Add(3*time.Second)) {
			continue
		}
		if at, ok := m.between(r, i); ok {
			restoredTo(t, dir, at, i)
			done++
		}
	}
	if out, _, code := once(t, nil, "verify", "--dir", dir); code != 0 {
		t.Errorf("verify: code %d\n%s", code, out)
	}
}

// sampleBuffers asks each 50 ms how much the master holds back for its replicas,
// until the function that it returns is called: that gives the largest number of
// links at once, and the largest buffer of one.
func sampleBuffers(t *testing.T, s *redistest.Server) (stop func() (links, most int)) {
	t.Helper()
	c := s.NewClient(0)
	quit := make(chan struct{})
	var done sync.WaitGroup
	links, most := 0, 0
	done.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			out, err := c.Do(context.Background(), "CLIENT", "LIST", "TYPE", "replica").Text()
			if err != nil {
				t.Errorf("CLIENT LIST: %v", err)
				return
			}
			links = max(links, strings.Count(out, " omem="))
			for _, field := range strings.Fields(out) {
				if n, ok := strings.CutPrefix(field, "omem="); ok {
					held, _ := strconv.Atoi(n)
					most = max(most, held)
				}
			}
			select {
			case <-quit:
				return
			case <-tick.C:
			}
		}
	})
	return func() (int, int) {
		close(quit)
		done.Wait()
		c.Close()
		return links, most
	}
}

func TestKilledAtAnyMomentNothingThatWasRestorableIsLost(t *testing.T) {
	t.Parallel()
	n := count(t, "kill -9 during rotation, rebase, prune and restore", 12, 100)
	const keepFor = 3 * time.Second
	master := redistest.Start(t, largeBacklog)
	everyType(master, 0)
	load := startLoad(t, master, loadRate)
	dir := t.TempDir()
	args := append(byAddress(t, master), "--segment-size", "1mb", "--keep-for", "3s", "--keep-generations", "2", "--loglevel", "verbose")
	out := filepath.Join(t.TempDir(), "out")
	d := run(t, dir, args...)
	d.waitLog(`msg="full sync done"`)
	counted := map[string]int{}
	finished, highest := 0, 0
	happened := func() bool { // all of what is to be killed
		return counted["rebase done"] > 0 && counted["segment sealed"] > 0 && highest > len(restorable(t, dir))
	}
	for i := 0; i < n || i < n+6 && !happened(); i++ {
		before := restorable(t, dir)
		if i%4 != 0 || i >= n {
			if err := d.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
				t.Fatal(err)
			}
		}
		if i >= n { // on this machine no rebase was ever done in the time it had
			d.waitLog(`msg="rebase done`)
		}
		time.Sleep(rand.N(1200 * time.Millisecond)) // the random moment
		restore := command(nil, "restore", "--dir", dir, "--out", out)
		if err := restore.Start(); err != nil {
			t.Fatal(err)
		}
		prune := command(nil, "prune", "--dir", dir, "--keep-for", "3s")
		if err := prune.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(25 * time.Millisecond)) // and that of the restore and the prune
		d.kill()
		_ = restore.Process.Kill()
		_ = prune.Process.Kill()
		_ = restore.Wait()
		_ = prune.Wait()
		for _, what := range []string{"rebase done", "rebase failed", "segment sealed", "generation pruned"} {
			counted[what] += d.matches(`msg="` + what)
		}
		if stdout, stderr, code := once(t, nil, "verify", "--dir", dir); code != 0 {
			t.Fatalf("after kill %d verify ended with %d\n%s%s", i, code, stdout, stderr)
		}
		after := restorable(t, dir)
		lost(t, before, after, keepFor)
		for number := range after {
			highest = max(highest, number)
		}
		// What a killed restore left is no obstacle, and what one finished is not
		// touched; it may have finished and been killed before it could say so.
		if aofs := filepath.Join(out, "appendonlydir"); exists(aofs) {
			checkAOF(t, filepath.Join(aofs, "appendonly.aof.manifest"))
			finished++
			out = filepath.Join(t.TempDir(), "again")
		} else if restore.ProcessState.Success() {
			t.Fatalf("kill %d: the restore ended well and %s is not there", i, aofs)
		}
		if stdout, stderr, code := once(t, nil, "restore", "--dir", dir, "--out", out); code != 0 {
			t.Fatalf("after kill %d restore ended with %d\n%s%s", i, code, stdout, stderr)
		}
		out = filepath.Join(t.TempDir(), "next")
		d = run(t, dir, args...)
		if i%3 != 0 || i+1 >= n {
			d.waitLog(`msg="partial resync"|msg="full sync done"`)
		}
	}
	t.Logf("%d restores were through before the kill; %d generations were made, %d are left; the daemons said: %v", finished, highest, len(restorable(t, dir)), counted)
	if !happened() {
		t.Error("not everything that was to be killed has happened")
	}
	d.waitLog(`msg="partial resync"|msg="full sync done"`)
	load.stop(t)
	equal(t, master, dir, "main")
	if stdout, stderr, code := once(t, nil, "verify", "--dir", dir); code != 0 {
		t.Errorf("verify: code %d\n%s%s", code, stdout, stderr)
	}
	d.stop()
}

// restorable gives the times and offsets that each generation can restore.
func restorable(t *testing.T, dir string) map[int]span {
	t.Helper()
	spans := map[int]span{}
	for _, g := range generations(t, dir, "main") {
		if g.Problem != "" {
			t.Fatalf("generation %d: %s", g.Number, g.Problem)
		}
		if g.Complete {
			spans[g.Number] = span{g.From, g.To}
		}
	}
	return spans
}

// lost checks that what could be restored still can, but for generations that
// were followed by others before keepFor.
func lost(t *testing.T, before, after map[int]span, keepFor time.Duration) {
	t.Helper()
	oldest := time.Now()
	for _, s := range after {
		if s.from.Before(oldest) {
			oldest = s.from
		}
	}
	for number, was := range before {
		is, kept := after[number]
		switch {
		case kept && (!is.from.Equal(was.from) || is.to.Before(was.to)):
			t.Errorf("generation %d could restore %v to %v, and now %v to %v", number, was.from, was.to, is.from, is.to)
		case !kept && oldest.After(time.Now().Add(-keepFor)):
			t.Errorf("generation %d is gone, and what is left begins at %v", number, oldest)
		}
	}
	if len(before) > 0 && len(after) == 0 {
		t.Error(fmt.Errorf("nothing is left of %v", before))
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
