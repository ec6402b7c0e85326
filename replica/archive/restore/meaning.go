package restore

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"slices"
	"time"

	"replicad/replica/archive"
	"replicad/replica/rdb"
)

// Meaning is what base and stream hold that a server which loads them must
// know, and what a restore wrote in other words so that it means to a file's
// loader what it meant to the master's replicas.
type Meaning struct {
	// Databases is how many the server must have: the highest one of base and
	// stream counts.
	Databases int `json:"databases"`
	// Relative counts times to live that began when they came, as masters
	// before 7.0 send them. They were written as the times at which they end,
	// by the timeline (feedAppendOnlyFile in Redis' aof.c does the same).
	Relative int64 `json:"relative_expiries"`
	// Cluster counts the commands for a node of a cluster: CLUSTER ... was left
	// out, and TRIMSLOTS and SFLUSH became a script that removes the keys.
	Cluster int64 `json:"cluster_commands"`
	// Scripts counts EVAL and EVALSHA, which stand as they came: masters before
	// 5.0 send them. A time to live that a script sets begins anew at the load.
	Scripts int64 `json:"scripts"`
	Expires bool  `json:"expires"` // base or stream give some key a time to live
	// BaseExpired says about how many keys of the base have a time to live that
	// ended after the moment, and before the restore: a server that is a master
	// drops them. StreamExpired says so of the times to live that the stream
	// sets. A key may have had several, or none any more.
	BaseExpired   int64 `json:"base_expired"`
	StreamExpired int64 `json:"stream_expired"`
	// Needs is what was noticed that the server must have, and a plain one has
	// not: modules whose data the base holds, and commands of the stream.
	Needs []archive.Need `json:"needs,omitempty"`
	// Unread says why the base could not be read to its end: it may have a
	// higher database than is known.
	Unread string `json:"unread,omitempty"`

	ends   ends         // of what is being read
	edited map[int]bool // the segments that are written in other words, by number
}

// leastDatabases is redis.conf's default.
const leastDatabases = 16

func (m *Meaning) database(n int) { m.Databases = max(m.Databases, n+1) }

// readMeaning takes what the timeline says of base and segments, and reads those
// of which it says nothing to their ends, in constant memory.
// It says what has run out since a moment. With prove all segments are read.
func readMeaning(ctx context.Context, r *archive.Reader, cut []archive.Segment, moment, now time.Time, prove bool) (*Meaning, error) {
	m := contentOf(moment)
	for _, n := range r.Timeline.Needs {
		if n.Offset <= cut[len(cut)-1].To {
			m.Needs = append(m.Needs, n)
		}
	}
	var known bool
	if m.BaseExpired, known = m.add(r.Timeline.BaseContent, m.ends.moment, now.UnixMilli()); !known {
		if err := m.readBase(ctx, r, now); err != nil {
			return nil, err
		}
	}
	e := &editor{Meaning: m, ctx: ctx, clock: newClock(r), count: true}
	defer e.clock.stop()
	for _, s := range cut {
		if !prove && s.Sealed && r.Segments[s.Seq-1].To == s.To {
			if n, ok := m.add(s.Content, m.ends.moment, now.UnixMilli()); ok {
				m.StreamExpired += n
				continue
			}
		}
		if err := e.find(r, s); err != nil {
			return nil, err
		}
	}
	m.StreamExpired += m.ends.before(m.ends.moment, now.UnixMilli())
	return m, nil
}

// readBase reads the base.
func (m *Meaning) readBase(ctx context.Context, r *archive.Reader, now time.Time) error {
	f, err := os.Open(r.BasePath())
	if err != nil {
		return err
	}
	defer f.Close()
	base, err := rdb.ReadContent(ctx, io.LimitReader(f, r.BaseSize), m.ends.add)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, rdb.ErrUnknown), errors.Is(err, rdb.ErrMalformed):
		m.Unread = err.Error()
	case err != nil:
		return err
	}
	m.database(base.HighestDB)
	m.Expires, m.BaseExpired = base.Expires > 0, m.ends.before(m.ends.moment, now.UnixMilli())
	m.ends.counts = [64]int64{}
	for _, name := range base.Modules {
		if n := (archive.Need{What: archive.NeedModule, Name: name, Offset: r.Timeline.BaseOffset}); !slices.Contains(m.Needs, n) {
			m.Needs = append(m.Needs, n)
		}
	}
	return nil
}

// find reads a segment, and notes whether it is edited.
func (e *editor) find(r *archive.Reader, seg archive.Segment) error {
	f, err := os.Open(r.SegmentPath(seg))
	if err != nil {
		return err
	}
	defer f.Close()
	return e.segment(f, seg, func(...part) error {
		e.edited[seg.Seq] = true
		return nil
	})
}

// clock says when bytes were received, in their order.
type clock struct {
	next  func() (archive.Mark, bool)
	stop  func()
	last  archive.Mark
	ended bool // there is no mark behind last
	err   error
}

// newClock makes one for a generation. Its stop must be called.
func newClock(r *archive.Reader) *clock {
	c := &clock{last: archive.Mark{Time: r.Timeline.BaseTime, Offset: r.Timeline.BaseOffset}}
	c.next, c.stop = iter.Pull(func(yield func(archive.Mark) bool) { c.err = r.Marks(yield) })
	return c
}

// received says when the last byte before an offset came, which must not be
// below that of an earlier call: at the first mark at or behind the offset.
//
// Bytes behind the last mark came after it, and before their file was last
// written to: that time is taken, unless it is not between the mark and now. So
// a time to live ends too late where the file is a copy with a time of its own,
// and never too early: a key that lives a little longer can be removed, and one
// that is gone is gone. The error is that of reading the timeline or the file.
func (c *clock) received(offset int64, file *os.File) (time.Time, error) {
	for c.last.Offset < offset && !c.ended {
		m, ok := c.next()
		if c.ended = !ok; ok {
			c.last = m
		}
	}
	if c.last.Offset >= offset || c.err != nil {
		return c.last.Time, c.err
	}
	st, err := file.Stat()
	if err != nil {
		return time.Time{}, err
	}
	at := st.ModTime()
	if now := time.Now(); at.After(now) {
		at = now
	}
	if at.Before(c.last.Time) {
		at = c.last.Time
	}
	return at, nil
}
