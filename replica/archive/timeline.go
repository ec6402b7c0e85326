package archive

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// The timeline is a text file, one fact a line, in the order in which the
// facts came to be:
//
//	timeline 1
//	base <offset> size <bytes> at <ms>
//	replid <id> from <offset>
//	segment <seq> from <offset> db <n> header <bytes>
//	sealed <seq> to <offset> crc <crc32c of the segment's file>
//	mark <ms> offset <offset> crc <crc32c of the segment's file up to there>
//	clock <ms> back <ms>
//	since <ms> offset <offset>
//	cut <offset>
//	verified base crc <crc32c of the file>
//	verified segment <seq>
//	damaged segment <seq>
//	end <offset>
//
// Offsets are those of the last byte before the place. Times are unix
// milliseconds. "replid X from o" says that X names the history behind o, "-"
// that the master has no ids; "sealed" that a segment is complete and the next
// one begins where it ends; "cut o" that what earlier lines say of places
// beyond o no longer holds; "clock" that the wall clock was stepped back by
// so much; "since" that the generation took over from the one before at that
// time, which was followed until then (a rebase); "verified" and "damaged" what
// reading a file again has shown; "end" that the generation was closed there.
//
// Each line ends with " #" and the CRC-32C of what stands before it, eight hex
// digits. A line that does not check is passed over, and counted.

const timelineVersion = "timeline 1"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sealed appends a line with its checksum.
func sealed(dst []byte, line string) []byte {
	return append(dst, append(seal([]byte(line)), '\n')...)
}

// seal appends its checksum to a line.
func seal(line []byte) []byte {
	return appendCRC(append(line, " #"...), crc32.Checksum(line, castagnoli))
}

// appendCRC appends a CRC-32C as eight hex digits.
func appendCRC(dst []byte, crc uint32) []byte {
	var p [4]byte
	binary.BigEndian.PutUint32(p[:], crc)
	return hex.AppendEncode(dst, p[:])
}

// unseal checks a line without its newline and takes the checksum off.
func unseal(line string) (string, bool) {
	i := len(line) - len(" #01234567")
	if i < 0 || line[i:i+2] != " #" {
		return "", false
	}
	// The text, not the number: a digit in upper case is a flipped bit.
	var digits [8]byte
	if line[i+2:] != string(appendCRC(digits[:0], crc32.Checksum([]byte(line[:i]), castagnoli))) {
		return "", false
	}
	return line[:i], true
}

// History is a replication id and the offset behind which it holds.
type History struct {
	ReplID string `json:"id"` // "" for a master without PSYNC
	From   int64  `json:"from"`
}

// Mark is a moment: at that time the history had reached that offset.
type Mark struct {
	Time   time.Time
	Offset int64
	CRC    uint32 // CRC-32C of the segment's file up to there
	Seq    int    // the segment
}

// Timeline is what a timeline file says, but for its marks, of which there may
// be millions: only the last is kept.
type Timeline struct {
	BaseOffset int64
	BaseSize   int64
	BaseTime   time.Time
	Verified   bool // the base's checksum was found right
	BaseCRC    uint32
	HasBaseCRC bool // BaseCRC is known: the CRC-32C of the base's file
	// Since is the time from which on this generation has what was received:
	// the one at which it took over from the one before, else BaseTime.
	Since     time.Time
	Histories []History
	Segments  []Segment
	Last      Mark // zero when there is none
	Closed    bool // there is an "end"
	Damaged   int  // lines that did not check

	sawBase bool
}

// ErrTimeline is what every error about a timeline wraps.
var ErrTimeline = errors.New("timeline is damaged")

// visitor is told what a Timeline does not keep, in the order of the lines. Nil
// functions are not called.
type visitor struct {
	mark    func(Mark)
	cut     func(offset int64)
	clock   func(at, before time.Time) // the wall clock was stepped back from before to at
	since   func(Moment)               // the generation took over; it had at least that
	damaged func(position int64)       // a line that does not check begins there
	line    func(raw []byte)           // one that does, with its newline; valid until the function returns
}

// readTimeline reads a timeline. It returns the length of the part that ends
// with a newline: what is behind it was torn.
func readTimeline(r io.Reader, v visitor) (t Timeline, length int64, err error) {
	length, err = t.read(r, 0, v)
	return t, length, err
}

// read goes on with what stands from a position on, which begins a line. It
// returns the length as readTimeline does.
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

// readTimeline reads a generation's timeline, but for its marks.
func (g generation) readTimeline() (t Timeline, length int64, err error) {
	f, err := os.Open(g.timeline())
	if err != nil {
		return t, 0, err
	}
	defer f.Close()
	return readTimeline(f, visitor{})
}

// ended says whether a timeline's last line is an "end", reading no more than
// that.
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
	p := bytes.TrimSuffix(buf[:n], []byte("\n"))
	line, ok := unseal(string(p[bytes.LastIndexByte(p, '\n')+1:]))
	return ok && strings.HasPrefix(line, "end ")
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

// fact takes one line.
func (t *Timeline) fact(line string, v visitor) bool {
	f := strings.Fields(line)
	if len(f) == 0 {
		return false
	}
	p := fields{f: f}
	switch f[0] {
	case "timeline":
		return true
	case "base":
		t.BaseOffset, t.BaseSize, t.BaseTime = p.number(1), p.after(2, "size"), time.UnixMilli(p.after(4, "at"))
		t.Since = t.BaseTime
		t.sawBase = !p.bad
	case "replid":
		h := History{ReplID: p.text(1), From: p.after(2, "from")}
		if h.ReplID == "-" {
			h.ReplID = ""
		}
		if !p.bad {
			t.Histories = append(t.Histories, h)
		}
	case "segment":
		s := Segment{Seq: int(p.number(1)), From: p.after(2, "from"), DB: int(p.after(4, "db")), Header: p.after(6, "header")}
		if !p.bad {
			t.Segments = append(t.Segments, s)
		}
	case "mark":
		m := Mark{Time: time.UnixMilli(p.number(1)), Offset: p.after(2, "offset"), CRC: p.crc(4)}
		if p.bad || len(t.Segments) == 0 {
			return false
		}
		m.Seq = t.Segments[len(t.Segments)-1].Seq
		t.Last = m
		if v.mark != nil {
			v.mark(m)
		}
	case "cut":
		o := p.number(1)
		if p.bad {
			return false
		}
		t.cut(o)
		if v.cut != nil {
			v.cut(o)
		}
	case "clock":
		at, back := p.number(1), p.after(2, "back")
		if !p.bad && v.clock != nil {
			v.clock(time.UnixMilli(at), time.UnixMilli(at+back))
		}
	case "since":
		m := Moment{time.UnixMilli(p.number(1)), p.after(2, "offset")}
		if p.bad {
			return false
		}
		t.Since = m.Time
		if v.since != nil {
			v.since(m)
		}
	case "sealed":
		seq, to, crc := p.number(1), p.after(2, "to"), p.crc(4)
		if s := t.segment(seq); s != nil && !p.bad {
			s.Sealed, s.To, s.CRC = true, to, crc
		}
	case "verified", "damaged":
		t.examined(&p)
	case "end":
		p.number(1)
		t.Closed = !p.bad
	default: // a later version's fact
		return true
	}
	return !p.bad
}

// cut forgets what lies beyond offset. The segment that is the last then goes
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
	if t.Last.Offset > offset {
		t.Last.Offset = offset
	}
	t.Closed = false
}

// beyond says whether it tells of something behind offset that a cut there
// takes away.
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

// unread are the segments that are complete and were not read again yet.
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

// examined takes a line that tells what reading a file again has shown.
func (t *Timeline) examined(p *fields) {
	good := p.text(0) == "verified"
	switch p.text(1) {
	case "base":
		t.Verified = good
		if good && len(p.f) > 2 { // older ones tell no CRC
			t.BaseCRC, t.HasBaseCRC = p.crc(2), !p.bad
		}
	case "segment":
		if s := t.segment(p.number(2)); s != nil && !p.bad {
			s.Verified, s.Damaged = good, !good
		}
	}
}

// fields takes the words of a line apart; bad stays set once one was wrong.
type fields struct {
	f   []string
	bad bool
}

func (p *fields) text(i int) string {
	if i >= len(p.f) {
		p.bad = true
		return ""
	}
	return p.f[i]
}

func (p *fields) number(i int) int64 {
	n, err := strconv.ParseInt(p.text(i), 10, 64)
	if err != nil || n < 0 {
		p.bad = true
	}
	return n
}

// after reads the number behind the word name at i.
func (p *fields) after(i int, name string) int64 {
	if p.text(i) != name {
		p.bad = true
	}
	return p.number(i + 1)
}

func (p *fields) crc(i int) uint32 {
	if p.text(i) != "crc" {
		p.bad = true
	}
	n, err := strconv.ParseUint(p.text(i+1), 16, 32)
	if err != nil {
		p.bad = true
	}
	return uint32(n)
}

// The facts as lines.

func baseFact(offset, size int64, at time.Time) string {
	return fmt.Sprintf("base %d size %d at %d", offset, size, at.UnixMilli())
}

func replidFact(id string, from int64) string {
	if id == "" {
		id = "-"
	}
	return fmt.Sprintf("replid %s from %d", id, from)
}

func segmentFact(s Segment) string {
	return fmt.Sprintf("segment %d from %d db %d header %d", s.Seq, s.From, s.DB, s.Header)
}

func markFact(m Mark) string {
	return fmt.Sprintf("mark %d offset %d crc %08x", m.Time.UnixMilli(), m.Offset, m.CRC)
}

func clockFact(at, before time.Time) string {
	return fmt.Sprintf("clock %d back %d", at.UnixMilli(), before.Sub(at).Milliseconds())
}

func cutFact(offset int64) string { return fmt.Sprintf("cut %d", offset) }

func sealedFact(s Segment) string {
	return fmt.Sprintf("sealed %d to %d crc %08x", s.Seq, s.To, s.CRC)
}

func sinceFact(at time.Time, offset int64) string {
	return fmt.Sprintf("since %d offset %d", at.UnixMilli(), offset)
}

func verifiedBaseFact(crc uint32) string { return fmt.Sprintf("verified base crc %08x", crc) }

func examinedSegmentFact(seq int, good bool) string {
	if good {
		return fmt.Sprintf("verified segment %d", seq)
	}
	return fmt.Sprintf("damaged segment %d", seq)
}

func endFact(offset int64) string { return fmt.Sprintf("end %d", offset) }

// timelineFile appends facts. A write that failed half way is written over by
// the next one.
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

// mark appends a mark, and before it the fact that the clock was stepped back.
func (t *timelineFile) mark(m Mark) error {
	var facts []string
	if m.Time.UnixMilli() < t.last.UnixMilli() {
		facts = append(facts, clockFact(m.Time, t.last))
	}
	if err := t.add(append(facts, markFact(m))...); err != nil {
		return err
	}
	t.last = m.Time
	return nil
}

func (t *timelineFile) sync() error { return t.disk.fdatasync(t.f) }

func (t *timelineFile) close() error { return t.f.Close() }
