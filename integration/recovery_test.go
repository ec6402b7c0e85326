package integration

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"replicad/integration/poll"
	"replicad/integration/redistest"
)

// boundaries reads a stream and returns every position in it that ends a
// command outside MULTI: a reader of its own, to judge the daemon's.
func boundaries(t *testing.T, stream []byte) (at []int) {
	t.Helper()
	number := func(pos int, kind byte) (n, next int) {
		end := bytes.IndexByte(stream[pos:], '\n')
		if end < 0 || stream[pos] != kind {
			t.Fatalf("byte %d of the stream is not the beginning of a %c", pos, kind)
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(stream[pos+1 : pos+end])))
		if err != nil {
			t.Fatal(err)
		}
		return n, pos + end + 1
	}
	multi := false
	for pos := 0; pos < len(stream); {
		n, next := number(pos, '*')
		name := ""
		for i := range n {
			var k int
			k, next = number(next, '$')
			if i == 0 {
				name = strings.ToUpper(string(stream[next : next+k]))
			}
			next += k + 2
		}
		switch name {
		case "MULTI":
			multi = true
		case "EXEC":
			multi = false
		}
		if pos = next; !multi {
			at = append(at, pos)
		}
	}
	return at
}

// workshop is a master at rest with an archive that was closed or killed, of
// which any number of copies can be damaged and brought back.
type workshop struct {
	t      *testing.T
	master *redistest.Server
	daemon *process
	dir    string // the archive as the daemon left it
	gen    string // its generation, relative to dir
	whole  []byte // the stream's file up to the master's offset
	ends   []int  // its boundaries
	digest string
	from   int64 // replication offset at the beginning of the stream
	header int   // bytes before that in the file
}

const selectHeader = "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"

// newWorkshop follows a master with the arguments, has write write to it, and
// ends the daemon by end.
func newWorkshop(t *testing.T, write func(w *workshop), end func(d *process), args ...string) *workshop {
	t.Helper()
	w := &workshop{t: t, dir: t.TempDir()}
	w.master = redistest.Start(t, largeBacklog)
	everyType(w.master, 0)
	d := run(t, w.dir, append(byAddress(t, w.master), args...)...)
	w.daemon = d
	d.waitLog(`msg="full sync done"`)
	poll.Seen(t, "the base to be verified", func() (bool, string) {
		return newest(t, w.dir, "main").BaseVerified, "not yet"
	})
	write(w)
	end(d)
	g := newest(t, w.dir, "main")
	rel, err := filepath.Rel(w.dir, g.Dir)
	if err != nil {
		t.Fatal(err)
	}
	w.gen, w.from, w.header, w.digest = rel, g.BaseOffset, len(selectHeader), w.master.Digest()
	// The whole stream is what an undamaged copy catches up to.
	dir := w.copy()
	d = run(t, dir, byAddress(t, w.master)...)
	d.waitLog(`msg="partial resync"`)
	caughtUp(t, w.master, dir, "main")
	d.stop()
	w.whole = streamOf(t, filepath.Join(dir, w.gen))
	w.ends = append([]int{}, boundaries(t, w.whole)...)
	if w.ends[len(w.ends)-1] != len(w.whole) {
		t.Fatal("the whole stream does not end at a boundary")
	}
	sameDataset(t, w.master, filepath.Join(dir, w.gen))
	return w
}

func (w *workshop) copy() string {
	w.t.Helper()
	dir := w.t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(w.dir)); err != nil {
		w.t.Fatal(err)
	}
	return dir
}

func (w *workshop) path(dir, name string) string { return filepath.Join(dir, w.gen, name) }

const incr = "appendonlydir/appendonly.aof.1.incr.aof"

// boundaryBefore is the last boundary within n bytes of the stream's file.
func (w *workshop) boundaryBefore(n int) int {
	last := 0
	for _, b := range w.ends {
		if b <= n {
			last = b
		}
	}
	return last
}

var openedForm = regexp.MustCompile(`msg="archive opened" .*offset=(\d+)`)

// comesBack starts a daemon on a damaged copy and proves that it resumes on a
// boundary, at or behind least bytes of the stream's file, and that the stream
// is in the end what it was. It returns how many bytes of the file were kept.
func (w *workshop) comesBack(what, dir string, least int, load bool) int {
	t := w.t
	t.Helper()
	full := w.master.Number("stats", "sync_full")
	d := run(t, dir, byAddress(t, w.master)...)
	d.waitLog(`msg="partial resync"`)
	line := d.waitLog(openedForm.String())
	offset, err := strconv.ParseInt(openedForm.FindStringSubmatch(line)[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	kept := int(offset-w.from) + w.header
	if kept < least || kept != w.boundaryBefore(kept) {
		t.Errorf("%s: reopened at byte %d of the stream's file; want a boundary at or behind %d: %s", what, kept, least, line)
	}
	caughtUp(t, w.master, dir, "main")
	d.stop()
	if now := w.master.Number("stats", "sync_full"); now != full {
		t.Errorf("%s: %d full syncs were needed", what, now-full)
	}
	oneGeneration(t, dir, "main")
	got := streamOf(t, filepath.Join(dir, w.gen))
	if !bytes.Equal(got, w.whole) {
		i := 0
		for i < min(len(got), len(w.whole)) && got[i] == w.whole[i] {
			i++
		}
		t.Errorf("%s: the stream has %d bytes, want %d; they differ from byte %d on", what, len(got), len(w.whole), i)
	}
	if load {
		loaded := redistest.Load(t, filepath.Join(dir, w.gen))
		if digest := loaded.Digest(); digest != w.digest {
			t.Errorf("%s: digest %s, want %s", what, digest, w.digest)
		}
		loaded.Kill()
	}
	os.RemoveAll(dir)
	return kept
}

func TestAnArchiveCutAnywhereResumesAtTheBoundaryBefore(t *testing.T) {
	t.Parallel()
	const tail = 200
	step := 25
	if soak() {
		step = 1
	}
	w := newWorkshop(t, func(w *workshop) {
		for i := range 200 {
			w.master.Do("SET", fmt.Sprint("key:", i), allBytes())
		}
		w.master.Do("EVAL", `redis.call('SET', 'a', '1'); redis.call('SET', 'b', '*1\r\n$4\r\nPING\r\n')`, 0) // a MULTI
		w.master.DoIn(3, "SET", "c", 3)
		caughtUp(w.t, w.master, w.dir, "main")
	}, (*process).stop)
	n, loads := 0, 0
	for cut := 1; cut <= tail; cut += step {
		dir := w.copy()
		at := len(w.whole) - cut
		if err := os.Truncate(w.path(dir, incr), int64(at)); err != nil {
			t.Fatal(err)
		}
		load := soak() || n%4 == 0
		kept := w.comesBack(fmt.Sprintf("cut %d bytes before the end", cut), dir, 0, load)
		if want := w.boundaryBefore(at); kept != want {
			t.Errorf("cut %d bytes before the end, at byte %d: %d bytes were kept, want %d", cut, at, kept, want)
		}
		n++
		if load {
			loads++
		}
	}
	t.Logf("truncated at %d points of the last %d bytes (REPLICAD_SOAK=1: %d), loaded %d of them", n, tail, tail, loads)
}

// TestATailThatWasNotFsyncedMayBeLostOrGarbage makes what a power cut makes of
// an archive: of what was not fsynced, some is there, some is zeros or
// garbage, some is missing; in the stream's file, and in the timeline.
func TestATailThatWasNotFsyncedMayBeLostOrGarbage(t *testing.T) {
	t.Parallel()
	type damage struct {
		name string
		do   func(r *rand.Rand, tail []byte) []byte // what becomes of the tail
	}
	fill := func(r *rand.Rand, p []byte) {
		for i := range p {
			p[i] = byte(r.Uint32())
		}
	}
	damages := []damage{
		{"is nothing", func(_ *rand.Rand, p []byte) []byte { return nil }},
		{"is zeros", func(_ *rand.Rand, p []byte) []byte { clear(p); return p }},
		{"is garbage", func(r *rand.Rand, p []byte) []byte { fill(r, p); return p }},
		{"is there", func(_ *rand.Rand, p []byte) []byte { return p }},
		{"is cut", func(r *rand.Rand, p []byte) []byte { return p[:r.IntN(len(p))] }},
		{"ends in zeros", func(r *rand.Rand, p []byte) []byte { clear(p[r.IntN(len(p)):]); return p }},
		{"ends in garbage", func(r *rand.Rand, p []byte) []byte { fill(r, p[r.IntN(len(p)):]); return p }},
		{"has a hole", func(r *rand.Rand, p []byte) []byte {
			i := r.IntN(len(p))
			clear(p[i:min(len(p), i+4096)])
			return p
		}},
		{"has one wrong bit", func(r *rand.Rand, p []byte) []byte { p[r.IntN(len(p))] ^= 4; return p }},
		{"is longer than it was", func(r *rand.Rand, p []byte) []byte { return append(p, make([]byte, 4096)...) }},
	}
	for _, c := range []struct {
		name string
		args []string
		// write leaves a tail that is not fsynced.
		write func(w *workshop)
	}{
		{"appendfsync no", []string{"--appendfsync", "no"}, func(w *workshop) {
			everyWrite(w.t, w.master)
			caughtUp(w.t, w.master, w.dir, "main")
		}},
		{"appendfsync everysec", nil, func(w *workshop) {
			// A part that is fsynced, and one that is not yet.
			everyWrite(w.t, w.master)
			poll.Seen(w.t, "a tail that is not fsynced", func() (bool, string) {
				before := newest(w.t, w.dir, "main").FsyncedOffset
				if before < 1<<20 {
					return false, "nothing is fsynced"
				}
				for i := range 50 {
					w.master.Do("SET", fmt.Sprint("tail:", i), allBytes()+noise(300, uint64(i)))
				}
				w.master.Do("EVAL", `for i = 1, 20 do redis.call('SET', 'lua:' .. i, ARGV[1]) end`, 0, allBytes())
				caughtUp(w.t, w.master, w.dir, "main")
				// The daemon is killed as it stands here: the next fsync may be near.
				w.daemon.freeze()
				g := newest(w.t, w.dir, "main")
				if g.FsyncedOffset == before && g.EndOffset > before+20_000 {
					return true, ""
				}
				w.daemon.thaw()
				return false, fmt.Sprintf("%+v", g)
			})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rounds := 1
			if soak() {
				rounds = 5
			}
			w := newWorkshop(t, c.write, (*process).kill, c.args...)
			g := newest(t, w.dir, "main")
			safe := int(g.FsyncedOffset-w.from) + w.header
			t.Logf("%d bytes of the stream's file are fsynced, %d are not", safe, len(w.whole)-safe)
			if len(w.whole)-safe < 10_000 {
				t.Fatal("this proves nothing: there is no tail to speak of")
			}
			r := rand.New(rand.NewPCG(7, 7))
			n := 0
			for range rounds {
				for i, x := range damages {
					timelines := []string{"kept", "cut", "garbage"}
					if !soak() {
						timelines = timelines[i%3 : i%3+1]
					}
					for _, timeline := range timelines {
						dir := w.copy()
						b, err := os.ReadFile(w.path(dir, incr))
						if err != nil {
							t.Fatal(err)
						}
						b = append(b[:safe:safe], x.do(r, bytes.Clone(b[safe:]))...)
						if err := os.WriteFile(w.path(dir, incr), b, 0o640); err != nil {
							t.Fatal(err)
						}
						w.damageTimeline(dir, timeline, r)
						what := fmt.Sprintf("the tail %s, the timeline's is %s", x.name, timeline)
						w.comesBack(what, dir, w.boundaryBefore(safe), soak() || i%4 == 0)
						n++
					}
				}
			}
			t.Logf("%d archives were damaged and came back (REPLICAD_SOAK=1: %d)", n, 5*len(damages)*3)

			// The word of what is fsynced may be lost too.
			dir := w.copy()
			if err := os.WriteFile(w.path(dir, "fsynced"), make([]byte, 5000), 0o640); err != nil {
				t.Fatal(err)
			}
			w.comesBack("the file fsynced is zeros", dir, 0, true)
			dir = w.copy()
			if err := os.Remove(w.path(dir, "fsynced")); err != nil {
				t.Fatal(err)
			}
			w.comesBack("the file fsynced is missing", dir, 0, true)
		})
	}
}

// damageTimeline makes of the timeline what a power cut may: its first four
// facts were fsynced together with the base.
func (w *workshop) damageTimeline(dir, how string, r *rand.Rand) {
	t := w.t
	t.Helper()
	path := w.path(dir, "timeline")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(b, []byte("\n"))
	first := len(bytes.Join(lines[:4], nil))
	if first >= len(b) {
		t.Fatalf("the timeline has nothing behind its first facts:\n%s", b)
	}
	at := first + r.IntN(len(b)-first)
	switch how {
	case "cut":
		b = b[:at]
	case "garbage":
		for i := at; i < len(b); i++ {
			b[i] = byte(r.Uint32())
		}
	}
	if err := os.WriteFile(path, b, 0o640); err != nil {
		t.Fatal(err)
	}
}
