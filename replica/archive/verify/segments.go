package verify

import (
	"cmp"
	"errors"
	"io"
	"iter"
	"math"
	"os"
	"slices"

	"replicad/replica/archive"
	"replicad/replica/resp"
)

// point is an offset at which the CRC-32C of a segment's file is known.
type point struct {
	offset int64
	crc    uint32
	file   string // that says so
}

// walker goes through the segments once, from point to point.
type walker struct {
	*checker
	last  bool     // no segment follows
	read  *reading // nil where the segment can't be opened
	sound int64
	whole bool // nothing was damaged yet
	db    int  // selected at the end of the segment before; -1 for not known
}

// reading is the segment that is open.
type reading struct {
	seg    archive.Segment
	path   string
	f      *os.File
	walk   *archive.Walk
	points []point // but for the marks, by offset
	bad    error   // the bytes are no well-formed commands
	last   int64   // offset of the last mark
	good   int64   // offset up to which the bytes are proved
	sound  int64   // the last boundary at or before good
	wrong  *point  // the first that did not agree
	short  bool    // there is a mark beyond its end
	result Segment
}

// segments walks all of them and returns the offset up to which they are sound.
// The error is ctx's.
func (c *checker) segments() (int64, error) {
	w := &walker{checker: c, sound: c.r.Timeline.BaseOffset, whole: true, db: -1}
	var err error
	next, stop := iter.Pull(func(yield func(archive.Mark) bool) { err = c.r.Marks(yield) })
	defer stop()
	m, more := next()
	marksUpTo := func(seq int) {
		for ; more && m.Seq <= seq && c.ctx.Err() == nil; m, more = next() {
			w.mark(m)
		}
	}
	for i, seg := range c.r.Segments {
		w.last = i+1 == len(c.r.Segments)
		w.open(seg)
		marksUpTo(seg.Seq)
		w.close()
	}
	marksUpTo(math.MaxInt)
	if err != nil {
		c.unreadable(c.path(archive.TimelineName), err)
	}
	return w.sound, c.ctx.Err()
}

// mark reads up to a mark, and compares.
func (w *walker) mark(m archive.Mark) {
	r := w.read
	if r != nil && r.seg.Seq == m.Seq && m.Offset > r.seg.To && !r.seg.Sealed {
		if !r.short && !w.damaged {
			r.short = true
			w.problem(r.path, max(r.seg.Position(r.seg.To), 0), -1, r.seg.To, "it ends here, and the timeline has a mark at offset %d", m.Offset)
		}
		return
	}
	if r == nil || r.seg.Seq != m.Seq || m.Offset < r.last || m.Offset > r.seg.To {
		known := slices.ContainsFunc(w.r.Segments, func(s archive.Segment) bool { return s.Seq == m.Seq && m.Offset > s.To })
		if !w.damaged && (r != nil && r.seg.Seq == m.Seq || known) {
			w.problem(w.path(archive.TimelineName), -1, -1, m.Offset, "the mark of %d is not in its place in segment %d", m.Time.UnixMilli(), m.Seq)
		}
		return
	}
	w.points(m.Offset)
	w.reach(point{m.Offset, m.CRC, w.path(archive.TimelineName)})
	r.last = m.Offset
	r.result.Marks++
	w.result.Marks++
}

// close ends the segment that is open.
func (w *walker) close() {
	if w.read == nil {
		return
	}
	w.points(w.read.seg.To)
	if w.ctx.Err() == nil {
		w.end()
	}
	w.read.f.Close()
	w.read = nil
}

// open begins with a segment.
func (w *walker) open(seg archive.Segment) {
	path := w.r.SegmentPath(seg)
	f, err := os.Open(path)
	if err != nil {
		w.unreadable(path, err)
		w.whole, w.db = false, -1
		return
	}
	r := &reading{
		seg: seg, path: path, f: f, walk: seg.Walk(&counted{f, w.progress}),
		good: seg.From, sound: seg.From, last: seg.From,
		result: Segment{Seq: seg.Seq, From: seg.From, To: seg.To, Sealed: seg.Sealed},
	}
	w.read = r
	w.size()
	w.header()
	w.gather()
}

// size checks how long the segment's file is.
func (w *walker) size() {
	r, seg := w.read, w.read.seg
	st, err := r.f.Stat()
	if err != nil {
		w.unreadable(r.path, err)
		return
	}
	// Where the timeline has lost lines, only a segment's own "sealed" says
	// where it ends: the next one that is known need not be the next.
	has, due := st.Size(), seg.Size()
	short := has < due && (!w.damaged || seg.Sealed)
	long := has > due && !w.damaged && (seg.Sealed || !w.last)
	if short || long {
		at := min(has, due)
		w.problem(r.path, max(at, 0), -1, max(seg.From+at-seg.Header, seg.From), "it has %d bytes, and %d are due", has, due)
	}
}

// header checks the SELECT that opens a segment.
func (w *walker) header() {
	r := w.read
	want := r.seg.SelectHeader()
	got, right, err := r.seg.ReadHeader(r.f)
	if err != nil {
		w.unreadable(r.path, err)
	}
	w.progress.add(len(got))
	if int64(len(want)) != r.seg.Header {
		w.problem(w.path(archive.TimelineName), -1, -1, r.seg.From, "the header of segment %d has %d bytes, and not %d", r.seg.Seq, len(want), r.seg.Header)
	}
	if !right {
		w.problem(r.path, firstDifference(got, want), -1, r.seg.From, "it starts with %q, and %q is due", got, want)
		w.whole = false
	}
	if w.db >= 0 && w.db != r.seg.DB {
		w.problem(r.path, 0, -1, r.seg.From, "it selects database %d, and the segment before it ends in %d", r.seg.DB, w.db)
	}
}

// gather collects the CRCs of the segment that are not in marks.
func (w *walker) gather() {
	r := w.read
	path := w.path(archive.FsyncedName)
	add := func(m archive.Mark) {
		if m.Seq == r.seg.Seq && m.Offset >= r.seg.From && m.Offset <= r.seg.To {
			r.points = append(r.points, point{m.Offset, m.CRC, path})
		}
	}
	if d := w.fsynced; d.Found && len(d.Damaged) == 0 {
		add(d.Boundary())
		add(d.Durable())
		if w.last && (d.Durable().Offset > r.seg.To || d.Durable().Seq > r.seg.Seq) && !w.damaged {
			w.problem(r.path, max(r.seg.Position(r.seg.To), 0), -1, r.seg.To, "it ends here, and was fsynced up to offset %d", d.Durable().Offset)
		}
	}
	add(w.fsynced.Written)
	if r.seg.Sealed {
		r.points = append(r.points, point{r.seg.To, r.seg.CRC, w.path(archive.TimelineName)})
	}
	slices.SortStableFunc(r.points, func(a, b point) int { return cmp.Compare(a.offset, b.offset) })
}

// points reads up to an offset, and compares at the points before it that are
// no marks.
func (w *walker) points(offset int64) {
	r := w.read
	for len(r.points) > 0 && r.points[0].offset <= offset {
		w.reach(r.points[0])
		r.points = r.points[1:]
	}
	w.scan(offset)
}

// reach reads up to a point, and compares.
func (w *walker) reach(p point) {
	r := w.read
	w.scan(p.offset)
	switch {
	case r.walk.At() != p.offset: // the file is shorter
	case r.walk.CRC() != p.crc:
		if r.wrong == nil {
			r.wrong = &p
		}
	default:
		if r.wrong != nil && !w.damaged {
			// All bytes up to p are what was received: the earlier CRC was
			// wrong, and not the bytes.
			w.problem(r.wrong.file, -1, -1, r.wrong.offset, "its CRC-32C %08x of segment %d up to there is not that of the file, which is sound", r.wrong.crc, r.seg.Seq)
		}
		r.wrong = nil
		r.good = p.offset
		r.sound, _ = r.walk.Boundary()
	}
}

// scan reads up to an offset. Where the file ends before, size has told.
func (w *walker) scan(offset int64) {
	r := w.read
	err := r.walk.To(w.ctx, offset)
	var broken *resp.ProtocolError
	if errors.As(err, &broken) {
		r.bad = err
		err = r.walk.To(w.ctx, offset)
	}
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && w.ctx.Err() == nil {
		w.problem(r.path, r.seg.Position(r.walk.At()), -1, r.walk.At(), "%v", err)
	}
}

// end sums up what was found in a segment.
func (w *walker) end() {
	r := w.read
	boundary, db := r.walk.Boundary()
	sound, at := boundary, r.walk.At()
	if r.wrong != nil {
		w.problem(r.path, r.seg.Position(r.good), r.seg.Position(r.wrong.offset), r.good, "the bytes are not those that were received: their CRC-32C is wrong")
		sound = r.sound
	}
	if r.bad != nil {
		from := r.walk.Parsed()
		w.problem(r.path, r.seg.Position(from), -1, from, "no well-formed command: %v", r.bad)
	}
	last := w.last && !r.seg.Sealed
	cut := r.bad == nil && at == r.seg.To && boundary < at
	if cut && !last && r.wrong == nil && !w.damaged {
		w.problem(r.path, r.seg.Position(boundary), -1, boundary, "it ends inside a command or transaction")
	}
	sealed := r.seg.Sealed && r.wrong == nil
	r.result.Bytes, r.result.Commands = r.seg.Header+at-r.seg.From, r.walk.Commands()
	if cut && last {
		r.result.Unfinished = at - boundary
		w.note("the last %d bytes are a command or transaction that is not complete", r.result.Unfinished)
	}
	if !sealed && r.wrong == nil && at > r.good {
		r.result.Uncovered = at - r.good
		w.note("no checksum covers the last %d bytes of segment %d; they are well-formed commands", r.result.Uncovered, r.seg.Seq)
	}
	w.result.Segments = append(w.result.Segments, r.result)
	if w.whole {
		w.sound = max(w.sound, sound)
	}
	damaged := r.wrong != nil || r.bad != nil || at < r.seg.To
	w.whole = w.whole && !damaged
	w.db = db
	if damaged || w.damaged {
		w.db = -1
	}
}
