package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"
)

const (
	flushEvery = time.Second
	// seldom is how often appendfsync no fsyncs: by then the kernel has
	// written the data back.
	seldom = 5 * time.Minute
)

// Policy is redis.conf's appendfsync.
type Policy uint8

// The policies. Everysec is the default.
const (
	Everysec Policy = iota // fsync each second
	Always                 // fsync as soon as there is something to
	No                     // leave it to the kernel; fsync on close, and seldom, so that recovery need not read all
)

// String gives the policy as redis.conf writes it.
func (p Policy) String() string { return [...]string{"everysec", "always", "no"}[p] }

// ParsePolicy reads always, everysec or no.
func ParsePolicy(s string) (Policy, error) {
	for p := range No + 1 {
		if s == p.String() {
			return p, nil
		}
	}
	return 0, fmt.Errorf("appendfsync %q: want always, everysec or no", s)
}

// flusher is the goroutine that makes durable what the writer has stored, as
// the policy appendfsync says. The fields are its own.
type flusher struct {
	*log

	busy           sync.Mutex // held while files are made durable, or the writer changes them
	timelineSynced time.Time

	ended chan struct{}
}

func (f *flusher) run() {
	defer close(f.ended)
	every := flushEvery
	if f.opt.AppendFsync == No {
		every = seldom
	}
	t := time.NewTicker(every)
	defer t.Stop()
	now := f.flush
	if f.opt.AppendFsync != Always {
		now = nil
	}
	for {
		select {
		case <-t.C:
			f.sync()
			f.endBefore()
			f.present()
		case <-now:
			f.sync()
		case <-f.seal:
			f.sync()
		case <-f.writer.ended:
			f.sync()
			return
		}
	}
}

// ErrRemoved: somebody removed or replaced the files that are written.
var ErrRemoved = errors.New("the segment that is written is not in its folder any more")

// present fails the log where its segment is not in its folder any more: what is
// written to the file that is open would be found by nobody.
func (f *flusher) present() {
	s := &f.shared
	s.Lock()
	open, seq := s.file, s.stored.seq
	s.Unlock()
	var path string
	is, err := open.Stat()
	if err != nil {
		return // it is being closed
	}
	err = f.at(func(gen generation) error {
		path = gen.segment(seq)
		named, err := os.Stat(path)
		if err == nil && !os.SameFile(is, named) {
			err = fs.ErrNotExist
		}
		return err
	})
	s.Lock()
	same := s.file == open // no rotation meanwhile
	s.Unlock()
	if errors.Is(err, fs.ErrNotExist) && same {
		f.fail(fmt.Errorf("%w: %s", ErrRemoved, path))
	}
}

// endBefore ends the generation before, where that could not be done when this
// one took its place.
func (f *flusher) endBefore() {
	s := &f.shared
	s.Lock()
	gen := s.before
	s.Unlock()
	if gen.number > 0 && endGeneration(gen, f.opt) == nil {
		s.Lock()
		s.before = generation{}
		s.Unlock()
	}
}

// pending is what one run of the flusher makes durable.
type pending struct {
	to      checkpoint
	file    *os.File  // of the segment that to is in
	sealing []sealing // the segments before that one
	facts   int       // how many facts there are then
	noted   bool      // some are not durable: they must be before shared.durable moves on
}

// sync makes durable what the writer has stored.
func (f *flusher) sync() {
	f.busy.Lock()
	defer f.busy.Unlock()
	f.syncNow()
}

// syncNow is sync, for who holds busy.
func (f *flusher) syncNow() {
	s := &f.shared
	s.Lock()
	do := pending{s.stored, s.file, slices.Clone(s.sealing), s.factsStored, s.factsStored > s.factsDurable}
	idle := s.failed != nil || s.stored.end.offset == s.durable && !do.noted
	s.Unlock()
	if idle {
		return
	}
	err := f.syncUpTo(do)
	if errors.Is(err, errFsync) {
		f.fail(fmt.Errorf("fsync of generation %d: %w", f.generation().number, err))
		return
	}
	s.Lock()
	changed := (err == nil) != (s.unsynced == nil)
	if s.unsynced = err; err != nil {
		s.Unlock()
		f.notify() // what is written is sound: the next run tries again
		return
	}
	s.factsDurable, s.durable = do.facts, do.to.end.offset
	s.Unlock()
	if len(do.sealing) > 0 {
		f.sealed(do.sealing)
	}
	if changed {
		signal(f.wake)
	}
	f.notify()
}

// errFsync: an fsync failed. Only that makes bytes doubtful which are written:
// the kernel may have dropped them, and tells it once. Everything else that goes
// wrong on the way, such as a full disk or no free descriptor, is tried again.
var errFsync = errors.New("fsync failed")

// fsynced marks an error of an fsync as one.
func fsynced(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errFsync, err)
}

// fsyncedDir marks an error of the fsync of a folder, unless the folder could not
// be opened.
func fsyncedDir(err error) error {
	var path *os.PathError
	if errors.As(err, &path) && path.Op == "open" {
		return err
	}
	return fsynced(err)
}

// syncUpTo makes durable, in this order: the segments that are complete, the
// one that is written, their names, the facts that tell of them, the manifest,
// and then the slot that says so. So a manifest or a slot that names a segment
// says that all before it are durable.
func (f *flusher) syncUpTo(do pending) error {
	if err := f.syncSealed(do.sealing); err != nil {
		return err
	}
	if err := f.disk.fdatasync(do.file); err != nil {
		return fsynced(err)
	}
	rotated := len(do.sealing) > 0
	if rotated {
		if err := f.at(func(gen generation) error { return fsyncedDir(f.disk.syncDir(gen.aofs())) }); err != nil {
			return err
		}
	}
	if now := time.Now(); do.noted || now.Sub(f.timelineSynced) >= flushEvery/2 {
		if err := f.timeline.sync(); err != nil {
			return fsynced(err)
		}
		f.timelineSynced = now
	}
	if rotated {
		if err := f.at(func(gen generation) error { return gen.writeManifest(do.to.seq, f.disk) }); err != nil {
			return err
		}
	}
	return f.fsynced.put(do.to)
}

// at does something with the generation's folder, which is not renamed
// meanwhile.
func (f *flusher) at(do func(generation) error) error {
	f.names.Lock()
	defer f.names.Unlock()
	return do(f.gen)
}

// syncSealed makes segments durable that are complete, and gives back what was
// allocated ahead of them.
func (f *flusher) syncSealed(done []sealing) error {
	for _, s := range done {
		if err := s.file.Truncate(s.seg.Size()); err != nil {
			return err
		}
		if err := f.disk.fdatasync(s.file); err != nil {
			return fsynced(err)
		}
	}
	return nil
}

// sealed lets segments go that are durable now: they may be read again.
func (f *flusher) sealed(done []sealing) {
	s := &f.shared
	s.Lock()
	s.sealing = slices.Clone(s.sealing[len(done):])
	for _, d := range done {
		s.unread = append(s.unread, d.seg)
	}
	s.Unlock()
	signal(f.wake)
	signal(f.checks.more)
	number := f.generation().number
	for _, d := range done {
		d.file.Close()
		f.opt.observed(Event{Kind: SegmentSealed, Generation: number, Segment: d.seg.Seq, Offset: d.seg.To, Bytes: d.seg.Size()})
	}
}
