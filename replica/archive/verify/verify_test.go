package verify_test

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"replicad/integration/poll"
	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/archive/verify"
	"replicad/replica/rdb/rdbtest"
	"replicad/replica/resp"
)

const id = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// TestMain has temporary folders in memory, where there is plenty: there an
// fsync costs nothing.
func TestMain(m *testing.M) {
	if free, err := archive.Free("/dev/shm"); err == nil && free > 4<<30 {
		os.Setenv("TMPDIR", "/dev/shm")
	}
	os.Exit(m.Run())
}

// made is an archive of several segments, closed or as kill -9 left it.
func made(t *testing.T, checked, closed bool) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "main")
	a, err := archive.Open(dir, archive.Options{SegmentSize: 2000, AppendFsync: archive.Always, TimelineResolution: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := a.BeginBase(replica.FullSync{ReplID: id, Offset: 77, Size: -1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Write(rdbtest.Empty(0, checked)); err != nil {
		t.Fatal(err)
	}
	pos, err := b.Commit()
	if err != nil {
		t.Fatal(err)
	}
	r, end := rand.New(rand.NewPCG(1, 2)), pos.Offset
	poll.Until(t, "the base to be verified", func() bool { m, _, _ := archive.Describe(dir); return m.Generations[0].BaseCRCKnown })
	for i := range 60 {
		p := resp.AppendCommand(nil, "SET", fmt.Sprint("key", i), strings.Repeat("v", r.IntN(300)))
		var buf []byte
		poll.Until(t, "room", func() bool { buf = a.Buffer(); return len(buf) >= len(p) })
		copy(buf, p)
		end += int64(len(p))
		a.Commit(len(p), replica.Boundary{Offset: end})
		poll.Until(t, "it to be durable", func() bool { return a.Progress().Durable == end })
	}
	if closed {
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	return copied(t, dir)
}

func copied(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "main")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

func verified(t *testing.T, dir string) verify.Report {
	t.Helper()
	r, err := verify.Archive(context.Background(), dir, verify.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func sound(t *testing.T, dir string) verify.Generation {
	t.Helper()
	r := verified(t, dir)
	if !r.Sound || len(r.Generations) != 1 {
		t.Fatalf("not sound: %+v", r)
	}
	return r.Generations[0]
}

// names says whether a problem is in that file, and in no other.
func names(r verify.Report, path string) bool {
	found := false
	for _, g := range r.Generations {
		for _, p := range g.Problems {
			if p.File != path {
				return false
			}
			found = true
		}
	}
	return found
}

func TestASoundArchiveIsProvedUpToItsEnd(t *testing.T) {
	t.Parallel()
	for _, closed := range []bool{true, false} {
		for _, checked := range []bool{true, false} {
			g := sound(t, made(t, checked, closed))
			if g.SoundOffset != g.EndOffset || len(g.Segments) < 4 || g.Marks == 0 || !g.Base.CRC32C || len(g.Warnings) > 0 {
				t.Errorf("closed %v: %+v", closed, g)
			}
			var n int64
			for _, s := range g.Segments {
				n += s.Commands
			}
			if n != 60 {
				t.Errorf("%d commands, want 60", n)
			}
		}
	}
}

func filesOf(t *testing.T, dir string) (paths []string) {
	t.Helper()
	for _, pattern := range []string{"generation-*/*", "generation-*/appendonlydir/*"} {
		m, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range m {
			if st, err := os.Stat(p); err == nil && st.Mode().IsRegular() {
				paths = append(paths, p)
			}
		}
	}
	return paths
}

// matters says whether a byte is covered: of fsynced only what is not blank is.
// All bytes of the segments here are, as their last ones were durable and so
// are in fsynced.
func matters(path string, p []byte, at int) bool {
	return filepath.Base(path) != "fsynced" || p[at] != ' '
}

func TestAFlippedBitIsFoundInItsFile(t *testing.T) {
	t.Parallel()
	n := soak(60, 200)
	r := rand.New(rand.NewPCG(3, 4))
	done := map[string]int{}
	total := 0
	for _, closed := range []bool{true, false} {
		for _, checked := range []bool{true, false} {
			dir := made(t, checked, closed)
			sound(t, dir)
			paths := filesOf(t, dir)
			for i := 0; i < n; {
				path := paths[r.IntN(len(paths))]
				p, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				at, bit := r.IntN(len(p)), r.IntN(8)
				if !matters(path, p, at) {
					continue
				}
				i, total = i+1, total+1
				done[filepath.Base(path)]++
				q := bytes.Clone(p)
				q[at] ^= 1 << bit
				write(t, path, q)
				if got := verified(t, dir); !names(got, path) {
					t.Errorf("bit %d of byte %d of %s (%q in %q): found %v", bit, at, path, p[at], around(p, at), got.Generations)
				}
				write(t, path, p)
			}
		}
	}
	t.Logf("flipped bits: %d, in %v", total, done)
}

// A line that loses its end takes the next one with it, and what that one said.
func TestEveryFlippedBitOfALinesEndIsFoundInItsFile(t *testing.T) {
	t.Parallel()
	every := soak(8, 1) // of the bits of a line's end; with 1, all bits of all bytes
	for _, closed := range []bool{true, false} {
		for _, checked := range []bool{true, false} {
			dir := made(t, checked, closed)
			for _, path := range filesOf(t, dir) {
				name := filepath.Base(path)
				if name != "timeline" && name != "fsynced" && name != "appendonly.aof.manifest" {
					continue
				}
				p, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				n := 0
				for at := range p {
					if !matters(path, p, at) || every > 1 && p[at] != '\n' {
						continue
					}
					for bit := at % every; bit < 8; bit += every {
						n++
						q := bytes.Clone(p)
						q[at] ^= 1 << bit
						write(t, path, q)
						if got := verified(t, dir); !names(got, path) {
							t.Errorf("bit %d of byte %d of %s (%q in %q): found %+v", bit, at, path, p[at], around(p, at), got.Generations)
						}
					}
				}
				write(t, path, p)
				t.Logf("%s, closed %v, checked %v: %d flipped bits", name, closed, checked, n)
			}
		}
	}
}

// soak gives the count of a test that tries many cases: full with
// REPLICAD_SOAK=1, and few with -short.
func soak(normal, full int) int {
	switch {
	case os.Getenv("REPLICAD_SOAK") == "1":
		return full
	case testing.Short():
		return min(normal, 10)
	}
	return normal
}

func around(p []byte, at int) []byte { return p[max(at-20, 0):min(at+20, len(p))] }

func write(t *testing.T, path string, p []byte) {
	t.Helper()
	if err := os.WriteFile(path, p, 0o640); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsMissingCutOrReplacedIsFoundInItsFile(t *testing.T) {
	t.Parallel()
	dir := made(t, true, false)
	for _, path := range filesOf(t, dir) {
		p, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if got := verified(t, dir); got.Sound {
			t.Errorf("%s is missing, and that is not found", path)
		}
		if name := filepath.Base(path); name != "timeline" && name != "fsynced" {
			write(t, path, p[:len(p)-1])
			if got := verified(t, dir); !names(got, path) {
				t.Errorf("%s lacks a byte: found %+v", path, got.Generations)
			}
		}
		q := bytes.Clone(p)
		clear(q[len(q)/3 : len(q)/3+20])
		write(t, path, q)
		if name := filepath.Base(path); name != "fsynced" && !names(verified(t, dir), path) {
			t.Errorf("%s has a hole: found %+v", path, verified(t, dir).Generations)
		}
		write(t, path, p)
	}
	sound(t, dir)
}

func TestSwappedSegmentsAreFound(t *testing.T) {
	t.Parallel()
	dir := made(t, true, true)
	aofs := filepath.Join(dir, "generation-000001", "appendonlydir")
	one, two := filepath.Join(aofs, "appendonly.aof.1.incr.aof"), filepath.Join(aofs, "appendonly.aof.2.incr.aof")
	p, _ := os.ReadFile(one)
	q, _ := os.ReadFile(two)
	write(t, one, q)
	write(t, two, p)
	g := verified(t, dir).Generations[0]
	if g.Sound || g.SoundOffset != 77 {
		t.Fatalf("found %+v", g)
	}
}

// sealedLines gives each line the checksum that timeline and fsynced have, so
// that the fuzzer gets behind it.
func sealedLines(text string) (p []byte) {
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		p = fmt.Appendf(p, "%s #%08x\n", line, crc32.Checksum([]byte(line), crc32.MakeTable(crc32.Castagnoli)))
	}
	return p
}

func FuzzVerify(f *testing.F) {
	const facts = "timeline 1\nbase 77 size 54 at 1000\nreplid - from 77\nsegment 1 from 77 db 0 header 23\n"
	for _, more := range []string{
		"", "mark 1001 offset 77 crc 00000000\n", "sealed 1 to 77 crc 00000000\nsegment 2 from 77 db 1 header 23\n",
		"sealed 1 to 9223372036854775807 crc 00000000\nmark 1001 offset 9223372036854775807 crc 00000000\n",
		"segment 9223372036854775807 from 0 db 9 header 9223372036854775807\ncut 78\nend 9\n", "clock 5 back 9\nmark 3 offset 1 crc 0\n",
	} {
		f.Add(facts+more, archive.Manifest(1), "fsynced 77 segment 1 crc 00000000 boundary 77 db 0 crc 00000000 serial 1\n", true)
	}
	f.Add("timeline", []byte("file"), "fsynced", false)
	f.Fuzz(func(t *testing.T, timeline string, manifest []byte, fsynced string, seal bool) {
		dir := filepath.Join(t.TempDir(), "main")
		gen := filepath.Join(dir, "generation-000001")
		if err := os.MkdirAll(filepath.Join(gen, "appendonlydir"), 0o750); err != nil {
			t.Fatal(err)
		}
		lines, slots := []byte(timeline), []byte(fsynced)
		if seal {
			lines, slots = sealedLines(timeline), sealedLines(fsynced)
		}
		write(t, filepath.Join(dir, "LOCK"), nil)
		write(t, filepath.Join(gen, "timeline"), lines)
		write(t, filepath.Join(gen, "fsynced"), slots)
		write(t, filepath.Join(gen, "appendonlydir", "appendonly.aof.manifest"), manifest)
		write(t, filepath.Join(gen, "appendonlydir", "appendonly.aof.1.base.rdb"), rdbtest.Empty(0, true))
		write(t, filepath.Join(gen, "appendonlydir", "appendonly.aof.1.incr.aof"), []byte("*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"))
		verified(t, dir)
	})
}
