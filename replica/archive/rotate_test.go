package archive

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"replicad/integration/poll"
	"replicad/replica"
	"replicad/replica/rdb/rdbtest"
	"replicad/replica/resp"
)

// small makes a rotation every few commands.
const small = 700

// feedSlowly feeds in pieces that the writer sees one by one, so that
// it sees many boundaries.
func (f *feeder) feedSlowly(r *rand.Rand, p []byte) {
	f.t.Helper()
	for len(p) > 0 {
		n := min(1+r.IntN(900), len(p))
		f.feed(p[:n], n)
		p = p[n:]
		if r.IntN(3) > 0 {
			f.awaitStored()
		}
	}
}

// segmentsOf counts the segments that the timeline tells of.
func segmentsOf(t *testing.T, g generation) int {
	t.Helper()
	tl, _, err := g.readTimeline(visitor{})
	if err != nil {
		t.Fatal(err)
	}
	return len(tl.Segments)
}

func TestASegmentEndsOnTheFirstBoundaryThatIsSeenBehindItsSize(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, Options{AppendFsync: No, SegmentSize: small})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Offset: 77, Size: -1}, rdbtest.Empty(3, true))
	set := resp.AppendCommand(nil, "SET", "k", strings.Repeat("v", 100))
	for range 30 {
		f.feed(set, 1000)
		f.awaitStored()
	}
	f.feed(resp.AppendCommand(nil, "SELECT", "11"), 1000)
	for range 10 {
		f.feed(set, 1000)
		f.awaitStored()
	}
	mustClose(t, a)
	g := generationIn(dir, 1)
	if got := segmentBytes(t, g); !bytes.Equal(got, f.sent.Bytes()) {
		t.Fatal("the segments do not hold the stream")
	}
	tl, _, _ := g.readTimeline(visitor{})
	if len(tl.Segments) < 5 || tl.Segments[0].DB != 3 || tl.Segments[len(tl.Segments)-1].DB != 11 {
		t.Fatalf("the segments are %+v", tl.Segments)
	}
	for _, s := range tl.Segments[:len(tl.Segments)-1] {
		if s.Size() < small || s.Size() >= small+int64(len(set)) {
			t.Errorf("segment %d has %d bytes, want %d and less than a command more", s.Seq, s.Size(), small)
		}
	}
}

func TestATransactionIsNotCutThoughItIsLargerThanASegment(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, Options{AppendFsync: No, SegmentSize: small})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	f.feed(resp.AppendCommand(nil, "SET", "k", "v"), 100)
	f.feed(resp.AppendCommand(nil, "MULTI"), 100)
	for range 50 {
		f.feed(resp.AppendCommand(nil, "SET", "k", strings.Repeat("v", 100)), 1000)
		f.awaitStored()
	}
	if n := segmentsOf(t, generationIn(dir, 1)); n != 1 {
		t.Fatalf("%d segments inside a transaction", n)
	}
	f.feed(resp.AppendCommand(nil, "EXEC"), 100)
	f.awaitStored()
	f.feed(resp.AppendCommand(nil, "SET", "k", "v"), 100)
	mustClose(t, a)
	if got := segmentBytes(t, generationIn(dir, 1)); !bytes.Equal(got, f.sent.Bytes()) {
		t.Fatal("the segments do not hold the stream")
	}
	if n := segmentsOf(t, generationIn(dir, 1)); n != 2 {
		t.Fatalf("%d segments behind it, want 2", n)
	}
}

// cut is what a power cut left, and how much was durable before it.
type cut struct {
	dir     string
	durable int64
}

// cutsOf streams through many rotations, with power cuts before some of the
// fsyncs, and returns what they left.
func cutsOf(t *testing.T, policy Policy, seed uint64, n int) (cuts []cut, stream []byte) {
	t.Helper()
	r := rand.New(rand.NewPCG(20, seed))
	dir := t.TempDir()
	j, d := watched()
	a := open(t, dir, Options{AppendFsync: policy, SegmentSize: small, disk: d})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Offset: 50, Size: -1}, rdbtest.Empty(0, true))
	j.begin(t, dir)
	var mu sync.Mutex
	chance := rand.New(rand.NewPCG(21, seed))
	j.mu.Lock()
	j.before = func(string) {
		mu.Lock()
		defer mu.Unlock()
		if len(cuts) == n || chance.IntN(3) > 0 {
			return
		}
		c := cut{t.TempDir(), a.Progress().Durable}
		j.cutPower(t, chance, dir, c.dir)
		cuts = append(cuts, c)
	}
	j.mu.Unlock()
	full := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(cuts) == n
	}
	for !full() {
		f.feedSlowly(r, commands(r, 50))
	}
	mustClose(t, a)
	if got := segmentBytes(t, generationIn(dir, 1)); !bytes.Equal(got, f.sent.Bytes()) {
		t.Fatal("the segments do not hold the stream")
	}
	return cuts, f.sent.Bytes()
}

// loadable checks that a generation has the files that its manifest names, and
// the timeline tells of them: redis-server may be started on it as it stands.
func loadable(t *testing.T, g generation) {
	t.Helper()
	p, err := os.ReadFile(g.aof(ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	last := bytes.Count(p, []byte("type i"))
	if !bytes.Equal(p, Manifest(last)) {
		t.Fatalf("the manifest holds %q", p)
	}
	if n := segmentsOf(t, g); n < last {
		t.Fatalf("the manifest names %d segments, and the timeline tells of %d", last, n)
	}
	f, err := os.Open(g.fsynced())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if c, ok := newestSlot(f); !ok || c.seq > segmentsOf(t, g) {
		t.Fatalf("the record names segment %d, %v; the timeline tells of %d", c.seq, ok, segmentsOf(t, g))
	}
	for seq := 1; seq <= last; seq++ {
		if ok, err := exists(g.segment(seq)); !ok {
			t.Fatalf("the manifest names segment %d, which is not there: %v", seq, err)
		}
	}
}

func TestWhatWasDurableIsThereAfterAPowerCutInAnyWindowOfARotation(t *testing.T) {
	t.Parallel()
	n, back := 0, 0
	for _, policy := range []Policy{Everysec, Always, No} {
		for seed := range uint64(soak(5, 20)) {
			cuts, stream := cutsOf(t, policy, seed, soak(10, 100))
			for _, c := range cuts {
				loadable(t, generationIn(c.dir, 1))
				before := segmentsOf(t, generationIn(c.dir, 1))
				checkRecovered(t, c.dir, stream, 50, c.durable)
				if segmentsOf(t, generationIn(c.dir, 1)) < before {
					back++
				}
				checkGoesOn(t, c.dir, stream, 50)
				n++
			}
		}
	}
	t.Logf("%d power cuts, %d of which took a segment", n, back)
	if back == 0 {
		t.Fatal("no power cut took a segment: the test does not test what it says")
	}
}

func TestWhatRecoveryFoundAfterAKillIsThereAfterAPowerCut(t *testing.T) {
	t.Parallel()
	// A kill leaves the page cache, of which recovery must make durable what
	// it says to be so.
	dir := t.TempDir()
	r, chance := rand.New(rand.NewPCG(34, 34)), rand.New(rand.NewPCG(35, 35))
	j, d := watched()
	a := open(t, dir, Options{AppendFsync: No, SegmentSize: small, disk: d})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Offset: 50, Size: -1}, rdbtest.Empty(0, true))
	j.begin(t, dir)
	type kill struct {
		dir string
		j   *journal
	}
	var kills []kill
	var mu sync.Mutex
	most := soak(15, 500)
	j.mu.Lock()
	j.before = func(string) {
		mu.Lock()
		defer mu.Unlock()
		if len(kills) < most && chance.IntN(3) == 0 {
			k := kill{t.TempDir(), nil}
			if err := os.CopyFS(k.dir, os.DirFS(dir)); err != nil {
				t.Error(err)
			}
			k.j = j.movedTo(dir, k.dir)
			kills = append(kills, k)
		}
	}
	j.mu.Unlock()
	enough := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(kills) == most
	}
	for !enough() {
		f.feedSlowly(r, commands(r, 50))
	}
	mustClose(t, a)
	several := 0
	for _, k := range kills {
		d.fdatasync, d.syncDir = k.j.fdatasync, k.j.syncDir
		k.j.before = func(string) {
			inside := t.TempDir()
			k.j.cutPower(t, chance, k.dir, inside)
			loadable(t, generationIn(inside, 1))
		}
		s, err := recoverGeneration(generationIn(k.dir, 1), Options{disk: d}, false)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.walked) > 1 {
			several++
		}
		k.j.before = nil
		after := t.TempDir()
		k.j.cutPower(t, chance, k.dir, after)
		loadable(t, generationIn(after, 1))
		checkRecovered(t, after, f.sent.Bytes(), 50, s.at.end.offset)
	}
	t.Logf("%d kills, behind %d of which recovery went through several segments", len(kills), several)
	if several == 0 {
		t.Fatal("recovery went through one segment each time: the test does not test what it says")
	}
}

func TestAPowerCutInsideRecoveryFindsTheSameAgain(t *testing.T) {
	t.Parallel()
	cuts, stream := cutsOf(t, Everysec, 100, soak(5, 200))
	n := 0
	for i, c := range cuts {
		r := rand.New(rand.NewPCG(22, uint64(i)))
		j, d := watched()
		j.begin(t, c.dir)
		var again []cut
		j.before = func(string) {
			a := cut{t.TempDir(), c.durable}
			j.cutPower(t, r, c.dir, a.dir)
			again = append(again, a)
		}
		gen := generationIn(c.dir, 1)
		s, err := recoverGeneration(gen, Options{disk: d}, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range again {
			if pos := checkRecovered(t, a.dir, stream, 50, c.durable); pos.Offset != s.at.end.offset {
				t.Fatalf("the first recovery went to %d, the second to %d", s.at.end.offset, pos.Offset)
			}
			n++
		}
		checkGoesOn(t, c.dir, stream, 50)
	}
	t.Logf("%d power cuts inside %d recoveries", n, len(cuts))
}

func TestWhatWasStoredIsThereAfterAKillAtAnyWriteOfARotation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(23, 23))
	chance := rand.New(rand.NewPCG(24, 24))
	var a *Archive
	var f *feeder
	var on atomic.Bool
	var mu sync.Mutex // nothing is written while a copy is made
	var kills []cut
	most := soak(25, 1000)
	opt := Options{AppendFsync: No, SegmentSize: small, disk: realDisk()}
	opt.disk.pwrite = func(file *os.File, p []byte, off int64) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		if on.Load() && len(kills) < most && chance.IntN(5) == 0 {
			k := cut{t.TempDir(), a.Progress().Stored}
			for os.CopyFS(k.dir, os.DirFS(dir)) != nil { // a manifest was renamed meanwhile
				k.dir = t.TempDir()
			}
			kills = append(kills, k)
		}
		return file.WriteAt(p, off)
	}
	a = open(t, dir, opt)
	f = fullSync(t, a, replica.FullSync{ReplID: idA, Offset: 50, Size: -1}, rdbtest.Empty(0, true))
	on.Store(true)
	enough := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(kills) == most
	}
	for !enough() {
		f.feedSlowly(r, commands(r, 50))
	}
	mustClose(t, a)
	for _, k := range kills {
		checkRecovered(t, k.dir, f.sent.Bytes(), 50, k.durable)
		checkGoesOn(t, k.dir, f.sent.Bytes(), 50)
	}
	t.Logf("%d kills", len(kills))
}

func TestAFullDiskDuringARotationLosesNothingAndLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"header", "facts"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			r := rand.New(rand.NewPCG(25, 25))
			var fails atomic.Int64
			opt := Options{AppendFsync: No, SegmentSize: small, disk: realDisk()}
			opt.disk.pwrite = func(f *os.File, p []byte, off int64) (int, error) {
				hit := filepath.Ext(f.Name()) == ".aof" && off == 0
				if where == "facts" {
					hit = bytes.HasPrefix(p, []byte("sealed "))
				}
				if hit && fails.Add(-1) >= 0 {
					n, _ := f.WriteAt(p[:len(p)*3/4], off)
					return n, &os.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC}
				}
				return f.WriteAt(p, off)
			}
			a := open(t, dir, opt)
			f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
			fails.Store(2)
			stream := commands(r, 300)
			f.feed(stream[:2000], 500)
			poll.Until(t, "it is said that the disk is full", func() bool { return errors.Is(a.Progress().Stalled, syscall.ENOSPC) })
			f.feedSlowly(r, stream[2000:])
			f.awaitStored()
			fails.Store(1 << 40)
			f.feed(stream, 1<<20) // stalls at its rotation
			poll.Until(t, "the disk is full again", func() bool { return a.Progress().Stalled != nil })
			kept := a.Progress().Stored
			if err := a.Close(); !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("Close said %v", err)
			}
			pos := checkRecovered(t, dir, f.sent.Bytes(), 0, kept)
			names, _ := filepath.Glob(generationIn(dir, 1).aof("*"))
			if n := segmentsOf(t, generationIn(dir, 1)); len(names) != n+2 {
				t.Fatalf("recovered to %d with %d segments, and there are %q", pos.Offset, n, names)
			}
			checkGoesOn(t, dir, f.sent.Bytes(), 0)
		})
	}
}

func TestAnFsyncThatFailsDuringARotationTakesTheArchiveBack(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"incr.aof", AOFDir, TimelineName, FsyncedName} {
		for seed := range uint64(soak(3, 100)) {
			dir := t.TempDir()
			r := rand.New(rand.NewPCG(26, seed))
			var countdown atomic.Int64
			countdown.Store(1 << 40)
			fails := func(name string) error {
				if strings.HasSuffix(name, where) && countdown.Add(-1) == 0 {
					return os.NewSyscallError("fsync", syscall.EIO)
				}
				return nil
			}
			opt := Options{AppendFsync: No, SegmentSize: small, disk: realDisk()}
			opt.disk.fdatasync = func(f *os.File) error { return errors.Join(fails(f.Name()), fdatasync(f)) }
			opt.disk.syncDir = func(path string) error { return errors.Join(fails(path), SyncPath(path)) }
			a := open(t, dir, opt)
			f := fullSync(t, a, replica.FullSync{ReplID: idA, Offset: 50, Size: -1}, rdbtest.Empty(0, true))
			countdown.Store(1 + r.Int64N(8))
			for a.Progress().Failed == nil {
				if buf := a.Buffer(); len(buf) > 0 {
					p := commands(r, 5)
					f.commit(buf[:copy(buf, p)])
				}
				poll.Until(t, "it is stored, or failed", func() bool { return a.Progress().Failed != nil || a.Progress().Stored == f.end() })
			}
			durable := a.Progress().Durable
			if err := a.Reset(); err != nil {
				t.Fatalf("%s: %v", where, err)
			}
			pos, ok := a.Position()
			s := resp.NewScanner(0, resp.Limits{})
			s.Scan(f.sent.Bytes()[:durable-50])
			if p := a.Progress(); !ok || pos.Offset < 50+s.Boundary().Offset || p.Durable != pos.Offset || p.Failed != nil {
				t.Fatalf("%s: %d was durable; reset to %+v %v, %+v", where, durable, pos, ok, p)
			}
			mustClose(t, a)
			checkRecovered(t, dir, f.sent.Bytes(), 50, pos.Offset)
			checkGoesOn(t, dir, f.sent.Bytes(), 50)
		}
	}
}

func TestADiskThatIsSlowToFsyncBoundsTheOpenSegments(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	gate := make(chan struct{})
	var slow atomic.Bool
	opt := Options{AppendFsync: No, SegmentSize: small, disk: realDisk()}
	opt.disk.fdatasync = func(f *os.File) error {
		if slow.Load() && filepath.Ext(f.Name()) == ".aof" {
			<-gate
		}
		return fdatasync(f)
	}
	a := open(t, dir, opt)
	release := sync.OnceFunc(func() { close(gate) })
	t.Cleanup(release) // before the archive is closed
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	slow.Store(true)
	set := resp.AppendCommand(nil, "SET", "k", strings.Repeat("v", small))
	var at int64
	for range 3 * mostSealing {
		f.feed(set, 10_000)
		poll.Until(t, "it is stored, or the writer waits", func() bool {
			at = a.Progress().Stored
			return at == f.end() || segmentsOf(t, generationIn(dir, 1)) == mostSealing+1
		})
	}
	if n := segmentsOf(t, generationIn(dir, 1)); n != mostSealing+1 || at == f.end() {
		t.Fatalf("%d segments, and none is durable; want %d", n, mostSealing+1)
	}
	release()
	f.awaitStored()
	mustClose(t, a)
	if got := segmentBytes(t, generationIn(dir, 1)); !bytes.Equal(got, f.sent.Bytes()) {
		t.Fatal("the segments do not hold the stream")
	}
}

// observer keeps the events of the files.
type observer struct {
	mu     sync.Mutex
	events []Event
}

func (o *observer) observe(e Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, e)
}

func (o *observer) of(kind EventKind) (all []Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.events {
		if e.Kind == kind {
			all = append(all, e)
		}
	}
	return all
}

func TestEachClosedSegmentIsToldAndVerifiedOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var o observer
	a := open(t, dir, Options{AppendFsync: No, SegmentSize: small, Observe: o.observe})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, false)) // rdbchecksum no
	r := rand.New(rand.NewPCG(27, 27))
	f.feedSlowly(r, commands(r, 200))
	f.awaitStored()
	g := generationIn(dir, 1)
	closed := segmentsOf(t, g) - 1
	poll.Until(t, "all closed segments are verified", func() bool {
		m, _, _ := Describe(dir)
		d := m.Generations[0]
		return closed > 3 && d.Sealed == closed && d.Verified == closed && d.BaseVerified && d.BaseCRCKnown
	})
	mustClose(t, a)
	tl, _, _ := g.readTimeline(visitor{})
	for i, kind := range []EventKind{SegmentSealed, SegmentVerified} {
		got := o.of(kind)
		if len(got) != closed {
			t.Fatalf("%d events %v, want %d", len(got), kind, closed)
		}
		for k, e := range got {
			if s := tl.Segments[k]; e.Generation != 1 || e.Segment != s.Seq || e.Bytes != s.Size() || i == 0 && e.Offset != s.To || e.Err != nil {
				t.Errorf("%+v of %+v", e, s)
			}
		}
	}
	mustClose(t, open(t, dir, Options{Observe: o.observe}))
	if got := len(o.of(SegmentVerified)); got != closed {
		t.Fatalf("after a restart %d segments were verified, want none", got-closed)
	}
}

func TestAFlippedBitInAClosedSegmentIsFoundInTheBackground(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, Options{AppendFsync: No, SegmentSize: small})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	r := rand.New(rand.NewPCG(28, 28))
	f.feedSlowly(r, commands(r, 200))
	mustClose(t, a)
	g := generationIn(dir, 1)
	n := soak(10, 200)
	for range n {
		after := t.TempDir()
		if err := os.CopyFS(after, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		at := generationIn(after, 1)
		p, _ := os.ReadFile(g.timeline())
		var lines []byte
		for line := range bytes.Lines(p) {
			if !bytes.HasPrefix(line, []byte("verified segment")) {
				lines = append(lines, line...)
			}
		}
		if err := os.WriteFile(at.timeline(), lines, 0o640); err != nil {
			t.Fatal(err)
		}
		seq := 1 + r.IntN(segmentsOf(t, g)-1)
		p, _ = os.ReadFile(at.segment(seq))
		p[r.IntN(len(p))] ^= 1 << r.IntN(8)
		if err := os.WriteFile(at.segment(seq), p, 0o640); err != nil {
			t.Fatal(err)
		}
		var o observer
		b := open(t, after, Options{Observe: o.observe})
		poll.Until(t, "all is read again", func() bool { return len(o.of(SegmentVerified)) == segmentsOf(t, g)-1 })
		for _, e := range o.of(SegmentVerified) {
			if errors.Is(e.Err, ErrDamaged) != (e.Segment == seq) {
				t.Fatalf("segment %d is damaged, and of %d it is said: %v", seq, e.Segment, e.Err)
			}
		}
		mustClose(t, b)
		tl, _, _ := at.readTimeline(visitor{})
		for _, s := range tl.Segments {
			if s.Damaged != (s.Seq == seq) || s.Sealed && s.Verified == s.Damaged {
				t.Fatalf("segment %d is damaged, and the timeline says %+v", seq, s)
			}
		}
		if b = open(t, after, Options{Observe: o.observe}); b.Progress().Failed != nil {
			t.Fatalf("a damaged segment failed the archive: %v", b.Progress().Failed)
		}
		mustClose(t, b)
	}
	t.Logf("%d flipped bits", n)
}

func TestAGenerationMayBeRenamedWhileItsLogIsOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, Options{SegmentSize: small})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	r := rand.New(rand.NewPCG(29, 29))
	names := []generation{generationIn(dir, 1), generationIn(dir, 2), generationIn(dir, 3)}
	for i := range 30 {
		f.feedSlowly(r, commands(r, 20))
		if err := a.log.Load().rename(names[(i+1)%len(names)]); err != nil {
			t.Fatal(err)
		}
	}
	f.awaitStored()
	last := names[30%len(names)]
	closed := segmentsOf(t, last) - 1
	poll.Until(t, "all closed segments are verified", func() bool {
		m, _, _ := Describe(dir)
		return m.Generations[0].Verified == closed
	})
	mustClose(t, a)
	if got := segmentBytes(t, last); !bytes.Equal(got, f.sent.Bytes()) {
		t.Fatal("the segments do not hold the stream")
	}
	if closed < 5 {
		t.Fatalf("only %d rotations", closed)
	}
}

func TestAnArchiveOfTheTimeBeforeRotationOpensAndGoesOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stream := stored(t, dir, 400)
	g := generationIn(dir, 1)
	p, _ := os.ReadFile(g.timeline())
	old := append(bytes.Clone(p), sealed(nil, "verified base")...)
	if line := verifiedLine(p); len(line) > 0 { // the base was read again before the archive was closed
		old = bytes.Replace(p, line, sealed(nil, "verified base"), 1)
	}
	if err := os.WriteFile(g.timeline(), old, 0o640); err != nil {
		t.Fatal(err)
	}
	checkRecovered(t, dir, stream, 9, 9+int64(len(stream)))
	r := rand.New(rand.NewPCG(30, 30))
	stream = append(stream, commands(r, 100)...)
	checkGoesOn(t, dir, stream, 9)
	tl, _, _ := g.readTimeline(visitor{})
	if len(tl.Segments) < 2 || !tl.Verified || tl.HasBaseCRC {
		t.Fatalf("%+v", tl)
	}
}

func TestAClosedGenerationHasAllItsSegmentsSealed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, Options{AppendFsync: No, SegmentSize: small})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	r := rand.New(rand.NewPCG(31, 31))
	f.feedSlowly(r, commands(r, 100))
	whole := bytes.Clone(f.sent.Bytes())
	f.feed([]byte("*3\r\n$3\r\nSET\r\n$1\r\nk"), 100)
	f.awaitStored()
	fullSync(t, a, replica.FullSync{ReplID: idB, Size: -1}, rdbtest.Empty(0, true))
	g := generationIn(dir, 1)
	if got := segmentBytes(t, g); !bytes.Equal(got, whole) {
		t.Fatal("the segments do not hold the stream")
	}
	tl, _, _ := g.readTimeline(visitor{})
	for _, s := range tl.Segments {
		if !s.Sealed || !tl.Closed {
			t.Errorf("%+v of a closed generation: %v", s, tl.Closed)
		}
	}
	mustClose(t, a)
	// A power cut may take the last byte of the line that says so.
	st, err := os.Stat(g.timeline())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(g.timeline(), st.Size()-1); err != nil {
		t.Fatal(err)
	}
	mustClose(t, open(t, dir, Options{}))
	if tl, _, _ := g.readTimeline(visitor{}); !tl.Closed || !bytes.Equal(segmentBytes(t, g), whole) {
		t.Errorf("behind a torn end the generation is %+v", tl)
	}
}

func TestARecordWithoutASlotIsLookedForBehindTheLastVerifiedSegment(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, Options{AppendFsync: No, SegmentSize: small})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	r := rand.New(rand.NewPCG(32, 32))
	f.feedSlowly(r, commands(r, 100))
	mustClose(t, a)
	g := generationIn(dir, 1)
	if err := os.WriteFile(g.fsynced(), nil, 0o640); err != nil {
		t.Fatal(err)
	}
	s, err := recoverGeneration(g, Options{disk: realDisk()}, false)
	if err != nil || s.at.end.offset != f.end() || s.recovery.Why == "" {
		t.Fatalf("recovered to %+v, want %d: %v", s, f.end(), err)
	}
	tl, _, _ := g.readTimeline(visitor{})
	verified := 0
	for _, seg := range tl.Segments {
		if seg.Verified {
			verified++
		}
	}
	if want := len(tl.Segments) - verified; len(s.walked) != want {
		t.Fatalf("%d segments were read, want %d", len(s.walked), want)
	}
	checkGoesOn(t, dir, append(f.sent.Bytes(), commands(r, 10)...), 0)
}

func TestDamagedLinesGoFromTheTimelineThatIsContinued(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stream := stored(t, dir, 100)
	g := generationIn(dir, 1)
	p, _ := os.ReadFile(g.timeline())
	p = append(p, make([]byte, 50)...)
	p = append(p, '\n')
	if err := os.WriteFile(g.timeline(), p, 0o640); err != nil {
		t.Fatal(err)
	}
	a := open(t, dir, Options{})
	if rec := a.Recovery(); rec.Cut != 0 || !strings.Contains(rec.Why, "1 damaged line") {
		t.Fatalf("%+v", rec)
	}
	mustClose(t, a)
	checkRecovered(t, dir, stream, 9, 9+int64(len(stream)))
}

func TestMarksAreAsFarApartAsTheResolutionSays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, Options{TimelineResolution: time.Hour})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	for range 10 {
		f.feed(resp.AppendCommand(nil, "SET", "k", "v"), 100)
		f.awaitStored()
		time.Sleep(2 * time.Millisecond) // so that their times differ
	}
	p, _ := os.ReadFile(generationIn(dir, 1).timeline())
	if n := bytes.Count(p, []byte("mark ")); n != 1 {
		t.Fatalf("%d marks within an hour:\n%s", n, p)
	}
	mustClose(t, a)
	dir = t.TempDir()
	a = open(t, dir, Options{TimelineResolution: time.Millisecond})
	f = fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	poll.Until(t, "there are 5 marks", func() bool {
		f.feed(resp.AppendCommand(nil, "SET", "k", "v"), 100)
		p, _ := os.ReadFile(generationIn(dir, 1).timeline())
		return bytes.Count(p, []byte("mark ")) >= 5
	})
}

func TestASegmentWhoseFactIsLostBetweenOthersEndsTheHistoryBeforeIt(t *testing.T) {
	t.Parallel()
	// Lines that were not fsynced may be lost one by one.
	for _, lost := range [][]string{{"segment 3 "}, {"sealed 2 ", "segment 3 "}} {
		withoutLines(t, lost)
	}
}

// withoutLines loses lines of the third segment's beginning.
func withoutLines(t *testing.T, lost []string) {
	t.Helper()
	dir := t.TempDir()
	var first checkpoint
	a := open(t, dir, Options{AppendFsync: No, SegmentSize: small})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	first = a.log.Load().shared.stored
	r := rand.New(rand.NewPCG(33, 33))
	f.feedSlowly(r, commands(r, 100))
	mustClose(t, a)
	g := generationIn(dir, 1)
	p, _ := os.ReadFile(g.timeline())
	tl, _, _ := g.readTimeline(visitor{})
	end := tl.Segments[1].To
	for _, line := range lost {
		for i := bytes.Index(p, []byte(line)); p[i] != '\n'; i++ {
			p[i] = 0
		}
	}
	if err := os.WriteFile(g.timeline(), p, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := realDisk().write(g.fsynced(), blankFsynced(first)); err != nil {
		t.Fatal(err)
	}
	pos := checkRecovered(t, dir, f.sent.Bytes(), 0, 0)
	if pos.Offset > end || len(lost) == 1 && pos.Offset < end {
		t.Fatalf("recovered to %d, want the end of the second segment, %d", pos.Offset, end)
	}
	checkGoesOn(t, dir, f.sent.Bytes(), 0)
}
