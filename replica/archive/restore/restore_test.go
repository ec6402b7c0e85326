package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"replicad/integration/poll"
	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/rdb/rdbtest"
	"replicad/replica/resp"
)

const (
	baseOffset = 1000
	baseDB     = 2
)

// TestMain has temporary folders in memory, where there is plenty: there an
// fsync costs nothing.
func TestMain(m *testing.M) {
	if free, err := archive.Free("/dev/shm"); err == nil && free > 4<<30 {
		os.Setenv("TMPDIR", "/dev/shm")
	}
	os.Exit(m.Run())
}

// made is an archive of one generation, and what is known of its stream.
type made struct {
	dir    string
	stream []byte
	ends   []int // of commands outside MULTI, in bytes of the stream; 0 is one
}

// makeArchive makes an archive of a stream with transactions and SELECTs, in
// segments of about size bytes, each but the last one read again.
func makeArchive(t *testing.T, size int64) made {
	t.Helper()
	m := made{dir: filepath.Join(t.TempDir(), "main"), ends: []int{0}}
	a, err := archive.Open(m.dir, archive.Options{SegmentSize: size, TimelineResolution: 1})
	if err != nil {
		t.Fatal(err)
	}
	b, err := a.BeginBase(replica.FullSync{ReplID: strings.Repeat("a", 40), Offset: baseOffset, Size: -1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Write(rdbtest.Empty(baseDB, true)); err != nil {
		t.Fatal(err)
	}
	pos, err := b.Commit()
	if err != nil {
		t.Fatal(err)
	}
	scanner := resp.NewScanner(pos.DB, resp.Limits{})
	feed := func(outside bool, args ...string) {
		t.Helper()
		p := resp.AppendCommand(nil, args...)
		m.stream = append(m.stream, p...)
		if outside {
			m.ends = append(m.ends, len(m.stream))
		}
		if _, _, err := scanner.Scan(p); err != nil {
			t.Fatal(err)
		}
		a.Commit(copy(a.Buffer(), p), replica.Boundary{Offset: baseOffset + scanner.Boundary().Offset, DB: scanner.Boundary().DB})
		poll.Until(t, "it is stored", func() bool { return a.Progress().Stored == baseOffset+int64(len(m.stream)) })
	}
	for i := range 8 {
		n := strconv.Itoa(i)
		feed(true, "SET", "a"+n, strings.Repeat("v", 40))
		feed(true, "SELECT", n)
		feed(false, "MULTI")
		feed(false, "SET", "b"+n, strings.Repeat("w", 20))
		feed(false, "SELECT", "9")
		feed(true, "EXEC")
	}
	poll.Until(t, "the segments are read again", func() bool {
		d, _, err := archive.Describe(m.dir)
		return err == nil && d.Generations[0].Verified == d.Generations[0].Segments-1 && d.Generations[0].BaseVerified
	})
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	return m
}

// cutOf is where a restore to n bytes of the stream must end.
func (m made) cutOf(n int) (cut int) {
	for _, e := range m.ends {
		if e <= n {
			cut = e
		}
	}
	return cut
}

func (m made) path(name string) string {
	return filepath.Join(m.dir, "generation-000001", archive.AOFDir, name)
}

// to are the options of a restore to n bytes of the stream.
func (m made) to(t *testing.T, out string, n int) Options {
	t.Helper()
	target, err := archive.ParseTarget(fmt.Sprintf("offset:%d", baseOffset+n), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return Options{Dir: m.dir, Target: target, Out: out}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// holds checks what a restore to n bytes of the stream made: the base, and the
// stream up to the cut, in segments that open with their SELECT.
func (m made) holds(t *testing.T, opt Options, n int) {
	t.Helper()
	var base, rest []byte
	if opt.Format == AOF {
		p := read(t, filepath.Join(opt.Out, "appendonly.aof"))
		k := min(len(rdbtest.Empty(baseDB, true)), len(p))
		base, rest = p[:k], p[k:]
	} else {
		dir := filepath.Join(opt.Out, archive.AOFDir)
		for i, line := range strings.Split(strings.TrimSpace(string(read(t, filepath.Join(dir, archive.ManifestName)))), "\n") {
			p := read(t, filepath.Join(dir, strings.Fields(line)[1]))
			if i == 0 {
				base = p
				continue
			}
			if !bytes.HasPrefix(p, []byte("*2\r\n$6\r\nSELECT\r\n")) {
				t.Fatalf("%s opens with %.20q", line, p)
			}
			rest = append(rest, p...)
		}
	}
	if !bytes.Equal(base, rdbtest.Empty(baseDB, true)) {
		t.Fatalf("the base holds %q", base)
	}
	r, _, err := archive.Locate(m.dir, opt.Target, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var want []byte
	for _, s := range r.Segments {
		if from := int(s.From - baseOffset); from < n || s.Seq == 1 {
			want = resp.AppendCommand(want, "SELECT", strconv.Itoa(s.DB))
			want = append(want, m.stream[from:min(max(m.cutOf(n), from), int(s.To-baseOffset))]...)
		}
	}
	if !bytes.Equal(rest, want) {
		t.Fatalf("up to byte %d the stream is\n%q, want\n%q", n, rest, want)
	}
}

// empty checks that nothing is left at out.
func empty(t *testing.T, out string) {
	t.Helper()
	if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", out, err)
	}
}

func TestACutFallsOnTheLastBoundaryOutsideATransaction(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{300, 1 << 20} {
		m := makeArchive(t, size)
		for n := range len(m.stream) + 1 {
			r, p, err := archive.Locate(m.dir, m.to(t, "", n).Target, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			c, err := findCut(context.Background(), r, p.Offset)
			r.Close()
			if want := baseOffset + int64(m.cutOf(n)); err != nil || c[len(c)-1].To != want {
				t.Fatalf("in segments of %d, byte %d: cut at %+v (%v), want %d", size, n, c, err, want)
			}
		}
	}
}

func TestAResultHoldsTheBaseAndTheStreamUpToTheCut(t *testing.T) {
	t.Parallel()
	m := makeArchive(t, 300)
	for _, format := range []Format{Multipart, AOF} {
		for n := 0; n <= len(m.stream); n += 61 {
			opt := m.to(t, filepath.Join(t.TempDir(), "out"), n)
			var done, total int64
			opt.Format, opt.Progress = format, func(d, all int64) { done, total = d, all }
			res, err := Run(context.Background(), opt)
			if err != nil {
				t.Fatal(err)
			}
			if res.Offset != baseOffset+int64(m.cutOf(n)) || res.Point.Offset != baseOffset+int64(n) || res.Generation != 1 {
				t.Fatalf("byte %d: %+v", n, res)
			}
			if done != total || total != res.Bytes {
				t.Errorf("progress ended with %d of %d, the result has %d bytes", done, total, res.Bytes)
			}
			m.holds(t, opt, n)
			entries, err := os.ReadDir(opt.Out)
			if err != nil || len(entries) != 1 || entries[0].Name() != format.entry() {
				t.Fatalf("%s holds %v, %v", opt.Out, entries, err)
			}
		}
	}
}

func TestWhatRedisServerAppendsToIsNeverLinked(t *testing.T) {
	t.Parallel()
	m := makeArchive(t, 300)
	for _, noLink := range []bool{false, true} {
		opt := m.to(t, filepath.Join(t.TempDir(), "out"), len(m.stream))
		opt.NoLink = noLink
		res, err := Run(context.Background(), opt)
		if err != nil {
			t.Fatal(err)
		}
		links := 0
		entries, _ := os.ReadDir(filepath.Join(opt.Out, archive.AOFDir))
		last := fmt.Sprintf("appendonly.aof.%d.incr.aof", res.Segments)
		for _, e := range entries {
			st, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			if st.Sys().(*syscall.Stat_t).Nlink == 1 {
				continue
			}
			links++
			if noLink || e.Name() == last || e.Name() == archive.ManifestName {
				t.Errorf("no-link %v: %s is linked", noLink, e.Name())
			}
		}
		if want := res.Segments; !noLink && res.Base == Linked && links != want { // the base, and all segments but the last
			t.Errorf("%d files are linked, want %d", links, want)
		}
	}
}

// ownerOf gives the user and the group that own a file, and how many names the
// file has.
func ownerOf(t *testing.T, path string) (owner [2]uint32, names uint64) {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	sys := st.Sys().(*syscall.Stat_t)
	return [2]uint32{sys.Uid, sys.Gid}, uint64(sys.Nlink)
}

func TestWhatTheArchiveHasDoesNotChangeHandsWithTheResult(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root gives files away: nothing was tested")
	}
	m := makeArchive(t, 300)
	daemon, redis := [2]uint32{1234, 1235}, [2]uint32{4321, 4322}
	give := func(dir string, to [2]uint32) {
		t.Helper()
		err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			return errors.Join(err, os.Lchown(path, int(to[0]), int(to[1])))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	all := func(dir string, want [2]uint32, names uint64) {
		t.Helper()
		err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if owner, n := ownerOf(t, path); owner != want || !e.IsDir() && n != names {
				t.Errorf("%s belongs to %v, want %v, and has %d names", path, owner, want, n)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	// The daemon's files, restored by root, and then given to redis.
	give(m.dir, daemon)
	opt := m.to(t, filepath.Join(t.TempDir(), "out"), len(m.stream))
	res, err := Run(context.Background(), opt)
	if err != nil || res.Base != Copied {
		t.Fatalf("the base is %s, %v", res.Base, err)
	}
	give(opt.Out, redis)
	all(m.dir, daemon, 1)

	// Root's own, given to redis by the restore, also into a folder that was
	// there.
	give(m.dir, [2]uint32{})
	if opt.Owner, err = ParseOwner("4321:4322"); err != nil {
		t.Fatal(err)
	}
	for _, opt.Format = range []Format{Multipart, AOF} {
		opt.Out = t.TempDir()
		if _, err := Run(context.Background(), opt); err != nil {
			t.Fatal(err)
		}
		all(opt.Out, redis, 1)
		all(m.dir, [2]uint32{}, 1)
	}
}

func TestAnArchiveThatIsALinkIsCopied(t *testing.T) {
	t.Parallel()
	m := makeArchive(t, 300)
	base, moved := m.path("appendonly.aof.1.base.rdb"), filepath.Join(t.TempDir(), "base")
	if err := errors.Join(os.Rename(base, moved), os.Symlink(moved, base)); err != nil {
		t.Fatal(err)
	}
	opt := m.to(t, filepath.Join(t.TempDir(), "out"), len(m.stream))
	if res, err := Run(context.Background(), opt); err != nil || res.Base != Copied {
		t.Fatalf("the base is %s, %v", res.Base, err)
	}
	if st, err := os.Lstat(filepath.Join(opt.Out, archive.AOFDir, "appendonly.aof.1.base.rdb")); err != nil || !st.Mode().IsRegular() {
		t.Errorf("the base is %v, %v", st, err)
	}
}

func TestAnOwnerIsReadAsChownDoes(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]Owner{
		"": {}, "root": {0, -1, true}, "root:root": {0, 0, true}, "7:root": {7, 0, true}, ":8": {-1, 8, true}, "9": {9, -1, true}, "9:": {9, -1, true},
	} {
		if got, err := ParseOwner(s); err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{":", "no such user", "root:no such group", "-1", "4294967296"} {
		if got, err := ParseOwner(s); err == nil {
			t.Errorf("%q is read as %+v", s, got)
		}
	}
}

func TestASegmentThatRecoveryMayGoOnWithIsNotLinked(t *testing.T) {
	t.Parallel()
	w := &writer{reader: &archive.Reader{}}
	if w.final(archive.Segment{Sealed: true}) {
		t.Error("one that was not read again counts as final")
	}
	if !w.final(archive.Segment{Sealed: true, Verified: true}) {
		t.Error("one that was read again does not")
	}
}

func TestAnOutThatIsNotEmptyStaysAsItIs(t *testing.T) {
	t.Parallel()
	m := makeArchive(t, 300)
	out := t.TempDir()
	if err := os.WriteFile(filepath.Join(out, "mine"), nil, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), m.to(t, out, 100)); !errors.Is(err, ErrNotEmpty) {
		t.Fatalf("Run said %v", err)
	}
	if entries, _ := os.ReadDir(out); len(entries) != 1 {
		t.Errorf("it holds %v", entries)
	}
}

func TestWhatAKilledRestoreLeftIsRemovedUnlessItStillWorks(t *testing.T) {
	t.Parallel()
	m := makeArchive(t, 300)
	out := t.TempDir()
	left := filepath.Join(out, stageName)
	if err := os.MkdirAll(filepath.Join(left, archive.AOFDir), 0o750); err != nil {
		t.Fatal(err)
	}
	lock, err := lockDir(left)
	if err != nil {
		t.Fatal(err)
	}
	opt := m.to(t, out, 100)
	if _, err := Run(context.Background(), opt); !errors.Is(err, ErrBusy) {
		t.Fatalf("while another works Run said %v", err)
	}
	if _, err := os.Stat(filepath.Join(left, archive.AOFDir)); err != nil {
		t.Errorf("the other's work is gone: %v", err)
	}
	lock.Close()
	if _, err := Run(context.Background(), opt); err != nil {
		t.Fatal(err)
	}
	m.holds(t, opt, 100)
	empty(t, left)
}

func TestACancelledRestoreLeavesNothing(t *testing.T) {
	t.Parallel()
	m := makeArchive(t, 300)
	for _, format := range []Format{Multipart, AOF} {
		opt := m.to(t, filepath.Join(t.TempDir(), "out"), len(m.stream))
		ctx, cancel := context.WithCancel(context.Background())
		opt.Format, opt.Progress = format, func(int64, int64) { cancel() }
		if _, err := Run(ctx, opt); !errors.Is(err, context.Canceled) {
			t.Fatalf("Run said %v", err)
		}
		empty(t, opt.Out)
	}
}

func TestWhatIsNotThereLeavesNothing(t *testing.T) {
	t.Parallel()
	m := makeArchive(t, 300)
	opt := m.to(t, filepath.Join(t.TempDir(), "out"), len(m.stream)+1)
	if _, err := Run(context.Background(), opt); !errors.Is(err, archive.ErrUnavailable) {
		t.Fatalf("Run said %v", err)
	}
	empty(t, opt.Out)
}

func TestDamageNamesThePlaceAndWhatCanBeRestoredInstead(t *testing.T) {
	t.Parallel()
	flip := func(at int) func([]byte) []byte {
		return func(p []byte) []byte { p[at] ^= 0x10; return p }
	}
	shorten := func(p []byte) []byte { return p[:len(p)-1] }
	for name, c := range map[string]struct {
		file    string
		size    int64
		damage  func([]byte) []byte
		instead bool
	}{
		"a short base":           {"appendonly.aof.1.base.rdb", 300, shorten, false},
		"a base of another kind": {"appendonly.aof.1.base.rdb", 300, flip(0), false},
		"a short segment":        {"appendonly.aof.2.incr.aof", 300, shorten, true},
		"a header":               {"appendonly.aof.2.incr.aof", 300, flip(4), true},
		"framing":                {"appendonly.aof.1.incr.aof", 1 << 20, flip(400), true},
		"a value":                {"appendonly.aof.1.incr.aof", 1 << 20, func(p []byte) []byte { return bytes.Replace(p, []byte("vvv"), []byte("vxv"), 1) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			m := makeArchive(t, c.size)
			path := m.path(c.file)
			p := c.damage(read(t, path))
			if err := os.WriteFile(path, p, 0o640); err != nil {
				t.Fatal(err)
			}
			opt := m.to(t, filepath.Join(t.TempDir(), "out"), len(m.stream))
			_, err := Run(context.Background(), opt)
			var d *DamagedError
			if !errors.As(err, &d) || !errors.Is(err, archive.ErrDamaged) || d.File != path || d.Byte > int64(len(p)) {
				t.Fatalf("Run said %v", err)
			}
			empty(t, opt.Out)
			if c.instead != (d.Sound >= 0) {
				t.Fatalf("instead: %d, in %v", d.Sound, err)
			}
			if !c.instead {
				return
			}
			sound := int(d.Sound - baseOffset)
			opt = m.to(t, opt.Out, sound)
			if res, err := Run(context.Background(), opt); err != nil || res.Offset != d.Sound {
				t.Fatalf("what is said to be sound, offset %d: %+v, %v", d.Sound, res, err)
			}
			m.holds(t, opt, sound)
		})
	}
}

func TestAMissingMiddleSegmentInTheTimelineIsDamage(t *testing.T) {
	t.Parallel()
	m := makeArchive(t, 300)
	path := filepath.Join(m.dir, "generation-000001", "timeline")
	p := bytes.Replace(read(t, path), []byte("\nsegment 2 "), []byte("\nsegment 3 "), 1)
	if err := os.WriteFile(path, p, 0o640); err != nil {
		t.Fatal(err)
	}
	opt := m.to(t, filepath.Join(t.TempDir(), "out"), len(m.stream))
	var d *DamagedError
	if _, err := Run(context.Background(), opt); !errors.As(err, &d) || d.File != path {
		t.Fatalf("Run said %v", err)
	}
	empty(t, opt.Out)
}

func TestDrillsThatWereKilledAreSweptAndThoseThatRunAreNot(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	dead, alive := filepath.Join(parent, drillPrefix+"1"), filepath.Join(parent, drillPrefix+"2")
	for _, dir := range []string{dead, alive} {
		if err := os.MkdirAll(filepath.Join(dir, "restored"), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	lock, err := lockDir(alive)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := archive.RemoveLeft(parent, drillPrefix+"*"); err != nil {
		t.Fatal(err)
	}
	empty(t, dead)
	if _, err := os.Stat(alive); err != nil {
		t.Error(err)
	}
}
