package remote

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/resp"
)

// longest is how many bytes of a command wait in memory for its end.
const longest = 8 << 20

// lane reads an archive from a place on, and cuts what it reads to objects at
// boundaries.
type lane struct {
	c       *archive.Cursor
	codec   *codec
	dir     string // for files without a name
	writer  string
	piece   int64 // bytes of an object
	scan    *resp.Scanner
	origin  int64 // offset where scan began
	ids     func() []archive.History
	gen     int    // the generation in which it began
	at      int64  // what was cut so far ends here
	inside  bool   // at lies within a command
	db      int    // at at
	read    int64  // the offset behind the last byte that was read
	unread  []byte // read, and not scanned
	buf     []byte // of unread
	torn    bool   // bytes were given to an object that came to nothing
	waiting []byte // scanned, and not in an object; ends where unread begins
}

var (
	errTurned  = errors.New("the archive goes on elsewhere")
	errTooFew  = errors.New("too few bytes have come")
	errNoNames = errors.New("the master gives its history no replication id, so the remote can't name it")
)

// openLane opens a lane at the last boundary at or before an offset, which is at
// or behind the base of the generation that is read.
func openLane(dir string, number int, at replica.Position, codec *codec, writer string, piece int64) (*lane, error) {
	c, err := archive.OpenCursor(dir, at)
	if err != nil {
		return nil, err
	}
	l := &lane{c: c, codec: codec, dir: dir, writer: writer, piece: piece, ids: c.Histories, gen: number}
	l.at, l.db, err = c.Boundary()
	if err == nil && l.at < at.Offset {
		c.Back(l.at)
	}
	if err == nil && c.Generation() != number {
		err = errTurned
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	l.read, l.origin = l.at, l.at
	l.scan = resp.NewScanner(l.db, resp.Limits{})
	return l, nil
}

func (l *lane) close() { l.c.Close() }

// id is the replication id behind an offset, and until where it holds.
func (l *lane) id(at int64) (id string, until int64) {
	until = math.MaxInt64
	for i, h := range l.ids() {
		switch {
		case i == 0 || h.From <= at:
			id = h.ReplID
		case h.From < until:
			until = h.From
		}
	}
	return id, until
}

// take makes an object of what comes behind at. It ends at the first boundary at
// or behind cut, or, where cut is 0, at the last boundary that is stored, or that
// makes it a piece long; and where the replication id changes. The error wraps
// errTooFew where nothing has come that can be cut, or not as far as cut. It is
// errTurned where the archive goes on elsewhere. Where torn is set, the lane
// can't be used any more.
func (l *lane) take(cut int64) (o *object, err error) {
	id, until := l.id(l.at)
	if id == "" {
		return nil, errNoNames
	}
	h := header{History: id, From: l.at, DB: l.db, Inside: l.inside, Writer: l.writer}
	if o, err = newObject(l.codec, l.dir, h); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			o.close()
		}
	}()
	full := l.at + l.piece
	for {
		whole, err := l.step(o, cut, full, until)
		if err != nil || whole {
			return o, err
		}
		if len(l.unread) > 0 {
			continue
		}
		err = l.fill()
		if errors.Is(err, archive.ErrNoMore) && cut == 0 && o.head.To > o.head.From && !l.inside {
			return o, l.mark(o)
		}
		if errors.Is(err, archive.ErrNoMore) {
			if o.head.To > o.head.From {
				l.torn = true
			}
			return nil, fmt.Errorf("%w: %w", errTooFew, err)
		}
		if err != nil {
			return nil, err
		}
		if now, ends := l.id(l.at); now != id || ends != until {
			until = min(until, ends)
		}
	}
}

// step scans what was read, and says whether the object is whole.
func (l *lane) step(o *object, cut, full, until int64) (whole bool, err error) {
	for len(l.unread) > 0 {
		scanned := l.read - int64(len(l.unread))
		p := l.unread
		if n := until - scanned; n < int64(len(p)) {
			p = p[:n]
		}
		limit := cut
		if limit == 0 {
			limit = full
		}
		switch n := limit - scanned; {
		case n <= 0: // line by line, for the first boundary is wanted
			if i := bytes.IndexByte(p, '\n'); i >= 0 {
				p = p[:i+1]
			}
		case n < int64(len(p)):
			p = p[:n]
		}
		n, _, err := l.scan.Scan(p)
		if err != nil {
			return false, fmt.Errorf("offset %d: %w", scanned, err)
		}
		l.waiting = append(l.waiting, l.unread[:n]...)
		l.unread = l.unread[n:]
		scanned += int64(n)
		b := l.scan.Boundary()
		if bound := l.origin + b.Offset; bound > l.at {
			if err := l.give(o, bound); err != nil {
				return false, err
			}
			l.db, l.inside = b.DB, false
		}
		ends := scanned == until
		if len(l.waiting) >= longest || ends && len(l.waiting) > 0 {
			if err := l.give(o, scanned); err != nil {
				return false, err
			}
			l.inside = true
		}
		if ends || l.at >= limit && !l.inside || l.at >= limit+l.piece {
			return true, l.mark(o)
		}
	}
	return false, nil
}

// give moves what waits, up to an offset, to the object.
func (l *lane) give(o *object, upTo int64) error {
	n := upTo - l.at
	if _, err := o.Write(l.waiting[:n]); err != nil {
		return err
	}
	l.waiting = append(l.waiting[:0], l.waiting[n:]...)
	l.at = upTo
	return nil
}

// fill reads on.
func (l *lane) fill() error {
	if l.buf == nil {
		l.buf = make([]byte, 256<<10)
	}
	n, err := l.c.Read(l.buf)
	var left *archive.Break
	switch {
	case errors.As(err, &left), err == nil && l.c.Generation() != l.gen:
		l.unread = nil
		return errTurned
	case err != nil && err != io.EOF:
		l.unread = nil
		return err
	}
	l.unread = l.buf[:n]
	l.read += int64(n)
	return nil
}

// mark gives the object the marks of its range.
func (l *lane) mark(o *object) error {
	for at := o.head.From; at < o.head.To; {
		_, m, err := l.c.Between(at + 1)
		if err != nil || m.Time.IsZero() || m.Offset > o.head.To {
			return err
		}
		o.head.Marks = append(o.head.Marks, [2]int64{m.Time.UnixMilli(), m.Offset})
		at = m.Offset
	}
	return nil
}
