package archive

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"replicad/replica/resp"
)

// Recovery tells what opening a history found and did.
type Recovery struct {
	Generation int
	ReplID     string
	Offset     int64  // where the history ends now
	Cut        int64  // bytes behind it that were cut off
	Why        string // why they were; "" when nothing was
}

// state is a generation as it stands on disk after recovery.
type state struct {
	gen      generation
	timeline Timeline
	length   int64   // of the timeline's file
	seg      Segment // the last one
	at       checkpoint
	recovery Recovery

	walked []walked // the segments that were looked at; the last is seg
}

// walked is a segment that recovery looked at.
type walked struct {
	seg     Segment
	trusted int64 // offset up to which the record says it was fsynced
	end     place // where it ends now
}

// recoverGeneration makes the end of a generation sound: it finds out how far
// the last segments can be trusted, cuts the history at the last boundary before
// that, and writes down that it did. strict trusts nothing that was not fsynced.
func recoverGeneration(gen generation, opt Options, strict bool) (*state, error) {
	record, err := os.OpenFile(gen.fsynced(), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	defer record.Close()
	known, ok := readCheckpoint(record)

	s := &state{gen: gen}
	marks, err := s.readTimeline(known.fsynced.offset)
	if err != nil {
		return nil, err
	}
	id := s.timeline.Histories[len(s.timeline.Histories)-1].ReplID
	if s.timeline.Closed {
		// Ended in good order: nothing of it is touched any more.
		s.seg = s.timeline.Segments[len(s.timeline.Segments)-1]
		s.recovery = Recovery{Generation: gen.number, ReplID: id, Offset: s.timeline.Last.Offset}
		return s, nil
	}
	w := &walk{state: s, strict: strict, limits: opt.Limits, known: known, marks: marks}
	w.written, _ = readWritten(record)
	if err := w.run(ok); err != nil {
		return nil, err
	}
	s.at.serial = known.serial
	s.recovery = Recovery{Generation: gen.number, ReplID: id, Offset: s.at.fsynced.offset, Cut: w.cut, Why: w.why}
	inOrder := ok && !strict && len(s.walked) == 1 && w.why == "" && w.cut == 0 &&
		known.fsynced == s.at.fsynced && known.boundary == s.at.boundary && !s.timeline.beyond(s.at.fsynced.offset)
	if !inOrder {
		if err := s.settle(opt.disk); err != nil {
			return nil, err
		}
	}
	if err := s.renew(strict, opt.disk); err != nil {
		return nil, err
	}
	return s, s.tidy(opt.disk)
}

// walk goes through the segments behind the last place that is known to be
// fsynced: after a power cut what was written to any of them may be lost.
type walk struct {
	*state
	strict  bool
	limits  resp.Limits
	known   checkpoint
	marks   []Mark // of all segments behind known
	written Mark

	cut int64 // bytes that go
	why string
}

// run looks at one segment after the other, as long as they are whole.
func (w *walk) run(ok bool) error {
	segments := w.timeline.Segments
	first, lost := w.first(ok)
	for i := first; ; i++ {
		e, err := w.open(i, i == first, lost)
		if err != nil {
			return err
		}
		w.seg = segments[i]
		w.at, err = e.examine(w.marksOf(w.seg.Seq))
		e.f.Close()
		if err != nil {
			return err
		}
		at := w.at.fsynced.offset
		w.walked = append(w.walked, walked{w.seg, min(e.from.fsynced.offset, at), w.at.fsynced})
		if w.follows(i) && at == segments[i+1].From {
			continue
		}
		w.cut, w.why = e.end-at, e.why
		return w.drop(i + 1)
	}
}

// first is the segment where to begin. lost says that there is no checkpoint;
// then it is the one behind the last that was read again, as that was durable
// before.
func (w *walk) first(ok bool) (i int, lost bool) {
	segments := w.timeline.Segments
	for i := range segments {
		if ok && segments[i].Seq == w.known.seq {
			return i, false
		}
	}
	for i := len(segments) - 1; i > 0; i-- {
		if segments[i-1].Verified || segments[i-1].Damaged {
			return i, true
		}
	}
	return 0, true
}

// follows says whether the timeline goes on behind a segment without a gap.
func (w *walk) follows(i int) bool {
	if i+1 >= len(w.timeline.Segments) {
		return false
	}
	s, next := w.timeline.Segments[i], w.timeline.Segments[i+1]
	return next.Seq == s.Seq+1 && (!s.Sealed || s.To == next.From)
}

// marksOf gives the marks of a segment.
func (w *walk) marksOf(seq int) []Mark {
	marks := w.marks
	for len(marks) > 0 && marks[0].Seq < seq {
		marks = marks[1:]
	}
	for i, m := range marks {
		if m.Seq != seq {
			return marks[:i]
		}
	}
	return marks
}

// open prepares to look at a segment. All but the first one may be missing:
// their names may not have been durable.
func (w *walk) open(i int, first, lost bool) (*examiner, error) {
	seg := w.timeline.Segments[i]
	flags := os.O_RDWR
	if !first {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(w.gen.segment(seg.Seq), flags, 0o640)
	if err != nil {
		return nil, err
	}
	e := &examiner{f: f, seg: seg, strict: w.strict, lost: lost, limits: w.limits}
	if err = repairHeader(f, seg); err == nil {
		err = w.begin(e, i, first)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return e, nil
}

// begin says from where on a segment is to be read, and how far.
func (w *walk) begin(e *examiner, i int, first bool) error {
	seg := e.seg
	st, err := e.f.Stat()
	if err != nil {
		return err
	}
	e.end = seg.From + st.Size() - seg.Header
	switch {
	case seg.Sealed:
		e.end = min(e.end, seg.To)
	case w.follows(i): // its line was lost
		e.end = min(e.end, w.timeline.Segments[i+1].From)
	}
	header := place{seg.From, crc32.Checksum(seg.SelectHeader(), castagnoli)}
	e.from = checkpoint{seq: seg.Seq, fsynced: header, boundary: header, db: seg.DB}
	switch known := w.known; {
	case !first || e.lost:
	case known.fsynced.offset > e.end && known.boundary.offset <= e.end:
		// As when settle was interrupted: up to the boundary it is whole.
		e.from = known
		e.from.fsynced = known.boundary
	case known.fsynced.offset > e.end:
		e.short = known.fsynced.offset - e.end
	default:
		e.from = known
	}
	if first && (e.lost || e.short > 0) {
		if w.marks, err = w.readTimeline(seg.From); err != nil {
			return err
		}
	}
	if o := w.written; o.Seq == seg.Seq && o.Offset > e.from.fsynced.offset {
		e.written = o
	}
	return nil
}

// drop counts what is in the segments from i on, which go.
func (w *walk) drop(i int) error {
	for _, seg := range w.timeline.Segments[i:] {
		st, err := os.Stat(w.gen.segment(seg.Seq))
		if ignoreMissing(err) != nil {
			return err
		}
		if err == nil {
			w.cut += max(st.Size()-seg.Header, 0)
		}
		if w.why == "" {
			w.why = fmt.Sprintf("segment %d is not whole, and those behind it were not fsynced", w.seg.Seq)
		}
	}
	return nil
}

// settle brings the files to what recovery found. A crash in between finds the
// same again: the record says where, before anything that it is found by goes.
func (s *state) settle(d disk) error {
	at := s.at.fsynced.offset
	for _, w := range s.walked {
		if err := w.keep(s.gen, d); err != nil {
			return err
		}
	}
	if err := d.syncDir(s.gen.aofs()); err != nil {
		return err
	}
	t, err := openTimeline(s.gen.timeline(), s.length, s.timeline.Last.Time, d)
	if err != nil {
		return err
	}
	defer t.close()
	if err := t.sync(); err != nil { // it tells of the segment that the record will name
		return err
	}
	if err := s.record(d); err != nil {
		return err
	}
	for _, w := range s.walked {
		if err := w.cut(s.gen, d); err != nil {
			return err
		}
	}
	s.timeline.cut(at)
	s.seg = s.timeline.Segments[len(s.timeline.Segments)-1]
	if s.seg.Seq != s.at.seq {
		return fmt.Errorf("%w: offset %d is in segment %d, and it says %d", ErrTimeline, at, s.at.seq, s.seg.Seq)
	}
	facts := append([]string{cutFact(at)}, s.reseal()...)
	if h := s.timeline.Histories; h[len(h)-1].ReplID != s.recovery.ReplID {
		// The last id held from a place that is cut off. It names all that
		// leads there too, and is what PSYNC will ask for.
		facts = append(facts, replidFact(s.recovery.ReplID, at))
	}
	if err := t.add(facts...); err != nil {
		return err
	}
	s.length = t.end
	return t.sync()
}

// reseal gives the facts that say where complete segments end, of those that
// were looked at, where a power cut took them and left the next segment's.
func (s *state) reseal() (facts []string) {
	for _, w := range s.walked[:len(s.walked)-1] {
		if seg := s.timeline.segment(int64(w.seg.Seq)); !seg.Sealed {
			seg.Sealed, seg.To, seg.CRC = true, w.end.offset, w.end.crc
			facts = append(facts, sealedFact(*seg))
		}
	}
	return facts
}

// keep makes durable what stays of a segment.
func (w walked) keep(gen generation, d disk) error {
	f, err := os.OpenFile(gen.segment(w.seg.Seq), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	from := w.seg.Position(w.trusted)
	if w.trusted == w.seg.From {
		from = 0 // with its header
	}
	if err := rewrite(f, d, from, w.seg.Position(w.end.offset)); err != nil {
		return err
	}
	return d.fdatasync(f)
}

// cut removes what does not stay of a segment, and gives back what was allocated
// ahead of it.
func (w walked) cut(gen generation, d disk) error {
	f, err := os.OpenFile(gen.segment(w.seg.Seq), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(w.seg.Position(w.end.offset)); err != nil {
		return err
	}
	return d.fdatasync(f)
}

// record writes down where the history ends now.
func (s *state) record(d disk) error {
	out, err := openFsynced(s.gen.fsynced(), s.at.serial, d)
	if err != nil {
		return err
	}
	defer out.close()
	for range slots { // the other slot may speak of what was cut
		if err := out.put(s.at); err != nil {
			return err
		}
	}
	s.at.serial = out.serial
	out.wrote(s.at.seq, s.at.fsynced) // nor may the third
	return nil
}

// renew writes the timeline anew without the lines that a power cut damaged,
// so that nobody is told of them for ever; and where an fsync failed, since the
// page cache may then hold lines that the disk does not. One that lacks the fact
// of a segment stays as it is, to be looked at.
func (s *state) renew(strict bool, d disk) error {
	if s.timeline.Damaged == 0 && !strict || s.timeline.gap() {
		return nil
	}
	in, err := os.Open(s.gen.timeline())
	if err != nil {
		return err
	}
	defer in.Close()
	path := s.gen.timeline() + tmpSuffix
	out, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	defer out.Close()
	lines := bufio.NewWriterSize(out, 64<<10)
	length := int64(0)
	_, _, err = readTimeline(io.LimitReader(in, s.length), visitor{line: func(raw []byte) {
		lines.Write(raw) // its error comes back by Flush
		length += int64(len(raw))
	}})
	if err != nil {
		return err
	}
	if err := lines.Flush(); err != nil {
		return err
	}
	if err := d.fdatasync(out); err != nil {
		return err
	}
	if err := os.Rename(path, s.gen.timeline()); err != nil {
		return err
	}
	if s.recovery.Why == "" && s.timeline.Damaged > 0 {
		s.recovery.Why = fmt.Sprintf("%d damaged lines were taken out of the timeline", s.timeline.Damaged)
	}
	s.length, s.timeline.Damaged = length, 0
	return d.syncDir(s.gen.dir)
}

// tidy has the manifest name what the timeline does, and removes the files of
// segments that it does not tell of: of those that were cut, and of one that
// was about to begin.
func (s *state) tidy(d disk) error {
	path := s.gen.aof(ManifestName)
	is, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.Equal(is, Manifest(s.seg.Seq)) {
		if err := s.gen.writeManifest(s.seg.Seq, d); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(s.gen.aofs())
	if err != nil {
		return err
	}
	for _, e := range entries {
		if n, ok := incrSeq(e.Name()); ok && n > s.seg.Seq || e.Name() == ManifestName+tmpSuffix {
			if err := os.Remove(s.gen.aof(e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// rewrite writes a part of a file over with what it holds. Bytes that were
// written but are not known to be fsynced may be in the page cache alone and
// count as clean there, after an fsync that failed: only a write makes the next
// fsync store them.
func rewrite(f *os.File, d disk, from, to int64) error {
	buf := make([]byte, 256<<10)
	for from < to {
		p := buf[:min(int64(len(buf)), to-from)]
		if _, err := f.ReadAt(p, from); err != nil {
			return err
		}
		if _, err := d.pwrite(f, p, from); err != nil {
			return err
		}
		from += int64(len(p))
	}
	return nil
}

// readTimeline reads the facts, and the marks beyond an offset that still hold.
func (s *state) readTimeline(beyond int64) (marks []Mark, err error) {
	f, err := os.Open(s.gen.timeline())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s.timeline, s.length, err = readTimeline(f, visitor{
		mark: func(m Mark) {
			if m.Offset > beyond {
				marks = thin(append(marks, m))
			}
		},
		cut: func(offset int64) {
			for len(marks) > 0 && marks[len(marks)-1].Offset > offset {
				marks = marks[:len(marks)-1]
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.gen.timeline(), err)
	}
	return marks, nil
}

// mostMarks bounds the memory for marks.
const mostMarks = 1 << 16

// thin drops every second mark when there are too many, but the newest never:
// each proves all that is before it, so only the steps between get longer.
func thin(marks []Mark) []Mark {
	if len(marks) < mostMarks {
		return marks
	}
	kept := marks[:0]
	for i := (len(marks) - 1) % 2; i < len(marks); i += 2 {
		kept = append(kept, marks[i])
	}
	return kept
}

// repairHeader writes the SELECT that opens a segment where it is missing or
// damaged: what it must be, the timeline says.
func repairHeader(f *os.File, seg Segment) error {
	want := seg.SelectHeader()
	if int64(len(want)) != seg.Header {
		return fmt.Errorf("%w: the header of segment %d is said to have %d bytes, SELECT %d has %d", ErrTimeline, seg.Seq, seg.Header, seg.DB, len(want))
	}
	got := make([]byte, len(want))
	if n, err := f.ReadAt(got, 0); err != nil && err != io.EOF {
		return err
	} else if string(got[:n]) == string(want) {
		return nil
	}
	_, err := f.WriteAt(want, 0)
	return err
}

// examiner reads a segment from a place that is known on, and finds how
// far it can be trusted.
type examiner struct {
	f      *os.File
	seg    Segment
	from   checkpoint // what is trusted, and where to begin
	end    int64      // offset where the file ends
	strict bool
	lost   bool  // no checkpoint is readable: trust what no mark speaks against
	short  int64 // so many fsynced bytes are missing at the end
	limits resp.Limits
	why    string
	// What was written last, as the process said that wrote it; zero when
	// nothing is said of bytes behind from.
	written Mark

	at      place
	scanner *resp.Scanner
	bad     error
}

// examine returns the last boundary that can be trusted, as fsynced and
// boundary both.
func (e *examiner) examine(marks []Mark) (checkpoint, error) {
	e.at = e.from.boundary
	e.scanner = resp.NewScanner(e.from.db, e.limits)
	// What was fsynced is there; read on to know its boundaries.
	if err := e.readTo(e.from.fsynced.offset); err != nil {
		return checkpoint{}, err
	}
	good := e.scanner.Boundary()
	if e.bad != nil || e.at.crc != e.from.fsynced.crc {
		// Rot, or a record from before a cut. The boundary is older than
		// both, and the master has the rest.
		e.why = fmt.Sprintf("the fsynced bytes before offset %d are not those that were written", e.at.offset)
		good = resp.Boundary{DB: e.from.db}
	}
	for _, m := range marks {
		if e.strict && !e.lost && e.short == 0 || e.bad != nil || e.why != "" || m.Offset > e.end {
			break
		}
		if err := e.check(m, &good); err != nil {
			return checkpoint{}, err
		}
	}
	if e.seg.Sealed && (!e.strict || e.lost) && e.bad == nil && e.why == "" && e.at.offset <= e.seg.To && e.seg.To <= e.end {
		if err := e.check(Mark{Offset: e.seg.To, CRC: e.seg.CRC}, &good); err != nil {
			return checkpoint{}, err
		}
	}
	if w := e.written; !e.strict && e.bad == nil && e.why == "" && w.Offset > e.at.offset && w.Offset <= e.end {
		if err := e.check(w, &good); err != nil {
			return checkpoint{}, err
		}
	}
	if (e.lost || e.short > 0) && !e.strict && e.why == "" && e.bad == nil {
		if err := e.readTo(e.end); err != nil {
			return checkpoint{}, err
		}
		good = e.scanner.Boundary()
	}
	cut := place{offset: e.from.boundary.offset + good.Offset}
	e.explain(cut.offset)
	var err error
	if cut.crc, err = e.crcTo(cut.offset); err != nil {
		return checkpoint{}, err
	}
	return checkpoint{seq: e.seg.Seq, fsynced: cut, boundary: cut, db: good.DB}, nil
}

// check walks up to a mark; where it is right, good becomes the last boundary
// before it.
func (e *examiner) check(m Mark, good *resp.Boundary) error {
	if err := e.readTo(m.Offset); err != nil {
		return err
	}
	if e.at.crc != m.CRC {
		e.why = fmt.Sprintf("the bytes before offset %d are not those that were received", m.Offset)
		return nil
	}
	*good = e.scanner.Boundary()
	return nil
}

// explain says why bytes are cut, unless that is known.
func (e *examiner) explain(cut int64) {
	switch {
	case e.why != "":
	case e.bad != nil:
		e.why = e.bad.Error()
	case e.lost:
		e.why = "the record of what was fsynced is damaged"
	case e.short > 0:
		e.why = fmt.Sprintf("%d fsynced bytes are missing at the end of the file", e.short)
	case cut < e.end:
		e.why = "not fsynced, or an unfinished command or transaction"
	}
}

// readTo walks the segment up to an offset, unless it is damaged before.
func (e *examiner) readTo(offset int64) error {
	buf := make([]byte, 256<<10)
	for e.at.offset < offset && e.bad == nil {
		p := buf[:min(int64(len(buf)), offset-e.at.offset)]
		if err := e.read(p); err != nil {
			return err
		}
		e.at.crc = crc32.Update(e.at.crc, castagnoli, p)
		e.at.offset += int64(len(p))
		for len(p) > 0 && e.bad == nil {
			n, _, err := e.scanner.Scan(p)
			p, e.bad = p[n:], err
		}
	}
	return nil
}

func (e *examiner) read(p []byte) error {
	_, err := e.f.ReadAt(p, e.seg.Header+e.at.offset-e.seg.From)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// crcTo computes the CRC of the segment's file up to an offset at or behind
// the place where examination began.
func (e *examiner) crcTo(offset int64) (uint32, error) {
	buf := make([]byte, 256<<10)
	e.at = e.from.boundary
	for e.at.offset < offset {
		p := buf[:min(int64(len(buf)), offset-e.at.offset)]
		if err := e.read(p); err != nil {
			return 0, err
		}
		e.at.crc = crc32.Update(e.at.crc, castagnoli, p)
		e.at.offset += int64(len(p))
	}
	return e.at.crc, nil
}
