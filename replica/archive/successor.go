package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"replicad/replica"
)

// ErrNoSuccessor: the generation beside can't take over.
var ErrNoSuccessor = errors.New("the new generation can't take over")

// Successor is a generation that grows beside the one that is followed, fed by
// a second link, until it takes over: a rebase. Till then it is a .tmp folder
// and does not exist, so that a crash leaves the generation before as it was
// and nothing half done. It implements replica.Store; once it has taken over it
// stands for the archive.
type Successor struct {
	a      *Archive
	need   atomic.Int64 // its own: the link of the generation before may reconnect
	notify atomic.Pointer[func()]
	log    atomic.Pointer[log] // nil before its base is complete
	over   atomic.Bool         // it has taken over

	mu      sync.Mutex // what follows
	gen     generation // where it will be
	is      Current
	checked bool
	failed  error
}

// NewSuccessor begins a generation beside the current one. There is one at a
// time; it ends with TakeOver or Abort.
func (a *Archive) NewSuccessor() *Successor {
	s := &Successor{a: a}
	a.next.Store(s)
	return s
}

// owns says whether a folder is that of the successor. The receiver may be nil.
func (s *Successor) owns(g generation) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gen.number == g.number
}

// Position implements replica.Store. Before it has taken over it has nothing
// that could be continued: its link begins with a full sync.
func (s *Successor) Position() (replica.Position, bool) {
	if s.over.Load() {
		return s.a.Position()
	}
	return replica.Position{}, false
}

// tail is the log that is fed.
func (s *Successor) tail() *log {
	if s.over.Load() {
		return s.a.log.Load()
	}
	return s.log.Load()
}

// Continue implements replica.Store.
func (s *Successor) Continue(replID string) { s.tail().goOnAs(replID) }

// Buffer implements replica.Store.
func (s *Successor) Buffer() []byte { return s.tail().buffer() }

// Commit implements replica.Store.
func (s *Successor) Commit(n int, b replica.Boundary) { s.tail().commit(n, b) }

// Notify implements replica.Store.
func (s *Successor) Notify(f func()) { s.notify.Store(&f) }

func (s *Successor) tell() {
	if f := s.notify.Load(); f != nil {
		(*f)()
	}
}

// Progress implements replica.Store.
func (s *Successor) Progress() replica.Progress {
	if s.over.Load() {
		return s.a.Progress()
	}
	s.mu.Lock()
	failed := s.failed
	s.mu.Unlock()
	return s.log.Load().progressOr(failed)
}

// BeginBase implements replica.Store.
func (s *Successor) BeginBase(full replica.FullSync) (replica.Base, error) {
	if s.over.Load() {
		return s.a.BeginBase(full)
	}
	if s.log.Load() != nil {
		return nil, fmt.Errorf("%w: its link asked for a second full sync", ErrNoSuccessor)
	}
	b := &base{a: s.a, next: s, need: &s.need, full: full}
	if err := b.open(); err != nil {
		return nil, err
	}
	return b, nil
}

// Room implements replica.Store.
func (s *Successor) Room() error {
	if s.over.Load() {
		return s.a.Room()
	}
	return s.a.room(&s.need)
}

// Reset implements replica.Store. A successor that has not taken over is not
// worth it.
func (s *Successor) Reset() error {
	if s.over.Load() {
		return s.a.Reset()
	}
	return fmt.Errorf("%w: %w", ErrNoSuccessor, s.Progress().Failed)
}

// adopt opens the log behind the base that is complete in its .tmp folder, and
// verifies that base in the background.
func (s *Successor) adopt(gen generation, seg Segment, c checkpoint, is Current) error {
	g, err := newLog(gen.tmp(), seg, c, s.a.opt, s.tell)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.is = is
	s.mu.Unlock()
	s.log.Store(g)
	g.startChecks(func(err error) {
		s.mu.Lock()
		s.checked = err == nil
		if err != nil {
			s.failed = fmt.Errorf("%w: %w", ErrNoSuccessor, err)
		}
		s.mu.Unlock()
		s.tell()
	})
	return nil
}

// Ready says whether the base is there and was read again.
func (s *Successor) Ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.checked && s.failed == nil
}

// TakeOver makes this the generation that is followed, and closes the one
// before for good. The link of that one has stopped; the successor's streams
// on. It waits until the successor holds, durable, all that the other one has,
// or ctx is done. After an error the generation before is as it was: Abort, and
// Reset the archive.
func (s *Successor) TakeOver(ctx context.Context) error {
	g, old := s.log.Load(), s.a.log.Load()
	if g == nil || old == nil || !s.Ready() {
		return fmt.Errorf("%w: it is not complete", ErrNoSuccessor)
	}
	if err := old.drain(); err != nil {
		return fmt.Errorf("%w: the one before is not stored: %w", ErrNoSuccessor, err)
	}
	end := old.progress().Stored
	if err := await(ctx, func() (bool, error) { p := s.Progress(); return p.Stored >= end, p.Failed }); err != nil {
		return err
	}
	g.note(sinceFact(time.Now(), end))
	if err := g.settle(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	gen, is := s.gen, s.is
	s.mu.Unlock()
	if err := g.rename(gen); err != nil {
		return fmt.Errorf("%w: %w", ErrNoSuccessor, err)
	}
	if err := s.a.opt.disk.syncDir(s.a.dir); err != nil {
		// The old name again, as far as it goes: the next Open must not find
		// it the newest.
		return fmt.Errorf("%w: %w", ErrNoSuccessor, errors.Join(err, g.rename(gen.tmp())))
	}
	s.a.succeed(s, g, is)
	_ = old.finish() // its data is safe, as in Archive.adopt
	return nil
}

// succeed swaps the log.
func (a *Archive) succeed(s *Successor, g *log, is Current) {
	a.stopChecks()
	a.log.Store(g)
	a.mu.Lock()
	a.failed, a.is = nil, is
	a.mu.Unlock()
	a.notify.Store(s.notify.Load())
	s.over.Store(true)
	a.next.Store(nil)
	a.need.Store(0)
}

// await polls, as for what the disk does nobody is woken.
func await(ctx context.Context, ok func() (bool, error)) error {
	for {
		done, err := ok()
		switch {
		case err != nil:
			return fmt.Errorf("%w: %w", ErrNoSuccessor, err)
		case done:
			return nil
		case ctx.Err() != nil:
			return fmt.Errorf("%w: %w", ErrNoSuccessor, ctx.Err())
		}
		time.Sleep(time.Millisecond)
	}
}

// settle waits until all bytes and facts that were received are durable.
func (g *log) settle(ctx context.Context) error {
	g.shared.Lock()
	end, facts := g.shared.received, g.shared.factsReceived
	g.shared.Unlock()
	return await(ctx, func() (bool, error) {
		signal(g.seal) // has the flusher sync, whatever the policy
		g.shared.Lock()
		durable := g.shared.factsDurable
		g.shared.Unlock()
		p := g.progress()
		return durable >= facts && p.Durable >= end, p.Failed
	})
}

// Abort gives the successor up. Its link has stopped. After TakeOver it does
// nothing.
func (s *Successor) Abort() error {
	if s.over.Load() {
		return nil
	}
	if g := s.log.Swap(nil); g != nil {
		g.checks.stop()
		_ = g.close() // it goes
	}
	s.mu.Lock()
	gen := s.gen
	s.mu.Unlock()
	s.a.next.Store(nil)
	if gen.number == 0 {
		return nil
	}
	return os.RemoveAll(gen.tmp().dir)
}
