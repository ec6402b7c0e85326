package archive

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
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
	trusted int64 // offset up to which a slot says that the segment is durable
	end     place // where it ends now
}

// recoverGeneration makes the end of a generation sound: it finds out how far
// the last segments can be trusted, cuts the history at the last boundary
// before that, and writes down that it did. strict trusts nothing that was not
// fsynced.
func recoverGeneration(gen generation, opt Options, strict bool) (*state, error) {
	f, err := os.OpenFile(gen.fsynced(), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	known, _ := readFsynced(f) // a slot that can't be read counts as lost

	s := &state{gen: gen}
	marks, err := s.readTimeline(known.newest.end.offset)
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
	e := &endSearch{state: s, disk: opt.disk, strict: strict, known: known, marks: marks}
	if err := e.run(); err != nil {
		return nil, err
	}
	s.at.serial = known.newest.serial
	s.recovery = Recovery{Generation: gen.number, ReplID: id, Offset: s.at.end.offset, Cut: e.cut, Why: e.why}
	inOrder := known.Found && !strict && len(s.walked) == 1 && e.why == "" && e.cut == 0 &&
		known.newest.end == s.at.end && known.newest.boundary == s.at.boundary && !s.timeline.beyond(s.at.end.offset)
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

// endSearch goes through the segments behind the last place that is known to be
// fsynced: after a power cut what was written to any of them may be lost.
type endSearch struct {
	*state
	disk   disk
	strict bool
	known  Fsynced
	marks  []Mark // of all segments behind known

	cut int64 // bytes that go
	why string
}

// run looks at one segment after the other, as long as they are whole.
func (s *endSearch) run() error {
	segments := s.timeline.Segments
	first := s.first()
	for i := first; ; i++ {
		e, err := s.open(i, i == first)
		if err != nil {
			return err
		}
		s.seg = segments[i]
		s.at, err = e.examine(s.marksOf(s.seg.Seq))
		e.f.Close()
		if err != nil {
			return err
		}
		at := s.at.end.offset
		s.walked = append(s.walked, walked{s.seg, min(e.from.end.offset, at), s.at.end})
		if s.follows(i) && at == segments[i+1].From {
			continue
		}
		s.cut, s.why = e.end-at, e.why
		return s.drop(i + 1)
	}
}

// lost says that no slot names a segment of the timeline.
func (s *endSearch) lost() bool {
	return !s.known.Found || s.timeline.segment(int64(s.known.newest.seq)) == nil
}

// first is the segment where to begin: the one that the slot names, or, where
// that is lost, the one behind the last that was read again, as that was
// durable before.
func (s *endSearch) first() int {
	segments, lost := s.timeline.Segments, s.lost()
	for i := range segments {
		if !lost && segments[i].Seq == s.known.newest.seq {
			return i
		}
	}
	for i := len(segments) - 1; i > 0; i-- {
		if segments[i-1].Verified || segments[i-1].Damaged {
			return i
		}
	}
	return 0
}

// follows says whether the timeline goes on behind a segment without a gap.
func (s *endSearch) follows(i int) bool {
	if i+1 >= len(s.timeline.Segments) {
		return false
	}
	seg, next := s.timeline.Segments[i], s.timeline.Segments[i+1]
	return next.Seq == seg.Seq+1 && (!seg.Sealed || seg.To == next.From)
}

// marksOf gives the marks of a segment.
func (s *endSearch) marksOf(seq int) []Mark {
	return slices.DeleteFunc(slices.Clone(s.marks), func(m Mark) bool { return m.Seq != seq })
}

// open prepares to look at a segment. All but the first one may be missing:
// their names may not have been durable.
func (s *endSearch) open(i int, first bool) (*examiner, error) {
	seg := s.timeline.Segments[i]
	if err := s.disk.detach(s.gen.segment(seg.Seq)); err != nil {
		return nil, err
	}
	flags := os.O_RDWR
	if !first {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(s.gen.segment(seg.Seq), flags, 0o640)
	if err != nil {
		return nil, err
	}
	e := &examiner{
		f: f, seg: seg, from: seg.start(), written: s.known.Written,
		strict: s.strict, lost: s.lost(),
	}
	if err = repairHeader(f, seg); err == nil {
		err = s.begin(e, i, first)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return e, nil
}

// begin says from where on a segment is to be read, and how far.
func (s *endSearch) begin(e *examiner, i int, first bool) error {
	st, err := e.f.Stat()
	if err != nil {
		return err
	}
	e.end = e.seg.From + st.Size() - e.seg.Header
	switch {
	case e.seg.Sealed:
		e.end = min(e.end, e.seg.To)
	case s.follows(i): // its line was lost
		e.end = min(e.end, s.timeline.Segments[i+1].From)
	}
	if !first {
		return nil
	}
	switch known := s.known.newest; {
	case e.lost:
	case known.end.offset <= e.end:
		e.from = known
	case known.boundary.offset <= e.end:
		// As when settle was interrupted: up to the boundary it is whole.
		e.from = known
		e.from.end = known.boundary
	default:
		e.short = known.end.offset - e.end
	}
	if e.lost || e.short > 0 {
		s.marks, err = s.readTimeline(e.seg.From)
	}
	return err
}

// drop counts what is in the segments from i on, which go.
func (s *endSearch) drop(i int) error {
	for _, seg := range s.timeline.Segments[i:] {
		st, err := os.Stat(s.gen.segment(seg.Seq))
		if ignoreMissing(err) != nil {
			return err
		}
		if err == nil {
			s.cut += max(st.Size()-seg.Header, 0)
		}
		if s.why == "" {
			s.why = fmt.Sprintf("segment %d is not whole, and those behind it were not fsynced", s.seg.Seq)
		}
	}
	return nil
}

// settle brings the files to what recovery found. After a crash in between the
// next recovery finds the same: the slots say where the history ends before
// anything goes that recovery found it by.
func (s *state) settle(d disk) error {
	at := s.at.end.offset
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
	// Once a slot names the last segment, no recovery looks at those before.
	if facts := s.reseal(); len(facts) > 0 {
		if err := t.add(facts...); err != nil {
			return err
		}
	}
	if err := t.sync(); err != nil { // it has the segment that the slots will name
		return err
	}
	if err := s.record(d); err != nil {
		return err
	}
	for _, w := range s.walked {
		if err := d.truncate(s.gen.segment(w.seg.Seq), w.seg.Position(w.end.offset)); err != nil {
			return err
		}
	}
	s.timeline.cut(at)
	s.seg = s.timeline.Segments[len(s.timeline.Segments)-1]
	if s.seg.Seq != s.at.seq {
		return fmt.Errorf("%w: offset %d is in segment %d, and it says %d", ErrTimeline, at, s.at.seq, s.seg.Seq)
	}
	facts := []string{cutFact(at)}
	if h := s.timeline.Histories; h[len(h)-1].ReplID != s.recovery.ReplID {
		// The last id held from a place that is cut off. It names all that
		// leads there too, and is what PSYNC will ask for.
		facts = append(facts, replidFact(s.recovery.ReplID, at))
		s.timeline.Histories = append(h, History{s.recovery.ReplID, at})
	}
	if err := t.add(facts...); err != nil {
		return err
	}
	s.length = t.end
	return t.sync()
}

// reseal gives the facts that say where complete segments end, of those that
// were looked at, where a power cut took the facts and left the next segment's.
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
	out.wrote(s.at.seq, s.at.end) // nor may the third
	return nil
}

// renew writes the timeline anew without the lines that a power cut damaged,
// so that nobody is told of them for ever; and where an fsync failed, since the
// page cache may then hold lines that the disk does not. A timeline that lacks
// the fact of a segment stays as it is, to be looked at.
func (s *state) renew(strict bool, d disk) error {
	if s.timeline.Damaged == 0 && !strict || s.timeline.gap() {
		return nil
	}
	in, err := os.Open(s.gen.timeline())
	if err != nil {
		return err
	}
	defer in.Close()
	length := int64(0)
	err = d.replace(s.gen.timeline(), func(out *os.File) error {
		lines := bufio.NewWriterSize(out, 64<<10)
		_, _, err := readTimeline(io.LimitReader(in, s.length), visitor{line: func(raw []byte) {
			lines.Write(raw) // its error comes back by Flush
			length += int64(len(raw))
		}})
		if err != nil {
			return err
		}
		return lines.Flush()
	})
	if err != nil {
		return err
	}
	if s.recovery.Why == "" && s.timeline.Damaged > 0 {
		s.recovery.Why = fmt.Sprintf("%d damaged lines were taken out of the timeline", s.timeline.Damaged)
	}
	s.length, s.timeline.Damaged = length, 0
	return nil
}

// tidy has the manifest name the segments of the timeline, and removes the
// files of segments that the timeline does not have: of those that were cut,
// and of one that was about to begin.
func (s *state) tidy(d disk) error {
	path := s.gen.aof(ManifestName)
	is, err := os.ReadFile(path)
	if ignoreMissing(err) != nil {
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

// rewrite overwrites a part of a file with what the file holds. After an fsync
// that failed, bytes may be in the page cache alone and count as clean there:
// only a write makes the next fsync store them.
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
	s.timeline, s.length, err = s.gen.readTimeline(visitor{
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

// thin drops every second mark when there are too many, but never the newest.
// Each mark proves all that is before it, so only the steps between get longer.
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
