package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"replicad/replica"
)

// ErrNoFork: there is no such place in the stored history.
var ErrNoFork = errors.New("no fork there")

// fork is a place where a history leaves that of a master.
type fork struct {
	from *Reader // of the generation that holds the history before
	at   replica.Position
}

// close lets the generation go.
func (f fork) close() {
	if f.from != nil {
		f.from.Close()
	}
}

// holdFor is how long retention leaves a generation alone that ForkAt has
// chosen: as long as the master may take to answer PSYNC.
const holdFor = time.Minute

// hold has retention leave the reader's generation alone, and no longer the one
// that was held before; nil for none.
func (a *Archive) hold(r *Reader) {
	a.mu.Lock()
	before := a.held
	a.held = r
	a.mu.Unlock()
	if before != nil {
		before.Close()
	}
	if r != nil {
		time.AfterFunc(holdFor, func() { r.Close() })
	}
}

// ForkAt implements replica.Forker. Of all generations that are sound, the
// highest place counts, also where it lies before the newest base.
func (a *Archive) ForkAt(master replica.Replication) (replica.Position, bool) {
	best, err := a.findFork(master.Lines())
	a.hold(best.from)
	return best.at, err == nil && best.from != nil
}

// findFork looks for the highest place that one of the lines names. The caller
// closes what was found.
func (a *Archive) findFork(lines []replica.Position) (best fork, err error) {
	g := a.log.Load()
	if g == nil {
		return best, ErrNoFork
	}
	if err := g.drain(); err != nil {
		return best, err
	}
	all, _, err := generations(a.dir)
	if err != nil {
		return best, err
	}
	for _, gen := range all {
		f, ok := forkIn(gen, gen.number == g.generation().number, lines)
		if !ok || best.from != nil && f.at.Offset < best.at.Offset {
			f.close()
			continue
		}
		best.close()
		best = f
	}
	return best, nil
}

// forkIn looks for the highest place of one generation. A line names the bytes
// of ours up to where the master says that the line ends, but no further than
// where OUR history went on under another id: behind that both have the offset,
// and other bytes. A generation that can't be read has none.
func forkIn(gen generation, newest bool, lines []replica.Position) (f fork, ok bool) {
	r, err := openReader(gen)
	if err != nil {
		return f, false
	}
	f.from = r
	if !r.Timeline.Verified && !newest {
		return f, false
	}
	ids := r.Timeline.Histories
	for _, line := range lines {
		for i, h := range ids {
			end := min(line.Offset, r.End())
			if i+1 < len(ids) {
				end = min(end, ids[i+1].From)
			}
			if h.ReplID != line.ReplID || end < max(h.From, r.Timeline.BaseOffset) || ok && end <= f.at.Offset {
				continue
			}
			if b, db, err := r.boundary(end); err == nil && (!ok || b > f.at.Offset) {
				f.at, ok = replica.Position{ReplID: line.ReplID, Offset: b, DB: db}, true
			}
		}
	}
	return f, ok
}

// boundary gives the last boundary at or before an offset, and the database that
// is selected there.
func (r *Reader) boundary(offset int64) (at int64, db int, err error) {
	seg := r.Segments[0]
	for _, s := range r.Segments {
		if s.From <= offset {
			seg = s
		}
	}
	f, err := os.Open(r.SegmentPath(seg))
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	w := seg.Walk(f)
	if err := w.To(context.Background(), offset); err != nil {
		return 0, 0, err
	}
	at, db = w.Boundary()
	return at, db, nil
}

// Fork implements replica.Forker: the next generation is the base and the
// segments before the place, as hard links, and a copy of a part of the segment
// of the place. The log goes on there. The generation that was written keeps
// what lies behind the place, and is closed.
func (a *Archive) Fork(at replica.Position) (replica.Position, error) {
	g := a.log.Load()
	if g == nil {
		return at, ErrNoFork
	}
	if err := g.secure(); err != nil { // what was received stays
		return at, fmt.Errorf("storing what was received before the fork: %w", err)
	}
	a.moving.Lock() // a rebase that took over now would divide the tail
	defer a.moving.Unlock()
	found, err := a.findFork([]replica.Position{at})
	defer found.close()
	defer a.hold(nil)
	if err != nil || found.from == nil || found.at.Offset != at.Offset {
		return at, errors.Join(ErrNoFork, err)
	}
	b := &base{a: a, need: &a.need}
	if err := a.makeTmp(b); err != nil {
		return at, err
	}
	is, seg, c, err := a.makeFork(b.gen, found)
	if err == nil {
		err = a.opt.disk.rename(b.gen.tmp().dir, b.gen.dir)
	}
	if err != nil {
		b.remove()
		return at, err
	}
	a.release(b.gen)
	if err := a.opt.disk.syncDir(a.dir); err != nil {
		g.fail(fmt.Errorf("%w: %w", errDoubtful, err))
		return at, err
	}
	if err := a.adopt(b.gen, seg, c, is); err != nil {
		// The history goes on in the generation before.
		return at, errors.Join(err, b.gen.remove())
	}
	a.mu.Lock()
	a.pos, a.known = found.at, true
	a.mu.Unlock()
	a.opt.observed(Event{Kind: GenerationForked, Generation: is.Generation, Offset: at.Offset, Bytes: g.progress().Stored - at.Offset})
	return found.at, nil
}

// makeFork makes the generation in its .tmp folder.
func (a *Archive) makeFork(gen generation, f fork) (is Current, seg Segment, c checkpoint, err error) {
	from, tmp, tl := f.from, gen.tmp(), f.from.Timeline
	if err := a.opt.disk.share(from.BasePath(), tmp.base(), from.BaseSize); err != nil {
		return is, seg, c, err
	}
	h, err := newHeir(tmp, from, birth{
		pos:  replica.Position{ReplID: tl.Histories[0].ReplID, Offset: tl.BaseOffset},
		size: from.BaseSize, at: tl.BaseTime, verified: tl.HasBaseCRC, crc: tl.BaseCRC, since: tl.Since,
		content: tl.BaseContent, needs: slices.DeleteFunc(slices.Clone(tl.Needs), func(n Need) bool { return n.What != NeedModule }),
	}, a.opt)
	if err != nil {
		return is, seg, c, err
	}
	defer h.close()
	if err := h.carry(context.Background(), f.at.Offset); err != nil {
		return is, seg, c, err
	}
	if err := h.link(); err != nil {
		return is, seg, c, err
	}
	is = Current{Generation: gen.number, BaseOffset: tl.BaseOffset, BaseBytes: from.BaseSize, BaseTime: tl.BaseTime}
	seg, c, err = h.settle(f.at.Offset, f.at.DB, forkFact(f.at.Offset, from.Number))
	return is, seg, c, err
}
