package archive

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"replicad/integration/poll"
	"replicad/replica"
	"replicad/replica/rdb/rdbtest"
)

// twoChannels begins a full sync whose log begins before its base is whole: half
// of the base has come. rest brings the other half and commits.
func twoChannels(t *testing.T, a *Archive, offset int64, db uint8) (f *feeder, b replica.Base, rest func() error) {
	t.Helper()
	b, err := a.BeginBase(replica.FullSync{ReplID: idA, Offset: offset, Size: -1})
	if err != nil {
		t.Fatal(err)
	}
	payload := rdbtest.Empty(db, true)
	for i := range payload {
		if i == len(payload)-9 { // the aux fields are over
			break
		}
		if _, ok, err := b.Begin(); ok || err != nil {
			t.Fatalf("behind %d bytes of the base Begin gives %v, %v", i, ok, err)
		}
		if _, err := b.Write(payload[i : i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Write(payload[len(payload)-9 : len(payload)-4]); err != nil {
		t.Fatal(err)
	}
	pos, ok, err := b.Begin()
	if want := (replica.Position{ReplID: idA, Offset: offset, DB: int(db)}); err != nil || !ok || pos != want {
		t.Fatalf("Begin gives %+v, %v, %v", pos, ok, err)
	}
	return newFeeder(t, a, pos), b, func() error {
		if _, err := b.Write(payload[len(payload)-4:]); err != nil {
			return err
		}
		again, err := b.Commit()
		if err == nil && again != pos {
			t.Errorf("Commit gives %+v, Begin gave %+v", again, pos)
		}
		return err
	}
}

func TestALogThatBeganBeforeItsBaseIsWholeGoesOnAcrossTheRename(t *testing.T) {
	t.Parallel()
	for _, policy := range []Policy{Everysec, Always, No} {
		dir := t.TempDir()
		opt := Options{AppendFsync: policy, SegmentSize: small}
		a := open(t, dir, opt)
		f, _, rest := twoChannels(t, a, 50, 3)
		r := rand.New(rand.NewPCG(31, uint64(policy)))
		for segmentsOf(t, generationIn(dir, 1).tmp()) < 3 {
			f.feed(commands(r, 300), 3000)
			f.awaitStored()
		}
		if all, _, _ := generations(dir); len(all) != 0 {
			t.Fatalf("%v exists before its base is whole", all)
		}
		if _, ok := a.Current(); ok {
			t.Error("there is a current generation before its base is whole")
		}
		if err := rest(); err != nil {
			t.Fatal(err)
		}
		if is, ok := a.Current(); !ok || is.Generation != 1 || is.BaseOffset != 50 || is.BaseBytes != int64(len(rdbtest.Empty(3, true))) {
			t.Errorf("current is %+v, %v", is, ok)
		}
		f.feed(commands(r, 300), 3000)
		awaitVerified(t, dir)
		mustClose(t, a)
		g := generationIn(dir, 1)
		if got := segmentBytes(t, g); !bytes.Equal(got, f.sent.Bytes()) {
			t.Fatalf("%v: the segments do not hold the stream", policy)
		}
		loadable(t, g)
		tl, _, err := g.readTimeline(visitor{})
		if err != nil || tl.BaseSize != int64(len(rdbtest.Empty(3, true))) || tl.BaseOffset != 50 || !tl.Verified || tl.Segments[0].DB != 3 {
			t.Errorf("%v: %+v, %v", policy, tl, err)
		}
		b := open(t, dir, opt)
		if pos, ok := b.Position(); !ok || pos.Offset != f.base.Offset+f.scanner.Boundary().Offset || b.Recovery().Cut > 0 && f.scanner.Boundary().Offset == int64(f.sent.Len()) {
			t.Errorf("%v: it goes on at %+v, %v: %+v", policy, pos, ok, b.Recovery())
		}
		mustClose(t, b)
	}
}

func TestNothingIsLeftOfABaseThatIsGivenUpWithItsLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, Options{})
	for range 3 {
		f, b, _ := twoChannels(t, a, 50, 0)
		f.feed(commands(rand.New(rand.NewPCG(32, 1)), 30), 3000)
		buf := a.Buffer()
		b.Abort()
		a.Commit(min(10, len(buf)), replica.Boundary{}) // the link may be reading just now
		if len(a.Buffer()) != 0 {
			t.Error("there is room for a stream without a base")
		}
		if p := a.Progress(); p != (replica.Progress{}) {
			t.Errorf("progress %+v", p)
		}
		if _, ok := a.Position(); ok {
			t.Error("there is a history to continue")
		}
		if got, _ := filepath.Glob(filepath.Join(dir, "generation-*")); len(got) != 0 {
			t.Errorf("%v is left", got)
		}
		b.Abort()
	}
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Offset: 7, Size: -1}, rdbtest.Empty(0, true))
	f.feed(commands(rand.New(rand.NewPCG(32, 2)), 30), 3000)
	f.awaitDurable()
	mustClose(t, a)
}

// A kill -9 leaves the files as they stand; a power cut may tear them.
func TestAKillOrAPowerCutBeforeTheRenameLeavesNothingHalfDone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, d := watched()
	chance := rand.New(rand.NewPCG(33, 1))
	var mu sync.Mutex
	var torn, killed []string
	d.fdatasync = func(f *os.File) error {
		if err := j.fdatasync(f); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return fdatasync(f) // its folder has been renamed
	}
	opt := Options{AppendFsync: Always, SegmentSize: small, disk: d}
	a := open(t, dir, opt)
	mustClose(t, a)
	a = open(t, dir, opt)
	j.before = func(string) {
		mu.Lock()
		defer mu.Unlock()
		if _, err := os.Stat(generationIn(dir, 1).dir); err == nil {
			return
		}
		to := t.TempDir()
		j.cutPower(t, chance, dir, to)
		torn = append(torn, to)
		to = t.TempDir()
		if err := os.CopyFS(to, os.DirFS(dir)); err == nil { // else a file was renamed meanwhile
			killed = append(killed, to)
		}
	}
	f, _, rest := twoChannels(t, a, 50, 0)
	f.feedSlowly(rand.New(rand.NewPCG(33, 2)), commands(rand.New(rand.NewPCG(33, 3)), 200))
	if err := rest(); err != nil {
		t.Fatal(err)
	}
	f.feed(commands(rand.New(rand.NewPCG(33, 4)), 100), 3000)
	f.awaitDurable()
	mustClose(t, a)
	if len(torn) < 10 || len(killed) < 5 {
		t.Fatalf("only %d power cuts and %d kills", len(torn), len(killed))
	}
	t.Logf("%d power cuts, %d kills", len(torn), len(killed))
	for _, at := range append(torn, killed...) {
		b := open(t, at, Options{})
		if _, ok := b.Position(); ok || b.Recovery() != (Recovery{}) {
			t.Errorf("something is there to continue: %+v", b.Recovery())
		}
		mustClose(t, b)
		if entries, _ := filepath.Glob(filepath.Join(at, "generation-*")); len(entries) != 0 {
			t.Errorf("%v is left", entries)
		}
	}
	b := open(t, dir, Options{})
	if pos, ok := b.Position(); !ok || pos.Offset != 50+f.scanner.Boundary().Offset {
		t.Errorf("behind the rename it goes on at %+v, %v, want %d", pos, ok, f.scanner.Boundary().Offset)
	}
	mustClose(t, b)
}

func TestAGenerationThatCannotTakeItsPlaceIsGivenUpWithItsLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := realDisk()
	broken := false
	d.syncDir = func(path string) error {
		if broken && path == dir {
			return syscall.EIO
		}
		return SyncPath(path)
	}
	a := open(t, dir, Options{disk: d})
	f, _, rest := twoChannels(t, a, 50, 0)
	f.feed(commands(rand.New(rand.NewPCG(34, 1)), 30), 3000)
	broken = true
	if err := rest(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Commit gives %v", err)
	}
	if got, _ := filepath.Glob(filepath.Join(dir, "generation-*")); len(got) != 0 || len(a.Buffer()) != 0 {
		t.Errorf("%v is left, and room for %d bytes", got, len(a.Buffer()))
	}
	mustClose(t, a)
}

func TestAPayloadOfUnknownSizeStopsBeforeTheDiskIsFull(t *testing.T) {
	t.Parallel()
	d := realDisk()
	free := int64(1 << 30)
	d.free = func(string) (int64, error) { return free, nil }
	a := open(t, t.TempDir(), Options{disk: d})
	b, err := a.BeginBase(replica.FullSync{ReplID: idA, Offset: 50, Size: -1})
	if err != nil {
		t.Fatal(err)
	}
	p := []byte(strings.Repeat("x", 1000))
	if _, err := b.Write(p); err != nil {
		t.Fatal(err)
	}
	free = spare - 1
	if _, err := b.Write(p); !errors.Is(err, replica.ErrNoRoom) {
		t.Errorf("with %d bytes free a write gives %v", free, err)
	}
	b.Abort()
	if err := a.Room(); !errors.Is(err, replica.ErrNoRoom) {
		t.Errorf("Room gives %v", err)
	}
	free = 1 << 30
	if err := a.Room(); err != nil {
		t.Errorf("with room Room gives %v", err)
	}
	mustClose(t, a)
}

func TestAHistoryThatCannotBeContinuedIsClosedBeforeAnotherBegins(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, Options{})
	old := fullSync(t, a, replica.FullSync{Size: -1}, rdbtest.Empty(0, true)) // of a master without ids
	old.feed(commands(rand.New(rand.NewPCG(35, 1)), 30), 3000)
	_, b, _ := twoChannels(t, a, 50, 0)
	poll.Until(t, "the generation before is closed", func() bool { return ended(generationIn(dir, 1).timeline()) })
	b.Abort()
	if got := segmentBytes(t, generationIn(dir, 1)); !bytes.HasPrefix(old.sent.Bytes(), got) || len(got) == 0 {
		t.Error("the generation before is not what it was")
	}
	f, _, rest := twoChannels(t, a, 50, 0)
	f.feed(commands(rand.New(rand.NewPCG(35, 2)), 30), 3000)
	if err := rest(); err != nil {
		t.Fatal(err)
	}
	if is, _ := a.Current(); is.Generation != 2 {
		t.Errorf("current is %+v", is)
	}
	mustClose(t, a)
}
