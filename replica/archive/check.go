package archive

import (
	"bytes"
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

// startChecks reads the files of a generation again in the background, each
// once: its base, of which the result is told, and the segments as they become
// complete and durable.
func (g *log) startChecks(base func(error)) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	g.stopChecks = func() {
		cancel()
		wg.Wait()
	}
	wg.Go(func() {
		if !g.baseChecked {
			err := g.verifyBase(ctx)
			base(err)
			if badRDB(err) {
				return // there is nothing more to check
			}
		}
		for ctx.Err() == nil {
			if seg, ok := g.nextUnread(); ok {
				g.verifySegment(ctx, seg)
				continue
			}
			select {
			case <-ctx.Done():
			case <-g.readable:
			}
		}
	})
}

// stopChecks ends the reading again of the log that is open.
func (a *Archive) stopChecks() {
	if g := a.log.Load(); g != nil && g.stopChecks != nil {
		g.stopChecks()
	}
}

// verifyBase checks the base's checksum, and notes in the timeline that it is
// right.
func (g *log) verifyBase(ctx context.Context) error {
	began := time.Now()
	crc, size, err := checkBase(ctx, g)
	if err == nil {
		g.note(verifiedBaseFact(crc))
		g.opt.observed(Event{Kind: BaseVerified, Generation: g.generation().number, Bytes: size, Took: time.Since(began)})
	}
	return err
}

// verifySegment checks a segment, and notes the result. A damaged one is told
// and no more: the stream behind it is sound, and so is what is before.
func (g *log) verifySegment(ctx context.Context, seg Segment) {
	began := time.Now()
	err := checkSegment(ctx, g, seg)
	if err != nil && !errors.Is(err, ErrDamaged) {
		return // it could not be read: the next Open tries again
	}
	g.note(examinedSegmentFact(seg.Seq, err == nil))
	g.opt.observed(Event{
		Kind: SegmentVerified, Generation: g.generation().number, Segment: seg.Seq,
		Bytes: seg.Size(), Took: time.Since(began), Err: err,
	})
}

// nextUnread takes the oldest segment that was not read again.
func (g *log) nextUnread() (Segment, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.unread) == 0 {
		return Segment{}, false
	}
	seg := g.unread[0]
	g.unread = g.unread[1:]
	return seg, true
}

// openFile opens a file of the generation for reading, wherever that is now.
func (g *log) openFile(path func(generation) string) (*os.File, error) {
	g.names.Lock()
	defer g.names.Unlock()
	return os.Open(path(g.gen))
}

// checkSegment reads the file of a complete segment. The error wraps ErrDamaged
// where it is not what the timeline says.
func checkSegment(ctx context.Context, g *log, seg Segment) error {
	f, err := g.openFile(func(at generation) string { return at.segment(seg.Seq) })
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("segment %d: %w: %w", seg.Seq, ErrDamaged, err)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	want := seg.SelectHeader()
	header := make([]byte, len(want))
	if n, _ := f.ReadAt(header, 0); !bytes.Equal(header, want) {
		return fmt.Errorf("segment %d: %w: it starts with %q, not with %q", seg.Seq, ErrDamaged, header[:n], want)
	}
	var crc uint32
	var size int64
	for buf := make([]byte, 256<<10); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.ReadAt(buf, size)
		crc = crc32.Update(crc, castagnoli, buf[:n])
		size += int64(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("segment %d: %w: at byte %d: %w", seg.Seq, ErrDamaged, size, err)
		}
	}
	if size != seg.Size() || crc != seg.CRC {
		return fmt.Errorf("segment %d: %w: %d bytes with CRC-32C %08x, not %d with %08x", seg.Seq, ErrDamaged, size, crc, seg.Size(), seg.CRC)
	}
	return nil
}

// checkBase verifies the base's own checksum, and computes the CRC-32C of its
// file: a master with rdbchecksum no leaves none of its own.
func checkBase(ctx context.Context, g *log) (crc uint32, size int64, err error) {
	f, err := g.openFile(generation.base)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	t := &Tee{R: f}
	if _, err = rdb.VerifyChecksum(ctx, t, st.Size()); err != nil {
		return 0, 0, err
	}
	crc, err = t.Sum(st.Size())
	return crc, st.Size(), err
}

// Tee computes the CRC-32C of a file while another reader goes through it in
// order; places that it jumps to are not counted twice.
type Tee struct {
	R    io.ReaderAt
	next int64
	crc  uint32
}

// ReadAt implements io.ReaderAt.
func (t *Tee) ReadAt(p []byte, off int64) (int, error) {
	n, err := t.R.ReadAt(p, off)
	if off <= t.next && t.next < off+int64(n) {
		t.crc = crc32.Update(t.crc, castagnoli, p[t.next-off:n])
		t.next = off + int64(n)
	}
	return n, err
}

// Sum reads what is left of size bytes, and returns the CRC-32C of all.
func (t *Tee) Sum(size int64) (uint32, error) {
	buf := make([]byte, 64<<10)
	for t.next < size {
		n, err := t.ReadAt(buf[:min(int64(len(buf)), size-t.next)], t.next)
		if n == 0 && err != nil {
			return 0, err
		}
	}
	return t.crc, nil
}
