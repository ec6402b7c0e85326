package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"replicad/integration/poll"
	"replicad/replica"
	"replicad/replica/rdb/rdbtest"
	"replicad/replica/resp"
)

// before makes a generation of many segments, closed. It gives what it holds,
// and where it may be divided.
func before(t *testing.T, dir string, seed uint64) (g generation, stream []byte, boundaries []resp.Boundary) {
	t.Helper()
	r := rand.New(rand.NewPCG(50, seed))
	a := open(t, dir, Options{AppendFsync: Always, SegmentSize: small, TimelineResolution: time.Nanosecond})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Offset: 50, Size: -1}, rdbtest.Empty(0, true))
	f.feedSlowly(r, commands(r, 60))
	a.Continue(idB)
	f.feedSlowly(r, commands(r, 60))
	f.awaitDurable()
	closed := segmentsOf(t, generationIn(dir, 1)) - 1
	poll.Until(t, "all is verified", func() bool {
		m, _, _ := Describe(dir)
		return m.Generations[0].Verified == closed && m.Generations[0].BaseVerified
	})
	if err := a.log.Swap(nil).finish(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, a)
	g = generationIn(dir, 1)
	stream = segmentBytes(t, g)
	s := resp.NewScanner(0, resp.Limits{})
	boundaries = append(boundaries, resp.Boundary{Offset: 50})
	for i := range stream {
		if _, _, err := s.Scan(stream[i : i+1]); err != nil {
			t.Fatal(err)
		}
		if b := s.Boundary(); b.Offset+50 > boundaries[len(boundaries)-1].Offset {
			boundaries = append(boundaries, resp.Boundary{Offset: 50 + b.Offset, DB: b.DB})
		}
	}
	return g, stream, boundaries
}

// inherit makes a generation that takes over a stretch of another one.
func inherit(g, to generation, lo, hi int64, db int, opt Options, carries ...int64) (*heir, error) {
	r, err := openReader(g)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	payload := rdbtest.Empty(0, true)
	if err := errors.Join(os.MkdirAll(to.aofs(), 0o750), os.WriteFile(to.base(), payload, 0o640)); err != nil {
		return nil, err
	}
	pos := replica.Position{ReplID: r.ReplID(lo), Offset: lo}
	h, err := newHeir(to, r, birth{pos: pos, size: int64(len(payload)), at: time.Now(), since: time.UnixMilli(1)}, opt)
	if err != nil {
		return nil, err
	}
	defer h.close()
	for _, upTo := range append(carries, hi) {
		if err := h.carry(context.Background(), upTo); err != nil {
			return h, err
		}
	}
	if err := h.link(); err != nil {
		return h, err
	}
	_, _, err = h.settle(hi, db)
	return h, err
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Sys().(*syscall.Stat_t).Ino
}

func TestAnHeirHoldsExactlyTheStretchThatItTakesOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g, stream, all := before(t, dir, 1)
	tl, _, _ := g.readTimeline(visitor{})
	had := snapshotDir(t, g.dir)
	r := rand.New(rand.NewPCG(51, 1))
	whole, parts := 0, 0
	for range soak(40, 500) {
		i := r.IntN(len(all))
		j := i + r.IntN(len(all)-i)
		if r.IntN(4) == 0 { // where a segment begins
			s := tl.Segments[r.IntN(len(tl.Segments))]
			i = slices.IndexFunc(all, func(b resp.Boundary) bool { return b.Offset == s.From })
			j = max(i, j)
		}
		lo, hi := all[i], all[j]
		to := generation{filepath.Join(t.TempDir(), "generation-000002"), 2}
		h, err := inherit(g, to, lo.Offset, hi.Offset, hi.DB, Options{disk: realDisk()})
		if err != nil {
			t.Fatalf("%d to %d: %v", lo.Offset, hi.Offset, err)
		}
		if got := segmentBytes(t, to); !bytes.Equal(got, stream[lo.Offset-50:hi.Offset-50]) {
			t.Fatalf("%d to %d: it holds %d other bytes", lo.Offset, hi.Offset, len(got))
		}
		loadable(t, to)
		for _, s := range h.shares {
			linked := inode(t, to.segment(s.is.Seq)) == inode(t, g.segment(s.src))
			if src := tl.segment(int64(s.src)); linked != (src.From >= lo.Offset && src.To <= hi.Offset) || linked == s.copied {
				t.Fatalf("%d to %d: segment %+v is linked: %v", lo.Offset, hi.Offset, s, linked)
			}
			if linked {
				whole++
			} else {
				parts++
			}
		}
		agrees(t, g, to, lo.Offset, hi.Offset)
	}
	for name, p := range snapshotDir(t, g.dir) {
		if !bytes.Equal(p, had[name]) {
			t.Errorf("%s was changed", name)
		}
	}
	t.Logf("%d segments linked, %d copied", whole, parts)
	if whole == 0 || parts == 0 {
		t.Error("the test does not test what it says")
	}
}

// agrees checks that what a generation has of marks and replication ids is what
// the one before has of that stretch, and that each mark's CRC is right.
func agrees(t *testing.T, g, to generation, lo, hi int64) {
	t.Helper()
	marks := func(g generation) (all []Mark, r *Reader) {
		r, err := openReader(g)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if err := r.Marks(func(m Mark) bool { all = append(all, m); return true }); err != nil {
			t.Fatal(err)
		}
		return all, r
	}
	old, ro := marks(g)
	now, rn := marks(to)
	old = slices.DeleteFunc(old, func(m Mark) bool { return m.Offset <= lo || m.Offset > hi })
	if len(old) != len(now) {
		t.Fatalf("%d to %d: %d marks of %d", lo, hi, len(now), len(old))
	}
	for i, m := range now {
		if m.Offset != old[i].Offset || !m.Time.Equal(old[i].Time) {
			t.Fatalf("mark %+v was %+v", m, old[i])
		}
		s := rn.Timeline.segment(int64(m.Seq))
		f, err := os.Open(to.segment(m.Seq))
		if err != nil {
			t.Fatal(err)
		}
		w := s.Walk(f)
		if err := w.To(context.Background(), m.Offset); err != nil || w.CRC() != m.CRC {
			t.Fatalf("mark %+v in segment %+v: the CRC is %08x, %v", m, s, w.CRC(), err)
		}
		f.Close()
	}
	for o := lo + 1; o <= hi; o += 1 + (hi-lo)/50 {
		if a, b := ro.ReplID(o), rn.ReplID(o); a != b {
			t.Fatalf("offset %d is of %s, was of %s", o, b, a)
		}
	}
}

func TestWhatIsKnownOfTheFilesComesToTheHeir(t *testing.T) {
	t.Parallel()
	g, _, all := before(t, t.TempDir(), 7)
	tl, _, _ := g.readTimeline(visitor{})
	i := slices.IndexFunc(all, func(b resp.Boundary) bool { return b.Offset > tl.Segments[2].From })
	lo, hi := all[i], all[len(all)-1] // inside the third segment
	var facts []string
	for _, s := range tl.Segments[:len(tl.Segments)-1] {
		facts = append(facts, contentFact(s.Seq, fmt.Sprint("of offset ", s.From)))
	}
	for _, n := range []Need{{NeedModule, "M", 50}, {NeedCommand, "before", lo.Offset}, {NeedCommand, "behind", lo.Offset + 1}, {NeedCommand, "at", hi.Offset}} {
		facts = append(facts, needFact(n))
	}
	if err := realDisk().append(g.timeline(), facts...); err != nil {
		t.Fatal(err)
	}
	to := generation{filepath.Join(t.TempDir(), "generation-000002"), 2}
	h, err := inherit(g, to, lo.Offset, hi.Offset, hi.DB, Options{disk: realDisk()})
	if err != nil {
		t.Fatal(err)
	}
	is, _, err := to.readTimeline(visitor{})
	if err != nil {
		t.Fatal(err)
	}
	known := 0
	for _, s := range h.shares {
		want := fmt.Sprint("of offset ", s.is.From)
		if s.copied || s.src == len(tl.Segments) {
			want = ""
		}
		if got := is.segment(int64(s.is.Seq)).Content; got != want {
			t.Errorf("of segment %d it knows %q, want %q", s.is.Seq, got, want)
		} else if got != "" {
			known++
		}
	}
	if known == 0 {
		t.Error("no segment is linked")
	}
	if want := []Need{{NeedCommand, "behind", lo.Offset + 1}, {NeedCommand, "at", hi.Offset}}; !slices.Equal(is.Needs, want) {
		t.Errorf("it needs %+v, want %+v", is.Needs, want)
	}
	// What is cut is needed no more.
	if err := realDisk().append(to.timeline(), cutFact(hi.Offset-1)); err != nil {
		t.Fatal(err)
	}
	if is, _, _ := to.readTimeline(visitor{}); len(is.Needs) != 1 {
		t.Errorf("behind a cut it needs %+v", is.Needs)
	}
}

func TestAnHeirIsNotDividedInsideACommandOrTransaction(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g, stream, all := before(t, dir, 2)
	good := map[int64]int{}
	for _, b := range all {
		good[b.Offset] = b.DB
	}
	end := 50 + int64(len(stream))
	r := rand.New(rand.NewPCG(52, 1))
	for range soak(40, 400) {
		at := 50 + r.Int64N(int64(len(stream)))
		db, ok := good[at]
		to := generation{filepath.Join(t.TempDir(), "generation-000002"), 2}
		if _, err := inherit(g, to, at, end, 0, Options{disk: realDisk()}); ok != (err == nil) || !ok && !errors.Is(err, ErrBoundary) {
			t.Errorf("behind %d: boundary %v, and the error is %v", at, ok, err)
		}
		to.dir += "-fork"
		if _, err := inherit(g, to, 50, at, db, Options{disk: realDisk()}); ok != (err == nil) || !ok && !errors.Is(err, ErrBoundary) {
			t.Errorf("up to %d: boundary %v, and the error is %v", at, ok, err)
		}
	}
}

func TestAnHeirWhereLinksAreRefusedIsMadeOfCopies(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g, stream, all := before(t, dir, 3)
	opt := Options{disk: realDisk()}
	opt.disk.link = func(string, string) error { return &os.LinkError{Op: "link", Err: syscall.EPERM} }
	to, end := generationIn(dir, 2), all[len(all)-1]
	h, err := inherit(g, to, all[5].Offset, end.Offset, end.DB, opt)
	if err != nil {
		t.Fatal(err)
	}
	if got := segmentBytes(t, to); !bytes.Equal(got, stream[all[5].Offset-50:]) {
		t.Error("it holds other bytes")
	}
	for _, s := range h.shares {
		if inode(t, to.segment(s.is.Seq)) == inode(t, g.segment(s.src)) {
			t.Errorf("%+v is a link", s)
		}
	}
	opt.disk.link = func(string, string) error { return &os.LinkError{Op: "link", Err: syscall.EMFILE} }
	to = generationIn(dir, 3)
	if _, err := inherit(g, to, all[5].Offset, end.Offset, end.DB, opt); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("the error is %v", err)
	}
}

func TestDamageIsNotCopiedUnderANewChecksum(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g, _, all := before(t, dir, 4)
	tl, _, _ := g.readTimeline(visitor{})
	var seg Segment
	i := slices.IndexFunc(all, func(b resp.Boundary) bool {
		k := slices.IndexFunc(tl.Segments, func(s Segment) bool { return b.Offset > s.From && b.Offset < s.To })
		if k >= 0 {
			seg = tl.Segments[k]
		}
		return k >= 0
	})
	p, err := os.ReadFile(g.segment(seg.Seq))
	if err != nil {
		t.Fatal(err)
	}
	at := strings.LastIndexByte(string(p), 'v') // inside a value, where no parser finds it
	p[at] ^= 1
	if err := os.WriteFile(g.segment(seg.Seq), p, 0o640); err != nil {
		t.Fatal(err)
	}
	end := all[len(all)-1]
	if _, err := inherit(g, generationIn(dir, 2), all[i].Offset, end.Offset, end.DB, Options{disk: realDisk()}); !errors.Is(err, ErrDamaged) {
		t.Errorf("the error is %v", err)
	}
}

func TestTheTimelineIsCarriedOnWhileItGrows(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(53, 1))
	a := open(t, dir, Options{AppendFsync: Always, SegmentSize: small, TimelineResolution: time.Nanosecond})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Offset: 50, Size: -1}, rdbtest.Empty(0, true))
	f.feedSlowly(r, commands(r, 60))
	g, to := generationIn(dir, 1), generationIn(dir, 2).tmp()
	reader, err := openReader(g)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := errors.Join(os.MkdirAll(to.aofs(), 0o750), os.WriteFile(to.base(), nil, 0o640)); err != nil {
		t.Fatal(err)
	}
	lo := reader.Segments[1].From
	h, err := newHeir(to, reader, birth{pos: replica.Position{ReplID: idA, Offset: lo}, at: time.Now()}, Options{disk: realDisk()})
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	for i := range 8 {
		if err := h.carry(context.Background(), math.MaxInt64); err != nil {
			t.Fatal(err)
		}
		f.feedSlowly(r, commands(r, 20))
		if i == 4 {
			a.Continue(idB)
		}
	}
	f.awaitDurable()
	l := a.log.Load()
	mustClose(t, a)
	last, end := l.writer.seg, l.shared.stored
	if end.end != end.boundary {
		t.Fatalf("the stream ends inside a command: %+v", end)
	}
	last.To, last.CRC = end.end.offset, end.end.crc
	if err := l.disk.append(g.timeline(), sealedFact(last)); err != nil {
		t.Fatal(err)
	}
	if err := h.carry(context.Background(), last.To); err != nil {
		t.Fatal(err)
	}
	if err := h.link(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.settle(last.To, end.db); err != nil {
		t.Fatal(err)
	}
	if got := segmentBytes(t, to); !bytes.Equal(got, f.sent.Bytes()[lo-50:]) || len(h.shares) < 10 {
		t.Errorf("%d segments hold %d other bytes", len(h.shares), len(got))
	}
	agrees(t, g, to, lo, last.To)
	if err := l.disk.append(g.timeline(), cutFact(lo)); err != nil {
		t.Fatal(err)
	}
	if err := h.carry(context.Background(), last.To); !errors.Is(err, ErrTimeline) {
		t.Errorf("a timeline that is cut meanwhile: %v", err)
	}
}
