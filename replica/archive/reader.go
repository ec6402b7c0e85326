package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Reader is one generation, held for reading: while the Reader is open, the
// generation is not pruned. A Reader says how things stood when it was opened;
// a daemon may go on writing behind that. Several goroutines may use everything
// but Close.
type Reader struct {
	Number   int
	Dir      string // the generation's folder
	Running  bool   // a replicad held the archive's lock
	Timeline Timeline
	BaseSize int64 // bytes of the base's file
	// Segments are those of the timeline. To of the last one is where its file
	// ended.
	Segments []Segment
	// Short says why the segments end before those of the timeline, as in a copy
	// that was made file by file while the daemon wrote; "" where they do not.
	Short string

	gen    generation
	hold   *os.File
	seen   os.FileInfo // the timeline's file, when it was read
	length int64       // of the part of the timeline that is read
	marks  int         // how many it has
	cuts   []cutAt
}

// cutAt is a "cut" fact of the timeline: of the marks before it, those beyond
// the offset do not hold.
type cutAt struct {
	marks  int // how many marks stand before it
	offset int64
}

// OpenReader opens a generation, which a daemon may be writing. The error wraps
// ErrTimeline where its timeline says too little, and fs.ErrNotExist where a
// file is missing.
func (g Generation) OpenReader() (*Reader, error) {
	return openReader(generation{dir: g.Dir, number: g.Number})
}

func openReader(gen generation) (r *Reader, err error) {
	r = &Reader{Number: gen.number, Dir: gen.dir, gen: gen}
	if r.hold, err = LockDir(gen.dir, unix.LOCK_SH); err != nil {
		return nil, err
	}
	if err := r.open(); err != nil {
		r.hold.Close()
		return nil, fmt.Errorf("generation %d: %w", gen.number, err)
	}
	return r, nil
}

func (r *Reader) open() error {
	if _, err := r.refresh(); err != nil {
		return err
	}
	st, err := os.Stat(r.gen.base())
	if err != nil {
		return err
	}
	r.BaseSize = st.Size()
	r.Segments = append(r.Segments, r.Timeline.Segments...)
	for i := range r.Segments[:len(r.Segments)-1] {
		if s := &r.Segments[i]; !s.Sealed { // its line was lost
			s.To = r.Segments[i+1].From
		}
	}
	for i := range r.Segments {
		s := &r.Segments[i]
		_, err := os.Stat(r.gen.segment(s.Seq))
		if errors.Is(err, fs.ErrNotExist) && i > 0 {
			r.Short = fmt.Sprintf("segment %d is missing", s.Seq)
			r.Segments = r.Segments[:i]
			break
		}
		if err != nil {
			return err
		}
	}
	last := &r.Segments[len(r.Segments)-1]
	if last.Sealed && r.Short == "" {
		return nil
	}
	st, err = os.Stat(r.gen.segment(last.Seq))
	if err != nil {
		return err
	}
	has := last.From + max(st.Size()-last.Header, 0)
	switch {
	case r.Short == "":
		last.To = has
	case has < last.To: // it grew, and was sealed, after it was copied
		last.To, last.Sealed = has, false
	}
	return nil
}

// errGone: the generation was removed, or another one has its name.
var errGone = errors.New("the generation is not there any more")

// refresh reads what was added to the timeline since it was read, or all of it
// where recovery wrote it anew; false where it is as it was. It changes the
// fields that come from the timeline, but not Segments.
func (r *Reader) refresh() (changed bool, err error) {
	st, err := os.Stat(r.gen.timeline())
	if err == nil && r.seen != nil && os.SameFile(st, r.seen) && st.Size() == r.seen.Size() && st.ModTime().Equal(r.seen.ModTime()) {
		return false, nil
	}
	if mine, e := r.hold.Stat(); e == nil {
		if is, e := os.Stat(r.gen.dir); e != nil || !os.SameFile(mine, is) {
			return false, fmt.Errorf("generation %d: %w", r.Number, errGone)
		}
	}
	if err != nil {
		return false, err
	}
	f, err := os.Open(r.gen.timeline())
	if err != nil {
		return false, err
	}
	defer f.Close()
	if st, err = f.Stat(); err != nil {
		return false, err
	}
	if r.seen == nil || !os.SameFile(st, r.seen) || st.Size() < r.length {
		r.Timeline, r.length, r.marks, r.cuts = Timeline{}, 0, 0, nil
	}
	if _, err := f.Seek(r.length, io.SeekStart); err != nil {
		return false, err
	}
	r.seen = st
	r.length, err = r.Timeline.read(f, r.length, visitor{
		mark: func(Mark) { r.marks++ },
		cut:  func(offset int64) { r.cuts = append(r.cuts, cutAt{r.marks, offset}) },
	})
	// A mark holds when no cut behind it went before its offset.
	least := int64(math.MaxInt64)
	for i := len(r.cuts) - 1; i >= 0; i-- {
		least = min(least, r.cuts[i].offset)
		r.cuts[i].offset = least
	}
	return true, err
}

// Close lets the generation go.
func (r *Reader) Close() error { return r.hold.Close() }

// End is the offset of the last byte in the files.
func (r *Reader) End() int64 { return r.Segments[len(r.Segments)-1].To }

// ReplID is the replication id that names the history at an offset; "" for a
// master without PSYNC.
func (r *Reader) ReplID(offset int64) string { return idAt(r.Timeline.Histories, offset) }

func idAt(ids []History, offset int64) string {
	id := ids[0].ReplID
	for _, h := range ids[1:] {
		if h.From <= offset {
			id = h.ReplID
		}
	}
	return id
}

// BasePath is where the RDB file is.
func (r *Reader) BasePath() string { return r.gen.base() }

// SegmentPath is where a segment is.
func (r *Reader) SegmentPath(s Segment) string { return r.gen.segment(s.Seq) }

// readTimeline reads the part of the timeline that was there when the reader
// was opened.
func (r *Reader) readTimeline(v visitor) error {
	f, err := os.Open(r.gen.timeline())
	if err != nil {
		return err
	}
	defer f.Close()
	_, _, err = readTimeline(io.LimitReader(f, r.length), v)
	return err
}

// Marks calls f with the marks that hold, in the order of their offsets, until
// f returns false.
func (r *Reader) Marks(f func(Mark) bool) error {
	n, next, stop := 0, 0, false
	return r.readTimeline(visitor{mark: func(m Mark) {
		for next < len(r.cuts) && r.cuts[next].marks <= n {
			next++
		}
		n++
		if stop || next < len(r.cuts) && m.Offset > r.cuts[next].offset {
			return
		}
		stop = !f(m)
	}})
}

// Moment is a time and the offset that the history had reached by then.
type Moment struct {
	Time   time.Time `json:"time"`
	Offset int64     `json:"offset"`
}

// At says how far the history was at a time: it returns the last mark at or
// before t, and as next the mark behind it, zero where there is none. Where the
// clock was stepped back, so that t came twice, at is for the second time, and
// twice for the first.
func (r *Reader) At(t time.Time) (at, next Moment, twice *Moment, err error) {
	start := Moment{r.Timeline.BaseTime, r.Timeline.BaseOffset}
	at = start
	err = r.readTimeline(visitor{
		mark: func(m Mark) {
			switch {
			case !m.Time.After(t):
				at, next = Moment{m.Time, m.Offset}, Moment{}
			case next.Time.IsZero():
				next = Moment{m.Time, m.Offset}
			}
		},
		since: func(m Moment) { // the marks before may be of a history that lagged behind
			if !m.Time.After(t) && m.Offset > at.Offset {
				at = m
			}
		},
		clock: func(back, before time.Time) {
			if !t.Before(back) && t.Before(before) {
				first := at
				twice = &first
			}
		},
		cut: func(offset int64) {
			at.Offset = min(at.Offset, offset)
			if next.Offset > offset {
				next = Moment{}
			}
			if twice != nil {
				twice.Offset = min(twice.Offset, offset)
			}
		},
	})
	if twice != nil && (*twice == at || twice.Time.After(t)) {
		twice = nil
	}
	at.Offset = min(at.Offset, r.End())
	return at, next, twice, err
}

// When says when an offset had been received: the time of the first mark at or
// behind the offset, or of the last mark where there is none.
func (r *Reader) When(offset int64) (time.Time, error) {
	t := r.Timeline.BaseTime
	err := r.Marks(func(m Mark) bool {
		if offset > r.Timeline.BaseOffset {
			t = m.Time
		}
		return m.Offset < offset
	})
	return t, err
}

// Range says what the generation can be restored to.
func (r *Reader) Range() Range {
	g := Range{Generation: r.Number, FromOffset: r.Timeline.BaseOffset, ToOffset: r.End()}
	g.From, g.To = r.Timeline.span()
	return g
}

// span is the first and the last time that a generation can be restored to.
func (t *Timeline) span() (from, to time.Time) {
	return t.Since, slices.MaxFunc([]time.Time{t.Since, t.Last.Time}, time.Time.Compare)
}

// CheckTimeline reads the timeline as it was when the reader was opened.
// damaged is told where the lines begin that do not check, and why; an
// unfinished line at the end is none, unless only its newline is wrong. older
// is told of the marks that are older than the one before them, though no
// "clock" fact tells that the clock was stepped back.
func (r *Reader) CheckTimeline(damaged func(position int64, why string), older func(m Mark, before time.Time)) error {
	var last time.Time
	stepped := false
	err := r.readTimeline(visitor{
		damaged: func(position int64) { damaged(position, "the line's checksum or form is wrong") },
		clock:   func(time.Time, time.Time) { stepped = true },
		mark: func(m Mark) {
			if m.Time.Before(last) && !stepped {
				older(m, last)
			}
			last, stepped = m.Time, false
		},
	})
	if err != nil {
		return err
	}
	file, err := os.Open(r.gen.timeline())
	if err != nil {
		return err
	}
	defer file.Close()
	tail := make([]byte, 256)
	n, err := file.ReadAt(tail, r.length)
	if err != nil && err != io.EOF {
		return err
	}
	if n > 0 {
		if _, whole := unseal(string(tail[:n-1])); whole && tail[n-1] != '\n' {
			damaged(r.length, "the line does not end with a newline")
		}
	}
	return nil
}
