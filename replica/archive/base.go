package archive

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
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
	a      *Archive
	rebase *Rebase // not nil where the base is taken beside a log
	need   *atomic.Int64
	gen    generation // where it will be
	full   replica.FullSync
	f      *os.File // nil once committed or aborted
	size   int64
	ahead  ahead

	// Of a history that has begun before the base is whole.
	log *log // runs in the .tmp folder; nil before, and once aborted

	// Of a base that is complete, or behind which the history has begun.
	pos   replica.Position
	began time.Time
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
		b.remove()
		return b.failed(err)
	}
	return nil
}

// makeTmp gives a generation its number and its folder, and removes those that
// others have left. Two may be in the making at once.
func (a *Archive) makeTmp(b *base) error {
	done, making, err := a.sweep()
	if err != nil {
		return err
	}
	a.makes.Lock()
	defer a.makes.Unlock()
	n := 0
	for _, g := range append(done, making...) {
		n = max(n, g.number)
	}
	b.gen = generationIn(a.dir, n+1)
	a.making[b.gen.number] = true
	return os.MkdirAll(b.gen.tmp().aofs(), 0o750)
}

// release says that a generation is not in the making any more.
func (a *Archive) release(gen generation) {
	a.makes.Lock()
	defer a.makes.Unlock()
	delete(a.making, gen.number)
}

// remove removes the folder of the generation in the making.
func (b *base) remove() {
	os.RemoveAll(b.gen.tmp().dir)
	b.a.release(b.gen)
}

// Write implements io.Writer.
func (b *base) Write(p []byte) (int, error) {
	n, err := b.a.opt.disk.pwrite(b.f, p, b.size)
	return n, b.failed(cmp.Or(err, b.grew(n)))
}

// SpliceFrom implements replica.Splicer.
func (b *base) SpliceFrom(pipe, n int) (int, error) {
	for {
		off := b.size
		k, err := unix.Splice(pipe, nil, int(b.f.Fd()), &off, n, unix.SPLICE_F_MOVE)
		switch err {
		case nil:
			return int(k), b.failed(b.grew(int(k)))
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

// grew counts bytes that were written. Where the size is not known beforehand,
// what a full sync must leave free is kept free now.
func (b *base) grew(n int) error {
	b.size += int64(n)
	last := b.full.Size
	if last < 0 {
		last = math.MaxInt64
	}
	b.ahead.grew(b.f, b.a.opt.disk, b.size, last)
	if b.full.Size >= 0 && b.rebase == nil {
		return nil
	}
	if free, err := b.a.opt.disk.free(b.a.dir); err != nil || free >= b.spare() {
		return err
	}
	return syscall.ENOSPC
}

// spare is what the base must leave free.
func (b *base) spare() int64 {
	if b.rebase != nil {
		return spareBeside
	}
	return spare
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
	if b.rebase != nil {
		b.rebase.endTurn()
	}
	if b.log != nil {
		b.a.log.CompareAndSwap(b.log, nil)
		_ = b.log.close() // it goes
		b.log = nil
	}
	b.close()
	b.remove()
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

// Begin implements replica.Base: the log runs in the .tmp folder. A crash
// before the folder is renamed leaves nothing of it.
func (b *base) Begin() (replica.Position, bool, error) {
	header, err := rdb.ReadHeader(io.NewSectionReader(b.f, 0, b.size))
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF) && b.size < rdb.MaxHeader:
		return replica.Position{}, false, nil
	case err != nil:
		return replica.Position{}, false, fmt.Errorf("%w: %w", replica.ErrNotRDB, err)
	}
	b.began = time.Now()
	b.pos = replica.Position{ReplID: b.full.ReplID, Offset: b.full.Offset, DB: header.ReplStreamDB}
	seg, c, err := b.files(b.pos, b.began)
	if err == nil {
		b.log, err = newLog(b.gen.tmp(), seg, c, b.a.opt, b.a.tell)
	}
	if err != nil {
		return replica.Position{}, false, b.failed(err)
	}
	b.a.switchTo(b.log)
	return b.pos, true, nil
}

// place makes the generation of a log that has begun before its base was whole.
func (b *base) place() error {
	b.log.note(baseFact(b.pos.Offset, b.size, b.began)) // now with its size
	if err := b.log.secure(); err != nil {
		return err
	}
	if err := b.log.rename(b.gen); err != nil {
		return err
	}
	if err := b.a.opt.disk.syncDir(b.a.dir); err != nil {
		// The next Open must not find it the newest.
		return errors.Join(err, b.log.rename(b.gen.tmp()))
	}
	b.close()
	b.a.release(b.gen)
	b.a.made(b.log, Current{Generation: b.gen.number, BaseOffset: b.pos.Offset, BaseBytes: b.size, BaseTime: b.began})
	return nil
}

func (b *base) commit() (replica.Position, error) {
	if b.log != nil {
		if err := b.f.Sync(); err != nil {
			return replica.Position{}, err
		}
		return b.pos, b.place()
	}
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
	b.pos, b.began = pos, time.Now()
	if b.rebase != nil {
		b.close()
		b.rebase.base = b
		return pos, nil
	}
	seg, c, err := b.files(pos, b.began)
	if err != nil {
		return replica.Position{}, err
	}
	is := Current{Generation: b.gen.number, BaseOffset: pos.Offset, BaseBytes: b.size, BaseTime: b.began}
	if err := os.Rename(b.gen.tmp().dir, b.gen.dir); err != nil {
		return replica.Position{}, err
	}
	b.close()
	b.a.release(b.gen)
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
	h, err := newHeir(tmp, nil, birth{pos: pos, size: b.size, at: now}, b.a.opt)
	if err != nil {
		return Segment{}, checkpoint{}, err
	}
	defer h.close()
	return h.settle(pos.Offset, pos.DB)
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

const (
	// spare is what a full sync must leave free.
	spare = 1 << 20
	// spareBeside is what a rebase must leave free: the disk gives up the base
	// first, and never the stream.
	spareBeside = 8 << 20
)

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
