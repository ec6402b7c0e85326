package archive

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"replicad/replica"
)

const (
	// ringSize bounds the memory that the stream takes: what was received
	// and is not stored yet. A power of two.
	ringSize = 2 << 20
	// leastRoom is the least free space that Buffer hands out, so that a slow
	// disk does not turn the stream into tiny reads.
	leastRoom = 64 << 10
)

// log is the open end of a generation. Each byte of the stream is received,
// then stored, then durable, and each of these words has one thread:
//
//   - The link's thread reads into the ring. It calls buffer, commit and note.
//   - The writer goroutine stores: it writes from the ring to the segment's
//     file, and facts to the timeline. The type writer holds what it alone uses.
//   - The flusher goroutine makes durable what is stored. The type flusher
//     holds what it alone uses.
//   - The checker goroutine reads complete files again; see check.go.
//
// What they tell each other is in shared. The other methods belong to the
// goroutine that opened the log. What replica.Store asks for may also be asked
// of a nil log, which holds nothing.
type log struct {
	opt    Options
	disk   disk
	notify func()
	ring   ring

	names sync.Mutex // held while paths below gen are used, or gen is renamed
	gen   generation

	timeline *timelineFile // the writer appends, the flusher fsyncs
	fsynced  *fsyncedFile  // the writer writes the third slot, the flusher the others
	shared   shared
	writer   *writer
	flusher  *flusher
	checks   checks

	wake  chan struct{} // to the writer: there is something to do
	turns chan struct{} // holds a token while atBoundary has an act in shared
	flush chan struct{} // to the flusher: something was stored (appendfsync always)
	seal  chan struct{} // to the flusher: a segment is complete
	quit  chan struct{} // closed when the log is: nobody waits any more
}

// ring is the memory between the link and the writer. Neither touches the part
// of the other, which shared.received and shared.stored separate.
type ring struct {
	buf    []byte
	origin int64 // the offset whose next byte lies at buf[0]
}

// behind is the part of the ring from offset on, at most n bytes, up to where
// the ring wraps.
func (r ring) behind(offset, n int64) []byte {
	i := (offset - r.origin) & (ringSize - 1)
	return r.buf[i:min(i+n, ringSize)]
}

// shared is what the threads tell each other. Its mutex guards it.
type shared struct {
	sync.Mutex

	// From the link to the writer; facts from anybody.
	received  int64            // the offset of the last byte that the link committed
	boundary  replica.Boundary // the last one at or before received
	facts     []string         // for the timeline, before any byte received later
	histories []History        // the replication ids, as the timeline has them or will
	act       *act             // what the writer is asked to do at a boundary; nil for nothing

	// From the writer to the flusher.
	stored  checkpoint // what is in the files, but for the serial
	file    *os.File   // of the segment that is written; the writer reads it without the mutex
	sealing []sealing  // segments that are complete and not durable, oldest first

	// From the flusher.
	durable int64     // offset; never beyond stored
	unread  []Segment // complete and durable, for the checker to read again
	seg     Segment   // that is written

	// How many facts there ever were, and how far they have come.
	factsReceived, factsStored, factsDurable int

	before generation // that is still to be ended; zero for none

	stalled  error // of the writer, which tries again
	unsynced error // of the flusher, which tries again
	failed   error // of the flusher: the log has ended
	closing  bool
}

// newLog starts the goroutines of a generation that stands, on disk and
// fsynced, at c, whose end and boundary are one place.
func newLog(gen generation, seg Segment, c checkpoint, opt Options, notify func()) (*log, error) {
	tl, length, err := gen.readTimeline(visitor{})
	if err != nil {
		return nil, err
	}
	return continueLog(&state{gen: gen, timeline: tl, length: length, seg: seg, at: c}, opt, notify)
}

// continueLog starts the goroutines of a generation as recovery left it.
func continueLog(s *state, opt Options, notify func()) (*log, error) {
	end := s.at.end
	if opt.SegmentSize <= 0 {
		opt.SegmentSize = DefaultSegmentSize
	}
	if opt.TimelineResolution <= 0 {
		opt.TimelineResolution = DefaultTimelineResolution
	}
	g := &log{
		opt: opt, disk: opt.disk.observed(opt.ObserveFsync), notify: notify,
		ring: ring{make([]byte, ringSize), end.offset}, gen: s.gen,
		shared: shared{
			received: end.offset, boundary: replica.Boundary{Offset: end.offset, DB: s.at.db},
			stored: s.at, durable: end.offset, unread: s.timeline.unread(), seg: s.seg,
			histories: s.timeline.Histories,
		},
		checks: checks{more: make(chan struct{}, 1), baseVerified: s.timeline.Verified},
		turns:  make(chan struct{}, 1),
		wake:   make(chan struct{}, 1), flush: make(chan struct{}, 1),
		seal: make(chan struct{}, 1), quit: make(chan struct{}),
	}
	g.writer = &writer{log: g, seg: s.seg, at: end, marked: end.offset, ended: make(chan struct{})}
	g.writer.ahead.kicked = s.seg.Position(end.offset)
	g.flusher = &flusher{log: g, ended: make(chan struct{})}
	if err := g.openFiles(s); err != nil {
		g.closeFiles()
		return nil, err
	}
	go g.writer.run()
	go g.flusher.run()
	return g, nil
}

func (g *log) openFiles(s *state) (err error) {
	if g.shared.file, err = os.OpenFile(s.gen.segment(s.seg.Seq), os.O_RDWR, 0); err != nil {
		return err
	}
	if g.timeline, err = openTimeline(s.gen.timeline(), s.length, s.timeline.Last.Time, g.disk); err != nil {
		return err
	}
	g.fsynced, err = openFsynced(s.gen.fsynced(), s.at.serial, g.disk)
	return err
}

func (g *log) closeFiles() {
	if g.shared.file != nil {
		g.shared.file.Close()
	}
	for _, s := range g.shared.sealing { // of a log that failed
		s.file.Close()
	}
	if g.timeline != nil {
		g.timeline.close()
	}
	if g.fsynced != nil {
		g.fsynced.close()
	}
}

// buffer is replica.Store's Buffer.
func (g *log) buffer() []byte {
	if g == nil {
		return nil
	}
	s := &g.shared
	s.Lock()
	received, stored, failed := s.received, s.stored.end.offset, s.failed
	s.Unlock()
	free := ringSize - (received - stored)
	if free < leastRoom || failed != nil {
		return nil
	}
	return g.ring.behind(received, free)
}

// commit is replica.Store's Commit.
func (g *log) commit(n int, b replica.Boundary) {
	if g == nil {
		return
	}
	g.shared.Lock()
	g.shared.received += int64(n)
	g.shared.boundary = b
	g.shared.Unlock()
	signal(g.wake)
}

// goOnAs is replica.Store's Continue.
func (g *log) goOnAs(replID string) {
	if g == nil {
		return
	}
	g.shared.Lock()
	from := g.shared.received
	g.shared.histories = append(slices.Clone(g.shared.histories), History{replID, from})
	g.shared.Unlock()
	g.note(replidFact(replID, from))
}

// note has facts written to the timeline, before anything that is received
// later.
func (g *log) note(facts ...string) {
	g.shared.Lock()
	g.shared.facts = append(g.shared.facts, facts...)
	g.shared.factsReceived += len(facts)
	g.shared.Unlock()
	signal(g.wake)
}

func (g *log) progress() replica.Progress {
	s := &g.shared
	s.Lock()
	defer s.Unlock()
	return replica.Progress{Stored: s.stored.end.offset, Durable: s.durable, Stalled: cmp.Or(s.stalled, s.unsynced), Failed: s.failed}
}

// progressOr is replica.Store's Progress; failed is what else the store has
// failed by.
func (g *log) progressOr(failed error) (p replica.Progress) {
	if g != nil {
		p = g.progress()
	}
	if p.Failed == nil {
		p.Failed = failed
	}
	return p
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// fail ends the log: after an fsync that failed nobody knows what the disk
// holds behind the last one that did not.
func (g *log) fail(err error) {
	g.shared.Lock()
	if g.shared.failed == nil {
		g.shared.failed = err
	}
	g.shared.Unlock()
	signal(g.wake)
	g.notify()
}

var errLost = errors.New("not everything that was received could be stored")

// close stores and fsyncs all that was received, if it can without waiting for
// the disk to get better, and closes the files.
func (g *log) close() error {
	g.shared.Lock()
	g.shared.closing = true
	g.shared.Unlock()
	close(g.quit)
	signal(g.wake)
	<-g.writer.ended
	<-g.flusher.ended
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
	return g.shared.file.Truncate(g.writer.position())
}

// drain waits until all that was received is stored, facts too. It gives up on a
// disk that refuses.
func (g *log) drain() error {
	for {
		g.shared.Lock()
		received, facts := g.shared.received, g.shared.factsStored == g.shared.factsReceived
		g.shared.Unlock()
		p := g.progress()
		switch {
		case p.Failed != nil:
			return p.Failed
		case p.Stored == received && facts:
			return nil
		case p.Stalled != nil:
			return p.Stalled
		}
		time.Sleep(time.Millisecond)
	}
}

// secure waits until all that was received before is durable, facts too. It
// gives up on a disk that refuses.
func (g *log) secure() error {
	g.shared.Lock()
	end, facts := g.shared.received, g.shared.factsReceived
	g.shared.Unlock()
	for {
		signal(g.seal) // has the flusher sync, whatever the policy
		g.shared.Lock()
		done := g.shared.durable >= end && g.shared.factsDurable >= facts
		g.shared.Unlock()
		switch p := g.progress(); {
		case p.Failed != nil:
			return p.Failed
		case done:
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
	if err := g.close(); err != nil {
		return err
	}
	return closeGeneration(g.generation(), g.writer.seg, g.shared.stored, g.disk)
}

// generation is where the log's files are now.
func (g *log) generation() generation {
	g.names.Lock()
	defer g.names.Unlock()
	return g.gen
}

// rename moves the generation's folder while its log is open. The name is
// durable only when the caller has fsynced the folder around it.
func (g *log) rename(to generation) error {
	g.names.Lock()
	defer g.names.Unlock()
	if err := os.Rename(g.gen.dir, to.dir); err != nil {
		return err
	}
	g.gen = to
	return nil
}

// closeGeneration cuts a generation at its last boundary, which lies in its
// last segment, and says that both end there.
func closeGeneration(gen generation, seg Segment, c checkpoint, d disk) error {
	seg.To, seg.CRC = c.boundary.offset, c.boundary.crc
	if err := d.truncate(gen.segment(seg.Seq), seg.Size()); err != nil {
		return err
	}
	return d.append(gen.timeline(), cutFact(seg.To), sealedFact(seg), endFact(seg.To))
}
