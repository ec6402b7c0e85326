package archive

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"sync/atomic"
	"time"

	"replicad/replica"
)

// ErrRebase: a base that was taken beside the log can't begin a generation. The
// log goes on as it was.
var ErrRebase = errors.New("the new base can't take over")

// Rebase takes a base beside the log, and makes a generation of that base and of
// what the log holds behind the base. It implements replica.Store for a link
// that ends behind its base (TRANSFER as replica.Config.Until). Until TakeOver
// has succeeded, the new generation is a .tmp folder: a crash leaves the log as
// it was.
//
// The base's offset may be anywhere in the log, also gigabytes before its end: a
// master hands out the RDB of a save that has long begun.
type Rebase struct {
	a    *Archive
	log  *log // beside which the base is taken; nil where there is none
	need atomic.Int64
	base *base // complete and durable; nil before, and after TakeOver

	stopTurn context.CancelFunc // ends turn
	turned   chan struct{}      // closed when turn has ended; nil before its start
}

// NewRebase begins a rebase. It ends with TakeOver or Abort.
func (a *Archive) NewRebase() *Rebase { return &Rebase{a: a, log: a.log.Load()} }

// Position implements replica.Store: there is nothing to continue.
func (r *Rebase) Position() (replica.Position, bool) { return replica.Position{}, false }

// Continue implements replica.Store. It is not called: the link takes no stream.
func (r *Rebase) Continue(string) {}

// Buffer implements replica.Store, as Continue.
func (r *Rebase) Buffer() []byte { return nil }

// Commit implements replica.Store, as Continue.
func (r *Rebase) Commit(int, replica.Boundary) {}

// Progress implements replica.Store.
func (r *Rebase) Progress() replica.Progress { return replica.Progress{} }

// Notify implements replica.Store.
func (r *Rebase) Notify(func()) {}

// Room implements replica.Store.
func (r *Rebase) Room() error { return r.a.room(&r.need) }

// Reset implements replica.Store. It is not called: nothing here fails by itself.
func (r *Rebase) Reset() error { return nil }

// BeginBase implements replica.Store.
func (r *Rebase) BeginBase(full replica.FullSync) (replica.Base, error) {
	if r.log == nil {
		return nil, fmt.Errorf("%w: there is no log beside it", ErrRebase)
	}
	b := &base{a: r.a, rebase: r, need: &r.need, full: full}
	if err := b.open(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.stopTurn, r.turned = cancel, make(chan struct{})
	go r.turn(ctx, replica.Position{ReplID: full.ReplID, Offset: full.Offset})
	return b, nil
}

// turn has the writer start a new segment as soon as the log has reached the
// base's offset: what comes while the base is on its way need not be copied then.
// Where it fails, TakeOver copies more, or fails itself.
func (r *Rebase) turn(ctx context.Context, at replica.Position) {
	defer close(r.turned)
	if r.log.reach(ctx, at) == nil {
		_ = r.log.atBoundary(ctx, (*writer).turn)
	}
}

// endTurn ends turn. The writer may be in it, and on a full disk it stays there
// until there is room: who frees some must not wait for it.
func (r *Rebase) endTurn() {
	if r.turned != nil {
		r.stopTurn()
	}
}

// TakeOver has the log go on in a new generation, behind the base that was
// taken. It waits until the log has reached the base's offset. The error wraps
// ErrRebase, or is ctx's; then the log goes on as it was, and Abort removes what
// was made.
//
// First it reads the base again, has the writer start a new segment, copies what
// the segment of the base's offset holds behind that offset, and links the later
// ones: the writer goes on meanwhile. Only the last, short segment is left for
// the writer to seal and link in one act with the rename.
func (r *Rebase) TakeOver(ctx context.Context) error {
	b, g := r.base, r.log
	if b == nil {
		return fmt.Errorf("%w: it is not complete", ErrRebase)
	}
	r.endTurn()
	select {
	case <-r.turned:
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrRebase, ctx.Err())
	}
	is, err := r.takeOver(ctx, b, g)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRebase, err)
	}
	r.base = nil
	r.a.release(b.gen)
	r.a.mu.Lock()
	if r.a.log.Load() == g {
		r.a.is = is
	}
	r.a.mu.Unlock()
	return nil
}

func (r *Rebase) takeOver(ctx context.Context, b *base, g *log) (is Current, err error) {
	newest, _ := r.a.Current()
	if b.pos.Offset < newest.BaseOffset {
		return is, fmt.Errorf("its offset %d is before %d, that of the base that the log has", b.pos.Offset, newest.BaseOffset)
	}
	begins, err := b.verify(ctx)
	if err != nil {
		return is, err
	}
	if err := g.reach(ctx, b.pos); err != nil {
		return is, err
	}
	if g.progress().Stored > b.pos.Offset { // else there is nothing to copy
		if err := g.atBoundary(ctx, (*writer).turn); err != nil {
			return is, err
		}
	}
	if err := g.secure(); err != nil {
		return is, err
	}
	from, err := openReader(g.generation())
	if err != nil {
		return is, err
	}
	defer from.Close()
	since, err := from.When(b.pos.Offset)
	if err != nil {
		return is, err
	}
	begins.since = since
	h, err := newHeir(b.gen.tmp(), from, begins, r.a.opt)
	if err != nil {
		return is, err
	}
	defer h.close()
	// The second time for what came during the first, which may be long.
	for range 2 {
		if err := h.carry(ctx, math.MaxInt64); err != nil {
			return is, err
		}
		if err := h.link(); err != nil {
			return is, err
		}
	}
	var refused error
	err = g.atBoundary(ctx, func(w *writer) (ok bool) {
		ok, refused = w.passOn(func(end int64, db int) (*stand, error) {
			// A fork that waits for this writer to end holds the lock.
			if r.a.log.Load() != g || !r.a.moving.TryLock() {
				return nil, errOtherLog
			}
			defer r.a.moving.Unlock()
			return h.takeOver(ctx, b.gen, end, db)
		})
		return ok
	})
	if err = errors.Join(err, refused); err != nil {
		return is, err
	}
	return Current{Generation: b.gen.number, BaseOffset: b.pos.Offset, BaseBytes: b.size, BaseTime: b.began}, nil
}

var errOtherLog = errors.New("another history has begun meanwhile")

// Abort removes what a rebase has made, whose link has stopped. After TakeOver
// has succeeded it does nothing.
func (r *Rebase) Abort() error {
	r.endTurn()
	b := r.base
	if b == nil {
		return nil // what is not complete was removed by its link
	}
	r.base = nil
	defer r.a.release(b.gen)
	return os.RemoveAll(b.gen.tmp().dir)
}

// verify reads the base again, and gives what a generation begins with.
func (b *base) verify(ctx context.Context) (is birth, err error) {
	began := time.Now()
	f, err := os.Open(b.gen.tmp().base())
	if err != nil {
		return is, err
	}
	defer f.Close()
	is = birth{pos: b.pos, size: b.size, at: b.began, verified: true}
	is.crc, is.content, err = b.a.opt.baseContent(ctx, f, b.size, func(module string) {
		is.needs = append(is.needs, Need{NeedModule, plainWord(module), b.pos.Offset})
	})
	if err != nil {
		return is, err
	}
	b.a.opt.observed(Event{Kind: BaseVerified, Generation: b.gen.number, Bytes: b.size, Took: time.Since(began)})
	return is, nil
}

// reach waits until the log has stored up to a place of its history. The error
// says so where the place will never be one.
func (g *log) reach(ctx context.Context, pos replica.Position) error {
	for {
		g.shared.Lock()
		stored, ids, failed := g.shared.stored.end.offset, g.shared.histories, g.shared.failed
		g.shared.Unlock()
		switch in := namedBy(ids, pos); {
		case failed != nil:
			return failed
		case in && stored >= pos.Offset:
			return nil
		case stored > pos.Offset:
			return fmt.Errorf("offset %d of history %s is not in the log", pos.Offset, pos.ReplID)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-g.quit:
			return errOtherLog
		case <-time.After(lookEvery):
		}
	}
}

// lookEvery is how often it is looked how far the log is. Nobody is woken for
// what a rebase waits for.
const lookEvery = 10 * time.Millisecond

// namedBy says whether the replication id of a position is one that names it.
func namedBy(ids []History, pos replica.Position) bool {
	for i, h := range ids {
		if h.ReplID == pos.ReplID && h.From <= pos.Offset && (i+1 == len(ids) || pos.Offset <= ids[i+1].From) {
			return true
		}
	}
	return false
}

// takeOver makes what is left of the generation, behind end with db selected,
// and gives it its name. The writer stands still meanwhile. After an error that
// wraps errDoubtful the generation may have its name or not; after every other
// one it has not.
func (h *heir) takeOver(ctx context.Context, gen generation, end int64, db int) (_ *stand, err error) {
	if err := h.carry(ctx, math.MaxInt64); err != nil {
		return nil, err
	}
	if err := h.link(); err != nil {
		return nil, err
	}
	to := &stand{gen: gen}
	defer func() {
		if err != nil {
			to.close()
		}
	}()
	if to.seg, to.at, err = h.settle(end, db); err != nil {
		return nil, err
	}
	if to.file, err = os.OpenFile(h.gen.segment(to.seg.Seq), os.O_RDWR, 0); err != nil {
		return nil, err
	}
	if to.fsynced, err = openFsynced(h.gen.fsynced(), to.at.serial, h.opt.disk); err != nil {
		return nil, err
	}
	if err := h.opt.disk.rename(h.gen.dir, gen.dir); err != nil {
		return nil, err
	}
	if err := h.opt.disk.syncDir(gen.parent()); err != nil {
		return nil, fmt.Errorf("%w: %w", errDoubtful, err)
	}
	to.timeline, h.out = h.out, nil
	to.unread = h.unread()
	return to, nil
}

// errDoubtful: a name may be on the disk or not.
var errDoubtful = errors.New("the folder could not be fsynced")

// unread gives the segments that were not read again yet.
func (h *heir) unread() (all []Segment) {
	for _, s := range h.shares {
		if src := h.timeline.segment(int64(s.src)); s.copied || !src.Verified && !src.Damaged {
			all = append(all, s.is)
		}
	}
	return all
}
