package archive

import (
	"bytes"
	"errors"
	"fmt"
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

// waitMarked waits until the timeline of the first generation marks an offset.
func waitMarked(t *testing.T, dir string, off int64) {
	t.Helper()
	poll.Until(t, "marked", func() bool {
		p, _ := os.ReadFile(generationIn(dir, 1).timeline())
		return strings.Contains(string(p), fmt.Sprintf("offset %d ", off))
	})
}

func TestAResetThatIsTriedAgainStillTrustsOnlyWhatWasFsynced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var broken atomic.Bool
	opt := Options{disk: failingDisk(broken.Load)}
	a := open(t, dir, opt)
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	f.feed(resp.AppendCommand(nil, "SET", "a", "1"), 1000)
	f.awaitDurable()
	safe := f.end()
	broken.Store(true)
	f.feed(resp.AppendCommand(nil, "SET", "b", "2"), 1000)
	poll.Until(t, "failed", func() bool { return a.Progress().Failed != nil })
	// The first Reset can't open the segment: no descriptor is free, say.
	seg := generationIn(dir, 1).segment(1)
	os.Rename(seg, seg+".away")
	os.Mkdir(seg, 0o750)
	if err := a.Reset(); err == nil {
		t.Fatal("Reset opened a segment that is away")
	}
	os.Remove(seg)
	os.Rename(seg+".away", seg)
	broken.Store(false)
	if err := a.Reset(); err != nil {
		t.Fatal(err)
	}
	pos, _ := a.Position()
	if pos.Offset != safe {
		t.Fatalf("the second Reset: position %d durable %d, only %d was ever fsynced", pos.Offset, a.Progress().Durable, safe)
	}
}

func TestAnFsyncThatFailsInsideResetIsNotOverlooked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var fails atomic.Int64
	opt := Options{AppendFsync: No, disk: failingDisk(func() bool { return fails.Add(-1) >= 0 })}
	a := open(t, dir, opt)
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	f.feed(resp.AppendCommand(nil, "SET", "a", "1"), 1000)
	waitMarked(t, dir, f.end())
	fails.Store(1)
	if err := a.Reset(); err != nil { // after a stream that broke the protocol
		t.Fatal(err)
	}
	if p := a.Progress(); p.Durable != 0 {
		t.Fatalf("durable %d: the only fsync of those bytes failed", p.Durable)
	}
}

func TestBytesWhoseFsyncFailedAreWrittenAgainAfterARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var fails atomic.Int64
	opt := Options{AppendFsync: No, disk: failingDisk(func() bool { return fails.Add(-1) >= 0 })}
	a := open(t, dir, opt)
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	f.feed(resp.AppendCommand(nil, "SET", "a", "1"), 1000)
	waitMarked(t, dir, f.end())
	fails.Store(1)
	if err := a.Close(); !errors.Is(err, errLost) {
		t.Fatalf("Close said %v", err)
	}
	var again atomic.Int64
	opt.disk.pwrite = func(f *os.File, p []byte, off int64) (int, error) {
		if filepath.Ext(f.Name()) == ".aof" {
			again.Add(int64(len(p)))
		}
		return f.WriteAt(p, off)
	}
	a = open(t, dir, opt)
	if p := a.Progress(); p.Durable != 0 && again.Load() < p.Durable {
		t.Fatalf("durable %d after a restart: the only fsync that was tried after those bytes failed; nobody wrote them again", p.Durable)
	}
}

func TestTheReplicationIDOutlivesACutBeforeThePlaceWhereItBegan(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, Options{})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	f.feed(resp.AppendCommand(nil, "SET", "a", "1"), 1000)
	whole := f.end()
	f.feed([]byte("*3\r\n$3\r\nSET\r\n$1\r\nk"), 100) // the cut came inside a command
	a.Continue(idB)                                   // failover: +CONTINUE B
	f.awaitDurable()
	mustClose(t, a) // restart
	a = open(t, dir, Options{})
	pos, _ := a.Position()
	if pos.ReplID != idB || pos.Offset != whole {
		t.Fatalf("%+v", pos)
	}
	if ids := a.log.Load().shared.histories; ids[len(ids)-1] != (History{idB, whole}) {
		t.Fatalf("the log that goes on knows the ids %+v", ids)
	}
	// PSYNC B whole+1 -> +CONTINUE: the id is the one asked for, so the link
	// does not call Continue.
	f = newFeeder(t, a, pos)
	f.feed(resp.AppendCommand(nil, "SET", "a", "22222222222222222222222222222222222222222222222222"), 1000)
	f.awaitDurable()
	mustClose(t, a)
	a = open(t, dir, Options{})
	pos, _ = a.Position()
	if pos.ReplID != idB {
		t.Fatalf("the stream behind %d is B's, and Position says %+v", whole, pos)
	}
}

func TestAFullSyncThatFailsAfterTheRenameLeavesNoGeneration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, Options{})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	bad := strings.Repeat("a", 20) + "\t" + strings.Repeat("a", 19)
	for range 3 {
		b, err := a.BeginBase(replica.FullSync{ReplID: bad, Offset: 5000, Size: -1})
		if err != nil {
			t.Fatal(err)
		}
		b.Write(rdbtest.Empty(0, true))
		if _, err := b.Commit(); err == nil {
			t.Fatal("a replication id with a tab in it was taken")
		}
		b.Abort()
	}
	f.feed(resp.AppendCommand(nil, "SET", "a", "1"), 1000)
	f.awaitDurable()
	done, un, _ := generations(dir)
	if len(done) != 1 {
		t.Errorf("%d finished generations, %d unfinished, after three full syncs that failed", len(done), len(un))
	}
	mustClose(t, a)
	a = open(t, dir, Options{})
	pos, ok := a.Position()
	if !ok || pos.Offset != f.end() {
		t.Errorf("reopened at %+v %v; %d was durable and streamed on: %+v", pos, ok, f.end(), a.Recovery())
	}
}

func TestWhatFailsAndIsNoFsyncIsTriedAgainAndTakesNothing(t *testing.T) {
	t.Parallel()
	for name, what := range map[string]struct {
		suffix string
		op     string
		cause  error
	}{
		"the manifest is written on a full disk":     {ManifestName + tmpSuffix, "pwrite", syscall.ENOSPC},
		"the manifest's own fsync fails":             {ManifestName + tmpSuffix, "fdatasync", syscall.EIO},
		"a slot is written on a read-only disk":      {FsyncedName, "pwrite", syscall.EROFS},
		"the folder can't be opened: no descriptors": {AOFDir, "open", syscall.EMFILE},
		"the next segment is created on a full disk": {".incr.aof", "pwrite", syscall.ENOSPC},
		"the timeline is written on a full disk":     {TimelineName, "pwrite", syscall.ENOSPC},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			var broken atomic.Bool
			d := stepped(func(op, path string) error {
				if op == "fsync" {
					op = "open" // that comes first
				}
				if broken.Load() && op == what.op && strings.HasSuffix(path, what.suffix) {
					return &os.PathError{Op: op, Path: path, Err: what.cause}
				}
				return nil
			})
			a := open(t, dir, Options{AppendFsync: Always, SegmentSize: small, disk: d})
			f := fullSync(t, a, replica.FullSync{ReplID: idA, Offset: 50, Size: -1}, rdbtest.Empty(0, true))
			f.feed(commands(rand.New(rand.NewPCG(80, 1)), 10), 500)
			f.awaitDurable()
			broken.Store(true)
			poll.Seen(t, "it says so", func() (bool, string) {
				if len(a.Buffer()) > 0 { // one boundary at a time: see piece
					f.feed(resp.AppendCommand(nil, "SET", "k", strings.Repeat("v", 300)), 500)
				}
				p := a.Progress()
				return errors.Is(p.Stalled, what.cause), fmt.Sprintf("%+v", p)
			})
			if p := a.Progress(); p.Failed != nil || p.Durable > p.Stored {
				t.Errorf("%+v", p)
			}
			broken.Store(false)
			f.awaitDurable() // it heals by itself
			poll.Until(t, "it says so", func() bool { return a.Progress().Stalled == nil })
			mustClose(t, a)
			if got := segmentBytes(t, generationIn(dir, 1)); !bytes.Equal(got, f.sent.Bytes()) {
				t.Errorf("%d of %d bytes are there", len(got), f.sent.Len())
			}
			loadable(t, generationIn(dir, 1))
		})
	}
}

func TestTheEndOfAnOldGenerationIsWrittenDownOnceThereIsRoom(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var full atomic.Bool
	a := open(t, dir, Options{disk: stepped(func(op, path string) error {
		if full.Load() && op == "pwrite" && path == generationIn(dir, 1).timeline() {
			return &os.PathError{Op: op, Path: path, Err: syscall.ENOSPC}
		}
		return nil
	})})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	f.feed(resp.AppendCommand(nil, "SET", "a", "1"), 1000)
	f.awaitDurable()
	waitMarked(t, dir, f.end())
	full.Store(true)
	g := fullSync(t, a, replica.FullSync{ReplID: idB, Offset: 500, Size: -1}, rdbtest.Empty(0, true))
	if ended(generationIn(dir, 1).timeline()) {
		t.Fatal("it is ended on a full disk")
	}
	full.Store(false)
	poll.Until(t, "the end of generation 1", func() bool { return ended(generationIn(dir, 1).timeline()) })
	g.feed(resp.AppendCommand(nil, "SET", "a", "1"), 1000)
	g.awaitDurable()
	mustClose(t, a)
	if got := segmentBytes(t, generationIn(dir, 1)); !bytes.Equal(got, f.sent.Bytes()) {
		t.Error("generation 1 has changed")
	}
}

func TestASealedLineWithoutWordsIsDamage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stored(t, dir, 10)
	g := generationIn(dir, 1)
	p, _ := os.ReadFile(g.timeline())
	os.WriteFile(g.timeline(), append(p, " #00000000\n"...), 0o640)
	if tl, _, err := g.readTimeline(visitor{}); err != nil || tl.Damaged != 1 {
		t.Fatalf("%d damaged lines, %v; want 1", tl.Damaged, err)
	}
}

func TestAGenerationThatAKillLeftOpenIsEndedAtTheNextOpen(t *testing.T) {
	t.Parallel()
	dir, after := t.TempDir(), t.TempDir()
	var once sync.Once
	opt := Options{AppendFsync: No, disk: realDisk()}
	opt.disk.fdatasync = func(f *os.File) error {
		if ok, _ := exists(generationIn(dir, 2).dir); ok && strings.Contains(f.Name(), "generation-000001") && filepath.Ext(f.Name()) == ".aof" {
			once.Do(func() { os.CopyFS(after, os.DirFS(dir)) })
		}
		return fdatasync(f)
	}
	a := open(t, dir, opt)
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	f.feed(resp.AppendCommand(nil, "SET", "a", "1"), 1000)
	whole := bytes.Clone(f.sent.Bytes())
	f.feed(resp.AppendCommand(resp.AppendCommand(nil, "MULTI"), "SET", "b", "1"), 1000)
	f.awaitStored()
	fullSync(t, a, replica.FullSync{ReplID: idB, Offset: 5, Size: -1}, rdbtest.Empty(0, true))
	mustClose(t, a)
	a = open(t, after, Options{})
	mustClose(t, a)
	g := generationIn(after, 1)
	got := segmentBytes(t, g)
	tl, _, _ := g.readTimeline(visitor{})
	if !bytes.Equal(got, whole) || !tl.Closed {
		t.Fatalf("the old generation ends with %q, closed %v", got[len(whole):], tl.Closed)
	}
}

func TestAnEndedGenerationIsNeitherContinuedNorChanged(t *testing.T) {
	t.Parallel()
	for _, tail := range []string{"", "*3\r\n$3\r\nSET\r\n$1\r\nk"} {
		dir := t.TempDir()
		a := open(t, dir, Options{})
		f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
		f.feed(resp.AppendCommand(nil, "SET", "a", "1"), 1000)
		f.feed([]byte(tail), 1000)
		f.awaitDurable()
		payload := rdbtest.Empty(0, true)
		payload[len(payload)-12] ^= 1
		fullSync(t, a, replica.FullSync{ReplID: idB, Offset: 5, Size: -1}, payload)
		poll.Until(t, "damage", func() bool { return a.Progress().Failed != nil })
		before := snapshotDir(t, generationIn(dir, 1).dir)
		if err := a.Reset(); err != nil {
			t.Fatal(err)
		}
		pos, ok := a.Position()
		changed := false
		for n, p := range snapshotDir(t, generationIn(dir, 1).dir) {
			changed = changed || !bytes.Equal(p, before[n])
		}
		if ok || changed {
			t.Errorf("tail %q: continued at %+v: %v, changed: %v", tail, pos, ok, changed)
		}
	}
}

func TestNoRecordHasItsBoundaryBehindItsEnd(t *testing.T) {
	t.Parallel()
	a := open(t, t.TempDir(), Options{AppendFsync: No})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	g := a.log.Load()
	stop := make(chan struct{})
	var bad atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			g.shared.Lock()
			c := g.shared.stored
			g.shared.Unlock()
			if c.boundary.offset > c.end.offset {
				bad.Add(1)
			}
		}
	})
	p := bytes.Repeat(resp.AppendCommand(nil, "SET", "a", strings.Repeat("x", 100)), 1000)
	p = append(p, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\n"+strings.Repeat("x", 100000)+"\r\n"...)
	for d := time.Now().Add(200 * time.Millisecond); time.Now().Before(d); {
		f.feed(p, 50000)
	}
	close(stop)
	wg.Wait()
	if bad.Load() > 0 {
		t.Fatalf("%d snapshots of the flusher's kind have the boundary ahead of what was fsynced", bad.Load())
	}
}

func TestABaseWithADamagedMagicIsFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, Options{})
	fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	poll.Until(t, "verified", func() bool { m, _, _ := Describe(dir); return m.Generations[0].BaseVerified })
	mustClose(t, a)
	g := generationIn(dir, 1)
	p, _ := os.ReadFile(g.timeline())
	os.WriteFile(g.timeline(), bytes.Replace(p, verifiedLine(p), nil, 1), 0o640)
	b, _ := os.ReadFile(g.base())
	b[0] = 0
	os.WriteFile(g.base(), b, 0o640)
	a = open(t, dir, Options{})
	poll.Until(t, "somebody says that the base begins with a zero byte", func() bool { return a.Progress().Failed != nil })
}

func TestWithoutARecordStrictRecoveryStillAsksTheMarks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stored(t, dir, 100)
	g := generationIn(dir, 1)
	os.WriteFile(g.fsynced(), nil, 0o640)
	p, _ := os.ReadFile(g.segment(1))
	i := bytes.LastIndex(p, []byte("vvvvvvvvvv"))
	copy(p[i:], make([]byte, 10)) // zeros inside a value, which a mark speaks against
	os.WriteFile(g.segment(1), p, 0o640)
	s, err := recoverGeneration(g, Options{disk: realDisk()}, true)
	if err != nil {
		t.Fatal(err)
	}
	if s.at.end.offset+s.seg.Header-s.seg.From > int64(i) {
		t.Fatalf("strict recovery without a record kept %d bytes, zeros at %d included", s.at.end.offset+s.seg.Header-s.seg.From, i)
	}
}

func TestAGenerationWithoutManifestIsNotCompleteAndGoesOnWithANewOne(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stored(t, dir, 10)
	g := generationIn(dir, 1)
	before, err := os.ReadFile(g.aof(ManifestName))
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(g.aof(ManifestName))
	m, _, _ := Describe(dir)
	if m.Generations[0].Complete {
		t.Fatalf("without a manifest it is said to be complete: %+v", m.Generations[0])
	}
	// Base, segments and timeline say all that there is to restore.
	r, p, err := Locate(dir, Target{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	a := open(t, dir, Options{})
	if pos, known := a.Position(); !known || pos.Offset != p.Offset {
		t.Fatalf("it goes on at %+v, %v, and can be restored to %d", pos, known, p.Offset)
	}
	mustClose(t, a)
	if again, err := os.ReadFile(g.aof(ManifestName)); err != nil || !bytes.Equal(again, before) {
		t.Fatalf("the manifest holds %q, %v", again, err)
	}
}

func TestRotThatBreaksTheFramingTakesWhatIsBeforeItAlong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, Options{AppendFsync: No})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	g := a.log.Load()
	g.shared.Lock()
	first := g.shared.stored
	g.shared.Unlock()
	f.feed(resp.AppendCommand(nil, "SET", "a", "vvvvvvvvvvvv"), 1000)
	f.feed(resp.AppendCommand(nil, "SET", "b", "vvvvvvvvvvvv"), 1000)
	f.awaitStored()
	mustClose(t, a)
	gen := generationIn(dir, 1)
	// A record as written when a chunk ends at the ring's end: the boundary is
	// that before the chunk.
	c := g.shared.stored
	c.boundary, c.db = first.boundary, first.db
	os.Remove(gen.fsynced())
	fs, _ := openFsynced(gen.fsynced(), 0, realDisk())
	fs.put(c)
	fs.put(c)
	fs.close()
	p, _ := os.ReadFile(gen.segment(1))
	i := bytes.Index(p, []byte("vvvv"))
	p[i] = 0
	p[bytes.LastIndexByte(p, '*')] = 0
	os.WriteFile(gen.segment(1), p, 0o640)
	a = open(t, dir, Options{})
	if pos, _ := a.Position(); pos.Offset != 0 {
		t.Fatalf("recovered to %d with a zero inside a value: %q (%s)", pos.Offset, segmentBytes(t, gen), a.Recovery().Why)
	}
}

func TestARecordWhoseFsyncFailedIsWrittenAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var broken atomic.Bool
	var since atomic.Int64
	opt := Options{AppendFsync: Always, disk: realDisk()}
	opt.disk.fdatasync = func(f *os.File) error {
		if filepath.Base(f.Name()) == FsyncedName {
			if broken.Load() {
				return os.NewSyscallError("fdatasync", syscall.EIO)
			}
			since.Add(1)
		}
		return fdatasync(f)
	}
	a := open(t, dir, opt)
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	f.feed(resp.AppendCommand(nil, "SET", "a", "1"), 1000)
	f.awaitDurable()
	poll.Until(t, "the base is verified", func() bool { m, _, _ := Describe(dir); return m.Generations[0].BaseVerified })
	f.awaitDurable()
	safe := f.end()
	broken.Store(true)
	f.feed(resp.AppendCommand(nil, "SET", "b", "2"), 1000)
	poll.Until(t, "failed", func() bool { return errors.Is(a.Progress().Failed, syscall.EIO) })
	broken.Store(false)
	since.Store(0)
	if err := a.Reset(); err != nil {
		t.Fatal(err)
	}
	if p := a.Progress(); p.Durable > safe && since.Load() == 0 {
		t.Fatalf("durable went from %d to %d, and no fsync of the record has succeeded", safe, p.Durable)
	}
}

func TestAGenerationWithoutItsSegmentIsLeftAloneAndNotContinued(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stored(t, dir, 10)
	if err := os.Remove(generationIn(dir, 1).segment(1)); err != nil {
		t.Fatal(err)
	}
	a := open(t, dir, Options{})
	if pos, ok := a.Position(); ok || a.Recovery().Why == "" {
		t.Fatalf("Position offers %+v: %+v", pos, a.Recovery())
	}
	fullSync(t, a, replica.FullSync{ReplID: idB, Size: -1}, rdbtest.Empty(0, true))
	if done, _, err := generations(dir); len(done) != 2 {
		t.Fatalf("%d generations, %v; want the damaged one and a new one", len(done), err)
	}
}

func TestVeryManyMarksTakeBoundedMemoryAndTheNewestStays(t *testing.T) {
	t.Parallel()
	g := generationIn(t.TempDir(), 1)
	if err := os.Mkdir(g.dir, 0o750); err != nil {
		t.Fatal(err)
	}
	var p []byte
	for _, s := range []string{timelineVersion, baseFact(0, 1, time.UnixMilli(1)), replidFact(idA, 0), segmentFact(Segment{Seq: 1, Header: 23})} {
		p = sealed(p, s)
	}
	const n = 3*mostMarks + 7
	for i := range n {
		p = sealed(p, markFact(Mark{Time: time.UnixMilli(int64(i)), Offset: int64(i + 1), CRC: uint32(i)}))
	}
	if err := os.WriteFile(g.timeline(), p, 0o640); err != nil {
		t.Fatal(err)
	}
	s := &state{gen: g}
	marks, err := s.readTimeline(0)
	if err != nil || len(marks) >= mostMarks || len(marks) < mostMarks/4 || marks[len(marks)-1].Offset != n {
		t.Fatalf("%d marks, the last %+v, %v", len(marks), marks[len(marks)-1], err)
	}
	for i := 1; i < len(marks); i++ {
		if marks[i].Offset <= marks[i-1].Offset {
			t.Fatalf("mark %d is not behind the one before", i)
		}
	}
}

func TestAGenerationThatIsRemovedBeneathTheDaemonIsNoticed(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(t *testing.T, g generation) error{
		"the folder is removed":   func(t *testing.T, g generation) error { return os.RemoveAll(g.dir) },
		"the folder is moved":     func(t *testing.T, g generation) error { return os.Rename(g.dir, filepath.Join(t.TempDir(), "away")) },
		"the segment is removed":  func(t *testing.T, g generation) error { return os.Remove(g.segment(1)) },
		"the segment is replaced": func(t *testing.T, g generation) error { return os.WriteFile(g.segment(1)+"x", nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			a := open(t, dir, Options{})
			f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
			f.feed(resp.AppendCommand(nil, "SET", "a", "1"), 1000)
			f.awaitDurable()
			g := generationIn(dir, 1)
			if err := remove(t, g); err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(name, "replaced") {
				if err := os.Rename(g.segment(1)+"x", g.segment(1)); err != nil {
					t.Fatal(err)
				}
			}
			poll.Until(t, "it is noticed", func() bool { return errors.Is(a.Progress().Failed, ErrRemoved) })
			if err := a.Reset(); err != nil {
				t.Fatal(err)
			}
			if a.Progress().Failed != nil {
				t.Errorf("%v", a.Progress().Failed)
			}
			// The next full sync begins the next generation.
			f = fullSync(t, a, replica.FullSync{ReplID: idA, Offset: 70, Size: -1}, rdbtest.Empty(0, true))
			f.feed(resp.AppendCommand(nil, "SET", "a", "1"), 1000)
			f.awaitDurable()
			mustClose(t, a)
		})
	}
}
