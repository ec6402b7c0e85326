package archive

import (
	"context"
	"errors"
	"os"
)

// act is what another goroutine asks the writer to do at a boundary.
type act struct {
	do   func(*writer) bool // false where the writer must give up
	done chan struct{}
}

var errClosed = errors.New("the log was closed")

// atBoundary has the writer do something when what is written ends on a
// boundary. One act waits at a time: a second one would take the first one's
// place, and nobody would ever do the first. The error is ctx's, or says that
// the log has ended: then it was not done, or the writer gave up during it.
func (g *log) atBoundary(ctx context.Context, do func(*writer) bool) error {
	select {
	case g.turns <- struct{}{}:
		defer func() { <-g.turns }()
	case <-g.writer.ended:
		return g.whyEnded()
	case <-ctx.Done():
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	a := &act{do, make(chan struct{})}
	g.shared.Lock()
	g.shared.act = a
	g.shared.Unlock()
	signal(g.wake)
	cancelled := ctx.Done()
	for {
		select {
		case <-a.done:
			return nil
		case <-g.writer.ended:
			select {
			case <-a.done:
				return nil
			default:
			}
			return g.whyEnded()
		case <-cancelled:
			g.shared.Lock()
			withdrawn := g.shared.act == a
			if withdrawn {
				g.shared.act = nil
			}
			g.shared.Unlock()
			if withdrawn {
				return ctx.Err()
			}
			cancelled = nil // it is being done
		}
	}
}

func (g *log) whyEnded() error {
	if err := g.progress().Failed; err != nil {
		return err
	}
	return errClosed
}

// perform does what is wanted, where the file ends on a boundary. It returns
// false when the writer must give up.
func (w *writer) perform() bool {
	if w.wanted == nil || !w.bounded() {
		return true
	}
	a := w.wanted
	w.wanted = nil
	w.shared.Lock()
	withdrawn := w.shared.act != a
	if !withdrawn {
		w.shared.act = nil
	}
	w.shared.Unlock()
	if withdrawn {
		return true
	}
	ok := a.do(w)
	if ok {
		close(a.done)
	}
	return ok
}

// turn starts the next segment, whatever the size of this one.
func (w *writer) turn() bool { return w.empty() || w.rotate() }

// stand is where a log goes on: the files of another generation that holds all
// that the log holds, durably, and the name of its folder with them.
type stand struct {
	gen      generation
	seg      Segment
	at       checkpoint
	file     *os.File // of seg
	timeline *timelineFile
	fsynced  *fsyncedFile
	unread   []Segment
}

// close closes the files of a stand that is given up.
func (t *stand) close() {
	if t.file != nil {
		t.file.Close()
	}
	if t.fsynced != nil {
		t.fsynced.close()
	}
}

// passOn has the log go on in another generation, which make makes of what the
// log holds: up to end, with db selected there. All of that is complete and
// durable when make is called. Until passOn returns nothing is written or
// fsynced: the ring takes what comes, and then the link reads no more.
//
// After an error of make the log goes on in its generation, and refused says
// why; unless the error wraps errDoubtful: then nobody knows which of the two is
// found after a crash, and the log fails, to be opened anew. ok is false when the
// writer must give up.
func (w *writer) passOn(make func(end int64, db int) (*stand, error)) (ok bool, refused error) {
	w.checks.suspend() // it notes facts of the segments by their numbers here
	defer w.resumeChecks()
	f := w.flusher
	f.busy.Lock()
	defer f.busy.Unlock()
	s := &w.shared
	s.Lock()
	facts := s.facts
	s.facts = nil
	s.Unlock()
	w.mark(true)
	done, empty := w.sealed(), w.empty()
	if !empty {
		facts = append(facts, sealedFact(done))
		s.Lock()
		s.factsReceived++
		s.Unlock()
	}
	if !w.addFacts(facts) {
		return false, nil
	}
	err := w.shared.file.Truncate(w.position()) // what is allocated ahead goes
	if err == nil {
		err = w.settle()
	}
	var to *stand
	if err == nil {
		to, err = make(w.at.offset, w.shared.stored.db)
	}
	switch {
	case err == nil:
		w.moveTo(to, done)
		return true, nil
	case errors.Is(err, errDoubtful):
		w.fail(err)
		return false, err
	case w.progress().Failed != nil:
		return false, err
	case empty:
		return true, err
	}
	return w.begin(done), err
}

var errNotDurable = errors.New("what was received is not durable")

// settle makes durable what is stored. The caller holds busy.
func (w *writer) settle() error {
	w.flusher.syncNow()
	s := &w.shared
	s.Lock()
	defer s.Unlock()
	switch {
	case s.failed != nil:
		return s.failed
	case s.durable != s.stored.end.offset || s.factsDurable != s.factsStored || len(s.sealing) > 0:
		return errNotDurable
	}
	return nil
}

// moveTo goes on in the files of another generation, and closes those of this
// one, which ends with the segment done. The data is safe: that the end could
// not be written down is no reason to go back.
func (w *writer) moveTo(to *stand, done Segment) {
	timeline, fsynced, generation := w.timeline, w.fsynced, w.generation()
	s := &w.shared
	s.Lock()
	file := s.file
	s.stored, s.file, s.unread, s.seg = to.at, to.file, to.unread, to.seg
	s.Unlock()
	w.names.Lock()
	w.gen = to.gen
	w.names.Unlock()
	w.timeline, w.fsynced = to.timeline, to.fsynced
	w.timeline.disk, w.fsynced.disk = w.disk, w.disk
	w.checks.baseVerified = true
	w.seg, w.at, w.ahead = to.seg, to.at.end, ahead{kicked: to.seg.Header}
	facts := []string{endFact(done.To)}
	if done.To == done.From {
		facts = append([]string{sealedFact(done)}, facts...)
	}
	if timeline.add(facts...) == nil {
		_ = timeline.sync()
	} else {
		s.Lock()
		s.before = generation
		s.Unlock()
	}
	timeline.close()
	fsynced.close()
	file.Close()
}
