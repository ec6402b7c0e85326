package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"replicad/replica"
)

// What a [Cursor] has found where it can't read on. ErrNoMore is for now, and
// so are ErrAhead and ErrClosed, which wrap it.
var (
	ErrNoMore = errors.New("nothing more is stored yet")
	// ErrAhead: the archive ends before the place. Recovery has cut what lay
	// there, and the master sends the same bytes again, or a fork shows that it
	// never will.
	ErrAhead = fmt.Errorf("the archive ends before the place: %w", ErrNoMore)
	// ErrClosed: the generation was ended, and no other has followed.
	ErrClosed = fmt.Errorf("the history has ended: %w", ErrNoMore)

	// ErrNotKept: no generation holds the place.
	ErrNotKept = errors.New("the archive does not hold the place")

	// ErrForked and ErrGap are what a [Break] wraps.
	ErrForked = errors.New("the history went back to a fork")
	ErrGap    = errors.New("a part of the history is not kept")
)

// Break is the error by which a [Cursor] tells, once, that the bytes that come
// next do not follow upon those that it has read. The cursor stands at At then,
// and reads on from there.
type Break struct {
	Was replica.Position // where the cursor stood; without the database
	At  replica.Position // where it goes on; without the database
	// Void: what was read behind that offset does not belong to the history any
	// more. It is Was.Offset where all belongs to it.
	Void       int64
	Generation int // in which the cursor goes on
	// Gap: what lies between Void and At is not kept, for a full sync has begun
	// another history, or the generation was removed.
	Gap bool
}

// Error says what is void and where the cursor goes on.
func (b *Break) Error() string {
	text := fmt.Sprintf("%v: it goes on behind offset %d of history %s, in generation %d", b.Unwrap(), b.At.Offset, cmp.Or(b.At.ReplID, noID), b.Generation)
	if b.Void < b.Was.Offset {
		text += fmt.Sprintf("; what was read behind offset %d of history %s is void", b.Void, cmp.Or(b.Was.ReplID, noID))
	}
	return text
}

// Unwrap returns ErrGap or ErrForked.
func (b *Break) Unwrap() error {
	if b.Gap {
		return ErrGap
	}
	return ErrForked
}

// Cursor reads the stream of one master's history from a place on, byte by byte
// as the master sent it, across segments and generations, while a daemon writes
// it, in that process or in another. What stands in the files is read: only a
// power cut can take it away unnoticed, and that ends the reader, too.
//
// A Cursor holds the generation that it reads against pruning, and with it those
// behind. One goroutine at a time may use it.
type Cursor struct {
	dir   string // the archive's
	r     *Reader
	seg   Segment  // in which the cursor is
	file  *os.File // of seg
	at    int64
	limit int64     // up to there the bytes are stored, and of the history
	stop  int64     // where next leaves this generation
	ids   []History // under which the cursor has read
	ended bool      // the timeline said so when it was last looked at
	epoch int       // counts what may make bytes void that lie before limit
	next  *Reader   // the generation that follows, where that is known
	// looked is when something more, or a generation that follows, was last
	// looked for and, of the former, found.
	looked time.Time
	marks  markSearch
}

// OpenCursor opens a cursor at a place of the archive in dir: the next byte that
// it reads is the one behind at.Offset. A place that lies behind a fork, or
// before a gap, is there as long as its generation is kept; Contiguous tells. So
// is one that lies behind the end of its history: Next says ErrAhead then. The
// error wraps ErrNotKept where no generation has the place, as where at has no
// replication id: then the offset names nothing.
func OpenCursor(dir string, at replica.Position) (*Cursor, error) {
	if at.ReplID == "" {
		return nil, fmt.Errorf("%w: it has no replication id", ErrNotKept)
	}
	return openCursor(dir, func(all []generation) (*Cursor, error) {
		var ahead *Reader
		for _, g := range slices.Backward(all) {
			r, err := openReader(g)
			if errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			if err != nil {
				continue
			}
			ids := r.Timeline.Histories
			switch named := namedBy(ids, at) && at.Offset >= r.Timeline.BaseOffset; {
			case named && at.Offset <= r.End():
				if ahead != nil {
					ahead.Close()
				}
				return r.Cursor(at.Offset)
			case named && ahead == nil && ids[len(ids)-1].ReplID == at.ReplID:
				ahead = r
			default:
				r.Close()
			}
		}
		if ahead != nil {
			return ahead.Cursor(at.Offset)
		}
		return nil, fmt.Errorf("%w: offset %d of history %s", ErrNotKept, at.Offset, at.ReplID)
	})
}

// OldestBase and NewestBase stand for the number of a generation.
const (
	NewestBase = 0
	OldestBase = -1
)

// OpenCursorAtBase opens a cursor behind the base of a generation. The error
// wraps ErrNotKept where there is none.
func OpenCursorAtBase(dir string, number int) (*Cursor, error) {
	return openCursor(dir, func(all []generation) (*Cursor, error) {
		i := slices.IndexFunc(all, func(g generation) bool { return g.number == number })
		switch {
		case number == NewestBase:
			i = len(all) - 1
		case number == OldestBase && len(all) > 0:
			i = 0
		}
		if i < 0 {
			return nil, fmt.Errorf("%w: there is no such generation", ErrNotKept)
		}
		r, err := openReader(all[i])
		if err != nil {
			return nil, err
		}
		return r.Cursor(r.Timeline.BaseOffset)
	})
}

// OpenCursorAtEnd opens a cursor behind the last byte of the archive in dir. The
// error wraps ErrNotKept where there is no generation.
func OpenCursorAtEnd(dir string) (*Cursor, error) {
	return openCursor(dir, func(all []generation) (*Cursor, error) {
		if len(all) == 0 {
			return nil, fmt.Errorf("%w: there is no generation", ErrNotKept)
		}
		r, err := openReader(all[len(all)-1])
		if err != nil {
			return nil, err
		}
		return r.Cursor(r.End())
	})
}

// openCursor tries again where generations were pruned meanwhile.
func openCursor(dir string, choose func([]generation) (*Cursor, error)) (*Cursor, error) {
	for tries := 0; ; tries++ {
		all, _, err := generations(dir)
		if err != nil {
			return nil, err
		}
		c, err := choose(all)
		if errors.Is(err, fs.ErrNotExist) && tries < 3 {
			continue
		}
		return c, err
	}
}

// Cursor makes a cursor of a Reader, which stands behind offset: at or behind
// the generation's base. The Reader belongs to the cursor, also where there is
// an error.
func (r *Reader) Cursor(offset int64) (*Cursor, error) {
	c := &Cursor{dir: r.gen.parent()}
	if err := c.enter(r, max(offset, r.Timeline.BaseOffset)); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close lets the generation go.
func (c *Cursor) Close() error {
	if c.next != nil {
		c.next.Close()
	}
	if c.file != nil {
		c.file.Close()
	}
	return c.r.Close()
}

// Position is where the cursor stands: behind the last byte that it has read,
// with the replication id in force there. The database is not known; see
// Boundary.
func (c *Cursor) Position() replica.Position {
	return replica.Position{ReplID: c.r.ReplID(c.at), Offset: c.at}
}

// Generation is the number of the generation that is read, and Base the offset
// of its base.
func (c *Cursor) Generation() int { return c.r.Number }

// Base is the offset of the base of the generation that is read.
func (c *Cursor) Base() int64 { return c.r.Timeline.BaseOffset }

// Segment is the segment in which the cursor is. At its From its DB is selected.
func (c *Cursor) Segment() Segment { return c.seg }

// Boundary gives the last boundary at or before the cursor's place, and the
// database that is selected there. It reads the segment up to there.
func (c *Cursor) Boundary() (offset int64, db int, err error) {
	w := c.seg.Walk(c.file)
	if err := w.To(context.Background(), c.at); err != nil {
		return 0, 0, fmt.Errorf("generation %d: segment %d: %w", c.r.Number, c.seg.Seq, err)
	}
	offset, db = w.Boundary()
	return offset, db, nil
}

// Back goes back to an offset that the cursor's segment has, as that of Boundary.
func (c *Cursor) Back(offset int64) {
	if offset >= c.seg.From && offset < c.at {
		c.at = offset
	}
}

// ReplID is the replication id in force at an offset of the generation that is
// read.
func (c *Cursor) ReplID(offset int64) string { return c.r.ReplID(offset) }

// Names says whether the history that is read, as far as its generation tells,
// is the one of a position.
func (c *Cursor) Names(at replica.Position) bool { return namedBy(c.r.Timeline.Histories, at) }

// Stretch is a part of a file that holds the bytes behind the cursor's place.
type Stretch struct {
	// File is valid until the next call of the cursor; its position is not used.
	// It may hold less where recovery cuts it; Took finds that out.
	File *os.File
	From int64 // in the file
	Size int64 // above zero
}

// Next gives the bytes behind the cursor's place that are stored, as far as they
// lie in one file. The error wraps ErrNoMore where there are none yet, and is a
// [*Break] where those that come do not follow upon those that were read.
func (c *Cursor) Next() (Stretch, error) {
	for c.at >= c.limit {
		if err := c.look(); err != nil {
			return Stretch{}, err
		}
	}
	return Stretch{c.file, c.seg.Position(c.at), c.limit - c.at}, nil
}

// Took tells that the first n bytes of the stretch that Next gave were read from
// its file. The error is a [*Break] where they, or some before them, are void.
func (c *Cursor) Took(n int64) error {
	c.at += n
	return c.verify()
}

// Read implements io.Reader; its errors are those of Next, and no bytes come
// with them.
func (c *Cursor) Read(p []byte) (int, error) {
	for len(p) > 0 {
		s, err := c.Next()
		if err != nil {
			return 0, err
		}
		n, err := s.File.ReadAt(p[:min(int64(len(p)), s.Size)], s.From)
		if err != nil && err != io.EOF {
			return 0, err
		}
		if n == 0 { // the file was cut
			c.limit = c.at
		}
		epoch := c.epoch
		if err := c.verify(); err != nil {
			return 0, err
		}
		if epoch == c.epoch && n > 0 {
			c.at += int64(n)
			return n, nil
		}
	}
	return 0, nil
}

// verify looks what the timeline says since it was read: whether what was read,
// and what may be read up to limit, belongs to the history. Recovery and forks
// write that down before the bytes come that are others.
func (c *Cursor) verify() error {
	was := c.r.cuts
	changed, err := c.r.refresh()
	switch {
	case errors.Is(err, errGone):
		return c.gone()
	case err != nil:
		return fmt.Errorf("generation %d: %w", c.r.Number, err)
	case !changed:
		return nil
	}
	t := &c.r.Timeline
	if slices.Equal(c.ids, t.Histories) && len(was) == len(c.r.cuts) && c.ended == t.Closed {
		return nil
	}
	c.epoch++
	ids := c.ids
	c.ids, c.ended = slices.Clone(t.Histories), t.Closed
	if q := sameUpTo(ids, c.ids, c.at); q < c.at && !slices.Equal(ids, c.ids) {
		is := c.breakAt(ids, q, false, c.r.Number)
		return c.goOn(is, q)
	}
	return c.seek(c.at)
}

// sameUpTo is the last offset, at most upTo, up to which two lists of replication
// ids name one history; -1 for none. An id and an offset name one byte.
func sameUpTo(a, b []History, upTo int64) int64 {
	end := func(ids []History, i int) int64 {
		if i+1 < len(ids) {
			return min(ids[i+1].From, upTo)
		}
		return upTo
	}
	most := int64(-1)
	for i, x := range a {
		for j, y := range b {
			if q := min(end(a, i), end(b, j)); x.ReplID != "" && x.ReplID == y.ReplID && q >= max(x.From, y.From) {
				most = max(most, q)
			}
		}
	}
	return most
}

// look finds out where limit is now. It is called where the cursor has come to
// it.
func (c *Cursor) look() error {
	st, err := c.file.Stat()
	if err != nil {
		return err
	}
	// The file's length first: verify sees what was written down before.
	has := c.seg.From + st.Size() - c.seg.Header
	epoch := c.epoch
	if err := c.verify(); err != nil || c.epoch != epoch {
		return err
	}
	if c.next == nil && c.isEnded() {
		if err := c.findNext(); err != nil {
			return err
		}
	}
	if !slices.ContainsFunc(c.r.Timeline.Segments, func(s Segment) bool { return s.Seq == c.seg.Seq && s.From == c.seg.From }) {
		return c.seek(c.at) // a file was missing when that was tried
	}
	to, after := c.bounds()
	end := min(has, to, c.stop)
	switch {
	case end > c.at:
		c.limit, c.looked = end, time.Now()
		return nil
	case c.at >= c.stop:
		return c.leave()
	case c.at >= to && after != nil:
		return c.begin(*after)
	case c.at < to && c.r.Timeline.Last.Offset > c.at && c.moved(st):
		return c.seek(c.at)
	case c.next != nil:
		return c.leave()
	case has < c.at:
		return ErrAhead
	case c.at < to && to < math.MaxInt64 && !locked(filepath.Join(c.dir, lockName)):
		return fmt.Errorf("generation %d: segment %d: %w: it ends at offset %d, not %d", c.r.Number, c.seg.Seq, ErrDamaged, has, to)
	case c.ended:
		return ErrClosed
	}
	return ErrNoMore
}

// bounds says where the segment ends, as the timeline has it now, and which one
// follows.
func (c *Cursor) bounds() (to int64, next *Segment) {
	all := c.r.Timeline.Segments
	i := slices.IndexFunc(all, func(s Segment) bool { return s.Seq == c.seg.Seq })
	to = math.MaxInt64
	if i+1 < len(all) {
		next, to = &all[i+1], all[i+1].From
	}
	if all[i].Sealed {
		to = all[i].To
	}
	return to, next
}

// moved says whether the segment's path names another file than the one that is
// open: recovery changes no file that other paths name, too.
func (c *Cursor) moved(open os.FileInfo) bool {
	is, err := os.Stat(c.r.gen.segment(c.seg.Seq))
	return err == nil && !os.SameFile(is, open)
}

// patience is how long a generation that is not ended may stand still before a
// newer one is taken to have followed it. Its end is written down within
// milliseconds, unless the disk refuses that.
const patience = 2 * time.Second

func (c *Cursor) isEnded() bool {
	if c.ended {
		return true
	}
	first := c.looked.IsZero()
	if !first && time.Since(c.looked) < patience {
		return false
	}
	c.looked = time.Now()
	return !first || !locked(filepath.Join(c.dir, lockName))
}

// findNext opens the generation that follows, if there is one, and finds out
// where it leaves this one.
func (c *Cursor) findNext() error {
	next, err := following(c.dir, c.r)
	if err != nil || next == nil {
		return err
	}
	split, kind := c.r.split(next)
	c.next, c.stop = next, split
	if c.at <= split {
		c.limit = min(c.limit, split)
		return nil
	}
	return c.leaveAs(kind)
}

// following opens the generation behind that of r; nil where there is none.
func following(dir string, r *Reader) (*Reader, error) {
	mine, err := r.hold.Stat()
	if err != nil {
		return nil, err
	}
	all, _, err := generations(dir)
	if err != nil {
		return nil, err
	}
	for _, g := range all {
		// One that was removed leaves its number to another.
		if is, err := os.Stat(g.dir); g.number < r.Number || err == nil && os.SameFile(is, mine) {
			continue
		}
		next, err := openReader(g)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it went meanwhile
		}
		return next, err
	}
	return nil, nil
}

// The ways in which a generation follows another.
type way uint8

const (
	goesOn    way = iota // the same history, as after a rebase
	forks                // it leaves the one before at a fork
	beginsNew            // a full sync
)

// split says up to which offset next has the history of r, and how it follows.
func (r *Reader) split(next *Reader) (offset int64, how way) {
	end := r.Timeline.Last.Offset
	if s := r.Timeline.Segments[len(r.Timeline.Segments)-1]; s.Sealed {
		end = s.To
	} else if st, err := os.Stat(r.gen.segment(s.Seq)); err == nil {
		end = s.From + max(st.Size()-s.Header, 0)
	}
	t := &next.Timeline
	q := sameUpTo(r.Timeline.Histories, t.Histories, end)
	switch {
	case t.Fork != Fork{}:
		return min(q, t.Fork.Offset), forks
	case q == end && t.BaseOffset <= end:
		return end, goesOn
	}
	return end, beginsNew
}

// leave goes on in the generation that follows.
func (c *Cursor) leave() error {
	_, how := c.r.split(c.next)
	return c.leaveAs(how)
}

func (c *Cursor) leaveAs(how way) error {
	next, split := c.next, c.stop
	base := next.Timeline.BaseOffset
	same := c.at >= base && how != beginsNew
	is := c.breakAt(c.ids, max(split, c.Base()), how == beginsNew, next.Number)
	var at int64
	switch {
	case same && c.at <= split, same && how == goesOn:
		// Behind the split of a rebase there is nothing else: what recovery cut
		// comes again.
		at, is = c.at, nil
	case how == forks && split >= base:
		at = split
	case how == forks: // of another history, in which it lies
		at = max(base, next.Timeline.Fork.Offset)
	default:
		at, is.Gap = base, true
	}
	c.next = nil
	c.r.Close()
	if err := c.enter(next, at); err != nil {
		return err
	}
	if is == nil {
		return nil
	}
	return c.goOn(is, at)
}

// gone goes on where the generation was removed: in the one that follows, where
// that has the place.
func (c *Cursor) gone() error {
	next := c.next
	if c.next = nil; next == nil {
		var err error
		if next, err = following(c.dir, c.r); err != nil {
			return err
		}
	}
	if next == nil {
		return fmt.Errorf("%w: generation %d was removed", ErrNoMore, c.r.Number)
	}
	base, q := next.Timeline.BaseOffset, sameUpTo(c.ids, next.Timeline.Histories, c.at)
	forked := next.Timeline.Fork != Fork{}
	if forked {
		q = min(q, next.Timeline.Fork.Offset)
	}
	at := q
	var is *Break
	switch {
	case q == c.at && q >= base:
	case q >= base && forked:
		is = c.breakAt(c.ids, q, false, next.Number)
	default:
		is = c.breakAt(c.ids, c.at, true, next.Number)
		at = base
	}
	c.r.Close()
	if err := c.enter(next, at); err != nil {
		return err
	}
	c.epoch++
	if is == nil {
		return nil
	}
	return c.goOn(is, at)
}

// breakAt makes a Break that says that what was read under those ids is void
// behind an offset.
func (c *Cursor) breakAt(ids []History, void int64, gap bool, generation int) *Break {
	return &Break{Was: replica.Position{ReplID: idAt(ids, c.at), Offset: c.at}, Void: min(void, c.at), Generation: generation, Gap: gap}
}

// goOn goes to where the bytes come from behind a break.
func (c *Cursor) goOn(is *Break, at int64) error {
	if err := c.seek(at); err != nil {
		return err
	}
	is.At = c.Position()
	return is
}

// enter goes on in a generation.
func (c *Cursor) enter(r *Reader, at int64) error {
	c.r, c.next, c.stop = r, nil, math.MaxInt64
	c.ids, c.ended, c.looked = slices.Clone(r.Timeline.Histories), r.Timeline.Closed, time.Time{}
	c.marks = markSearch{}
	return c.seek(at)
}

// seek goes to the segment that has the byte behind an offset, or the last.
func (c *Cursor) seek(at int64) error {
	c.at = at
	all := c.r.Timeline.Segments
	i := len(all) - 1
	for i > 0 && all[i].From > at {
		i--
	}
	return c.begin(all[i])
}

// begin opens a segment. Where its file is missing, nothing more is there yet.
func (c *Cursor) begin(s Segment) error {
	f, err := os.Open(c.r.gen.segment(s.Seq))
	if errors.Is(err, fs.ErrNotExist) && c.file != nil {
		return fmt.Errorf("%w: segment %d is missing", ErrNoMore, s.Seq)
	}
	if err != nil {
		return err
	}
	if c.file != nil {
		c.file.Close()
	}
	c.seg, c.file, c.limit = s, f, c.at
	return nil
}

// Contiguous says whether what is kept leads on from the cursor's place to the
// end of the archive, without a gap, and without a fork before the place.
func (c *Cursor) Contiguous() (bool, error) {
	r, at := c.r, c.at
	for {
		next, err := following(c.dir, r)
		if r != c.r {
			r.Close()
		}
		if err != nil || next == nil {
			return err == nil, err
		}
		split, how := r.split(next)
		if how == beginsNew || at > split || split < next.Timeline.BaseOffset {
			return false, next.Close()
		}
		r, at = next, split
	}
}

// Between gives the two marks between which the byte at an offset came, of the
// generation that is read: before is the last one before the offset, or the
// base, and after the first at or behind it, zero where there is none yet. It is
// quick where the offsets grow from call to call.
func (c *Cursor) Between(offset int64) (before, after Moment, err error) {
	return c.marks.between(c.r, offset)
}

// Marked is the offset of the last mark of the generation that is read, as far as
// the cursor has seen: up to there Between knows both marks.
func (c *Cursor) Marked() int64 { return c.r.Timeline.Last.Offset }

// markSearch goes through the marks of a generation.
type markSearch struct {
	file   os.FileInfo // the timeline; nil before the first search
	facts  Timeline    // as far as it was gone through
	length int64       // of the timeline, likewise
	marks  int         // how many marks that were
	some   []Mark      // that hold, of those gone through last
	before Moment
	cuts   int // how many the timeline had
}

// chunk is how much of a timeline is gone through at once, in bytes.
const chunk = 64 << 10

func (m *markSearch) between(r *Reader, offset int64) (before, after Moment, err error) {
	if m.file == nil || !os.SameFile(m.file, r.seen) || len(r.cuts) != m.cuts || offset <= m.before.Offset {
		*m = markSearch{file: r.seen, cuts: len(r.cuts), before: Moment{r.Timeline.BaseTime, r.Timeline.BaseOffset}}
	}
	for {
		for len(m.some) > 0 && m.some[0].Offset < offset {
			m.before = Moment{m.some[0].Time, m.some[0].Offset}
			m.some = m.some[1:]
		}
		if len(m.some) > 0 {
			return m.before, Moment{m.some[0].Time, m.some[0].Offset}, nil
		}
		if more, err := m.more(r); err != nil || !more {
			return m.before, Moment{}, err
		}
	}
}

// more goes through the next chunk; false where there is none.
func (m *markSearch) more(r *Reader) (bool, error) {
	if m.length >= r.length {
		return false, nil
	}
	f, err := os.Open(r.gen.timeline())
	if err != nil {
		return false, err
	}
	defer f.Close()
	m.some = m.some[:0]
	next := 0
	from := m.length
	m.length, err = m.facts.read(io.NewSectionReader(f, from, min(chunk, r.length-from)), from, visitor{mark: func(k Mark) {
		for next < len(r.cuts) && r.cuts[next].marks <= m.marks {
			next++
		}
		m.marks++
		if next == len(r.cuts) || k.Offset <= r.cuts[next].offset {
			m.some = append(m.some, k)
		}
	}})
	if errors.Is(err, ErrTimeline) && m.length > from {
		err = nil // the facts that it needs come in a later chunk
	}
	return m.length > from, err
}

// watchers are told that something was stored.
type watchers struct {
	sync.Mutex
	all map[chan<- struct{}]struct{}
}

func (w *watchers) wake() {
	w.Lock()
	defer w.Unlock()
	for c := range w.all {
		signal(c)
	}
}

// Watch has the archive send to a channel, which holds one value, whenever
// something was stored or has changed: a [Cursor] may have more then. stop ends
// that.
func (a *Archive) Watch(c chan<- struct{}) (stop func()) {
	w := &a.watchers
	w.Lock()
	defer w.Unlock()
	if w.all == nil {
		w.all = map[chan<- struct{}]struct{}{}
	}
	w.all[c] = struct{}{}
	return func() {
		w.Lock()
		defer w.Unlock()
		delete(w.all, c)
	}
}

// Histories are the replication ids of the generation that is read, as its
// timeline has them. Those of all bytes that were read are among them.
func (c *Cursor) Histories() []History { return slices.Clone(c.r.Timeline.Histories) }
