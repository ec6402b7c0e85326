package archive

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"replicad/replica"
	"replicad/replica/rdb"
)

// base is a generation in the making. It implements replica.Base and
// replica.Splicer.
type base struct {
	a     *Archive
	next  *Successor // not nil where the generation stands aside until it takes over
	need  *atomic.Int64
	gen   generation // where it will be
	full  replica.FullSync
	f     *os.File // nil once committed or aborted
	size  int64
	ahead ahead
}

// BeginBase implements replica.Store. What is still in memory of the stream
// before is stored first.
func (a *Archive) BeginBase(full replica.FullSync) (replica.Base, error) {
	if g := a.log.Load(); g != nil {
		if err := g.drain(); err != nil {
			return nil, fmt.Errorf("storing what was received before the full sync: %w", spaceError(&a.need, err, full.Size))
		}
	}
	b := &base{a: a, need: &a.need, full: full}
	if err := b.open(); err != nil {
		return nil, err
	}
	return b, nil
}

// open makes the folder of the generation in the making.
func (b *base) open() error {
	if err := b.a.roomFor(b.need, b.full.Size); err != nil {
		return err
	}
	if err := b.a.makeTmp(b); err != nil {
		return b.failed(err)
	}
	tmp := b.gen.tmp()
	var err error
	b.f, err = os.OpenFile(tmp.base(), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		os.RemoveAll(tmp.dir)
		return b.failed(err)
	}
	return nil
}

// makeTmp gives a generation its number and its folder. Two may be in the
// making at once.
func (a *Archive) makeTmp(b *base) error {
	a.numbers.Lock()
	defer a.numbers.Unlock()
	n, err := a.nextNumber()
	if err != nil {
		return err
	}
	b.gen = generationIn(a.dir, n)
	if b.next != nil {
		b.next.mu.Lock()
		b.next.gen = b.gen
		b.next.mu.Unlock()
	}
	return os.MkdirAll(filepath.Join(b.gen.tmp().dir, AOFDir), 0o750)
}

// Write implements io.Writer.
func (b *base) Write(p []byte) (int, error) {
	n, err := b.a.opt.disk.pwrite(b.f, p, b.size)
	b.grew(n)
	return n, b.failed(err)
}

// SpliceFrom implements replica.Splicer.
func (b *base) SpliceFrom(pipe, n int) (int, error) {
	for {
		off := b.size
		k, err := unix.Splice(pipe, nil, int(b.f.Fd()), &off, n, unix.SPLICE_F_MOVE)
		switch err {
		case nil:
			b.grew(int(k))
			return int(k), nil
		case unix.EINTR:
		case unix.EINVAL: // a file system that can't
			return b.copyFrom(pipe, n)
		default:
			return 0, b.failed(os.NewSyscallError("splice", err))
		}
	}
}

func (b *base) copyFrom(pipe, n int) (int, error) {
	buf := make([]byte, min(n, 256<<10))
	k, err := unix.Read(pipe, buf)
	if err != nil {
		return 0, os.NewSyscallError("read", err)
	}
	return b.Write(buf[:k])
}

// grew counts bytes that were written.
func (b *base) grew(n int) {
	b.size += int64(n)
	last := b.full.Size
	if last < 0 {
		last = math.MaxInt64
	}
	b.ahead.grew(b.f, b.a.opt.disk, b.size, last)
}

func (b *base) failed(err error) error {
	return spaceError(b.need, err, max(b.full.Size, b.size+b.size/4))
}

// ReadAt implements io.ReaderAt on what was written.
func (b *base) ReadAt(p []byte, off int64) (int, error) { return b.f.ReadAt(p, off) }

// Truncate implements replica.Base. It also gives back what is allocated ahead.
func (b *base) Truncate(size int64) error {
	b.size = size
	return b.f.Truncate(size)
}

// Abort implements replica.Base.
func (b *base) Abort() {
	if b.f == nil {
		return
	}
	b.close()
	os.RemoveAll(b.gen.tmp().dir)
}

func (b *base) close() {
	b.f.Close()
	b.f = nil
}

// Commit implements replica.Base: the base and the files of an empty stream
// behind it are fsynced in the .tmp folder, whose renaming makes the
// generation.
func (b *base) Commit() (replica.Position, error) {
	pos, err := b.commit()
	if err != nil {
		b.Abort()
		return replica.Position{}, b.failed(err)
	}
	return pos, nil
}

func (b *base) commit() (replica.Position, error) {
	header, err := rdb.ReadHeader(io.NewSectionReader(b.f, 0, b.size))
	if err != nil {
		return replica.Position{}, fmt.Errorf("%w: %w", replica.ErrNotRDB, err)
	}
	if err := b.f.Sync(); err != nil {
		return replica.Position{}, err
	}
	pos := replica.Position{ReplID: b.full.ReplID, Offset: b.full.Offset}
	// The stream of a chained replica does not open with SELECT. The RDB's
	// aux field repl-stream-db has the database in force.
	pos.DB = header.ReplStreamDB
	began := time.Now()
	seg, c, err := b.files(pos, began)
	if err != nil {
		return replica.Position{}, err
	}
	is := Current{Generation: b.gen.number, BaseOffset: pos.Offset, BaseBytes: b.size, BaseTime: began}
	if b.next != nil {
		if err := b.next.adopt(b.gen, seg, c, is); err != nil {
			return replica.Position{}, err
		}
		b.close()
		return pos, nil
	}
	if err := os.Rename(b.gen.tmp().dir, b.gen.dir); err != nil {
		return replica.Position{}, err
	}
	b.close()
	if err = SyncPath(b.a.dir); err == nil {
		err = b.a.adopt(b.gen, seg, c, is)
	}
	if err != nil {
		// The history goes on in the generation before. The next Open must
		// not find this one the newest.
		return replica.Position{}, errors.Join(err, b.gen.remove())
	}
	return pos, nil
}

// files writes all that stands beside the base in a new generation.
func (b *base) files(pos replica.Position, now time.Time) (Segment, checkpoint, error) {
	tmp := b.gen.tmp()
	seg := newSegment(1, pos.Offset, pos.DB)
	c := seg.start()
	var lines []byte
	for _, fact := range []string{
		timelineVersion,
		baseFact(pos.Offset, b.size, now),
		replidFact(pos.ReplID, pos.Offset),
		segmentFact(seg),
	} {
		lines = sealed(lines, fact)
	}
	err := errors.Join(
		writeSynced(tmp.segment(1), seg.SelectHeader()),
		writeSynced(tmp.timeline(), lines),
		createFsynced(tmp.fsynced(), c),
		writeSynced(tmp.aof(ManifestName), Manifest(1)),
		SyncPath(filepath.Join(tmp.dir, AOFDir)),
		SyncPath(tmp.dir),
	)
	return seg, c, err
}

// roomFor says whether size bytes fit. Where they do not, it writes down how
// much is needed. A size below zero is unknown.
func (a *Archive) roomFor(needed *atomic.Int64, size int64) error {
	free, err := a.opt.disk.free(a.dir)
	if err != nil {
		return err
	}
	if size >= 0 && free-spare < size { // size+spare may overflow
		needed.Store(min(size, math.MaxInt64-spare) + spare)
		return fmt.Errorf("%w: the RDB has %d bytes, below %s %d are free", replica.ErrNoRoom, size, a.dir, free)
	}
	return nil
}

// spare is what a full sync must leave free.
const spare = 1 << 20

// spaceError remembers, when err says that the disk is full, how much a full
// sync needs at least.
func spaceError(needed *atomic.Int64, err error, need int64) error {
	if err == nil || !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return err
	}
	needed.Store(max(need, 0) + spare)
	return fmt.Errorf("%w: %w", replica.ErrNoRoom, err)
}

// Room implements replica.Store.
func (a *Archive) Room() error { return a.room(&a.need) }

func (a *Archive) room(needed *atomic.Int64) error {
	need := needed.Load()
	if need == 0 {
		return nil
	}
	free, err := a.opt.disk.free(a.dir)
	if err != nil {
		return err
	}
	if free < need {
		return fmt.Errorf("%w: the last one failed, it needs more than %d bytes, below %s %d are free", replica.ErrNoRoom, need, a.dir, free)
	}
	needed.Store(0)
	return nil
}
