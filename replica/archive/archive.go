package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"replicad/replica"
)

// ErrLocked: another process writes to the archive.
var ErrLocked = errors.New("the archive is locked by another replicad")

// Options say how an archive is kept. The zero value is usable.
type Options struct {
	AppendFsync Policy
	// SegmentSize is how large the file of a segment grows, in bytes, before
	// the next one is started, at the next boundary; 0 means
	// DefaultSegmentSize.
	SegmentSize int64
	// TimelineResolution is the least time between two marks of the
	// timeline; 0 means DefaultTimelineResolution.
	TimelineResolution time.Duration
	// Observe is told what happens to the files (SegmentSealed,
	// BaseVerified, SegmentVerified), on any goroutine: it must not wait.
	// The kind's own fields are filled in, nothing else. May be nil.
	Observe func(Event)
	// ObserveFsync is told how long each fdatasync(2) of segments, timeline
	// and slots took, also one that failed. Several goroutines may call it
	// at once. It must not wait. May be nil.
	ObserveFsync func(took time.Duration)
	// Content reads what a restore must know of base and segments, so that it
	// need not read them. May be nil.
	Content ContentReader

	disk disk
}

// Archive is one master's folder, open for writing. It implements
// replica.Store.
type Archive struct {
	dir      string
	opt      Options
	lock     *os.File
	recovery Recovery
	notify   atomic.Pointer[func()]
	watchers watchers
	log      atomic.Pointer[log] // nil before the first full sync
	strict   bool                // an fsync failed, and no Reset has succeeded since; only Reset uses it
	need     atomic.Int64        // bytes that a full sync needs, after one that found less room

	makes  sync.Mutex   // guards making
	making map[int]bool // the numbers of the generations in the making

	moving sync.Mutex // held while a fork or a rebase becomes the generation that is written

	mu     sync.Mutex // guards what follows
	is     Current
	failed error // the log's base proved damaged
	pos    replica.Position
	known  bool
	held   *Reader // of the generation that ForkAt has chosen; nil for none
}

// Open makes or opens the archive of one master. It takes the archive's lock,
// or fails with ErrLocked; removes what an interrupted full sync left; and
// recovers the newest generation.
func Open(dir string, opt Options) (*Archive, error) {
	if opt.disk.pwrite == nil {
		opt.disk = realDisk()
	}
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	lock, err := lockFile(filepath.Join(dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	a := &Archive{dir: dir, opt: opt, lock: lock, making: map[int]bool{}}
	if err := a.open(false); err != nil {
		lock.Close()
		return nil, err
	}
	return a, nil
}

// open recovers the newest generation, if there is one.
func (a *Archive) open(strict bool) error {
	done, _, err := a.sweep()
	if err != nil {
		return err
	}
	// The name of the newest must be durable before anything in it counts.
	if err := a.opt.disk.syncDir(a.dir); err != nil {
		return err
	}
	a.mu.Lock()
	a.pos, a.known, a.failed, a.is = replica.Position{}, false, nil, Current{}
	a.mu.Unlock()
	if len(done) == 0 {
		return nil
	}
	for _, old := range done[:len(done)-1] {
		_ = endGeneration(old, a.opt)
	}
	gen := done[len(done)-1]
	s, err := recoverGeneration(gen, a.opt, strict)
	if damaged(err) {
		// The generation can't be continued, but what is in it stays.
		a.recovery = Recovery{Generation: gen.number, Why: fmt.Sprintf("generation %d is left as it is, and not continued: %v", gen.number, err)}
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", gen.dir, err)
	}
	a.recovery = s.recovery
	if s.timeline.Closed {
		return nil
	}
	g, err := continueLog(s, a.opt, a.tell)
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.pos = replica.Position{ReplID: s.recovery.ReplID, Offset: s.at.end.offset, DB: s.at.db}
	a.known = s.recovery.ReplID != ""
	a.is = Current{Generation: gen.number, BaseOffset: s.timeline.BaseOffset, BaseBytes: s.timeline.BaseSize, BaseTime: s.timeline.BaseTime}
	a.mu.Unlock()
	a.log.Store(g)
	a.check(g)
	return nil
}

// damaged says whether an error of recovery is the generation's own: then a new
// generation helps, and waiting does not.
func damaged(err error) bool {
	own := []error{ErrTimeline, fs.ErrNotExist, syscall.EIO, syscall.EUCLEAN}
	return slices.ContainsFunc(own, func(e error) bool { return errors.Is(err, e) })
}

// endGeneration ends a generation that a newer one has followed, where a crash
// or an error kept the archive from ending it. A generation that can't be ended
// is left as it is. Nothing is done to the files of one that ends with a
// complete segment: after a rebase they are those of the newer generation, too.
func endGeneration(gen generation, opt Options) error {
	if ended(gen.timeline()) {
		return nil
	}
	if tl, _, err := gen.readTimeline(visitor{}); err == nil {
		if last := tl.Segments[len(tl.Segments)-1]; last.Sealed {
			return opt.disk.append(gen.timeline(), endFact(last.To))
		}
	}
	s, err := recoverGeneration(gen, opt, false)
	if err == nil && !s.timeline.Closed {
		err = closeGeneration(gen, s.seg, s.at, opt.disk)
	}
	return err
}

// sweep removes what interrupted full syncs, rebases and prunes left behind. It
// gives the generations, and those in the making.
func (a *Archive) sweep() (done, making []generation, err error) {
	a.makes.Lock()
	defer a.makes.Unlock()
	done, unfinished, err := generations(a.dir)
	if err != nil {
		return nil, nil, err
	}
	for _, g := range unfinished {
		if a.making[g.number] {
			making = append(making, g)
		} else if err := os.RemoveAll(g.dir); err != nil {
			return nil, nil, err
		}
	}
	return done, making, sweepPruned(a.dir)
}

// Current describes the generation that is written.
type Current struct {
	Generation int
	BaseOffset int64
	BaseBytes  int64
	BaseTime   time.Time // when the full sync was complete
}

// Current describes the generation that is written; false where there is none.
func (a *Archive) Current() (Current, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.is, a.is.Generation > 0
}

// Recovery tells what Open, or the last Reset, found and did.
func (a *Archive) Recovery() Recovery { return a.recovery }

// tell calls the function that was given to Notify, and wakes all watchers.
func (a *Archive) tell() {
	a.watchers.wake()
	if f := a.notify.Load(); f != nil {
		(*f)()
	}
}

// observed tells the observer of the files an event.
func (o Options) observed(e Event) {
	if o.Observe != nil {
		o.Observe(e)
	}
}

// Notify implements replica.Store.
func (a *Archive) Notify(f func()) { a.notify.Store(&f) }

// Position implements replica.Store.
func (a *Archive) Position() (replica.Position, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pos, a.known
}

// Continue implements replica.Store.
func (a *Archive) Continue(replID string) { a.log.Load().goOnAs(replID) }

// Buffer implements replica.Store.
func (a *Archive) Buffer() []byte { return a.log.Load().buffer() }

// Commit implements replica.Store.
func (a *Archive) Commit(n int, b replica.Boundary) { a.log.Load().commit(n, b) }

// Progress implements replica.Store.
func (a *Archive) Progress() replica.Progress {
	a.mu.Lock()
	failed := a.failed
	a.mu.Unlock()
	return a.log.Load().progressOr(failed)
}

// adopt makes a generation that was just committed the one that is written, and
// closes the generation before for good.
func (a *Archive) adopt(gen generation, seg Segment, c checkpoint, is Current) error {
	g, err := newLog(gen, seg, c, a.opt, a.tell)
	if err != nil {
		return err
	}
	a.switchTo(g)
	a.made(g, is)
	return nil
}

// switchTo makes a log the one that is written, and closes the generation of the
// one before for good.
func (a *Archive) switchTo(g *log) {
	a.stopChecks()
	old := a.log.Swap(g)
	a.mu.Lock()
	a.failed, a.is = nil, Current{}
	a.pos, a.known = replica.Position{}, false
	a.mu.Unlock()
	if old != nil && old.finish() != nil {
		// The old log's data is safe. An end that could not be written down is
		// no reason to refuse the new generation: the flusher tries again.
		g.shared.Lock()
		g.shared.before = old.generation()
		g.shared.Unlock()
	}
}

// made notes that the generation of the log that is written is in place.
func (a *Archive) made(g *log, is Current) {
	a.mu.Lock()
	a.is = is
	a.mu.Unlock()
	a.need.Store(0)
	a.check(g)
}

// Reset implements replica.Store. Where the base proved damaged, the generation
// is removed. Otherwise the history is opened again, after a failed fsync only
// up to what was fsynced before.
func (a *Archive) Reset() error {
	a.stopChecks()
	a.mu.Lock()
	damaged := a.failed != nil
	a.mu.Unlock()
	if g := a.log.Swap(nil); g != nil {
		_ = g.close() // its fsync may be the first that fails
		a.strict = a.strict || g.progress().Failed != nil
		if damaged {
			if err := g.gen.remove(); err != nil {
				return err
			}
		}
	}
	err := a.open(a.strict)
	if err == nil {
		a.strict = false
	}
	return err
}

// Close stores and fsyncs all that was received, and unlocks the archive.
func (a *Archive) Close() error {
	a.stopChecks()
	a.hold(nil)
	var err error
	if g := a.log.Swap(nil); g != nil {
		err = g.close()
	}
	return errors.Join(err, a.lock.Close())
}
