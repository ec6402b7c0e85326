package archive

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"

	"replicad/replica"
)

// Lineage is the history that leads to a place of an archive, through all
// generations that are kept and follow upon each other without a gap: what a
// relay has to send.
type Lineage struct {
	Dir string // the archive's
	// Generation and Offset are the place; 0 for the end of the archive.
	Generation int
	Offset     int64
}

// Newest opens the generation in which the lineage ends. The error wraps
// ErrNotKept where there is none.
func (l Lineage) Newest() (*Reader, error) {
	for tries := 0; ; tries++ {
		all, _, err := generations(l.Dir)
		if err != nil {
			return nil, err
		}
		for _, g := range slices.Backward(all) {
			if l.Generation != 0 && g.number != l.Generation {
				continue
			}
			r, err := openReader(g)
			if errors.Is(err, fs.ErrNotExist) && tries < 3 { // pruned meanwhile
				break
			}
			return r, err
		}
		if len(all) == 0 || tries >= 3 {
			return nil, fmt.Errorf("%w: there is no generation", ErrNotKept)
		}
	}
}

// end is where the lineage ends in its newest generation, and the ids that name
// it there.
func (l Lineage) end(r *Reader) (int64, []History) {
	ids := r.Timeline.Histories
	if l.Generation == 0 {
		return r.End(), ids
	}
	for len(ids) > 1 && ids[len(ids)-1].From >= l.Offset && ids[len(ids)-1].From > r.Timeline.BaseOffset {
		ids = ids[:len(ids)-1]
	}
	return min(l.Offset, r.End()), ids
}

// End is where the lineage ends, as a reader of the newest generation has it.
func (l Lineage) End(r *Reader) End {
	_, ids := l.end(r)
	return End{ids[len(ids)-1].ReplID, r.Number, math.MaxInt64}
}

// End is where a lineage ended when it was looked at.
type End struct {
	ReplID     string // in force there
	Generation int
	// UpTo is the offset at which a cursor that Resume has opened is to be opened
	// anew: a later generation has what follows, and the one that is read may have
	// something else there, which a fork has left.
	UpTo int64
}

// Resume opens a cursor at a place from which the lineage leads on to its end, in
// the newest generation that has the place. An id names all that led to the place
// where it ends, also under the ids before. The error wraps ErrAhead where the
// place lies behind the end, in the history that is named there, and else
// ErrNotKept.
func (l Lineage) Resume(at replica.Position) (c *Cursor, is End, err error) {
	newest, err := l.Newest()
	if err != nil {
		return nil, is, err
	}
	end, ids := l.end(newest)
	is = End{ids[len(ids)-1].ReplID, newest.Number, math.MaxInt64}
	notKept := fmt.Errorf("%w: offset %d of history %s", ErrNotKept, at.Offset, at.ReplID)
	if at.Offset > end {
		newest.Close()
		if l.Generation == 0 && names(ids, at) {
			return nil, is, ErrAhead
		}
		return nil, is, notKept
	}
	var has *Reader // the place
	named := false
	for r := newest; ; {
		named = named || names(ids, at)
		if has == nil && at.Offset >= r.Timeline.BaseOffset {
			has = r
		} else if has == nil {
			is.UpTo = min(is.UpTo, r.Timeline.BaseOffset)
		}
		if has != nil && named {
			if r != has {
				r.Close()
			}
			c, err = has.Cursor(at.Offset)
			return c, is, err
		}
		before, err := preceding(l.Dir, r)
		leads := err == nil && before != nil
		if leads {
			split, how := before.split(r)
			end = min(end, split)
			leads = how != beginsNew && split >= r.Timeline.BaseOffset && at.Offset <= end
		}
		if r != has {
			r.Close()
		}
		if !leads {
			for _, left := range []*Reader{before, has} {
				if left != nil {
					left.Close()
				}
			}
			return nil, is, cmp.Or(err, notKept)
		}
		r, ids = before, before.Timeline.Histories
	}
}

// names says whether one of some ids names a place. The last id names also what
// will come.
func names(ids []History, at replica.Position) bool {
	return slices.ContainsFunc(ids, func(h History) bool { return h.ReplID == at.ReplID }) &&
		at.Offset <= lastOf(ids, at.ReplID)
}

// lastOf is the last offset that an id names.
func lastOf(ids []History, id string) (last int64) {
	for i, h := range ids {
		switch {
		case h.ReplID != id:
		case i+1 == len(ids):
			return math.MaxInt64
		default:
			last = ids[i+1].From
		}
	}
	return last
}

// preceding opens the generation before that of r; nil where there is none.
func preceding(dir string, r *Reader) (*Reader, error) {
	all, _, err := generations(dir)
	if err != nil {
		return nil, err
	}
	for _, g := range slices.Backward(all) {
		if g.number < r.Number {
			before, err := openReader(g)
			if errors.Is(err, fs.ErrNotExist) {
				return nil, nil // pruned meanwhile
			}
			return before, err
		}
	}
	return nil, nil
}

// LastID is the last replication id of the generation that is read, as far as
// the cursor has looked: it names what [Cursor.Next] gives.
func (c *Cursor) LastID() string {
	ids := c.r.Timeline.Histories
	return ids[len(ids)-1].ReplID
}
