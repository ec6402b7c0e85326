package archive

import (
	"math"
	"os"
	"time"

	"replicad/replica"
)

// Defaults of [Options].
const (
	DefaultSegmentSize        = 256 << 20 // bytes
	DefaultTimelineResolution = 100 * time.Millisecond
)

// retryEvery is how long the writer waits after a write that failed.
const retryEvery = time.Second

// mostSealing bounds the segments that are complete and not durable yet, and
// so the files that are open: beyond it the writer waits for the flusher.
const mostSealing = 4

// sealing is a segment that is complete, and not durable yet.
type sealing struct {
	seg  Segment
	file *os.File
}

// writer is the goroutine that stores: from the ring to the segment, and facts
// to the timeline. It starts the next segment when one has its size. The fields
// are its own; once it has ended they belong to the goroutine that closes the
// log.
type writer struct {
	*log

	seg      Segment // that is written
	at       place   // where it ends
	wanted   *act    // waits for a boundary; nil for nothing
	ahead    ahead
	marked   int64 // offset of the last mark
	markedAt time.Time

	ended chan struct{}
}

func (w *writer) run() {
	defer close(w.ended)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		s := &w.shared
		s.Lock()
		target, b, facts := s.received, s.boundary, s.facts
		w.wanted, s.facts = s.act, nil
		closing, failed := s.closing, s.failed
		s.Unlock()
		if failed != nil || !w.addFacts(facts) {
			return
		}
		if target > w.at.offset && !w.writeUpTo(target, b) || !w.perform() {
			return
		}
		wait := w.mark(closing)
		if target > w.at.offset || len(facts) > 0 {
			continue
		}
		s.Lock()
		idle := s.received == w.at.offset && len(s.facts) == 0 && (s.act == nil || s.act == w.wanted)
		closing = s.closing
		s.Unlock()
		if !idle {
			continue
		}
		if closing {
			return
		}
		timer.Reset(wait)
		select {
		case <-w.wake:
		case <-timer.C:
		}
	}
}

// addFacts writes facts to the timeline; false when it had to give up.
func (w *writer) addFacts(facts []string) bool {
	if len(facts) == 0 {
		return true
	}
	if !w.persist(func() error { return w.timeline.add(facts...) }) {
		return false
	}
	w.shared.Lock()
	w.shared.factsStored += len(facts)
	w.shared.Unlock()
	signal(w.flush)
	return true
}

// writeUpTo writes what was received, up to target; b is the last boundary
// before it. It returns false when it had to give up.
func (w *writer) writeUpTo(target int64, b replica.Boundary) bool {
	for w.at.offset < target {
		if !w.perform() || w.full() && !w.rotate() {
			return false
		}
		p := w.ring.behind(w.at.offset, w.piece(target, b))
		ok := w.persist(func() error {
			n, err := w.disk.pwrite(w.shared.file, p, w.position())
			w.wrote(p[:n], b)
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
func (w *writer) wrote(p []byte, b replica.Boundary) {
	if len(p) == 0 {
		return
	}
	n := int64(len(p))
	c := w.shared.stored // written here alone
	if k := b.Offset - w.at.offset; k >= 0 && k <= n {
		w.at = w.at.behind(p[:k])
		c.boundary, c.db = w.at, b.DB
		p = p[k:]
	}
	w.at = w.at.behind(p)
	c.end = w.at
	w.fsynced.wrote(w.seg.Seq, w.at)
	w.shared.Lock()
	w.shared.stored = c // at once: the flusher must not see a boundary beyond the end
	w.shared.Unlock()
	w.notify()
	if w.opt.AppendFsync == Always {
		signal(w.flush)
	}
	w.ahead.grew(w.shared.file, w.disk, w.position(), math.MaxInt64)
}

// position is where the next byte lies in the segment's file.
func (w *writer) position() int64 { return w.seg.Position(w.at.offset) }

// mark writes down when the history reached where it is, at most every
// TimelineResolution. It returns when to come again.
func (w *writer) mark(now bool) time.Duration {
	if w.at.offset == w.marked {
		return time.Hour
	}
	t := time.Now()
	if wait := w.opt.TimelineResolution - t.Sub(w.markedAt); wait > 0 && !now {
		return wait
	}
	if w.persist(func() error { return w.timeline.mark(Mark{Time: t, Offset: w.at.offset, CRC: w.at.crc}) }) {
		w.marked, w.markedAt = w.at.offset, t
	}
	return time.Hour
}

// persist does what writes to the disk, until it succeeds: on a full disk it
// waits for room. It returns false when the log is closed or failed meanwhile.
func (w *writer) persist(write func() error) bool {
	for {
		err := write()
		w.shared.Lock()
		changed := (err == nil) != (w.shared.stalled == nil)
		w.shared.stalled = err
		failed := w.shared.failed
		w.shared.Unlock()
		if err == nil {
			if changed {
				w.notify()
			}
			return true
		}
		w.notify()
		if failed != nil {
			return false
		}
		select {
		case <-w.quit:
			return false
		case <-time.After(retryEvery):
		}
	}
}

// full says whether the next byte belongs into the next segment: the file has
// its size, and ends on a boundary.
func (w *writer) full() bool {
	return w.position() >= w.opt.SegmentSize && w.bounded() && !w.empty()
}

// bounded says whether the file ends on a boundary.
func (w *writer) bounded() bool { return w.at == w.shared.stored.boundary }

// empty says whether the segment holds nothing yet.
func (w *writer) empty() bool { return w.at.offset == w.seg.From }

// piece is how many of the bytes up to target go into the segment's file before
// full has to be asked again, or what is wanted be done; b is the last boundary
// among them.
func (w *writer) piece(target int64, b replica.Boundary) int64 {
	if b.Offset > w.at.offset && b.Offset < target && (w.wanted != nil || w.seg.Position(b.Offset) >= w.opt.SegmentSize) {
		target = b.Offset
	}
	return target - w.at.offset
}

// rotate starts the next segment where the writer stands. It does not wait for
// an fsync: making the old segment durable is left to the flusher. It returns
// false when it had to give up; recovery removes what it left of the new one.
func (w *writer) rotate() bool {
	if !w.awaitSealing() {
		return false
	}
	done := w.sealed()
	return w.begin(done, sealedFact(done))
}

// sealed is the segment that is written, as one that is complete.
func (w *writer) sealed() Segment {
	done := w.seg
	done.Sealed, done.To, done.CRC = true, w.at.offset, w.at.crc
	return done
}

// begin begins the segment behind one that is complete; facts come before its
// own. It returns false when it had to give up.
func (w *writer) begin(done Segment, facts ...string) bool {
	next := newSegment(done.Seq+1, w.at.offset, w.shared.stored.db)
	var f *os.File
	if !w.persist(func() (err error) { f, err = w.create(next); return err }) {
		return false
	}
	facts = append(facts, segmentFact(next))
	if !w.persist(func() error { return w.timeline.add(facts...) }) {
		f.Close()
		return false
	}
	s := &w.shared
	s.Lock()
	s.sealing = append(s.sealing, sealing{done, s.file})
	s.file = f
	s.stored, s.seg = next.start(), next
	s.factsReceived += len(facts)
	s.factsStored += len(facts)
	s.Unlock()
	w.seg, w.at, w.ahead = next, next.start().end, ahead{kicked: next.Header}
	signal(w.seal)
	return true
}

// create makes a segment's file with its header; whole or not at all, unless
// the process dies.
func (w *writer) create(seg Segment) (*os.File, error) {
	w.names.Lock()
	defer w.names.Unlock()
	path := w.gen.segment(seg.Seq)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return nil, err
	}
	if _, err := w.disk.pwrite(f, seg.SelectHeader(), 0); err != nil {
		f.Close()
		os.Remove(path)
		return nil, err
	}
	return f, nil
}

// awaitSealing waits until another segment may be left to the flusher; false
// when the log failed meanwhile.
func (w *writer) awaitSealing() bool {
	for {
		w.shared.Lock()
		n, failed := len(w.shared.sealing), w.shared.failed
		w.shared.Unlock()
		if failed != nil {
			return false
		}
		if n < mostSealing {
			return true
		}
		<-w.wake // the flusher signals it, also when it fails
	}
}
