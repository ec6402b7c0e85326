package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"replicad/integration/poll"
	"replicad/replica"
	"replicad/replica/rdb/rdbtest"
	"replicad/replica/resp"
)

// follower reads with a cursor and keeps what counts of it.
type follower struct {
	t    *testing.T
	c    *Cursor
	from int64  // where got begins
	got  []byte // that was read and is not void
	// told are the breaks, in order.
	told []*Break
	done [][]byte // what was read before each gap
}

func follow(t *testing.T, c *Cursor, err error) *follower {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &follower{t: t, c: c, from: c.Position().Offset}
}

// read reads at most n bytes, in pieces of any size. It returns what ended it.
func (f *follower) read(r *rand.Rand, n int) error {
	f.t.Helper()
	for n > 0 {
		p := make([]byte, min(n, 1+r.IntN(700)))
		var k int
		var err error
		if r.IntN(2) == 0 {
			k, err = f.c.Read(p)
		} else {
			k, err = f.take(p)
		}
		f.got = append(f.got, p[:k]...)
		n -= max(k, 1)
		var is *Break
		switch {
		case errors.As(err, &is):
			f.broke(is)
		case err != nil:
			return err
		}
		if at := f.c.Position().Offset; at != f.from+int64(len(f.got)) {
			f.t.Fatalf("the cursor stands at %d, and %d bytes were read behind %d", at, len(f.got), f.from)
		}
	}
	return nil
}

// take reads as sendfile(2) would.
func (f *follower) take(p []byte) (int, error) {
	s, err := f.c.Next()
	if err != nil {
		return 0, err
	}
	k, err := s.File.ReadAt(p[:min(int64(len(p)), s.Size)], s.From)
	if err != nil && err != io.EOF { // it was cut
		f.t.Fatal(err)
	}
	return k, f.c.Took(int64(k))
}

func (f *follower) broke(is *Break) {
	f.t.Helper()
	f.told = append(f.told, is)
	if want := f.from + int64(len(f.got)); is.Was.Offset != want || is.Void > want || is.Void < f.from {
		f.t.Fatalf("%d bytes were read behind %d, and the break is %+v", len(f.got), f.from, is)
	}
	f.got = f.got[:is.Void-f.from]
	if errors.Is(is, ErrGap) != is.Gap || errors.Is(is, ErrForked) == is.Gap {
		f.t.Fatalf("%v is the wrong error", is)
	}
	if is.Gap || is.At.Offset != is.Void {
		f.done = append(f.done, f.got)
		f.from, f.got = is.At.Offset, nil
	}
}

// all reads until nothing more is there.
func (f *follower) all(r *rand.Rand) {
	f.t.Helper()
	if err := f.read(r, 1<<30); !errors.Is(err, ErrNoMore) {
		f.t.Fatal(err)
	}
}

// history is the model: what a master has sent.
type history struct {
	*feeder
	a    *Archive
	dir  string
	r    *rand.Rand
	base int64
	sent []byte
	id   string
	ids  int
}

func newHistory(t *testing.T, dir string, r *rand.Rand, opt Options) *history {
	opt.SegmentSize, opt.TimelineResolution = small, time.Nanosecond
	h := &history{a: open(t, dir, opt), dir: dir, r: r}
	h.full(t, 50)
	return h
}

// full begins another history.
func (h *history) full(t *testing.T, offset int64) {
	h.newID()
	h.feeder = fullSync(t, h.a, replica.FullSync{ReplID: h.id, Offset: offset, Size: -1}, rdbtest.Empty(0, true))
	h.base, h.sent = offset, nil
}

func (h *history) newID() {
	h.ids++
	h.id = fmt.Sprintf("%040d", h.ids)
}

// goOnAs has the master's history go on under another id.
func (h *history) goOnAs(t *testing.T) {
	h.newID()
	h.a.Continue(h.id)
	h.awaitFacts(t)
}

func (h *history) awaitFacts(t *testing.T) {
	s := &h.a.log.Load().shared
	poll.Until(t, "all facts are stored", func() bool {
		s.Lock()
		defer s.Unlock()
		return s.factsStored == s.factsReceived
	})
}

func (h *history) send(p []byte) {
	h.feeder.feedSlowly(h.r, p)
	h.sent = append(h.sent, p...)
	h.feeder.awaitStored()
}

func (h *history) end() int64 { return h.base + int64(len(h.sent)) }

func (h *history) boundary(t *testing.T) resp.Boundary {
	all := append([]resp.Boundary{{Offset: h.base}}, boundariesOf(t, h.sent, h.base)...)
	return all[h.r.IntN(len(all))]
}

// idAt is the id in force at an offset.
func (h *history) idAt(offset int64) string { return idAt(h.a.log.Load().shared.histories, offset) }

func (h *history) rebase(t *testing.T) {
	at := h.boundary(t)
	is, _ := h.a.Current()
	if at.Offset < is.BaseOffset {
		return
	}
	re := takeBase(t, h.a, h.idAt(at.Offset), at)
	if err := re.TakeOver(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// fork has another master go on from before the end.
func (h *history) fork(t *testing.T) {
	b := h.boundary(t)
	is, _ := h.a.Current()
	if b.Offset < is.BaseOffset {
		return
	}
	id := h.idAt(b.Offset)
	h.newID()
	at, ok := h.a.ForkAt(master(h.id, 1e9, id, b.Offset))
	if !ok || at.Offset != b.Offset {
		t.Fatalf("the fork is %+v, %v; want %+v of %s", at, ok, b, id)
	}
	if _, err := h.a.Fork(at); err != nil {
		t.Fatal(err)
	}
	h.a.Continue(h.id)
	h.awaitFacts(t)
	h.sent = h.sent[:at.Offset-h.base]
	h.feeder = newFeeder(t, h.a, at)
}

// cut stops the daemon, takes bytes off the last file's end, and starts it
// again. What was cut comes again, or another master sends something else.
func (h *history) cut(t *testing.T, opt Options) {
	is, _ := h.a.Current()
	mustClose(t, h.a)
	gen := generationIn(h.dir, is.Generation)
	tl, _, err := gen.readTimeline(visitor{})
	if err != nil {
		t.Fatal(err)
	}
	path := gen.segment(tl.Segments[len(tl.Segments)-1].Seq)
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	s := tl.Segments[len(tl.Segments)-1]
	if err := os.Truncate(path, max(s.Header, st.Size()-h.r.Int64N(900))); err != nil {
		t.Fatal(err)
	}
	opt.SegmentSize, opt.TimelineResolution = small, time.Nanosecond
	h.a = open(t, h.dir, opt)
	pos, ok := h.a.Position()
	if !ok || pos.Offset > h.end() {
		t.Fatalf("behind the cut it goes on at %+v, %v", pos, ok)
	}
	h.feeder = newFeeder(t, h.a, pos)
	lost := bytes.Clone(h.sent[pos.Offset-h.base:])
	h.sent = h.sent[:pos.Offset-h.base]
	if h.r.IntN(2) == 0 {
		h.send(lost)
		return
	}
	h.goOnAs(t)
}

func TestACursorReadsEachByteOfTheHistoryOnceAndInOrder(t *testing.T) {
	t.Parallel()
	happened := map[string]int{}
	for seed := range uint64(soak(30, 1500)) {
		r := rand.New(rand.NewPCG(91, seed))
		h := newHistory(t, t.TempDir(), r, Options{AppendFsync: No})
		c, err := OpenCursorAtBase(h.dir, NewestBase)
		f := follow(t, c, err)
		var before [][]byte
		for range 12 {
			if err := f.read(r, r.IntN(6000)); err != nil && !errors.Is(err, ErrNoMore) {
				t.Fatalf("seed %d: %v", seed, err)
			}
			what := []string{"send", "send", "send", "id", "rebase", "fork", "cut", "full", "resume"}[r.IntN(9)]
			happened[what]++
			switch what {
			case "send":
				h.send(commands(r, 1+r.IntN(30)))
			case "id":
				h.goOnAs(t)
			case "rebase":
				h.rebase(t)
			case "fork":
				h.fork(t)
			case "cut":
				h.cut(t, Options{AppendFsync: No})
			case "full":
				before = append(before, h.sent)
				h.full(t, 40+r.Int64N(4000))
			case "resume":
				at := f.c.Position()
				f.c.Close()
				if f.c, err = OpenCursor(h.dir, at); err != nil {
					t.Fatalf("seed %d: at %+v: %v", seed, at, err)
				}
			}
		}
		h.send(commands(r, 20))
		f.all(r)
		if len(f.done) != len(before) {
			t.Fatalf("seed %d: %d gaps were told of %d: %v", seed, len(f.done), len(before), f.told)
		}
		for i, p := range append(f.done, f.got) {
			want := append(before, h.sent)[i]
			if !bytes.Equal(p, want) {
				t.Fatalf("seed %d: of history %d %d bytes were read, want %d; %v", seed, i, len(p), len(want), f.told)
			}
		}
		if f.c.Position() != (replica.Position{ReplID: h.id, Offset: h.end()}) {
			t.Fatalf("seed %d: the cursor stands at %+v, want %d of %s", seed, f.c.Position(), h.end(), h.id)
		}
	}
	t.Log(happened)
}

func TestACursorFollowsTheWriterAcrossRotationAndRebase(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(92, 0))
	h := newHistory(t, t.TempDir(), r, Options{})
	var parts [][]byte
	for range 10 {
		parts = append(parts, commands(r, 200))
	}
	stream := bytes.Join(parts, nil)
	c, err := OpenCursorAtBase(h.dir, NewestBase)
	f := follow(t, c, err)
	wake := make(chan struct{}, 1)
	stop := h.a.Watch(wake)
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		r := rand.New(rand.NewPCG(93, 0))
		for len(f.got) < len(stream) {
			if err := f.read(r, 1<<30); errors.Is(err, ErrNoMore) {
				<-wake
			} else if err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for i, p := range parts {
		h.send(p)
		if i%3 == 1 {
			h.rebase(t)
		}
	}
	<-done
	if !bytes.Equal(f.got, stream) || len(f.told) > 0 || f.c.Generation() < 3 {
		t.Fatalf("%d bytes were read of %d, up to generation %d; %v", len(f.got), len(stream), f.c.Generation(), f.told)
	}
}

func TestACursorThatLagsReadsNothingOfATail(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(94, 0))
	h := newHistory(t, t.TempDir(), r, Options{})
	h.send(commands(r, 100))
	c, err := OpenCursorAtBase(h.dir, NewestBase)
	f := follow(t, c, err)
	h.fork(t)
	h.send(commands(r, 100))
	f.all(r)
	if len(f.told) > 0 || !bytes.Equal(f.got, h.sent) {
		t.Fatalf("%d bytes were read, want %d; %v", len(f.got), len(h.sent), f.told)
	}
}

func TestACursorSaysWhatAForkHasMadeVoid(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(95, 0))
	h := newHistory(t, t.TempDir(), r, Options{})
	h.send(commands(r, 100))
	end, id := h.end(), h.id
	c, err := OpenCursorAtEnd(h.dir)
	f := follow(t, c, err)
	for h.end() == end {
		h.fork(t)
	}
	at := h.end()
	is, want := error(nil), Break{
		Was: replica.Position{ReplID: id, Offset: end}, Void: at,
		At: replica.Position{ReplID: h.id, Offset: at}, Generation: f.c.Generation() + h.ids - 1,
	}
	for is == nil { // forks of forks are gone through one by one
		var b *Break
		_, err := f.c.Read(make([]byte, 10))
		if !errors.As(err, &b) || !errors.Is(err, ErrForked) {
			t.Fatal(err)
		}
		if b.Generation == want.Generation {
			is = b
			if b.Void != want.Void || b.At != want.At || b.Gap {
				t.Fatalf("the break is %+v, want %+v", b, want)
			}
		}
	}
	for _, text := range []string{"is void", fmt.Sprint(at), h.id} {
		if !strings.Contains(is.Error(), text) {
			t.Errorf("%q does not say %q", is, text)
		}
	}
	// A program that has kept its place learns it, too.
	kept, err := OpenCursor(h.dir, replica.Position{ReplID: id, Offset: end})
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	if ok, err := kept.Contiguous(); ok || err != nil {
		t.Fatalf("a place behind the fork leads on: %v, %v", ok, err)
	}
	if _, err := kept.Next(); !errors.Is(err, ErrForked) {
		t.Fatal(err)
	}
	before, err := OpenCursor(h.dir, replica.Position{ReplID: id, Offset: at})
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	if ok, err := before.Contiguous(); !ok || err != nil {
		t.Fatalf("the fork does not lead on: %v, %v", ok, err)
	}
}

func TestAPlaceBeyondACutWaitsUntilTheSameBytesHaveComeAgain(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(96, 0))
	h := newHistory(t, t.TempDir(), r, Options{})
	h.send(commands(r, 50))
	c, err := OpenCursorAtBase(h.dir, NewestBase)
	f := follow(t, c, err)
	f.all(r)
	place := f.c.Position()
	mustClose(t, h.a)
	gen := generationIn(h.dir, 1)
	tl, _, _ := gen.readTimeline(visitor{})
	last := tl.Segments[len(tl.Segments)-1]
	if err := os.Truncate(gen.segment(last.Seq), last.Header+3); err != nil {
		t.Fatal(err)
	}
	h.a = open(t, h.dir, Options{SegmentSize: small, TimelineResolution: time.Nanosecond})
	pos, _ := h.a.Position()
	again := bytes.Clone(h.sent[pos.Offset-h.base:])
	if len(again) == 0 {
		t.Fatal("nothing was cut")
	}
	late, err := OpenCursor(h.dir, place)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	for _, c := range []*Cursor{f.c, late} {
		if _, err := c.Next(); !errors.Is(err, ErrAhead) {
			t.Fatalf("behind the end: %v", err)
		}
	}
	h.feeder = newFeeder(t, h.a, pos)
	h.sent = h.sent[:pos.Offset-h.base]
	h.send(append(again, commands(r, 30)...))
	f.all(r)
	if !bytes.Equal(f.got, h.sent) || len(f.told) > 0 {
		t.Fatalf("%d bytes were read, want %d; %v", len(f.got), len(h.sent), f.told)
	}
	if s, err := late.Next(); err != nil || s.Size == 0 {
		t.Fatal(err)
	}
}

func TestAGenerationThatACursorReadsStaysAndIsLetGoBehindIt(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(97, 0))
	h := newHistory(t, t.TempDir(), r, Options{})
	h.send(commands(r, 50))
	c, err := OpenCursorAtBase(h.dir, NewestBase)
	f := follow(t, c, err)
	start := f.c.Position()
	for range 3 {
		h.full(t, h.end()+1000)
		h.send(commands(r, 20))
	}
	awaitVerified(t, h.dir)
	prune := func() []int {
		if _, err := Prune(h.dir, Retention{KeepGenerations: 2, MaxBytes: 1}, time.Now(), false); err != nil {
			t.Fatal(err)
		}
		return numbers(t, h.dir)
	}
	if left := prune(); len(left) != 4 {
		t.Fatalf("while generation 1 is read, %v are left", left)
	}
	f.all(r)
	if len(f.told) != 3 || !f.told[2].Gap || f.told[2].Generation != 4 {
		t.Fatalf("of three full syncs the cursor says %v", f.told)
	}
	if left := prune(); len(left) != 1 {
		t.Fatalf("behind the cursor %v are left", left)
	}
	if _, err := OpenCursor(h.dir, start); !errors.Is(err, ErrNotKept) {
		t.Fatalf("a place that was pruned: %v", err)
	}
	if _, err := OpenCursorAtBase(h.dir, 1); !errors.Is(err, ErrNotKept) {
		t.Fatalf("a base that was pruned: %v", err)
	}
	if _, err := OpenCursor(h.dir, replica.Position{ReplID: idC, Offset: h.end()}); !errors.Is(err, ErrNotKept) {
		t.Fatalf("another history: %v", err)
	}
}

func TestAGenerationThatIsRemovedBeneathACursorIsAGap(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(98, 0))
	h := newHistory(t, t.TempDir(), r, Options{})
	h.send(commands(r, 50))
	c, err := OpenCursorAtBase(h.dir, NewestBase)
	f := follow(t, c, err)
	f.all(r)
	mustClose(t, h.a)
	if err := generationIn(h.dir, 1).remove(); err != nil {
		t.Fatal(err)
	}
	if err := f.read(r, 10); !errors.Is(err, ErrNoMore) {
		t.Fatal(err)
	}
	h.a = open(t, h.dir, Options{})
	h.full(t, 7000) // gets the number that has become free
	h.send(commands(r, 5))
	f.all(r)
	if len(f.told) != 1 || !f.told[0].Gap || f.told[0].At.Offset != 7000 || !bytes.Equal(f.got, h.sent) {
		t.Fatalf("%v; %d bytes were read, want %d", f.told, len(f.got), len(h.sent))
	}
}

func TestAHistoryThatHasEndedIsSaidToHave(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(99, 0))
	h := newHistory(t, t.TempDir(), r, Options{})
	h.send(commands(r, 5))
	c, err := OpenCursorAtBase(h.dir, NewestBase)
	f := follow(t, c, err)
	if err := f.read(r, 1<<30); !errors.Is(err, ErrNoMore) || errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	mustClose(t, h.a)
	if err := realDisk().append(generationIn(h.dir, 1).timeline(), endFact(h.end())); err != nil {
		t.Fatal(err)
	}
	if err := f.read(r, 1<<30); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
}

func TestASegmentsFileThatRecoveryReplacedIsFound(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(100, 0))
	h := newHistory(t, t.TempDir(), r, Options{})
	h.send(commands(r, 5))
	c, err := OpenCursorAtBase(h.dir, NewestBase)
	f := follow(t, c, err)
	f.all(r)
	mustClose(t, h.a)
	path := generationIn(h.dir, 1).segment(f.c.Segment().Seq)
	if err := os.Link(path, path+".backup"); err != nil {
		t.Skip(err)
	}
	h.a = open(t, h.dir, Options{SegmentSize: small, TimelineResolution: time.Nanosecond})
	pos, _ := h.a.Position()
	h.feeder = newFeeder(t, h.a, pos)
	h.send(commands(r, 2))
	poll.Until(t, "the bytes of the new file were read", func() bool {
		f.all(r)
		return bytes.Equal(f.got, h.sent)
	})
}

func TestACursorSaysBetweenWhichMarksAByteCame(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(101, 0))
	h := newHistory(t, t.TempDir(), r, Options{})
	for range 20 {
		h.send(commands(r, 10))
	}
	h.cut(t, Options{})
	h.send(commands(r, 10))
	mustClose(t, h.a)
	g := Generation{Number: 1, Dir: generationIn(h.dir, 1).dir}
	rd, err := g.OpenReader()
	if err != nil {
		t.Fatal(err)
	}
	defer rd.Close()
	marks := []Moment{{rd.Timeline.BaseTime, rd.Timeline.BaseOffset}}
	if err := rd.Marks(func(m Mark) bool {
		marks = append(marks, Moment{m.Time, m.Offset})
		return true
	}); err != nil {
		t.Fatal(err)
	}
	c, err := OpenCursorAtBase(h.dir, NewestBase)
	f := follow(t, c, err)
	for _, offset := range []int64{51, 52, 60, 1000, 1001, 3000, h.end() - 1, h.end(), 55, h.end() + 1} {
		i := 1
		for i < len(marks) && marks[i].Offset < offset {
			i++
		}
		var want Moment
		if i < len(marks) {
			want = marks[i]
		}
		before, after, err := f.c.Between(offset)
		if err != nil || before.Offset != marks[i-1].Offset || !before.Time.Equal(marks[i-1].Time) || after.Offset != want.Offset || !after.Time.Equal(want.Time) {
			t.Errorf("offset %d: between %+v and %+v, %v; want %+v and %+v", offset, before, after, err, marks[i-1], want)
		}
	}
	offset, db, err := f.c.Boundary()
	if err != nil || offset != 50 || db != 0 || f.c.Segment().Seq != 1 || f.c.Base() != 50 {
		t.Fatalf("at the base: %d, %d, %v", offset, db, err)
	}
}
