package archive

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"replicad/integration/poll"
	"replicad/replica"
	"replicad/replica/rdb"
	"replicad/replica/rdb/rdbtest"
	"replicad/replica/resp"
	"replicad/replica/units"
)

const (
	idA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	idB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// TestMain has temporary folders in memory, where there is plenty: there an
// fsync costs nothing. Most tests wait for a timer of the flusher: many may wait
// at once.
func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "16")
	if free, err := Free("/dev/shm"); err == nil && free > 4<<30 {
		os.Setenv("TMPDIR", "/dev/shm")
	}
	os.Exit(m.Run())
}

// feeder plays the link: it walks a stream and commits it.
type feeder struct {
	t       *testing.T
	a       *Archive
	scanner *resp.Scanner
	base    replica.Position
	sent    bytes.Buffer // all that was committed since base
}

func fullSync(t *testing.T, a *Archive, full replica.FullSync, payload []byte) *feeder {
	t.Helper()
	b, err := a.BeginBase(full)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Write(payload); err != nil {
		t.Fatal(err)
	}
	pos, err := b.Commit()
	if err != nil {
		t.Fatal(err)
	}
	return newFeeder(t, a, pos)
}

func newFeeder(t *testing.T, a *Archive, pos replica.Position) *feeder {
	return &feeder{t: t, a: a, scanner: resp.NewScanner(pos.DB, resp.Limits{}), base: pos}
}

// feed commits p in pieces of at most n bytes, waiting for room.
func (f *feeder) feed(p []byte, n int) {
	f.t.Helper()
	for len(p) > 0 {
		var buf []byte
		f.eventually("there is room in the buffer", func() bool { buf = f.a.Buffer(); return len(buf) > 0 })
		k := copy(buf[:min(len(buf), n)], p)
		if !f.commit(buf[:k]) {
			return
		}
		p = p[k:]
	}
}

func (f *feeder) commit(p []byte) bool {
	for rest := p; len(rest) > 0; {
		n, _, err := f.scanner.Scan(rest)
		if err != nil {
			f.t.Fatal(err)
		}
		rest = rest[n:]
	}
	f.sent.Write(p)
	b := f.scanner.Boundary()
	f.a.Commit(len(p), replica.Boundary{Offset: f.base.Offset + b.Offset, DB: b.DB})
	return true
}

func (f *feeder) end() int64 { return f.base.Offset + int64(f.sent.Len()) }

func (f *feeder) eventually(what string, ok func() bool) {
	f.t.Helper()
	poll.Until(f.t, what, ok)
}

func (f *feeder) awaitDurable() {
	f.t.Helper()
	f.eventually("all is durable", func() bool { return f.a.Progress().Durable == f.end() })
}

func (f *feeder) awaitStored() {
	f.t.Helper()
	f.eventually("all is stored", func() bool { return f.a.Progress().Stored == f.end() })
}

func open(t *testing.T, dir string, opt Options) *Archive {
	t.Helper()
	a, err := Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// verifiedLine finds the line of a timeline that says that the base is
// verified.
func verifiedLine(timeline []byte) []byte {
	for line := range bytes.Lines(timeline) {
		if bytes.HasPrefix(line, []byte("verified base")) {
			return line
		}
	}
	return nil
}

func mustClose(t *testing.T, a *Archive) {
	t.Helper()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
}

// commands makes a stream of n commands with selects, transactions and values
// of all sizes.
func commands(r *rand.Rand, n int) []byte {
	var p []byte
	multi := false
	for i := range n {
		switch k := r.IntN(12); {
		case k == 0:
			p = resp.AppendCommand(p, "SELECT", strconv.Itoa(r.IntN(16)))
		case k == 1 && !multi:
			p, multi = resp.AppendCommand(p, "MULTI"), true
		case k <= 3 && multi:
			p, multi = resp.AppendCommand(p, "EXEC"), false
		default:
			size := r.IntN(200)
			if k == 11 {
				size = r.IntN(4000) // several sectors
			}
			p = resp.AppendCommand(p, "SET", fmt.Sprintf("key:%d", i), strings.Repeat("v", size))
		}
	}
	if multi {
		p = resp.AppendCommand(p, "EXEC")
	}
	return p
}

// segmentBytes gives the stream that a generation's segments hold, and checks
// that they follow upon each other, each from a boundary and with the SELECT of
// the database in force there, and are what the timeline and the manifest say.
func segmentBytes(t *testing.T, g generation) (stream []byte) {
	t.Helper()
	tl, _, err := g.readTimeline(visitor{})
	if err != nil {
		t.Fatal(err)
	}
	scanner := resp.NewScanner(tl.Segments[0].DB, resp.Limits{})
	for i, seg := range tl.Segments {
		p, err := os.ReadFile(g.segment(seg.Seq))
		if err != nil {
			t.Fatal(err)
		}
		if want := seg.SelectHeader(); !bytes.HasPrefix(p, want) || seg.Header != int64(len(want)) {
			t.Fatalf("segment %d starts with %.30q, want %q", seg.Seq, p, want)
		}
		from := resp.Boundary{Offset: seg.From - tl.BaseOffset, DB: seg.DB}
		if seg.Seq != i+1 || from.Offset != int64(len(stream)) || scanner.Boundary() != from {
			t.Fatalf("segment %d of %+v: %d bytes are before it, the last boundary is %+v", i+1, tl.Segments, len(stream), scanner.Boundary())
		}
		if last := i+1 == len(tl.Segments); seg.Sealed != !last && !tl.Closed {
			t.Fatalf("segment %d of %+v: sealed or not, it is wrong", i+1, tl.Segments)
		}
		if seg.Sealed && (seg.Size() != int64(len(p)) || seg.CRC != crc32.Checksum(p, castagnoli)) {
			t.Fatalf("%+v is sealed, and has %d bytes with CRC %08x", seg, len(p), crc32.Checksum(p, castagnoli))
		}
		stream = append(stream, p[seg.Header:]...)
		for rest := p[seg.Header:]; len(rest) > 0; {
			n, _, err := scanner.Scan(rest)
			if err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
	}
	if p, err := os.ReadFile(g.aof(ManifestName)); err != nil || !bytes.Equal(p, Manifest(len(tl.Segments))) {
		t.Fatalf("the manifest holds %q, %v; the timeline %+v", p, err, tl.Segments)
	}
	return stream
}

func TestAGenerationIsADirectoryThatRedisServerLoads(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, Options{})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Offset: 100, Size: -1}, rdbtest.Empty(5, true))
	stream := resp.AppendCommand(nil, "SET", "k", "v")
	f.feed(stream, len(stream))
	f.awaitDurable()
	g := generationIn(dir, 1)
	want := map[string]string{
		g.base():            string(rdbtest.Empty(5, true)),
		g.aof(ManifestName): "file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n",
		g.segment(1):        "*2\r\n$6\r\nSELECT\r\n$1\r\n5\r\n" + string(stream), // repl-stream-db of the RDB
	}
	for name, content := range want {
		if got, err := os.ReadFile(name); err != nil || string(got) != content {
			t.Errorf("%s holds %q (%v), want %q", name, got, err, content)
		}
	}
	if f.base.DB != 5 {
		t.Errorf("the stream is said to be in database %d, want 5", f.base.DB)
	}
}

func TestAByteOfTheStreamLiesWhereTheTimelineSays(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, Options{})
	const base = 123456
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Offset: base, Size: -1}, rdbtest.Empty(12, true))
	stream := commands(rand.New(rand.NewPCG(1, 1)), 500)
	f.feed(stream, 700)
	f.awaitStored()
	g := generationIn(dir, 1)
	tl, _, err := g.readTimeline(visitor{})
	if err != nil {
		t.Fatal(err)
	}
	seg := tl.Segments[0]
	file, _ := os.ReadFile(g.segment(seg.Seq))
	for o := int64(base + 1); o <= f.end(); o++ {
		if got, want := file[seg.Header+o-seg.From-1], stream[o-base-1]; got != want {
			t.Fatalf("offset %d: %q, want %q", o, got, want)
		}
	}
	if int64(len(file)) != seg.Header+f.end()-seg.From {
		t.Fatalf("the file's length %d is not the offset %d", len(file), f.end())
	}
}

func TestAReopenedArchiveGoesOnWhereItEnded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(2, 2))
	a := open(t, dir, Options{AppendFsync: No})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Offset: 7, Size: -1}, rdbtest.Empty(0, true))
	var all []byte
	for range 5 {
		p := commands(r, 100)
		f.feed(p, 1+r.IntN(5000))
		all = append(all, p...)
		mustClose(t, a)
		a = open(t, dir, Options{})
		pos, ok := a.Position()
		if !ok || pos.ReplID != idA || pos.Offset != 7+int64(len(all)) {
			t.Fatalf("reopened at %+v, %v; want offset %d", pos, ok, 7+len(all))
		}
		if rec := a.Recovery(); rec.Cut != 0 || rec.Why != "" {
			t.Fatalf("recovery cut %d bytes: %s", rec.Cut, rec.Why)
		}
		f = newFeeder(t, a, pos)
	}
	if got := segmentBytes(t, generationIn(dir, 1)); !bytes.Equal(got, all) {
		t.Fatal("the segment does not hold what was fed")
	}
}

func TestClosingInsideACommandOrTransactionReopensAtTheBoundaryBefore(t *testing.T) {
	t.Parallel()
	whole := resp.AppendCommand(resp.AppendCommand(nil, "SELECT", "3"), "SET", "a", "1")
	multi := resp.AppendCommand(resp.AppendCommand(nil, "MULTI"), "SELECT", "9")
	tail := append(bytes.Clone(multi), resp.AppendCommand(nil, "SET", "b", "2")...)
	for n := 1; n <= len(tail); n += len(tail) / soak(25, len(tail)) {
		dir := t.TempDir()
		a := open(t, dir, Options{AppendFsync: No})
		f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
		f.feed(whole, 11)
		f.feed(tail[:n], 13)
		mustClose(t, a)
		a = open(t, dir, Options{})
		if pos, _ := a.Position(); pos.Offset != int64(len(whole)) || pos.DB != 3 {
			t.Fatalf("closed %d bytes into a transaction: reopened at %+v, want offset %d, database 3", n, pos, len(whole))
		}
		if got := segmentBytes(t, generationIn(dir, 1)); !bytes.Equal(got, whole) {
			t.Fatalf("the segment holds %q", got)
		}
		mustClose(t, a)
	}
}

func TestAnUnfinishedFullSyncLeavesNoTrace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, Options{})
	fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	b, err := a.BeginBase(replica.FullSync{ReplID: idB, Size: 1000})
	if err != nil {
		t.Fatal(err)
	}
	b.Write([]byte("REDIS0010"))
	b.Abort()
	names := func() (s []string) {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			s = append(s, e.Name())
		}
		return s
	}
	if got := fmt.Sprint(names()); got != "[LOCK generation-000001]" {
		t.Fatalf("after Abort the folder holds %s", got)
	}
	// A crash leaves the .tmp folder to the next Open.
	if _, err = a.BeginBase(replica.FullSync{ReplID: idB, Size: 1000}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(names()); got != "[LOCK generation-000001 generation-000002.tmp]" {
		t.Fatalf("while a full sync is under way the folder holds %s", got)
	}
	mustClose(t, a)
	a = open(t, dir, Options{})
	if got := fmt.Sprint(names()); got != "[LOCK generation-000001]" {
		t.Fatalf("after reopening the folder holds %s", got)
	}
	if pos, ok := a.Position(); !ok || pos.ReplID != idA {
		t.Fatalf("the generation before is not continued: %+v", pos)
	}
}

func TestWhatIsNoRDBMakesNoGeneration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, Options{})
	b, err := a.BeginBase(replica.FullSync{ReplID: idA, Size: -1})
	if err != nil {
		t.Fatal(err)
	}
	b.Write([]byte("<html>not found</html>"))
	if _, err := b.Commit(); !errors.Is(err, rdb.ErrNotRDB) {
		t.Fatalf("Commit said %v, want rdb.ErrNotRDB", err)
	}
	if done, unfinished, _ := generations(dir); len(done)+len(unfinished) != 0 {
		t.Fatalf("left behind: %v %v", done, unfinished)
	}
}

func TestANewGenerationTouchesNothingOfTheOldOne(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, Options{})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	f.feed(commands(rand.New(rand.NewPCG(3, 3)), 50), 1000)
	whole := bytes.Clone(f.sent.Bytes())
	f.feed([]byte("*3\r\n$3\r\nSET\r\n$1\r\nk"), 100) // cut inside a command
	f.awaitDurable()
	fullSync(t, a, replica.FullSync{ReplID: idB, Offset: 5, Size: -1}, rdbtest.Empty(0, true))
	old := generationIn(dir, 1)
	if got := segmentBytes(t, old); !bytes.Equal(got, whole) {
		t.Fatalf("the old generation does not end with its last whole command: %d bytes, want %d", len(got), len(whole))
	}
	if got, _ := os.ReadFile(old.base()); !bytes.Equal(got, rdbtest.Empty(0, true)) {
		t.Fatal("the old base was changed")
	}
	before := snapshotDir(t, old.dir)
	mustClose(t, a)
	a = open(t, dir, Options{})
	if pos, _ := a.Position(); pos.ReplID != idB || pos.Offset != 5 {
		t.Fatalf("reopened at %+v, want the new generation", pos)
	}
	for name, content := range snapshotDir(t, old.dir) {
		if !bytes.Equal(content, before[name]) {
			t.Errorf("%s was changed", name)
		}
	}
}

func snapshotDir(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	m := map[string][]byte{}
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		p, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		m[rel] = p
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestASecondWriterIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, Options{})
	if _, err := Open(dir, Options{}); !errors.Is(err, ErrLocked) {
		t.Fatalf("Open said %v, want ErrLocked", err)
	}
	mustClose(t, a)
	open(t, dir, Options{})
}

func TestALookByListDoesNotKeepAWriterOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mustClose(t, open(t, filepath.Join(dir, "m"), Options{}))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				List(dir)
			}
		}
	})
	for range 50 {
		mustClose(t, open(t, filepath.Join(dir, "m"), Options{}))
	}
	close(stop)
	wg.Wait()
}

func TestAnotherReplicationIDIsWrittenDownAtItsOffset(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, Options{})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Offset: 10, Size: -1}, rdbtest.Empty(0, true))
	f.feed(resp.AppendCommand(nil, "SET", "k", "1"), 100)
	at := f.end()
	a.Continue(idB)
	f.feed(resp.AppendCommand(nil, "SET", "k", "2"), 100)
	f.awaitDurable()
	mustClose(t, a)
	a = open(t, dir, Options{})
	if pos, _ := a.Position(); pos.ReplID != idB || pos.Offset != f.end() {
		t.Fatalf("reopened at %+v, want %s at %d", pos, idB, f.end())
	}
	m, _, err := Describe(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []History{{idA, 10}, {idB, at}}
	if got := m.Generations[0].Histories; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("histories %v, want %v", got, want)
	}
}

func TestAMasterWithoutPSYNCHasNoHistoryToContinue(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, Options{})
	f := fullSync(t, a, replica.FullSync{Size: -1}, rdbtest.Empty(0, true))
	f.feed(resp.AppendCommand(nil, "SET", "k", "1"), 100)
	mustClose(t, a)
	a = open(t, dir, Options{})
	if pos, ok := a.Position(); ok {
		t.Fatalf("Position offers %+v", pos)
	}
	fullSync(t, a, replica.FullSync{Size: -1}, rdbtest.Empty(0, true))
	if m, _, _ := Describe(dir); len(m.Generations) != 2 {
		t.Fatalf("%d generations, want 2", len(m.Generations))
	}
}

func TestADamagedBaseIsFoundAndItsGenerationDiscarded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, Options{})
	payload := rdbtest.Empty(0, true)
	payload[len(payload)-12] ^= 1
	fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, payload)
	poll.Until(t, "the damage is found", func() bool { return errors.Is(a.Progress().Failed, replica.ErrChecksum) })
	if err := a.Reset(); err != nil {
		t.Fatal(err)
	}
	if _, ok := a.Position(); ok || a.Progress().Failed != nil {
		t.Fatal("after Reset the damaged generation is still there")
	}
	if done, unfinished, _ := generations(dir); len(done)+len(unfinished) != 0 {
		t.Fatalf("left behind: %v %v", done, unfinished)
	}
	fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	poll.Until(t, "the sound base is verified", func() bool { m, _, _ := Describe(dir); return m.Generations[0].BaseVerified })
}

func TestTheBaseIsVerifiedAgainAfterARestartThatCameBefore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, Options{})
	fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, false))
	poll.Until(t, "the base is verified", func() bool { m, _, _ := Describe(dir); return m.Generations[0].BaseVerified })
	mustClose(t, a)
	g := generationIn(dir, 1)
	p, _ := os.ReadFile(g.timeline())
	p = bytes.Replace(p, verifiedLine(p), nil, 1)
	if err := os.WriteFile(g.timeline(), p, 0o640); err != nil {
		t.Fatal(err)
	}
	open(t, dir, Options{})
	poll.Until(t, "the base is verified", func() bool { m, _, _ := Describe(dir); return m.Generations[0].BaseVerified })
}

func TestAnRDBLargerThanTheFreeDiskIsRefusedBeforeAByteIsWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var free atomic.Int64
	free.Store(10 << 20)
	opt := Options{disk: realDisk()}
	opt.disk.free = func(string) (int64, error) { return free.Load(), nil }
	a := open(t, dir, opt)
	if _, err := a.BeginBase(replica.FullSync{ReplID: idA, Size: 10 << 20}); !errors.Is(err, replica.ErrNoRoom) {
		t.Fatalf("BeginBase said %v, want ErrNoRoom", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Fatalf("something was written: %v", entries)
	}
	if err := a.Room(); !errors.Is(err, replica.ErrNoRoom) {
		t.Fatalf("Room said %v, want ErrNoRoom", err)
	}
	free.Store(12 << 20)
	if err := a.Room(); err != nil {
		t.Fatalf("there is room now, and Room says %v", err)
	}
}

func TestADiskThatFillsUpDuringAFullSyncIsRememberedUntilThereIsRoom(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var free atomic.Int64
	free.Store(1 << 20)
	opt := Options{disk: realDisk()}
	opt.disk.free = func(string) (int64, error) { return free.Load(), nil }
	opt.disk.pwrite = func(f *os.File, p []byte, off int64) (int, error) {
		if off+int64(len(p)) > 1<<20 {
			return 0, &os.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC}
		}
		return f.WriteAt(p, off)
	}
	a := open(t, dir, opt)
	b, err := a.BeginBase(replica.FullSync{ReplID: idA, Size: -1})
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = b.Write(make([]byte, 64<<10))
	}
	b.Abort()
	if !errors.Is(err, replica.ErrNoRoom) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Write said %v, want ErrNoRoom around ENOSPC", err)
	}
	if err := a.Room(); !errors.Is(err, replica.ErrNoRoom) {
		t.Fatalf("Room said %v, want ErrNoRoom", err)
	}
	free.Store(3 << 20)
	if err := a.Room(); err != nil {
		t.Fatal(err)
	}
}

func TestAFullDiskStopsTheWriterLosesNothingAndHeals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var quota atomic.Int64
	quota.Store(1 << 62)
	opt := Options{disk: realDisk()}
	opt.disk.pwrite = func(f *os.File, p []byte, off int64) (int, error) {
		if left := quota.Load() - off; filepath.Ext(f.Name()) == ".aof" && left < int64(len(p)) {
			n, _ := f.WriteAt(p[:max(left, 0)], off) // as much as fits
			return n, &os.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC}
		}
		return f.WriteAt(p, off)
	}
	a := open(t, dir, opt)
	var notified atomic.Int64
	a.Notify(func() { notified.Add(1) })
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	quota.Store(100_003)
	stream := commands(rand.New(rand.NewPCG(4, 4)), 30_000)
	n := 0
	for n < len(stream) {
		buf := a.Buffer()
		if len(buf) == 0 {
			if a.Progress().Stalled != nil {
				break
			}
			continue
		}
		k := copy(buf, stream[n:])
		f.commit(buf[:k])
		n += k
	}
	if n == len(stream) {
		t.Fatal("the buffer took everything: the test's stream is too short")
	}
	if p := a.Progress(); !errors.Is(p.Stalled, syscall.ENOSPC) || p.Failed != nil || p.Stored != 100_003-23 {
		t.Fatalf("on the full disk the progress is %+v", p)
	}
	seen := notified.Load()
	poll.Until(t, "it is said again that the disk is full", func() bool { return notified.Load() > seen })
	quota.Store(1 << 62)
	f.feed(stream[n:], 1<<20)
	f.awaitDurable()
	if p := a.Progress(); p.Stalled != nil {
		t.Fatalf("there is room, and the progress is %+v", p)
	}
	if got := segmentBytes(t, generationIn(dir, 1)); !bytes.Equal(got, stream) {
		t.Fatal("bytes were lost")
	}
}

func TestClosingOnAFullDiskSaysThatSomethingIsLost(t *testing.T) {
	t.Parallel()
	opt := Options{disk: realDisk()}
	var full atomic.Bool
	opt.disk.pwrite = func(f *os.File, p []byte, off int64) (int, error) {
		if full.Load() {
			return 0, syscall.ENOSPC
		}
		return f.WriteAt(p, off)
	}
	a := open(t, t.TempDir(), opt)
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	full.Store(true)
	f.feed(resp.AppendCommand(nil, "SET", "a", "b"), 100)
	if err := a.Close(); !errors.Is(err, errLost) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Close said %v", err)
	}
}

// failingDisk is a disk whose fsync of a segment fails whenever fails says so.
func failingDisk(fails func() bool) disk {
	d := realDisk()
	d.fdatasync = func(f *os.File) error {
		if filepath.Ext(f.Name()) == ".aof" && fails() {
			return os.NewSyscallError("fdatasync", syscall.EIO)
		}
		return fdatasync(f)
	}
	return d
}

func TestAnFsyncThatFailsTakesTheArchiveBackToTheLastOneThatDidNot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var broken atomic.Bool
	opt := Options{AppendFsync: Always, disk: failingDisk(broken.Load)}
	a := open(t, dir, opt)
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	f.feed(commands(rand.New(rand.NewPCG(5, 5)), 20), 1000)
	f.awaitDurable()
	safe := f.end()
	broken.Store(true)
	f.feed(commands(rand.New(rand.NewPCG(6, 6)), 20), ringSize) // at once: a failed archive takes no more
	poll.Until(t, "the failure is told", func() bool { return errors.Is(a.Progress().Failed, syscall.EIO) })
	if len(a.Buffer()) != 0 {
		t.Fatal("a failed archive still takes bytes")
	}
	broken.Store(false)
	if err := a.Reset(); err != nil {
		t.Fatal(err)
	}
	if pos, ok := a.Position(); !ok || pos.Offset != safe {
		t.Fatalf("reset to %+v, want %d: what the page cache holds behind it proves nothing", pos, safe)
	}
	if p := a.Progress(); p.Failed != nil || p.Durable != safe {
		t.Fatalf("after Reset the progress is %+v", p)
	}
}

func TestEachFsyncOfTheStreamIsToldWithItsDuration(t *testing.T) {
	t.Parallel()
	const slow = 2 * time.Millisecond
	own := int64(-1) // fsyncs of the base's making, which are not the stream's
	for _, fails := range []bool{false, true} {
		var broken atomic.Bool
		var made, told, short atomic.Int64
		opt := Options{AppendFsync: Always, disk: failingDisk(broken.Load)}
		sync := opt.disk.fdatasync
		opt.disk.fdatasync = func(f *os.File) error {
			made.Add(1)
			time.Sleep(slow)
			return sync(f)
		}
		opt.ObserveFsync = func(took time.Duration) {
			told.Add(1)
			if took < slow {
				short.Add(1)
			}
		}
		a := open(t, t.TempDir(), opt)
		f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
		f.feed(commands(rand.New(rand.NewPCG(71, 71)), 20), 1000)
		f.awaitDurable()
		if fails {
			broken.Store(true)
			f.feed(commands(rand.New(rand.NewPCG(72, 72)), 20), ringSize)
			poll.Until(t, "the failure is told", func() bool { return errors.Is(a.Progress().Failed, syscall.EIO) })
			poll.Until(t, "the one that failed is told too", func() bool { return made.Load()-told.Load() == own })
			continue
		}
		mustClose(t, a)
		if own = made.Load() - told.Load(); own < 0 || own > 5 || told.Load() < 3 || short.Load() > 0 {
			t.Errorf("%d fsyncs were made, %d told, of them %d as too short", made.Load(), told.Load(), short.Load())
		}
	}
}

func TestTheBufferIsBoundedAndComesBack(t *testing.T) {
	t.Parallel()
	opt := Options{disk: realDisk()}
	gate := make(chan struct{})
	opt.disk.pwrite = func(f *os.File, p []byte, off int64) (int, error) {
		if filepath.Ext(f.Name()) == ".aof" && off > 0 {
			<-gate
		}
		return f.WriteAt(p, off)
	}
	a := open(t, t.TempDir(), opt)
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	stream := commands(rand.New(rand.NewPCG(7, 7)), 60_000)
	n := 0
	for buf := a.Buffer(); len(buf) > 0; buf = a.Buffer() {
		k := copy(buf, stream[n:])
		f.commit(buf[:k])
		n += k
	}
	if n > ringSize || n < ringSize-leastRoom {
		t.Fatalf("the buffer took %d bytes, want about %d", n, ringSize)
	}
	close(gate)
	f.feed(stream[n:], 100_000)
	f.awaitStored()
}

func TestAppendFsyncAlwaysMakesEachWriteDurableByItself(t *testing.T) {
	t.Parallel()
	a := open(t, t.TempDir(), Options{AppendFsync: Always})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	for i := range 20 {
		f.feed(resp.AppendCommand(nil, "SET", "k", strconv.Itoa(i)), 100)
		f.awaitDurable()
	}
}

func TestListDescribesFinishedAndUnfinishedGenerations(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, filepath.Join(dir, "main"), Options{})
	if err := os.Mkdir(filepath.Join(dir, "something else"), 0o750); err != nil {
		t.Fatal(err)
	}
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Offset: 1000, Size: -1}, rdbtest.Empty(0, true))
	f.feed(resp.AppendCommand(nil, "SET", "k", "v"), 100)
	f.awaitDurable()
	if _, err := a.BeginBase(replica.FullSync{ReplID: idB, Size: 100}); err != nil {
		t.Fatal(err)
	}
	masters, err := List(dir)
	if err != nil || len(masters) != 1 {
		t.Fatalf("List: %+v, %v", masters, err)
	}
	m := masters[0]
	if m.Name != "main" || !m.Running || len(m.Generations) != 2 {
		t.Fatalf("List: %+v", m)
	}
	g := m.Generations[0]
	if !g.Complete || g.BaseOffset != 1000 || g.EndOffset != f.end() || g.FsyncedOffset != f.end() || g.BaseBytes != int64(len(rdbtest.Empty(0, true))) || g.From.IsZero() || g.To.Before(g.From) {
		t.Errorf("the finished generation: %+v", g)
	}
	if m.Generations[1].Complete {
		t.Errorf("the unfinished generation: %+v", m.Generations[1])
	}
	mustClose(t, a)
	if masters, _ = List(dir); masters[0].Running {
		t.Error("nobody writes, and List says somebody does")
	}
}

func BenchmarkStreamToDisk(b *testing.B) {
	for _, size := range []int64{math.MaxInt64, DefaultSegmentSize, 16 << 20} {
		name := "one segment"
		if size < math.MaxInt64 {
			name = "segments of " + units.FormatSize(size)
		}
		b.Run(name, func(b *testing.B) { streamToDisk(b, Options{AppendFsync: No, SegmentSize: size}) })
	}
	for _, p := range []Policy{Everysec, Always} {
		b.Run(p.String(), func(b *testing.B) { streamToDisk(b, Options{AppendFsync: p}) })
		b.Run(p.String()+", fsyncs observed", func(b *testing.B) {
			var sum atomic.Int64
			streamToDisk(b, Options{AppendFsync: p, ObserveFsync: func(took time.Duration) { sum.Add(int64(took)) }})
		})
	}
}

func streamToDisk(b *testing.B, opt Options) {
	a, err := Open(b.TempDir(), opt)
	if err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	base, err := a.BeginBase(replica.FullSync{ReplID: idA, Size: -1})
	if err != nil {
		b.Fatal(err)
	}
	io.Copy(base, bytes.NewReader(rdbtest.Empty(0, false)))
	if _, err := base.Commit(); err != nil {
		b.Fatal(err)
	}
	wake := make(chan struct{}, 1)
	a.Notify(func() { signal(wake) })
	const chunk = 128 << 10
	at := int64(0)
	b.SetBytes(chunk)
	b.ReportAllocs()
	for b.Loop() {
		for n := 0; n < chunk; {
			buf := a.Buffer()
			if len(buf) == 0 {
				<-wake
				continue
			}
			k := min(len(buf), chunk-n)
			n += k
			at += int64(k)
			a.Commit(k, replica.Boundary{Offset: at})
		}
	}
}
