package archive

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// History is a replication id and the offset behind which it holds.
type History struct {
	ReplID string `json:"id"` // "" for a master without PSYNC
	From   int64  `json:"from"`
}

// Fork is a place where the history went back to, when a failover had lost what
// lay behind.
type Fork struct {
	Offset     int64
	Generation int // that holds what lay behind
}

// Mark is a moment: at that time the history had reached that offset.
type Mark struct {
	Time   time.Time
	Offset int64
	CRC    uint32 // CRC-32C of the segment's file up to there
	Seq    int    // the segment
}

// Timeline is what a timeline file says, but for the marks: there may be
// millions of them, and only the last is kept.
type Timeline struct {
	BaseOffset int64
	BaseSize   int64
	BaseTime   time.Time
	Verified   bool // the base's checksum was found right
	BaseCRC    uint32
	HasBaseCRC bool // BaseCRC is known: the CRC-32C of the base's file
	// BaseContent is what a ContentReader found in the base; "" where none did.
	BaseContent string
	Needs       []Need // what a server must have
	// Since is the first time that this generation can be restored to: when it
	// took over from the one before, else BaseTime.
	Since     time.Time
	TookOver  bool // there is a "since"
	Histories []History
	Segments  []Segment
	Last      Mark // zero when there is none
	Fork      Fork // the last one; zero when there is none
	Closed    bool // there is an "end"
	// Witnessed is how much time the marks have seen go by, whatever the clock
	// said: between two marks no more than longestGap, and nothing where the
	// clock was stepped back.
	Witnessed   time.Duration
	SteppedBack bool // there is a "clock"
	Damaged     int  // lines that did not check

	sawBase bool
}

// ErrTimeline is what every error about a timeline wraps.
var ErrTimeline = errors.New("timeline is damaged")

// visitor is called with what a Timeline does not keep, in the order of the
// lines. Nil functions are not called.
type visitor struct {
	mark    func(Mark)
	cut     func(offset int64)
	clock   func(at, before time.Time) // the wall clock was stepped back from before to at
	since   func(Moment)               // the generation took over; it had at least that
	damaged func(position int64)       // a line that does not check begins there
	line    func(raw []byte)           // a line that checks, with its newline; valid until the function returns
}

// readTimeline reads a timeline. It returns the length of the part that ends
// with a newline; a torn line may follow.
func readTimeline(r io.Reader, v visitor) (t Timeline, length int64, err error) {
	length, err = t.read(r, 0, v)
	return t, length, err
}

// read goes on reading where a line begins, at position from. It returns the
// length as readTimeline does.
func (t *Timeline) read(r io.Reader, from int64, v visitor) (length int64, err error) {
	bad := func(at int64) {
		t.Damaged++
		if v.damaged != nil {
			v.damaged(at)
		}
	}
	in := bufio.NewReaderSize(r, 64<<10)
	length = from
	for long := int64(0); ; {
		raw, err := in.ReadSlice('\n')
		if err == bufio.ErrBufferFull { // no fact is that long
			long += int64(len(raw))
			continue
		}
		if err == io.EOF {
			return length, t.complete()
		}
		if err != nil {
			return length, err
		}
		at := length
		length += long + int64(len(raw))
		line, ok := unseal(string(bytes.TrimSuffix(raw, []byte("\n"))))
		if !ok || long > 0 {
			bad(at)
			long = 0
			continue
		}
		if at == 0 && line != timelineVersion {
			return length, fmt.Errorf("%w: it starts with %q, not %q", ErrTimeline, line, timelineVersion)
		}
		if !t.fact(line, v) {
			bad(at)
		} else if v.line != nil {
			v.line(raw)
		}
	}
}

// readTimeline reads a generation's timeline.
func (g generation) readTimeline(v visitor) (t Timeline, length int64, err error) {
	f, err := os.Open(g.timeline())
	if err != nil {
		return t, 0, err
	}
	defer f.Close()
	return readTimeline(f, v)
}

// ended says whether a timeline's last line is an "end". It reads only that
// line. A line without its newline is none, as for readTimeline: a power cut may
// have taken only that.
func ended(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	buf := make([]byte, 256)
	st, err := f.Stat()
	if err != nil {
		return false
	}
	n, _ := f.ReadAt(buf, max(0, st.Size()-int64(len(buf))))
	p, whole := bytes.CutSuffix(buf[:n], []byte("\n"))
	line, ok := unseal(string(p[bytes.LastIndexByte(p, '\n')+1:]))
	return whole && ok && strings.HasPrefix(line, "end ")
}

// complete says whether the facts that nothing can do without are there.
func (t *Timeline) complete() error {
	switch {
	case !t.sawBase:
		return fmt.Errorf("%w: no base (%d damaged lines)", ErrTimeline, t.Damaged)
	case len(t.Histories) == 0:
		return fmt.Errorf("%w: no replication id (%d damaged lines)", ErrTimeline, t.Damaged)
	case len(t.Segments) == 0:
		return fmt.Errorf("%w: no segment (%d damaged lines)", ErrTimeline, t.Damaged)
	}
	return nil
}

// fact takes one line. It returns false where the line is not what its first
// word says.
func (t *Timeline) fact(line string, v visitor) (ok bool) {
	var n values
	is := func(form string) bool {
		n, ok = parse(form, line)
		return ok
	}
	switch kind, rest, _ := strings.Cut(line, " "); kind {
	case "base":
		if is(baseForm) {
			t.BaseOffset, t.BaseSize, t.BaseTime = n[0], n[1], time.UnixMilli(n[2])
			t.Since, t.sawBase = t.BaseTime, true
		}
	case "replid":
		if is(replidForm) {
			id, _, _ := strings.Cut(rest, " ")
			t.Histories = append(t.Histories, History{strings.TrimPrefix(id, noID), n[0]})
		}
	case "segment":
		if is(segmentForm) {
			t.Segments = append(t.Segments, Segment{Seq: int(n[0]), From: n[1], DB: int(n[2]), Header: n[3]})
		}
	case "sealed":
		if is(sealedForm) {
			s := t.segment(n[0])
			if s != nil {
				s.Sealed, s.To, s.CRC = true, n[1], uint32(n[2])
			}
		}
	case "mark":
		return is(markForm) && t.mark(Mark{Time: time.UnixMilli(n[0]), Offset: n[1], CRC: uint32(n[2])}, v)
	case "clock":
		if !is(clockForm) {
			break
		}
		if t.SteppedBack = true; v.clock != nil {
			v.clock(time.UnixMilli(n[0]), time.UnixMilli(n[0]+n[1]))
		}
	case "since":
		if is(sinceForm) {
			m := Moment{time.UnixMilli(n[0]), n[1]}
			t.Since, t.TookOver = m.Time, true
			if v.since != nil {
				v.since(m)
			}
		}
	case "fork":
		if is(forkForm) {
			t.Fork = Fork{n[0], int(n[1])}
		}
	case "cut":
		if is(cutForm) {
			t.cut(n[0])
			if v.cut != nil {
				v.cut(n[0])
			}
		}
	case "verified", "damaged":
		return t.examined(kind, line)
	case "content":
		return t.content(rest)
	case "needs":
		if words := strings.Fields(rest); is(needForm) {
			t.Needs = append(t.Needs, Need{words[0], words[1], n[0]})
		}
	case "end":
		t.Closed = is(endForm)
	default: // a later version's fact
		return kind != ""
	}
	return ok
}

// content takes what a ContentReader found, behind the name of the file.
func (t *Timeline) content(rest string) bool {
	kind, text, _ := strings.Cut(rest, " ")
	switch kind {
	case "base":
		t.BaseContent = text
	case "segment":
		var seq string
		seq, text, _ = strings.Cut(text, " ")
		n, err := strconv.ParseInt(seq, 10, 64)
		if s := t.segment(n); s != nil && s.Sealed {
			s.Content = text
		}
		return err == nil
	}
	return true
}

func (t *Timeline) mark(m Mark, v visitor) bool {
	if len(t.Segments) == 0 {
		return false
	}
	m.Seq = t.Segments[len(t.Segments)-1].Seq
	if before := t.Last.Time; !before.IsZero() {
		t.Witnessed += witnessed(m.Time.Sub(before))
	}
	t.Last = m
	if v.mark != nil {
		v.mark(m)
	}
	return true
}

// longestGap is how much of the time between two marks counts: a master pings
// every ten seconds. More is a long cut, or a clock that was set ahead; nothing
// tells which.
const longestGap = time.Hour

// witnessed is how much of a difference of two times counts.
func witnessed(d time.Duration) time.Duration { return max(0, min(d, longestGap)) }

// examined takes a line that tells what reading a file again has shown.
func (t *Timeline) examined(kind, line string) bool {
	if line == "verified base" { // as older versions wrote it
		t.Verified = true
		return true
	}
	if n, ok := parse(verifiedBaseForm, line); ok {
		t.Verified, t.BaseCRC, t.HasBaseCRC = true, uint32(n[0]), true
		return true
	}
	n, ok := parse(kind+" segment %d", line)
	if !ok {
		file := strings.Fields(line + " base")[1]
		return file != "base" && file != "segment" // a later version's
	}
	if s := t.segment(n[0]); s != nil {
		s.Verified, s.Damaged = kind == "verified", kind == "damaged"
	}
	return true
}

// cut forgets what lies beyond offset. The segment that is then the last goes
// on, though it may have been sealed.
func (t *Timeline) cut(offset int64) {
	for len(t.Segments) > 1 && t.Segments[len(t.Segments)-1].From > offset {
		t.Segments = t.Segments[:len(t.Segments)-1]
	}
	for len(t.Histories) > 1 && t.Histories[len(t.Histories)-1].From > offset {
		t.Histories = t.Histories[:len(t.Histories)-1]
	}
	if n := len(t.Segments); n > 0 && t.Segments[n-1].Sealed && t.Segments[n-1].To >= offset {
		s := t.Segments[n-1]
		t.Segments[n-1] = Segment{Seq: s.Seq, From: s.From, DB: s.DB, Header: s.Header}
	}
	t.Needs = slices.DeleteFunc(t.Needs, func(n Need) bool { return n.Offset > offset })
	if t.Last.Offset > offset {
		t.Last.Offset = offset
	}
	t.Closed = false
}

// beyond says whether the timeline has facts that a cut at offset takes away.
func (t *Timeline) beyond(offset int64) bool {
	last := t.Segments[len(t.Segments)-1]
	return t.Last.Offset > offset || t.Histories[len(t.Histories)-1].From > offset || last.From > offset || last.Sealed
}

// gap says whether the fact of a segment is missing between others.
func (t *Timeline) gap() bool {
	for i, s := range t.Segments {
		if s.Seq != i+1 {
			return true
		}
	}
	return false
}

// unread gives the segments that are complete and were not read again yet.
func (t *Timeline) unread() (all []Segment) {
	for _, s := range t.Segments {
		if s.Sealed && !s.Verified && !s.Damaged {
			all = append(all, s)
		}
	}
	return all
}

// segment finds a segment by its number; nil when there is none.
func (t *Timeline) segment(seq int64) *Segment {
	for i := range t.Segments {
		if int64(t.Segments[i].Seq) == seq {
			return &t.Segments[i]
		}
	}
	return nil
}

// timelineFile appends facts. The next write overwrites one that failed half
// way.
type timelineFile struct {
	f    *os.File
	disk disk
	end  int64
	last time.Time // of the last mark
}

// openTimeline opens a timeline for appending behind length bytes.
func openTimeline(path string, length int64, last time.Time, d disk) (*timelineFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(length); err != nil {
		f.Close()
		return nil, err
	}
	return &timelineFile{f: f, disk: d, end: length, last: last}, nil
}

// append appends facts to a timeline that nobody writes, durably.
func (d disk) append(path string, facts ...string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	tl, length, err := readTimeline(f, visitor{})
	if err != nil {
		return err
	}
	t, err := openTimeline(path, length, tl.Last.Time, d)
	if err != nil {
		return err
	}
	defer t.close()
	if err := t.add(facts...); err != nil {
		return err
	}
	return t.sync()
}

// add appends facts in one write.
func (t *timelineFile) add(facts ...string) error {
	var p []byte
	for _, f := range facts {
		p = sealed(p, f)
	}
	if _, err := t.disk.pwrite(t.f, p, t.end); err != nil {
		return err
	}
	t.end += int64(len(p))
	return nil
}

// mark appends a mark.
func (t *timelineFile) mark(m Mark) error {
	last := t.last
	err := t.add(t.marked(m)...)
	if err != nil {
		t.last = last
	}
	return err
}

// marked gives a mark as a fact, and before it, where that is so, the fact that
// the clock was stepped back.
func (t *timelineFile) marked(m Mark) (facts []string) {
	if m.Time.UnixMilli() < t.last.UnixMilli() {
		facts = append(facts, clockFact(m.Time, t.last))
	}
	t.last = m.Time
	return append(facts, markFact(m))
}

func (t *timelineFile) sync() error { return t.disk.fdatasync(t.f) }

func (t *timelineFile) close() error { return t.f.Close() }
