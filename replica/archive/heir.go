package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"syscall"
	"time"

	"replicad/replica"
	"replicad/replica/resp"
)

// ErrBoundary: a history can't be divided at an offset, which lies inside a
// command or a transaction.
var ErrBoundary = errors.New("the offset is inside a command or a transaction")

// heir is a generation in the making. In a folder that holds a base already it
// makes all that stands beside the base. It may take over a stretch of the
// history of the generation before, with what is known of it:
//
//   - Whole segments become hard links, or copies where the file system refuses
//     links: the same bytes, with the same CRC, under another number.
//   - Where the stretch begins or ends inside a segment, that part is copied to
//     a segment of its own, with its own header, number and CRC.
//
// A linked file is never written to again: only segments that are sealed,
// durable and before the one that a slot names may be linked.
//
// The calls are carry and link, each as often as there is something new, then
// settle; close in any case. One goroutine at a time makes them.
type heir struct {
	opt Options
	gen generation // the folder in which it is made
	lo  int64      // its history begins behind that offset

	from     *Reader  // the generation before, held; nil where nothing is taken over
	timeline Timeline // of from, as far as it was read
	read     int64    // bytes of from's timeline; 0 before the first carry
	ids      int      // the first of from's histories that is not carried
	next     int      // the first of from's segments that is not carried
	shares   []share
	copying  *copying // of the last share, while that is copied

	out   *timelineFile
	facts []string // that wait to be written
}

// share is a segment that is taken over.
type share struct {
	src    int     // its number in the generation before
	is     Segment // in the heir
	copied bool
	done   bool // where it ends is written down
	linked bool
}

// birth is what a generation begins with.
type birth struct {
	pos  replica.Position // of the base
	size int64            // of the base, in bytes
	at   time.Time        // when the base was complete, or the log behind it began
	// verified: the base was read again, and has that CRC-32C.
	verified bool
	crc      uint32
	content  string // of the base; "" where it is not known
	needs    []Need // of the base
	// since is the first time that can be restored: when the generation before
	// stood at pos. Zero where that is at.
	since time.Time
}

// newHeir begins a generation in the folder gen, in which the base is. from is
// the generation before, where the heir takes over what it has behind b.pos.
func newHeir(gen generation, from *Reader, b birth, opt Options) (*heir, error) {
	h := &heir{opt: opt, gen: gen, from: from, lo: b.pos.Offset}
	if err := opt.disk.write(gen.timeline(), nil); err != nil {
		return nil, err
	}
	var err error
	if h.out, err = openTimeline(gen.timeline(), 0, time.Time{}, opt.disk); err != nil {
		return nil, err
	}
	h.facts = []string{timelineVersion, baseFact(b.pos.Offset, b.size, b.at), replidFact(b.pos.ReplID, b.pos.Offset)}
	if b.verified {
		h.facts = append(h.facts, verifiedBaseFact(b.crc))
	}
	if b.content != "" {
		h.facts = append(h.facts, contentBaseFact(b.content))
	}
	for _, n := range b.needs {
		h.facts = append(h.facts, needFact(n))
	}
	if !b.since.IsZero() {
		h.facts = append(h.facts, sinceFact(b.since, b.pos.Offset))
	}
	if from == nil {
		return h, nil
	}
	h.timeline = from.Timeline
	for i, id := range h.timeline.Histories {
		if id.From > h.lo {
			break
		}
		// An id may have changed where the base stands: those behind the base's
		// own are carried.
		if h.ids = i + 1; id.ReplID == b.pos.ReplID {
			break
		}
	}
	for h.next+1 < len(h.timeline.Segments) && h.timeline.Segments[h.next+1].From <= h.lo {
		h.next++
	}
	return h, nil
}

// carry takes over what the generation before has of the history up to hi, or
// of all with math.MaxInt64, and was not carried yet: replication ids, marks,
// where segments begin and end, and copies of those of which a part is wanted.
// The error wraps ErrBoundary where a copy would begin or end inside a command,
// and ErrDamaged where its bytes are not those that were received.
func (h *heir) carry(ctx context.Context, hi int64) error {
	var failed error
	take := func(m Mark) bool {
		if failed == nil && m.Offset > h.lo && m.Offset <= hi {
			failed = h.mark(ctx, m, hi)
		}
		return failed == nil
	}
	if h.read == 0 { // among the first there may be marks that were cut
		failed = errors.Join(h.from.Marks(take), failed)
		h.read = h.from.length
	}
	if err := h.readOn(visitor{
		mark: func(m Mark) { take(m) },
		cut:  func(int64) { failed = fmt.Errorf("%w: it was cut meanwhile", ErrTimeline) },
	}); err != nil || failed != nil {
		return errors.Join(err, failed)
	}
	for all := h.timeline.Histories; h.ids < len(all) && all[h.ids].From <= hi; h.ids++ {
		h.facts = append(h.facts, replidFact(all[h.ids].ReplID, all[h.ids].From))
	}
	last := 0
	for _, s := range h.timeline.Segments {
		if s.Sealed || hi < math.MaxInt64 {
			last = s.Seq
		}
	}
	if err := h.reach(ctx, last, hi); err != nil {
		return err
	}
	if n := len(h.shares); n > 0 && h.shares[n-1].src <= last {
		if err := h.end(ctx, hi); err != nil {
			return err
		}
	}
	return h.flush()
}

// readOn reads what was added to the timeline of the generation before.
func (h *heir) readOn(v visitor) error {
	f, err := os.Open(h.from.gen.timeline())
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Seek(h.read, io.SeekStart); err != nil {
		return err
	}
	h.read, err = h.timeline.read(f, h.read, v)
	return err
}

// mark carries a mark, whose CRC is another one in a segment that is copied.
func (h *heir) mark(ctx context.Context, m Mark, hi int64) error {
	src := h.timeline.segment(int64(m.Seq))
	if src == nil {
		return fmt.Errorf("%w: a mark without its segment", ErrTimeline)
	}
	before := m.Offset <= src.From // the mark of the segment before its first byte
	if before {
		m.Seq--
	}
	if err := h.reach(ctx, m.Seq, hi); err != nil || len(h.shares) == 0 {
		return err
	}
	if before {
		if err := h.end(ctx, hi); err != nil {
			return err
		}
		m.CRC = h.shares[len(h.shares)-1].is.CRC
	} else if c := h.copying; c != nil {
		if err := c.to(ctx, m.Offset); err != nil {
			return err
		}
		if c.walk.CRC() != m.CRC {
			return fmt.Errorf("segment %d: %w: the bytes before offset %d are not those that were received", src.Seq, ErrDamaged, m.Offset)
		}
		m.CRC = c.at.crc
	}
	h.facts = append(h.facts, h.out.marked(m)...)
	if len(h.facts) < mostFacts {
		return nil
	}
	return h.flush()
}

// mostFacts are written at once.
const mostFacts = 4096

// reach begins all segments up to the one with that number in the generation
// before.
func (h *heir) reach(ctx context.Context, seq int, hi int64) error {
	for h.next < len(h.timeline.Segments) {
		src := h.timeline.Segments[h.next]
		if src.Seq > seq || src.From >= hi {
			break
		}
		if src.Sealed && src.To <= h.lo {
			h.next++
			continue
		}
		if err := h.end(ctx, hi); err != nil {
			return err
		}
		if err := h.begin(ctx, src, hi); err != nil {
			return err
		}
		h.next++
	}
	return nil
}

// begin begins with a segment. One that is not complete will be, unless its end
// is known to lie behind hi.
func (h *heir) begin(ctx context.Context, src Segment, hi int64) error {
	s := share{src: src.Seq, is: newSegment(len(h.shares)+1, max(src.From, h.lo), src.DB)}
	s.copied = src.From < h.lo || hi < math.MaxInt64 && (!src.Sealed || src.To > hi)
	if s.copied {
		c, err := h.copy(ctx, src, s.is)
		if err != nil {
			return err
		}
		h.copying, s.is = c, c.seg
	}
	h.shares = append(h.shares, s)
	h.facts = append(h.facts, segmentFact(s.is))
	return nil
}

// end ends the last segment that has begun, unless that was done.
func (h *heir) end(ctx context.Context, hi int64) error {
	if len(h.shares) == 0 || h.shares[len(h.shares)-1].done {
		return nil
	}
	s := &h.shares[len(h.shares)-1]
	src := h.timeline.segment(int64(s.src))
	if !src.Sealed && !s.copied {
		return fmt.Errorf("%w: it does not say where segment %d ends", ErrTimeline, src.Seq)
	}
	s.is.To, s.is.CRC = src.To, src.CRC
	if c := h.copying; c != nil {
		h.copying = nil
		defer c.f.Close()
		if !src.Sealed || src.To > hi {
			s.is.To = hi
		}
		if err := c.finish(ctx, s.is.To, *src); err != nil {
			return err
		}
		s.is.CRC = c.at.crc
	}
	s.is.Sealed, s.done = true, true
	h.facts = append(h.facts, sealedFact(s.is))
	return nil
}

// flush writes the facts that wait.
func (h *heir) flush() error {
	facts := h.facts
	h.facts = nil
	return h.out.add(facts...)
}

// link makes the links to the whole segments that were carried to their end.
func (h *heir) link() error {
	for i := range h.shares {
		s := &h.shares[i]
		if s.copied || s.linked || !s.done {
			continue
		}
		if err := h.opt.disk.share(h.from.gen.segment(s.src), h.gen.segment(s.is.Seq), s.is.Size()); err != nil {
			return err
		}
		s.linked = true
	}
	return nil
}

// settle makes the rest, durably but for the folder's own name: the segment in
// which the log goes on, behind end with db selected, the timeline with more
// facts in the end, a slot that names that segment, and the manifest. What was
// carried ends there.
func (h *heir) settle(end int64, db int, facts ...string) (Segment, checkpoint, error) {
	next := newSegment(len(h.shares)+1, end, db)
	c := next.start()
	for _, s := range h.shares {
		if src := h.timeline.segment(int64(s.src)); !s.copied && (src.Verified || src.Damaged) {
			h.facts = append(h.facts, examinedSegmentFact(s.is.Seq, src.Verified))
			if src.Content != "" {
				h.facts = append(h.facts, contentFact(s.is.Seq, src.Content))
			}
		}
	}
	for _, n := range h.timeline.Needs {
		if n.What == NeedCommand && n.Offset > h.lo && n.Offset <= end {
			h.facts = append(h.facts, needFact(n))
		}
	}
	h.facts = append(append(h.facts, facts...), segmentFact(next))
	d := h.opt.disk
	err := h.flush()
	for _, step := range []func() error{
		h.out.sync,
		func() error { return d.write(h.gen.segment(next.Seq), next.SelectHeader()) },
		func() error { return d.write(h.gen.fsynced(), blankFsynced(c)) },
		func() error { return d.write(h.gen.aof(ManifestName), Manifest(next.Seq)) },
		func() error { return d.syncDir(h.gen.aofs()) },
		func() error { return d.syncDir(h.gen.dir) },
	} {
		if err == nil {
			err = step()
		}
	}
	return next, c, err
}

// close lets the files go.
func (h *heir) close() {
	if h.copying != nil {
		h.copying.close()
	}
	if h.out != nil {
		h.out.close()
	}
}

// copying copies a part of a segment, and compares what it reads with what is
// known of it.
type copying struct {
	walk *Walk    // over the segment that is copied
	src  *os.File // that it reads
	f    *os.File
	disk disk
	seg  Segment // that is made
	at   place   // up to where it is
}

// copy begins a copy of src behind where seg begins.
func (h *heir) copy(ctx context.Context, src, seg Segment) (_ *copying, err error) {
	c := &copying{disk: h.opt.disk}
	if c.src, err = os.Open(h.from.gen.segment(src.Seq)); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if got, right, err := src.ReadHeader(c.src); err != nil || !right {
		return nil, errors.Join(err, fmt.Errorf("segment %d: %w: it starts with %q", src.Seq, ErrDamaged, got))
	}
	c.walk = src.Walk(c.src)
	if err := c.to(ctx, seg.From); err != nil {
		return nil, err
	}
	_, db, err := c.boundary(seg.From)
	if err != nil {
		return nil, err
	}
	c.seg = newSegment(seg.Seq, seg.From, db)
	c.at = c.seg.start().end
	if c.f, err = os.OpenFile(h.gen.segment(seg.Seq), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640); err != nil {
		return nil, err
	}
	if _, err = c.disk.pwrite(c.f, c.seg.SelectHeader(), 0); err != nil {
		return nil, err
	}
	c.walk.each = c.write
	return c, nil
}

func (c *copying) write(p []byte) error {
	if _, err := c.disk.pwrite(c.f, p, c.seg.Position(c.at.offset)); err != nil {
		return err
	}
	c.at = c.at.behind(p)
	return nil
}

// to reads and writes up to an offset.
func (c *copying) to(ctx context.Context, offset int64) error {
	err := c.walk.To(ctx, offset)
	var broken *resp.ProtocolError
	if errors.As(err, &broken) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("segment %d: %w: %w", c.walk.seg.Seq, ErrDamaged, err)
	}
	return err
}

// boundary gives the boundary at an offset, and the database selected there.
func (c *copying) boundary(offset int64) (at int64, db int, err error) {
	if at, db = c.walk.Boundary(); at != offset {
		err = fmt.Errorf("%w: %d; the boundary before it is %d", ErrBoundary, offset, at)
	}
	return at, db, err
}

// finish copies up to an offset and makes the copy durable.
func (c *copying) finish(ctx context.Context, offset int64, src Segment) error {
	if err := c.to(ctx, offset); err != nil {
		return err
	}
	if _, _, err := c.boundary(offset); err != nil {
		return err
	}
	if src.Sealed && offset == src.To && c.walk.CRC() != src.CRC {
		return fmt.Errorf("segment %d: %w: its CRC-32C is %08x, not %08x", src.Seq, ErrDamaged, c.walk.CRC(), src.CRC)
	}
	c.src.Close()
	return c.disk.fdatasync(c.f)
}

func (c *copying) close() {
	c.src.Close()
	if c.f != nil {
		c.f.Close()
	}
}

// share makes dst a hard link to src, which has size bytes, or a copy where the
// file system refuses links.
func (d disk) share(src, dst string, size int64) error {
	err := d.link(src, dst)
	refused := []error{syscall.EPERM, syscall.EXDEV, syscall.EMLINK, syscall.ENOSYS, syscall.ENOTSUP}
	if slices.ContainsFunc(refused, func(e error) bool { return errors.Is(err, e) }) {
		err = d.duplicate(src, dst, size)
	}
	if err != nil {
		return err
	}
	st, err := os.Stat(dst)
	if err == nil && st.Size() != size {
		err = fmt.Errorf("%s: %w: it has %d bytes, not %d", src, ErrDamaged, st.Size(), size)
	}
	return err
}

// duplicate makes dst a copy of the first size bytes of src, durably but for its
// name. In the kernel where it can (copy_file_range(2)).
func (d disk) duplicate(src, dst string, size int64) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.CopyN(out, in, size); err != nil {
		return err
	}
	return d.fdatasync(out)
}
