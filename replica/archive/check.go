package archive

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"replicad/replica"
	"replicad/replica/rdb"
)

// ErrDamaged: a file is not what was written to it.
var ErrDamaged = errors.New("the file is damaged")

// checks is the checker: the goroutine that reads complete files again, each
// once, and notes the result in the timeline.
type checks struct {
	more         chan struct{} // something was added to shared.unread
	baseVerified bool          // the base needs no reading again

	sync.Mutex             // guards what follows
	tell       func(error) // what the reading of the base has shown; nil before the start
	stop       func()      // ends the checker, and waits for that; nil where none runs
}

// suspend ends the checker until resume.
func (c *checks) suspend() {
	c.Lock()
	defer c.Unlock()
	if c.stop != nil {
		c.stop()
		c.stop = nil
	}
}

// check reads the files of the archive's generation again.
func (a *Archive) check(g *log) {
	g.startChecks(func(err error) {
		if !badRDB(err) {
			return // sound; or not read, and the next Open tries again
		}
		a.mu.Lock()
		a.failed = fmt.Errorf("%w: generation %d: %w", replica.ErrChecksum, g.generation().number, err)
		a.mu.Unlock()
		a.tell()
	})
}

func badRDB(err error) bool {
	return errors.Is(err, rdb.ErrChecksum) || errors.Is(err, rdb.ErrMalformed) || errors.Is(err, rdb.ErrNotRDB)
}

// startChecks starts the checker: it reads the base, and tells the result; then
// the segments, as they become complete and durable.
func (g *log) startChecks(base func(error)) {
	g.checks.Lock()
	g.checks.tell = base
	g.checks.Unlock()
	g.resumeChecks()
}

// resumeChecks starts the checker again behind a suspend, unless the checks have
// not begun, or have ended.
func (g *log) resumeChecks() {
	g.checks.Lock()
	defer g.checks.Unlock()
	base := g.checks.tell
	if base == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	g.checks.stop = func() {
		cancel()
		wg.Wait()
	}
	wg.Go(func() {
		r := g.newReading()
		defer r.close()
		if !g.checks.baseVerified {
			err := g.verifyBase(ctx, r)
			base(err)
			if badRDB(err) {
				return // there is nothing more to check
			}
		}
		for ctx.Err() == nil {
			if seg, ok := g.nextUnread(); ok {
				g.verifySegment(ctx, seg, r)
				continue
			}
			var again <-chan time.Time
			if g.opt.Content != nil {
				seg, end := g.live()
				g.readOn(ctx, r, seg, end)
				again = time.After(lookAgain)
			}
			select {
			case <-ctx.Done():
			case <-g.checks.more:
			case <-again:
			}
		}
	})
}

// stopChecks ends the checker of the log that is open.
func (a *Archive) stopChecks() {
	if g := a.log.Load(); g != nil {
		g.checks.Lock()
		g.checks.tell = nil
		g.checks.Unlock()
		g.checks.suspend()
	}
}

// verifyBase checks the base's checksum, and notes in the timeline that it is
// right.
func (g *log) verifyBase(ctx context.Context, r *reading) error {
	began := time.Now()
	f, err := g.openFile(generation.base)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	modules := []string{}
	crc, content, err := g.opt.baseContent(ctx, f, st.Size(), func(name string) { modules = append(modules, name) })
	if err != nil {
		return err
	}
	g.note(verifiedBaseFact(crc))
	if content != "" {
		g.note(contentBaseFact(content))
	}
	for _, name := range modules {
		g.needed(r, NeedModule, name, r.base)
	}
	g.opt.observed(Event{Kind: BaseVerified, Generation: g.generation().number, Bytes: st.Size(), Took: time.Since(began)})
	return nil
}

// verifySegment checks a segment, and notes the result. A damaged segment is
// reported and no more: the stream behind it is sound, and so is what is
// before.
func (g *log) verifySegment(ctx context.Context, seg Segment, r *reading) {
	began := time.Now()
	err := checkSegment(ctx, g, seg)
	if err != nil && !errors.Is(err, ErrDamaged) {
		return // it could not be read: the next Open tries again
	}
	facts := []string{examinedSegmentFact(seg.Seq, err == nil)}
	if err == nil {
		if content := g.readOn(ctx, r, seg, seg.To); content != "" {
			facts = append(facts, contentFact(seg.Seq, content))
		}
	}
	g.note(facts...)
	g.opt.observed(Event{
		Kind: SegmentVerified, Generation: g.generation().number, Segment: seg.Seq,
		Bytes: seg.Size(), Took: time.Since(began), Err: err,
	})
}

// nextUnread takes the oldest segment that was not read again.
func (g *log) nextUnread() (Segment, bool) {
	s := &g.shared
	s.Lock()
	defer s.Unlock()
	if len(s.unread) == 0 {
		return Segment{}, false
	}
	seg := s.unread[0]
	s.unread = s.unread[1:]
	return seg, true
}

// live is the segment that is written, and up to where it can be read.
func (g *log) live() (Segment, int64) {
	g.shared.Lock()
	defer g.shared.Unlock()
	return g.shared.seg, g.shared.stored.boundary.offset
}

// openFile opens a file of the generation for reading, wherever that is now.
func (g *log) openFile(path func(generation) string) (*os.File, error) {
	g.names.Lock()
	defer g.names.Unlock()
	return os.Open(path(g.gen))
}

// checkSegment reads the file of a complete segment. The error wraps ErrDamaged
// where the file is not what the timeline says.
func checkSegment(ctx context.Context, g *log, seg Segment) error {
	damaged := func(format string, args ...any) error {
		return fmt.Errorf("segment %d: %w: %w", seg.Seq, ErrDamaged, fmt.Errorf(format, args...))
	}
	f, err := g.openFile(func(at generation) string { return at.segment(seg.Seq) })
	if errors.Is(err, fs.ErrNotExist) {
		return damaged("%w", err)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Size() != seg.Size() {
		return damaged("%d bytes, not %d", st.Size(), seg.Size())
	}
	if got, right, _ := seg.ReadHeader(f); !right {
		return damaged("it starts with %q, not with %q", got, seg.SelectHeader())
	}
	w := seg.walkFrom(f, seg.start().end, nil)
	if err := w.To(ctx, seg.To); ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		return damaged("behind offset %d: %w", w.At(), err)
	}
	if w.CRC() != seg.CRC {
		return damaged("its CRC-32C is %08x, not %08x", w.CRC(), seg.CRC)
	}
	return nil
}

// CheckBase reads a base of size bytes. It verifies the checksum that the RDB
// ends with, and computes the CRC-32C of the file: a master with rdbchecksum no
// leaves no checksum of its own.
func CheckBase(ctx context.Context, f io.ReaderAt, size int64) (own rdb.Verdict, crc uint32, err error) {
	return checkBase(ctx, &tee{file: f}, size)
}

func checkBase(ctx context.Context, t *tee, size int64) (own rdb.Verdict, crc uint32, err error) {
	if own, err = rdb.VerifyChecksum(ctx, t, size); err != nil {
		return own, 0, err
	}
	// Of an RDB without a checksum not all was read.
	for buf := make([]byte, 256<<10); t.next < size; {
		if err := ctx.Err(); err != nil {
			return own, 0, err
		}
		n, err := t.ReadAt(buf[:min(int64(len(buf)), size-t.next)], t.next)
		if n == 0 {
			return own, 0, err
		}
	}
	return own, t.crc, nil
}

// tee computes the CRC-32C of a file while another reader goes through it in
// order; places that the reader jumps to are not counted twice.
type tee struct {
	file io.ReaderAt
	next int64
	crc  uint32
	more io.Writer // gets the same; nil for nobody
}

// ReadAt implements io.ReaderAt.
func (t *tee) ReadAt(p []byte, off int64) (int, error) {
	n, err := t.file.ReadAt(p, off)
	if off <= t.next && t.next < off+int64(n) {
		fresh := p[t.next-off : n]
		t.crc = crc32.Update(t.crc, castagnoli, fresh)
		if t.more != nil {
			_, _ = t.more.Write(fresh)
		}
		t.next = off + int64(n)
	}
	return n, err
}
