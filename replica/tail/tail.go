// Package tail prints the commands of an archive's stream, one a line: all, or
// those that touch some keys. It reads with an [archive.Cursor], so that it may
// follow a stream that a daemon writes, and go on at any offset.
//
//	t, err := tail.New(dir, tail.Options{From: tail.Base, Out: os.Stdout})
//	if err != nil {
//		return err
//	}
//	defer t.Close()
//	return t.Run(ctx)
//
// Where the keys of a command are, the key specs of Redis' command table say:
// see commands.txt. Nothing is guessed: a command that is not in the table is
// shown where one of its arguments matches, and marked.
package tail

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/resp"
)

// Options say what is printed.
type Options struct {
	// From: Base, a place as ID:OFFSET, or a moment as archive.ParseTarget
	// reads it; "" means the end of the archive where Follow is set, else the
	// oldest base.
	From string
	// To is the last moment that is printed; "" means what is stored. Without
	// Follow.
	To string
	// Follow waits for more at the end.
	Follow  bool
	Key     string // a pattern; "" for all commands
	DB      int    // -1 for all
	Command string // "" for all
	Text    bool   // lines for eyes, not JSON
	Out     io.Writer
	// Waiting is told, once each time, that nothing more is there for a reason
	// that is worth telling. May be nil.
	Waiting func(error)
}

// Base is the From of the newest generation's base.
const Base = "base"

// ErrPlace: a From or To is no place. It is wrong in any archive.
var ErrPlace = errors.New("no place")

const (
	block     = 1 << 20 // bytes that are read at once
	outBlock  = 256 << 10
	leastWait = time.Millisecond
	mostWait  = 100 * time.Millisecond
	// markWait is how long a command waits for the mark behind it, which comes
	// within the timeline's resolution unless the daemon has ended.
	markWait = 500 * time.Millisecond
)

// Tail prints. One goroutine may use it.
type Tail struct {
	opt     Options
	table   table
	pattern *pattern
	c       *archive.Cursor
	to      *replica.Position
	broke   error // a break that is still to be told

	scanner *resp.Scanner
	base    int64 // the offset where the scanner began
	after   int64 // commands that end at or before it were printed
	begun   bool  // the scanner stands where the cursor does
	open    bool  // collect has begun with the command that is not complete
	collect collector
	cmd     command
	line    line
	buf     []byte
	out     []byte
	done    bool // To was passed

	// Commands counts those that were walked over, and Bytes theirs.
	Commands, Bytes int64
}

// New opens the archive in dir. The error wraps ErrPlace, or one of package
// archive: ErrNotKept or ErrUnavailable where it does not have From or To.
func New(dir string, opt Options) (*Tail, error) {
	t := &Tail{opt: opt, buf: make([]byte, block)}
	var err error
	if t.table, err = newTable(commandsText); err != nil {
		return nil, err
	}
	if opt.Key != "" {
		t.pattern = newPattern(opt.Key)
	}
	if t.c, t.after, err = open(dir, opt); err != nil {
		return nil, err
	}
	if opt.To != "" {
		to, err := archive.ParseTarget(opt.To, time.Now())
		if err != nil {
			t.Close()
			return nil, fmt.Errorf("%w: %w", ErrPlace, err)
		}
		r, p, err := archive.Locate(dir, to, time.Now())
		if err != nil {
			t.Close()
			return nil, err
		}
		r.Close()
		t.to = &replica.Position{ReplID: p.ReplID, Offset: p.Offset}
	}
	return t, nil
}

// open opens the cursor. Commands that end behind after are printed.
func open(dir string, opt Options) (c *archive.Cursor, after int64, err error) {
	id, offset, is := strings.Cut(opt.From, ":")
	switch n, bad := strconv.ParseInt(offset, 10, 64); {
	case opt.From == "" && opt.Follow:
		c, err = archive.OpenCursorAtEnd(dir)
	case opt.From == "":
		c, err = archive.OpenCursorAtBase(dir, archive.OldestBase)
	case opt.From == Base:
		c, err = archive.OpenCursorAtBase(dir, archive.NewestBase)
	case is && len(id) == 40 && bad == nil && n >= 0:
		c, err = archive.OpenCursor(dir, replica.Position{ReplID: id, Offset: n})
	default:
		at, bad := archive.ParseTarget(opt.From, time.Now())
		if bad != nil {
			return nil, 0, fmt.Errorf("%w: %w (a place is also ID:OFFSET, or %s)", ErrPlace, bad, Base)
		}
		r, p, e := archive.Locate(dir, at, time.Now())
		if e != nil {
			return nil, 0, e
		}
		c, err = r.Cursor(p.Offset)
	}
	if err != nil {
		return nil, 0, err
	}
	return c, c.Position().Offset, nil
}

// Close lets the archive go.
func (t *Tail) Close() error { return t.c.Close() }

// Run prints until the end, or with Follow until ctx is done. The error is ctx's,
// that of Out, or one of the archive; nil at the end.
func (t *Tail) Run(ctx context.Context) error {
	wait := leastWait
	told := false
	for !t.done {
		n, err := t.step()
		var is *archive.Break
		switch {
		case errors.As(err, &is):
			t.out = appendBreak(t.out, is, t.opt.Text)
			t.begun, t.after, told = false, is.At.Offset, false
			continue
		case errors.Is(err, archive.ErrNoMore):
			if worth := errors.Is(err, archive.ErrAhead) || t.opt.Follow && errors.Is(err, archive.ErrClosed); worth && !told && t.opt.Waiting != nil {
				t.opt.Waiting(err)
				told = true
			}
			if !t.opt.Follow {
				return t.flush()
			}
		case err != nil:
			return errors.Join(t.flush(), err)
		}
		if n > 0 {
			if wait, told = leastWait, false; len(t.out) < outBlock && n == len(t.buf) {
				continue
			}
		}
		if err := t.flush(); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if n > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		wait = min(wait*2, mostWait)
	}
	return t.flush()
}

func (t *Tail) flush() error {
	if len(t.out) == 0 {
		return nil
	}
	_, err := t.opt.Out.Write(t.out)
	t.out = t.out[:0]
	return err
}

// step reads and prints what is read at once.
func (t *Tail) step() (n int, err error) {
	if err := t.broke; err != nil {
		t.broke = nil
		return 0, err
	}
	if !t.begun {
		if err := t.begin(); err != nil {
			return 0, err
		}
	}
	from := t.c.Position().Offset
	if n, err = t.c.Read(t.buf); err != nil {
		return 0, err
	}
	t.Bytes += int64(n)
	if t.opt.Follow {
		t.awaitMark()
	}
	return n, t.block(t.buf[:n], from)
}

// begin has the scanner begin where a command does: the cursor may stand inside
// one, or inside a transaction.
func (t *Tail) begin() error {
	// Behind the end nobody knows where a command ends.
	if _, err := t.c.Next(); err != nil && (!errors.Is(err, archive.ErrNoMore) || errors.Is(err, archive.ErrAhead)) {
		return err
	}
	at, db, err := t.c.Boundary()
	if err != nil {
		return err
	}
	t.c.Back(at)
	t.scanner, t.base, t.open, t.begun = resp.NewScanner(db, resp.Limits{}), at, false, true
	if t.skips() {
		t.scanner.Watch = special
	}
	return nil
}

// awaitMark waits until a mark stands behind the cursor's place.
func (t *Tail) awaitMark() {
	for began := time.Now(); time.Since(began) < markWait; time.Sleep(mostWait / 10) {
		if t.c.Marked() >= t.c.Position().Offset {
			return
		}
		var is *archive.Break
		if _, err := t.c.Next(); errors.As(err, &is) {
			t.broke = err
			return
		}
	}
}

// skips says whether stretches without the pattern's literal are passed over.
func (t *Tail) skips() bool { return t.pattern != nil && len(t.pattern.literal) > 0 }

// block goes through a block of the stream that begins behind offset from.
func (t *Tail) block(p []byte, from int64) error {
	i := 0
	defer func(n int64) { t.Commands += t.scanner.Commands() - n }(t.scanner.Commands())
	if t.open {
		n, whole := t.collect.feed(p)
		db, tx := t.state()
		if err := t.walk(p[:n]); err != nil {
			return err
		}
		i = n
		if whole {
			t.open = false
			t.collect.command(&t.cmd)
			t.print(db, tx)
		}
	}
	for i < len(p) && !t.done && !t.open {
		if t.skips() {
			hit := bytes.Index(p[i:], t.pattern.literal)
			if hit < 0 {
				hit = len(p) - i
			}
			if err := t.pass(p, &i, i+hit, from); err != nil {
				return err
			}
			i = int(t.base + t.scanner.CommandEnd() - from)
		}
		if err := t.one(p, &i, from); err != nil {
			return err
		}
	}
	return nil
}

// pass walks up to p[to], and prints what touches keys that it does not name.
func (t *Tail) pass(p []byte, i *int, to int, from int64) error {
	for *i < to && !t.done {
		n, kind, err := t.scanner.Scan(p[*i:to])
		*i += n
		if err != nil {
			return err
		}
		if kind == resp.Watched {
			db, tx := t.state()
			t.cmd.parse(p[t.base+t.scanner.CommandStart()-from:])
			t.print(db, tx)
		}
	}
	return nil
}

// one reads the command that begins at p[i], of which the scanner may have
// walked a part.
func (t *Tail) one(p []byte, i *int, from int64) error {
	walked := t.base + t.scanner.Scanned() - from
	if *i >= len(p) {
		return nil
	}
	db, tx := t.state()
	n := t.cmd.parse(p[*i:])
	if n == 0 {
		t.collect.begin()
		t.collect.feed(p[*i:])
		t.open = true
		*i = len(p)
		return t.walk(p[walked:])
	}
	*i += n
	if err := t.walk(p[walked:*i]); err != nil {
		return err
	}
	t.print(db, tx)
	return nil
}

// state is what the scanner knows where a command begins.
func (t *Tail) state() (db int, tx int64) { return t.scanner.Selected(), t.scanner.Transaction() }

// walk has the scanner walk over bytes.
func (t *Tail) walk(p []byte) error {
	for len(p) > 0 {
		n, _, err := t.scanner.Scan(p)
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// print prints the command cmd, which the scanner has just passed, if it is
// wanted; db and tx are those before it.
func (t *Tail) print(db int, tx int64) {
	t.cmd.start, t.cmd.end = t.base+t.scanner.CommandStart(), t.base+t.scanner.CommandEnd()
	if t.to != nil && t.cmd.end > t.to.Offset && t.c.Names(*t.to) {
		t.done = true
		return
	}
	if t.cmd.end <= t.after || t.opt.DB >= 0 && db != t.opt.DB || len(t.cmd.args) == 0 ||
		t.opt.Command != "" && !bytes.EqualFold(t.cmd.args[0], []byte(t.opt.Command)) {
		return
	}
	l := &t.line
	e := t.table.of(t.cmd.args)
	l.keys, l.touches = l.keys[:0], e.touches
	e.keys(t.cmd.args, t.cmd.argc, func(i int) { l.keys = append(l.keys, t.cmd.args[i]) })
	if t.pattern != nil && !t.wanted(l) {
		return
	}
	if tx < 0 {
		tx = t.scanner.Transaction() // MULTI itself
	}
	if tx >= 0 {
		tx += t.base
	}
	l.command, l.db, l.tx, l.id = t.cmd, db, tx, t.c.ReplID(t.cmd.start)
	var err error
	if l.before, l.after, err = t.c.Between(t.cmd.end); err != nil {
		l.before, l.after = archive.Moment{}, archive.Moment{}
	}
	if t.opt.Text {
		t.out = l.appendText(t.out)
	} else {
		t.out = l.appendJSON(t.out)
	}
}

// wanted says whether a command touches a key that matches, or may.
func (t *Tail) wanted(l *line) bool {
	if l.touches == AllKeys || l.touches == Script {
		return true
	}
	among := l.keys
	if l.touches == Unknown {
		among = t.cmd.args[1:]
	}
	for _, k := range among {
		if t.pattern.match(k) {
			return true
		}
	}
	if t.cmd.cut() && len(t.cmd.args) < t.cmd.argc && (len(l.keys) > 1 || l.touches == Unknown) {
		l.touches = Unknown // it has more keys than are held
		return true
	}
	return false
}
