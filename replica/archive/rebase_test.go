package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"replicad/integration/poll"
	"replicad/replica"
	"replicad/replica/rdb/rdbtest"
	"replicad/replica/resp"
)

// takeBase takes a base beside the log.
func takeBase(t *testing.T, a *Archive, id string, at resp.Boundary) *Rebase {
	t.Helper()
	r := a.NewRebase()
	b, err := r.BeginBase(replica.FullSync{ReplID: id, Offset: at.Offset, Size: -1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Write(rdbtest.Empty(uint8(at.DB), true)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	return r
}

// boundariesOf gives the places where a stream behind an offset may be divided.
func boundariesOf(t *testing.T, stream []byte, base int64) (all []resp.Boundary) {
	t.Helper()
	s := resp.NewScanner(0, resp.Limits{})
	for i := range stream {
		if _, _, err := s.Scan(stream[i : i+1]); err != nil {
			t.Fatal(err)
		}
		if b := s.Boundary(); len(all) == 0 || base+b.Offset > all[len(all)-1].Offset {
			all = append(all, resp.Boundary{Offset: base + b.Offset, DB: b.DB})
		}
	}
	return all
}

// log1 is an archive with a log of many segments behind offset 50.
func log1(t *testing.T, dir string, seed uint64, opt Options) (*Archive, *feeder, *rand.Rand) {
	t.Helper()
	r := rand.New(rand.NewPCG(60, seed))
	opt.SegmentSize, opt.TimelineResolution = small, time.Nanosecond
	a := open(t, dir, opt)
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Offset: 50, Size: -1}, rdbtest.Empty(0, true))
	f.feedSlowly(r, commands(r, 40))
	return a, f, r
}

func TestARebaseMakesAGenerationOfItsBaseAndTheLogBehindTheBase(t *testing.T) {
	t.Parallel()
	linked, copied := 0, 0
	for seed := range uint64(soak(12, 300)) {
		dir := t.TempDir()
		a, f, r := log1(t, dir, seed, Options{AppendFsync: Policy(seed % 2)})
		if seed%2 == 0 {
			a.Continue(idB)
			f.feedSlowly(r, commands(r, 10))
		}
		f.awaitStored()
		all := boundariesOf(t, f.sent.Bytes(), 50)
		at := all[r.IntN(len(all))]
		if seed%6 == 0 {
			at = all[0] // where the base before is
		}
		id := idA
		for _, h := range a.log.Load().shared.histories {
			if h.From <= at.Offset {
				id = h.ReplID
			}
		}
		re := takeBase(t, a, id, at)
		done := make(chan error, 1)
		go func() { done <- re.TakeOver(context.Background()) }()
		f.feedSlowly(r, commands(r, 30))
		if err := <-done; err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if err := re.Abort(); err != nil {
			t.Fatal(err)
		}
		if is, ok := a.Current(); !ok || is.Generation != 2 || is.BaseOffset != at.Offset {
			t.Fatalf("the current generation is %+v, %v", is, ok)
		}
		f.feedSlowly(r, commands(r, 30))
		f.awaitDurable()
		g1, g2 := generationIn(dir, 1), generationIn(dir, 2)
		poll.Until(t, "all is verified", func() bool {
			m, _, _ := Describe(dir)
			g := m.Generations[1]
			return g.BaseVerified && g.Verified == segmentsOf(t, g2)-1
		})
		mustClose(t, a)
		tl, _, _ := g1.readTimeline(visitor{})
		end := tl.Segments[len(tl.Segments)-1].To
		if !tl.Closed || end < at.Offset {
			t.Fatalf("seed %d: generation 1 ends at %d, closed: %v", seed, end, tl.Closed)
		}
		if got := segmentBytes(t, g1); !bytes.Equal(got, f.sent.Bytes()[:end-50]) {
			t.Fatalf("seed %d: generation 1 has changed", seed)
		}
		if got := segmentBytes(t, g2); !bytes.Equal(got, f.sent.Bytes()[at.Offset-50:]) {
			t.Fatalf("seed %d: generation 2 holds %d other bytes", seed, len(got))
		}
		loadable(t, g1)
		loadable(t, g2)
		agreesUpTo(t, g1, g2, at.Offset, end)
		now, _, _ := g2.readTimeline(visitor{})
		for _, s := range now.Segments {
			for _, old := range tl.Segments {
				if old.From == s.From && old.To == s.To && old.Sealed && s.To > s.From {
					if inode(t, g1.segment(old.Seq)) != inode(t, g2.segment(s.Seq)) {
						t.Errorf("segment %d is a copy of %d", s.Seq, old.Seq)
					}
					linked++
				}
			}
			if s.From == at.Offset && s.To <= end {
				copied++
			}
		}
		a = open(t, dir, Options{})
		if p, ok := a.Position(); !ok || p.Offset != boundariesOf(t, f.sent.Bytes(), 50)[len(boundariesOf(t, f.sent.Bytes(), 50))-1].Offset || a.Recovery().Why != "" {
			t.Errorf("seed %d: opened at %+v, %v; %+v", seed, p, ok, a.Recovery())
		}
		mustClose(t, a)
	}
	if linked == 0 || copied == 0 {
		t.Errorf("%d segments were linked, %d copied", linked, copied)
	}
}

// agreesUpTo is agrees for a generation that goes on behind hi.
func agreesUpTo(t *testing.T, g, to generation, lo, hi int64) {
	t.Helper()
	marks := func(g generation) (all []Moment) {
		r, err := openReader(g)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if err := r.Marks(func(m Mark) bool {
			if m.Offset > lo && m.Offset <= hi {
				all = append(all, Moment{m.Time, m.Offset})
			}
			return true
		}); err != nil {
			t.Fatal(err)
		}
		return all
	}
	if old, now := marks(g), marks(to); fmt.Sprint(old) != fmt.Sprint(now) {
		t.Fatalf("behind %d there are %d marks, and were %d", lo, len(now), len(old))
	}
}

func TestWhatComesWhileABaseIsOnItsWayIsNotCopied(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, Options{SegmentSize: 64 << 20})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Offset: 50, Size: -1}, rdbtest.Empty(0, true))
	set := resp.AppendCommand(nil, "SET", "k", strings.Repeat("v", 10_000))
	f.feed(set, 1<<20)
	at := f.end() + int64(len(set)) // ahead of the log
	re := a.NewRebase()
	b, err := re.BeginBase(replica.FullSync{ReplID: idA, Offset: at, Size: -1})
	if err != nil {
		t.Fatal(err)
	}
	f.feed(set, 1<<20)
	poll.Until(t, "a segment behind the base's offset", func() bool {
		f.feed(resp.AppendCommand(nil, "PING"), 100)
		return segmentsOf(t, generationIn(dir, 1)) == 2
	})
	for range 200 {
		f.feed(set, 1<<20)
	}
	if _, err := b.Write(rdbtest.Empty(0, true)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := re.TakeOver(context.Background()); err != nil {
		t.Fatal(err)
	}
	f.awaitStored()
	mustClose(t, a)
	g1, g2 := generationIn(dir, 1), generationIn(dir, 2)
	if got := segmentBytes(t, g2); !bytes.Equal(got, f.sent.Bytes()[at-50:]) {
		t.Error("generation 2 holds other bytes")
	}
	var copied int64
	tl, _, _ := g2.readTimeline(visitor{})
	for _, s := range tl.Segments[:len(tl.Segments)-1] {
		shared := false
		for n := 1; n <= segmentsOf(t, g1); n++ {
			shared = shared || inode(t, g1.segment(n)) == inode(t, g2.segment(s.Seq))
		}
		if !shared {
			copied += s.Size()
		}
	}
	if copied > 50_000 {
		t.Errorf("%d bytes were copied", copied)
	}
}

func TestARebaseWaitsUntilTheLogHasReachedItsBase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, f, r := log1(t, dir, 1, Options{})
	more := commands(r, 20)
	ahead := boundariesOf(t, append(bytes.Clone(f.sent.Bytes()), more...), 50)
	at := ahead[len(ahead)-5]
	re := takeBase(t, a, idB, at) // an id that is not known yet
	done := make(chan error, 1)
	go func() { done <- re.TakeOver(context.Background()) }()
	a.Continue(idB)
	for i := range more {
		if f.end() < at.Offset {
			select {
			case err := <-done:
				t.Fatalf("at %d it had taken over at %d: %v", f.end(), at.Offset, err)
			default:
			}
		}
		f.feed(more[i:i+1], 1)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	f.awaitDurable()
	mustClose(t, a)
	if got := segmentBytes(t, generationIn(dir, 2)); !bytes.Equal(got, f.sent.Bytes()[at.Offset-50:]) {
		t.Errorf("generation 2 holds %d other bytes", len(got))
	}
}

func TestAnActOfTheLogTakesNoOthersPlace(t *testing.T) {
	t.Parallel()
	a, f, r := log1(t, t.TempDir(), 1, Options{})
	g := a.log.Load()
	more := commands(r, 1)
	f.feed(more[:len(more)-1], 1) // no boundary: an act waits
	f.awaitDurable()
	for range 100 {
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error)
		for range 3 {
			go func() { ended <- g.atBoundary(ctx, func(*writer) bool { return true }) }()
		}
		poll.Seen(t, "an act to be asked for", func() (bool, string) {
			g.shared.Lock()
			defer g.shared.Unlock()
			return g.shared.act != nil, "none"
		})
		cancel()
		for range 3 {
			select {
			case err := <-ended:
				if !errors.Is(err, context.Canceled) {
					t.Fatalf("an act ended with %v, want that it was cancelled", err)
				}
			case <-time.After(time.Minute):
				t.Fatal("an act lost its place: it is neither done nor cancelled")
			}
		}
	}
	done := make(chan error, 1)
	go func() { done <- g.atBoundary(context.Background(), func(*writer) bool { return true }) }()
	f.feed(more[len(more)-1:], 1)
	if err := <-done; err != nil {
		t.Error(err)
	}
	mustClose(t, a)
}

func TestABaseThatHasNoPlaceInTheLogIsGivenUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, f, _ := log1(t, dir, 2, Options{})
	f.feed(resp.AppendCommand(nil, "MULTI"), 1000)
	f.feed(resp.AppendCommand(nil, "SET", "in", "it"), 1000)
	inside := f.end()
	f.feed(resp.AppendCommand(nil, "SET", "in", "it"), 1000)
	f.feed(resp.AppendCommand(nil, "EXEC"), 1000)
	f.awaitStored()
	all := boundariesOf(t, f.sent.Bytes(), 50)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for name, c := range map[string]struct {
		id   string
		at   int64
		want error
		ctx  context.Context
	}{
		"another history":             {idB, all[3].Offset, ErrRebase, context.Background()},
		"inside a command":            {idA, all[3].Offset + 1, ErrBoundary, context.Background()},
		"inside a transaction":        {idA, inside, ErrBoundary, context.Background()},
		"never reached":               {idA, f.end() + 1, context.Canceled, ctx},
		"cancelled in the middle":     {idA, all[3].Offset, context.Canceled, ctx},
		"before the base":             {idA, 20, ErrRebase, context.Background()},
		"an offset beyond everything": {idA, 1 << 60, context.Canceled, ctx},
	} {
		re := takeBase(t, a, c.id, resp.Boundary{Offset: c.at})
		if err := re.TakeOver(c.ctx); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err := re.Abort(); err != nil {
			t.Error(err)
		}
		f.feed(resp.AppendCommand(nil, "SET", "goes", "on"), 1000)
		f.awaitStored()
		if left := inTheMaking(t, dir); len(left) > 0 {
			t.Errorf("%s: it left %v", name, left)
		}
	}
	mustClose(t, a)
	if got := segmentBytes(t, generationIn(dir, 1)); !bytes.Equal(got, f.sent.Bytes()) {
		t.Error("generation 1 does not hold the stream")
	}
	if n := numbers(t, dir); len(n) != 1 {
		t.Errorf("the generations are %v", n)
	}
}

func TestADamagedBaseBeginsNoGeneration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, f, _ := log1(t, dir, 3, Options{})
	f.awaitStored()
	all := boundariesOf(t, f.sent.Bytes(), 50)
	re := takeBase(t, a, idA, all[len(all)-1])
	path := generationIn(dir, 2).tmp().base()
	p, _ := os.ReadFile(path)
	p[len(p)-1] ^= 1
	os.WriteFile(path, p, 0o640)
	if err := re.TakeOver(context.Background()); !errors.Is(err, ErrRebase) || !badRDB(err) {
		t.Error(err)
	}
	re.Abort()
	if a.Progress().Failed != nil || len(numbers(t, dir)) != 1 {
		t.Error("the log has failed")
	}
}

func TestABaseThatIsDamagedAfterARebaseTakesNoLogWithIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, f, r := log1(t, dir, 12, Options{})
	f.awaitStored()
	all := boundariesOf(t, f.sent.Bytes(), 50)
	if err := takeBase(t, a, idA, all[len(all)/2]).TakeOver(context.Background()); err != nil {
		t.Fatal(err)
	}
	mustClose(t, a)
	path := generationIn(dir, 2).base()
	p, _ := os.ReadFile(path)
	p[len(p)-1] ^= 1
	if err := os.WriteFile(path, p, 0o640); err != nil {
		t.Fatal(err)
	}

	a = open(t, dir, Options{SegmentSize: small})
	pos, _ := a.Position()
	g := newFeeder(t, a, pos)
	g.feedSlowly(r, commands(r, 40))
	g.awaitDurable()
	// Segments are read again behind the base.
	g.eventually("a segment that came since to be verified", func() bool {
		tl, _, err := generationIn(dir, 2).readTimeline(visitor{})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range tl.Segments {
			if s.Verified && s.From >= pos.Offset {
				return true
			}
		}
		return false
	})
	if err := a.Progress().Failed; err != nil {
		t.Error(err)
	}
	if err := a.Reset(); err != nil {
		t.Fatal(err)
	}
	if got, ok := a.Position(); !ok || got.Offset != g.end() || len(numbers(t, dir)) != 2 {
		t.Errorf("%+v, %v, generations %v; want offset %d in 2 generations", got, ok, numbers(t, dir), g.end())
	}
}

func TestTheBaseOfARebaseIsGivenUpBeforeTheDiskIsFull(t *testing.T) {
	t.Parallel()
	free := int64(100 << 20)
	opt := Options{disk: realDisk()}
	opt.disk.free = func(string) (int64, error) { return free, nil }
	a, _, _ := log1(t, t.TempDir(), 4, opt)
	for _, size := range []int64{-1, 1 << 20} {
		re := a.NewRebase()
		b, err := re.BeginBase(replica.FullSync{ReplID: idA, Offset: 99, Size: size})
		if err != nil {
			t.Fatal(err)
		}
		free = spareBeside - 1
		if _, err := b.Write([]byte("REDIS0011")); !errors.Is(err, replica.ErrNoRoom) {
			t.Errorf("size %d: %v", size, err)
		}
		b.Abort()
		free = 100 << 20
	}
	if err := a.Room(); err != nil {
		t.Errorf("a full sync of the link itself: %v", err)
	}
}

func TestFoldersThatAKillLeftAreRemovedWhenTheNextBaseIsTaken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, f, _ := log1(t, dir, 5, Options{})
	f.awaitStored()
	for n := 2; n < 6; n++ {
		if err := os.MkdirAll(generationIn(dir, n).tmp().aofs(), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	all := boundariesOf(t, f.sent.Bytes(), 50)
	one := takeBase(t, a, idA, all[len(all)-1])
	two := takeBase(t, a, idA, all[len(all)-1])
	if left := inTheMaking(t, dir); len(left) != 2 {
		t.Errorf("beside two bases that are taken there are %v", left)
	}
	one.Abort()
	if err := two.TakeOver(context.Background()); err != nil {
		t.Error(err)
	}
	if left := inTheMaking(t, dir); len(left) != 0 {
		t.Errorf("left are %v", left)
	}
}

// inTheMaking lists the generations that are in the making.
func inTheMaking(t *testing.T, dir string) []generation {
	t.Helper()
	_, making, err := generations(dir)
	if err != nil {
		t.Fatal(err)
	}
	return making
}

// copyTree copies a folder as it is on the disk: files that are one stay one.
func copyTree(from, to string) error {
	seen := map[uint64]string{}
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		dst := to + strings.TrimPrefix(path, from)
		if e.IsDir() {
			return os.MkdirAll(dst, 0o750)
		}
		st, err := e.Info()
		if err != nil {
			return err
		}
		n := st.Sys().(*syscall.Stat_t).Ino
		if first, ok := seen[n]; ok {
			return os.Link(first, dst)
		}
		seen[n] = dst
		p, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(dst, p, 0o640)
	})
}

// stepped is a disk whose every call goes through step, which may refuse it.
func stepped(step func(op, name string) error) disk {
	d, real := realDisk(), realDisk()
	d.pwrite = func(f *os.File, p []byte, off int64) (int, error) {
		if err := step("pwrite", f.Name()); err != nil {
			return 0, err
		}
		return real.pwrite(f, p, off)
	}
	d.fdatasync = func(f *os.File) error {
		if err := step("fdatasync", f.Name()); err != nil {
			return err
		}
		return real.fdatasync(f)
	}
	d.syncDir = func(path string) error {
		if err := step("fsync", path); err != nil {
			return err
		}
		return real.syncDir(path)
	}
	d.link = func(from, to string) error {
		if err := step("link", to); err != nil {
			return err
		}
		return real.link(from, to)
	}
	d.rename = func(from, to string) error {
		if err := step("rename", to); err != nil {
			return err
		}
		return real.rename(from, to)
	}
	return d
}

// checkHolds opens an archive and checks that its newest generation holds the
// stream from its base on, up to least at least, and each older one what it
// held; then that it goes on.
func checkHolds(t *testing.T, dir string, stream []byte, least int64) {
	t.Helper()
	a, err := Open(dir, Options{AppendFsync: Always})
	if err != nil {
		t.Fatal(err)
	}
	pos, ok := a.Position()
	s := resp.NewScanner(0, resp.Limits{})
	if _, _, err := s.Scan(stream[:least-50]); err != nil {
		t.Fatal(err)
	}
	if want := 50 + s.Boundary().Offset; !ok || pos.Offset < want {
		t.Fatalf("opened at %+v, %v: %d were stored; %+v", pos, ok, want, a.Recovery())
	}
	f := newFeeder(t, a, pos)
	f.feed(stream[pos.Offset-50:], 10_000)
	f.awaitDurable()
	mustClose(t, a)
	done, making, err := generations(dir)
	if err != nil || len(making) > 0 || len(done) == 0 {
		t.Fatalf("the generations are %v and %v, %v", done, making, err)
	}
	for i, g := range done {
		tl, _, err := g.readTimeline(visitor{})
		if err != nil {
			t.Fatal(err)
		}
		got := segmentBytes(t, g)
		if !bytes.HasPrefix(stream[tl.BaseOffset-50:], got) {
			t.Fatalf("generation %d holds %d other bytes", g.number, len(got))
		}
		if last := i+1 == len(done); last && tl.BaseOffset+int64(len(got)) != 50+int64(len(stream)) {
			t.Fatalf("generation %d ends at %d of %d", g.number, tl.BaseOffset+int64(len(got)), 50+len(stream))
		} else if !last && !tl.Closed {
			t.Fatalf("generation %d is not ended", g.number)
		}
		loadable(t, g)
	}
}

func TestAKillAtAnyStepOfARebaseLosesNothing(t *testing.T) {
	t.Parallel()
	type kill struct {
		dir    string
		stored int64
		at     string
	}
	var kills []kill
	var streams [][]byte
	var of []int
	after := 0
	for seed := range uint64(soak(3, 20)) {
		dir := t.TempDir()
		chance := rand.New(rand.NewPCG(61, seed))
		var a *Archive
		var mu sync.Mutex
		on, n := false, map[bool]int{}
		a, f, r := log1(t, dir, 10+seed, Options{AppendFsync: No, disk: stepped(func(op, name string) error {
			mu.Lock()
			defer mu.Unlock()
			renamed, _ := exists(generationIn(dir, 2).dir)
			if !on || n[renamed] == 40 || !strings.Contains(name, "generation-000002") && op != "fsync" && chance.IntN(4) > 0 {
				return nil
			}
			k := kill{t.TempDir(), a.Progress().Stored, op + " " + filepath.Base(name)}
			if copyTree(dir, k.dir) == nil { // else something was renamed meanwhile
				kills, of = append(kills, k), append(of, int(seed))
				n[renamed]++
			}
			return nil
		})})
		f.awaitStored()
		all := boundariesOf(t, f.sent.Bytes(), 50)
		re := takeBase(t, a, idA, all[len(all)/2+chance.IntN(len(all)/2)])
		mu.Lock()
		on = true
		mu.Unlock()
		done := make(chan error, 1)
		go func() { done <- re.TakeOver(context.Background()) }()
		f.feedSlowly(r, commands(r, 20))
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		on = false
		mu.Unlock()
		mustClose(t, a)
		streams = append(streams, bytes.Clone(f.sent.Bytes()))
	}
	for i, k := range kills {
		if ok, _ := exists(generationIn(k.dir, 2).dir); ok {
			after++
		}
		t.Run(k.at, func(t *testing.T) { checkHolds(t, k.dir, streams[of[i]], k.stored) })
	}
	t.Logf("%d kills, %d of them behind the rename", len(kills), after)
	if after == 0 || after == len(kills) {
		t.Error("the test does not test what it says")
	}
}

func TestAPowerCutAtAnyStepOfARebaseOrForkLosesNothing(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(t *testing.T, a *Archive, j *journal, all []resp.Boundary) (before int64){
		"rebase": func(t *testing.T, a *Archive, j *journal, all []resp.Boundary) int64 {
			re := takeBase(t, a, idA, all[len(all)/2])
			j.wasSynced(t, generationIn(a.dir, 2).tmp().base())
			if err := re.TakeOver(context.Background()); err != nil {
				t.Fatal(err)
			}
			return all[len(all)-1].Offset
		},
		"fork": func(t *testing.T, a *Archive, j *journal, all []resp.Boundary) int64 {
			at, ok := a.ForkAt(master(idC, 1e9, idA, all[len(all)/2].Offset))
			if !ok {
				t.Fatal("no fork")
			}
			if _, err := a.Fork(at); err != nil {
				t.Fatal(err)
			}
			return at.Offset
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			renamed, n := 0, 0
			for seed := range uint64(soak(4, 40)) {
				dir := t.TempDir()
				chance := rand.New(rand.NewPCG(64, seed))
				j, d := watched()
				a, f, _ := log1(t, dir, 70+seed, Options{AppendFsync: Everysec, disk: d})
				f.awaitStored()
				a.log.Load().flusher.sync()
				j.begin(t, dir)
				all := boundariesOf(t, f.sent.Bytes(), 50)
				type power struct {
					dir     string
					durable int64
					at      string
				}
				var cuts []power
				j.mu.Lock()
				var mu sync.Mutex // several goroutines fsync
				j.before = func(name string) {
					mu.Lock()
					defer mu.Unlock()
					times := 0
					if len(cuts) < 60 {
						times = min(1, chance.IntN(3))
					}
					if name == dir { // behind the rename, which may be lost or not
						times = 4
					}
					for range times {
						c := power{t.TempDir(), a.Progress().Durable, filepath.Base(name)}
						j.cutPower(t, chance, dir, c.dir)
						cuts = append(cuts, c)
					}
				}
				j.mu.Unlock()
				behind := do(t, a, j, all)
				j.mu.Lock()
				j.before = nil
				j.mu.Unlock()
				before := bytes.Clone(f.sent.Bytes())
				after := before
				if name == "fork" {
					after = before[:behind-50]
				}
				mustClose(t, a)
				for _, c := range cuts {
					n++
					b, err := Open(c.dir, Options{})
					if err != nil {
						t.Fatalf("seed %d, at %s: %v", seed, c.at, err)
					}
					pos, ok := b.Position()
					mustClose(t, b)
					done, making, _ := generations(c.dir)
					if !ok || len(making) > 0 {
						t.Fatalf("seed %d, at %s: %+v, %v, %v; %+v", seed, c.at, pos, ok, making, b.Recovery())
					}
					want := before
					if len(done) > 1 {
						renamed++
						want = after
					}
					least := resp.Boundary{}
					for _, x := range all {
						if x.Offset <= min(c.durable, 50+int64(len(want))) {
							least = x
						}
					}
					if pos.Offset < least.Offset {
						t.Fatalf("seed %d, at %s: opened at %d, and %d were durable; %+v", seed, c.at, pos.Offset, least.Offset, b.Recovery())
					}
					for _, g := range done {
						tl, _, err := g.readTimeline(visitor{})
						if err != nil {
							t.Fatal(err)
						}
						if got := segmentBytes(t, g); !bytes.HasPrefix(before[tl.BaseOffset-50:], got) {
							t.Fatalf("seed %d, at %s: generation %d holds %d other bytes", seed, c.at, g.number, len(got))
						}
						loadable(t, g)
					}
				}
			}
			t.Logf("%d power cuts, %d behind the rename", n, renamed)
			if renamed == 0 || renamed == n {
				t.Error("the test does not test what it says")
			}
		})
	}
}

func TestARebaseThatFailsAtAnyStepLeavesALogThatGoesOn(t *testing.T) {
	t.Parallel()
	failed := map[string]bool{}
	causes := []error{syscall.ENOSPC, syscall.EMFILE, syscall.EROFS}
	// The number of steps varies a little: these are made to fail in any case.
	must := []string{"rename generation-000002", "pwrite " + ManifestName, "pwrite " + FsyncedName}
	for n, whole := 0, false; !whole || len(must) > 0; n++ {
		cause, named := causes[n%3], ""
		if whole {
			named, must = must[0], must[1:]
		}
		dir := t.TempDir()
		var mu sync.Mutex
		left, what := -1, ""
		a, f, r := log1(t, dir, 8, Options{AppendFsync: No, disk: stepped(func(op, name string) error {
			mu.Lock()
			defer mu.Unlock()
			if left < 0 || !strings.Contains(name, "generation-000002") {
				return nil
			}
			if named != "" && op+" "+filepath.Base(name) != named {
				return nil
			}
			if left--; left >= 0 && named == "" {
				return nil
			}
			left = -1
			what = op + " " + filepath.Base(name)
			return &os.PathError{Op: op, Path: name, Err: cause}
		})})
		f.awaitStored()
		all := boundariesOf(t, f.sent.Bytes(), 50)
		re := takeBase(t, a, idA, all[1+r.IntN(len(all)-1)])
		mu.Lock()
		left = n
		mu.Unlock()
		err := re.TakeOver(context.Background())
		mu.Lock()
		at := what
		left = -1
		mu.Unlock()
		if ok, _ := exists(generationIn(dir, 2).dir); ok { // what failed, if anything, is the log's there
			at = ""
		}
		if at == "" && err != nil || at != "" && !errors.Is(err, cause) {
			t.Fatalf("%q: %v", at, err)
		}
		if abort := re.Abort(); abort != nil || len(inTheMaking(t, dir)) > 0 {
			t.Fatalf("%q left %v, %v", at, inTheMaking(t, dir), abort)
		}
		f.feedSlowly(r, commands(r, 10))
		f.awaitStored()
		if p := a.Progress(); p.Failed != nil || p.Stalled != nil {
			t.Fatalf("%q: %+v", at, p)
		}
		mustClose(t, a)
		checkHolds(t, dir, f.sent.Bytes(), f.end())
		whole = whole || at == ""
		failed[at] = true
	}
	if !failed["rename generation-000002"] || !failed["pwrite "+ManifestName] || !failed["pwrite "+FsyncedName] {
		t.Errorf("the steps that failed are %v", failed)
	}
}

func TestAParentFolderThatCanNotBeFsyncedIsFoundWholeByReset(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var mu sync.Mutex
	broken := false
	a, f, r := log1(t, dir, 7, Options{AppendFsync: No, disk: stepped(func(op, name string) error {
		mu.Lock()
		defer mu.Unlock()
		if broken && op == "fsync" && name == dir {
			return &os.PathError{Op: op, Path: name, Err: syscall.EIO}
		}
		return nil
	})})
	f.awaitStored()
	all := boundariesOf(t, f.sent.Bytes(), 50)
	re := takeBase(t, a, idA, all[len(all)/2])
	set := func(is bool) { mu.Lock(); broken = is; mu.Unlock() }
	set(true)
	if err := re.TakeOver(context.Background()); !errors.Is(err, errDoubtful) {
		t.Fatal(err)
	}
	re.Abort()
	if a.Progress().Failed == nil {
		t.Fatal("the log has not failed")
	}
	if err := a.Reset(); err == nil {
		t.Fatal("opened, though nobody knows the newest generation's name")
	}
	set(false)
	if err := a.Reset(); err != nil {
		t.Fatal(err)
	}
	pos, ok := a.Position()
	if last := all[len(all)-1]; !ok || pos.Offset != last.Offset {
		t.Fatalf("%+v, %v; want %+v", pos, ok, last)
	}
	g := newFeeder(t, a, pos)
	g.feedSlowly(r, commands(r, 10))
	mustClose(t, a)
	checkHolds(t, dir, append(bytes.Clone(f.sent.Bytes()[:pos.Offset-50]), g.sent.Bytes()...), g.end())
}

func TestAFileThatTwoGenerationsShareCountsOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, f, r := log1(t, dir, 9, Options{})
	f.awaitStored()
	all := boundariesOf(t, f.sent.Bytes(), 50)
	for i := range 2 {
		if err := takeBase(t, a, idA, all[len(all)/4*(i+1)]).TakeOver(context.Background()); err != nil {
			t.Fatal(err)
		}
		f.feedSlowly(r, commands(r, 20))
	}
	mustClose(t, a)
	seen, sum := map[uint64]bool{}, int64(0)
	for n := 1; n <= 3; n++ {
		entries, err := os.ReadDir(generationIn(dir, n).aofs())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			path := generationIn(dir, n).aof(e.Name())
			if st, _ := e.Info(); e.Name() != ManifestName && !seen[inode(t, path)] {
				seen[inode(t, path)] = true
				sum += st.Size()
			}
		}
	}
	m, _, err := Describe(dir)
	if err != nil {
		t.Fatal(err)
	}
	var frees int64
	for i, g := range m.Generations {
		frees += g.Frees
		if g.Alone > g.Frees || g.Frees > g.Bytes || i < 2 && g.Alone == g.Bytes || i == 2 && g.Frees != g.Bytes {
			t.Errorf("generation %d: %d bytes, %d go with it, %d alone", g.Number, g.Bytes, g.Frees, g.Alone)
		}
	}
	if frees != sum {
		t.Errorf("the archive takes %d bytes, and says %d", sum, frees)
	}
	p, err := Prune(dir, Retention{KeepGenerations: 2, MaxBytes: 1}, time.Now(), false)
	if err != nil || p.Bytes != sum {
		t.Fatalf("%+v, %v", p, err)
	}
	m, _, _ = Describe(dir)
	left := m.Generations[len(m.Generations)-1]
	if p.BytesAfter != left.Bytes || len(m.Generations) != 1 {
		t.Errorf("%d bytes stay, of which the plan said %d", left.Bytes, p.BytesAfter)
	}
}
