package archive

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"replicad/replica"
)

const (
	// ringSize bounds the memory that the stream takes: what was received
	// and not yet written. A power of two.
	ringSize = 2 << 20
	// room is the least free space that Buffer hands out, so that a slow
	// disk does not turn the stream into tiny reads.
	room = 64 << 10
	// writeback is how many written bytes make the kernel start to send
	// them to the disk, so that no fsync finds gigabytes to do.
	writeback = 8 << 20

	flushEvery = time.Second
	seldom     = 5 * time.Minute // appendfsync no: by then the kernel has written it back
	retryEvery = time.Second     // after a write that failed
)

const (
	// reserve is how much of the disk is allocated ahead of a file, at most.
	reserve = 64 << 20
	// margin is how far ahead of a file's end the next piece is allocated.
	margin = 1 << 20
	// plenty is what must be free for that: nothing is to be kept from
	// others on a disk that is nearly full.
	plenty = 16 * reserve
)

// ahead allocates disk space ahead of the end of a file that grows, which
// makes the writes cheaper: ext4 reserves space for each block that is written
// where none is allocated. The file's length stays what was written
// (FALLOC_FL_KEEP_SIZE), and a file never has more allocated ahead than it
// holds, up to reserve. What is left in the end goes by truncate; after a
// crash, once recovery or the generation's end does so.
//
// It is only a hint: where it is refused, writing goes on as without it.
type ahead struct {
	until int64 // file position up to which it was asked for
}

// grew tells that the file ends at end now, and will not grow beyond last.
func (a *ahead) grew(f *os.File, d disk, end, last int64) {
	if end < margin || end+margin <= a.until || end >= last {
		return
	}
	step := min(end, reserve, last-end)
	a.until = end + step
	if free, err := d.free(f.Name()); err != nil || free < plenty {
		return
	}
	_ = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, end, step)
}

// log is the open end of a generation: the ring, and the two goroutines that
// empty it.
//
// Buffer, Commit and note belong to the link; close and the like to whoever
// opened the log.
type log struct {
	names sync.Mutex // held while paths below gen are used, or gen is renamed
	gen   generation

	policy     Policy
	size       int64 // of a segment's file, in bytes, from which on the next one is started
	resolution time.Duration
	disk       disk
	opt        Options // for its observer
	notify     func()

	ring   []byte
	origin int64 // the offset whose next byte lies at ring[0]

	timeline *timelineFile
	fsynced  *fsyncedFile

	stored  atomic.Int64
	durable atomic.Int64

	mu       sync.Mutex
	taken    int64
	boundary replica.Boundary // the last one at or before taken
	facts    []string         // for the timeline, before any byte taken later
	unsynced bool             // facts were written that must be durable before durable moves on
	noted    int              // facts, ever
	told     int              // of these, in the timeline
	kept     int              // of these, durable
	reached  checkpoint       // what the writer has written, but for the serial
	file     *os.File         // of the segment that is written; set by the writer alone
	sealing  []sealing        // oldest first
	unread   []Segment        // complete, durable, and not read again yet
	stalled  error
	failed   error
	closing  bool

	wake    chan struct{} // something was taken, or closing
	flush   chan struct{} // something was written (appendfsync always)
	seal    chan struct{} // a segment is complete
	quit    chan struct{} // closing: no waiting any more
	written chan struct{} // the writer has ended
	flushed chan struct{} // the flusher has ended

	readable    chan struct{} // something was added to unread
	baseChecked bool          // the base needs no reading again
	stopChecks  func()        // ends the reading again, and waits for that; nil where none was begun

	timelineSynced time.Time // the flusher's own

	// The writer's own.
	seg      Segment
	at       place
	ahead    ahead
	kicked   int64 // file position up to which writeback was started
	marked   int64 // offset of the last mark
	markedAt time.Time
}

// newLog starts the goroutines of a generation that stands, on disk and
// fsynced, at c, whose fsynced and boundary places are one.
func newLog(gen generation, seg Segment, c checkpoint, opt Options, notify func()) (*log, error) {
	tl, length, err := gen.readTimeline()
	if err != nil {
		return nil, err
	}
	return continueLog(&state{gen: gen, timeline: tl, length: length, seg: seg, at: c}, opt, notify)
}

// continueLog starts the goroutines of a generation as recovery left it.
func continueLog(s *state, opt Options, notify func()) (*log, error) {
	end := s.at.fsynced
	g := &log{
		gen: s.gen, policy: opt.AppendFsync, disk: opt.disk.observed(opt.ObserveFsync), opt: opt, notify: notify,
		size: opt.SegmentSize, resolution: opt.TimelineResolution,
		ring: make([]byte, ringSize), origin: end.offset, seg: s.seg,
		taken: end.offset, boundary: replica.Boundary{Offset: end.offset, DB: s.at.db},
		reached: s.at, at: end, marked: end.offset,
		wake: make(chan struct{}, 1), flush: make(chan struct{}, 1), seal: make(chan struct{}, 1), quit: make(chan struct{}),
		written: make(chan struct{}), flushed: make(chan struct{}),
		readable: make(chan struct{}, 1), baseChecked: s.timeline.Verified, unread: s.timeline.unread(),
	}
	if g.size <= 0 {
		g.size = DefaultSegmentSize
	}
	if g.resolution <= 0 {
		g.resolution = DefaultTimelineResolution
	}
	g.stored.Store(end.offset)
	g.durable.Store(end.offset)
	g.kicked = g.position(end.offset)
	if err := g.open(s); err != nil {
		g.closeFiles()
		return nil, err
	}
	go g.writer()
	go g.flusher()
	return g, nil
}

func (g *log) open(s *state) (err error) {
	if g.file, err = os.OpenFile(s.gen.segment(s.seg.Seq), os.O_RDWR, 0); err != nil {
		return err
	}
	if g.timeline, err = openTimeline(s.gen.timeline(), s.length, s.timeline.Last.Time, g.disk); err != nil {
		return err
	}
	g.fsynced, err = openFsynced(s.gen.fsynced(), s.at.serial, g.disk)
	return err
}

func (g *log) closeFiles() {
	if g.file != nil {
		g.file.Close()
	}
	for _, s := range g.sealing { // of a log that failed
		s.file.Close()
	}
	if g.timeline != nil {
		g.timeline.close()
	}
	if g.fsynced != nil {
		g.fsynced.close()
	}
}

// position is where the byte behind offset lies in the segment's file.
func (g *log) position(offset int64) int64 { return g.seg.Header + offset - g.seg.From }

// contiguous is the part of the ring from offset on, at most n bytes, up to
// where the ring wraps.
func (g *log) contiguous(offset, n int64) []byte {
	i := (offset - g.origin) & (ringSize - 1)
	return g.ring[i:min(i+n, ringSize)]
}

// buffer is replica.Store's Buffer.
func (g *log) buffer() []byte {
	g.mu.Lock()
	taken, failed := g.taken, g.failed
	g.mu.Unlock()
	free := ringSize - (taken - g.stored.Load())
	if free < room || failed != nil {
		return nil
	}
	return g.contiguous(taken, free)
}

// commit is replica.Store's Commit.
func (g *log) commit(n int, b replica.Boundary) {
	g.mu.Lock()
	g.taken += int64(n)
	g.boundary = b
	g.mu.Unlock()
	signal(g.wake)
}

// note has facts written to the timeline, before anything that is taken later.
func (g *log) note(facts ...string) {
	g.mu.Lock()
	g.facts = append(g.facts, facts...)
	g.noted += len(facts)
	g.mu.Unlock()
	signal(g.wake)
}

func (g *log) progress() replica.Progress {
	g.mu.Lock()
	defer g.mu.Unlock()
	durable := g.durable.Load() // first: it never is beyond what is stored
	return replica.Progress{Stored: g.stored.Load(), Durable: durable, Stalled: g.stalled, Failed: g.failed}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// writer is the goroutine that empties the ring into the segment.
func (g *log) writer() {
	defer close(g.written)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		g.mu.Lock()
		target, b, facts := g.taken, g.boundary, g.facts
		g.facts = nil
		closing, failed := g.closing, g.failed
		g.mu.Unlock()
		if failed != nil {
			return
		}
		if len(facts) > 0 {
			if !g.persist(func() error { return g.timeline.add(facts...) }) {
				return
			}
			g.mu.Lock()
			g.unsynced = true
			g.told += len(facts)
			g.mu.Unlock()
			signal(g.flush)
		}
		if target > g.at.offset && !g.writeUpTo(target, b) {
			return
		}
		wait := g.mark(closing)
		if target > g.at.offset || len(facts) > 0 {
			continue
		}
		g.mu.Lock()
		idle := g.taken == g.at.offset && len(g.facts) == 0
		closing = g.closing
		g.mu.Unlock()
		if !idle {
			continue
		}
		if closing {
			return
		}
		timer.Reset(wait)
		select {
		case <-g.wake:
		case <-timer.C:
		}
	}
}

// writeUpTo writes what was taken, up to target; b is the last boundary before
// it. It returns false when it had to give up.
func (g *log) writeUpTo(target int64, b replica.Boundary) bool {
	for g.at.offset < target {
		if g.full() && !g.rotate() {
			return false
		}
		p := g.contiguous(g.at.offset, g.piece(target, b))
		ok := g.persist(func() error {
			n, err := g.disk.pwrite(g.file, p, g.position(g.at.offset))
			g.wrote(p[:n], b)
			p = p[n:]
			return err
		})
		if !ok {
			return false
		}
	}
	return true
}

// wrote counts bytes that are in the file now.
func (g *log) wrote(p []byte, b replica.Boundary) {
	if len(p) == 0 {
		return
	}
	n := int64(len(p))
	c := g.reached // written here alone
	if k := b.Offset - g.at.offset; k >= 0 && k <= n {
		g.advance(p[:k])
		c.boundary, c.db = g.at, b.DB
		p = p[k:]
	}
	g.advance(p)
	c.fsynced = g.at
	g.fsynced.wrote(g.seg.Seq, g.at)
	g.mu.Lock()
	g.reached = c // at once: the flusher must not see a boundary beyond the end
	g.mu.Unlock()
	g.stored.Store(g.at.offset)
	g.notify()
	if g.policy == Always {
		signal(g.flush)
	}
	end := g.position(g.at.offset)
	g.ahead.grew(g.file, g.disk, end, math.MaxInt64)
	if end-g.kicked >= writeback {
		// Only a hint: errors come back by fsync.
		_ = unix.SyncFileRange(int(g.file.Fd()), g.kicked, end-g.kicked, unix.SYNC_FILE_RANGE_WRITE)
		g.kicked = end
	}
}

func (g *log) advance(p []byte) {
	g.at.crc = crc32.Update(g.at.crc, castagnoli, p)
	g.at.offset += int64(len(p))
}

// mark writes down when the history reached where it is, at most every
// the timeline's resolution; it returns when to come again.
func (g *log) mark(now bool) time.Duration {
	if g.at.offset == g.marked {
		return time.Hour
	}
	t := time.Now()
	if wait := g.resolution - t.Sub(g.markedAt); wait > 0 && !now {
		return wait
	}
	if g.persist(func() error { return g.timeline.mark(Mark{Time: t, Offset: g.at.offset, CRC: g.at.crc}) }) {
		g.marked, g.markedAt = g.at.offset, t
	}
	return time.Hour
}

// persist does what writes to the disk, until it succeeds: on a full disk it
// waits for room. It returns false when the log is closed or failed meanwhile.
func (g *log) persist(write func() error) bool {
	for {
		err := write()
		g.mu.Lock()
		changed := (err == nil) != (g.stalled == nil)
		g.stalled = err
		failed := g.failed
		g.mu.Unlock()
		if err == nil {
			if changed {
				g.notify()
			}
			return true
		}
		g.notify()
		if failed != nil {
			return false
		}
		select {
		case <-g.quit:
			return false
		case <-time.After(retryEvery):
		}
	}
}

// flusher is the goroutine that fsyncs.
func (g *log) flusher() {
	defer close(g.flushed)
	every := flushEvery
	if g.policy == No {
		every = seldom
	}
	t := time.NewTicker(every)
	defer t.Stop()
	tick := t.C
	now := g.flush
	if g.policy != Always {
		now = nil
	}
	for {
		select {
		case <-tick:
			g.sync()
		case <-now:
			g.sync()
		case <-g.seal:
			g.sync()
		case <-g.written:
			g.sync()
			return
		}
	}
}

// sync makes durable what the writer has reached.
func (g *log) sync() {
	g.mu.Lock()
	c, file, facts, failed := g.reached, g.file, g.unsynced, g.failed
	done, told := slices.Clone(g.sealing), g.told
	g.unsynced = false
	g.mu.Unlock()
	if failed != nil || c.fsynced.offset == g.durable.Load() && !facts {
		return
	}
	if err := g.syncUpTo(c, file, done, facts); err != nil {
		g.fail(fmt.Errorf("fsync of generation %d: %w", g.generation().number, err))
		return
	}
	g.mu.Lock()
	g.kept = told
	g.mu.Unlock()
	g.durable.Store(c.fsynced.offset)
	if len(done) > 0 {
		g.sealed(done)
	}
	g.notify()
}

// syncUpTo makes durable, in this order: the segments that are complete, the
// one that is written, their names, the facts that tell of them, the manifest,
// and then the word that it is so. So a manifest or a slot that names a segment
// says that all before it are durable.
func (g *log) syncUpTo(c checkpoint, file *os.File, done []sealing, facts bool) error {
	if err := g.syncSealed(done); err != nil {
		return err
	}
	if err := g.disk.fdatasync(file); err != nil {
		return err
	}
	if len(done) > 0 {
		if err := g.syncNames(); err != nil {
			return err
		}
	}
	if now := time.Now(); facts || now.Sub(g.timelineSynced) >= flushEvery/2 {
		if err := g.timeline.sync(); err != nil {
			return err
		}
		g.timelineSynced = now
	}
	if len(done) > 0 {
		if err := g.name(c.seq); err != nil {
			return err
		}
	}
	return g.fsynced.put(c)
}

// fail ends the log: after an fsync that failed nobody knows what the disk
// holds behind the last one that did not.
func (g *log) fail(err error) {
	g.mu.Lock()
	if g.failed == nil {
		g.failed = err
	}
	g.mu.Unlock()
	signal(g.wake)
	g.notify()
}

var errLost = errors.New("not everything that was received could be stored")

// close stores and fsyncs all that was taken, if it can without waiting for
// the disk to get better, and closes the files.
func (g *log) close() error {
	g.mu.Lock()
	g.closing = true
	g.mu.Unlock()
	close(g.quit)
	signal(g.wake)
	<-g.written
	<-g.flushed
	defer g.closeFiles()
	p := g.progress()
	switch {
	case p.Failed != nil:
		return fmt.Errorf("%w: %w", errLost, p.Failed)
	case p.Stalled != nil:
		return fmt.Errorf("%w: %w", errLost, p.Stalled)
	}
	// Cut to the length that it has, a file gives back what was allocated
	// ahead of it.
	return g.file.Truncate(g.position(g.at.offset))
}

// drain waits until all that was taken is written; it gives up on a disk that
// refuses.
func (g *log) drain() error {
	for {
		g.mu.Lock()
		taken := g.taken
		g.mu.Unlock()
		p := g.progress()
		switch {
		case p.Failed != nil:
			return p.Failed
		case p.Stored == taken:
			return nil
		case p.Stalled != nil:
			return p.Stalled
		}
		time.Sleep(time.Millisecond)
	}
}

// finish closes the log for good: what an unfinished command left behind the
// last boundary can never be completed, and goes.
func (g *log) finish() error {
	err := g.close()
	if err != nil {
		return err
	}
	return closeGeneration(g.generation(), g.seg, g.reached, g.disk)
}

// closeGeneration cuts a generation at its last boundary, which lies in its
// last segment, and says that both end there.
func closeGeneration(gen generation, seg Segment, c checkpoint, d disk) error {
	end := c.boundary.offset
	f, err := os.OpenFile(gen.segment(seg.Seq), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(seg.Header + end - seg.From); err != nil {
		return err
	}
	if err := d.fdatasync(f); err != nil {
		return err
	}
	seg.To, seg.CRC = end, c.boundary.crc
	return appendFacts(gen, d, cutFact(end), sealedFact(seg), endFact(end))
}

// appendFacts adds facts to the timeline of a generation that no log has open.
func appendFacts(gen generation, d disk, facts ...string) error {
	tl, length, err := gen.readTimeline()
	if err != nil {
		return err
	}
	t, err := openTimeline(gen.timeline(), length, tl.Last.Time, d)
	if err != nil {
		return err
	}
	defer t.close()
	if err := t.add(facts...); err != nil {
		return err
	}
	return t.sync()
}
