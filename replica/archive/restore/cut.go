package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"replicad/replica/archive"
	"replicad/replica/rdb"
	"replicad/replica/resp"
)

// findCut finds the last boundary that is not behind point. It returns the
// segments before it, of which the last one's To is the boundary. It checks what
// is cheap to check: the header of the base, how long the files are, and all of
// the segment that is cut.
func findCut(ctx context.Context, r *archive.Reader, point int64) ([]archive.Segment, error) {
	if err := checkBase(r); err != nil {
		return nil, err
	}
	last := 0
	for last+1 < len(r.Segments) && r.Segments[last+1].From < point {
		last++
	}
	for k := range last + 1 {
		if err := checkSegment(r, k, k < last); err != nil {
			return nil, err
		}
	}
	segments := slices.Clone(r.Segments[:last+1])
	var err error
	segments[last].To, err = scanTo(ctx, r, segments[last], point)
	return segments, err
}

// in names the generation in an error that says what is damaged.
func in(r *archive.Reader, err error) error {
	var damaged *DamagedError
	if errors.As(err, &damaged) {
		damaged.Generation = r.Number
	}
	return err
}

func checkBase(r *archive.Reader) error {
	bad := &DamagedError{File: r.BasePath(), Offset: -1, Sound: -1}
	if want := r.Timeline.BaseSize; r.BaseSize != want {
		bad.Byte, bad.Err = min(r.BaseSize, want), fmt.Errorf("it has %d bytes, not %d", r.BaseSize, want)
		return bad
	}
	f, err := os.Open(r.BasePath())
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = rdb.ReadHeader(f)
	if errors.Is(err, rdb.ErrNotRDB) || errors.Is(err, rdb.ErrMalformed) {
		bad.Err = err
		return bad
	}
	return err
}

// checkSegment checks that a segment follows upon the one before, that it opens
// with its SELECT, and, if it is to be restored whole, that it is whole.
func checkSegment(r *archive.Reader, k int, whole bool) error {
	seg := r.Segments[k]
	bad := &DamagedError{File: r.SegmentPath(seg), Offset: seg.From, Sound: seg.From}
	before := archive.Segment{To: r.Timeline.BaseOffset}
	if k > 0 {
		before = r.Segments[k-1]
	} else {
		bad.Sound = -1
	}
	if seg.From != before.To || seg.Seq != before.Seq+1 {
		bad.File, bad.Offset, bad.Sound = filepath.Join(r.Dir, archive.TimelineName), before.To, before.To
		bad.Err = fmt.Errorf("it does not say where segment %d begins", before.Seq+1)
		return bad
	}
	if seg.Damaged && whole {
		bad.Err = errors.New("it was read again, and is not what was written to it")
		return bad
	}
	f, err := os.Open(r.SegmentPath(seg))
	if errors.Is(err, os.ErrNotExist) {
		bad.Err = err
		return bad
	}
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	least := seg.Header
	if whole {
		least = seg.Size()
	}
	if st.Size() < least {
		bad.Byte, bad.Offset = st.Size(), seg.From+max(st.Size()-seg.Header, 0)
		bad.Err = fmt.Errorf("it has %d bytes, not %d: %w", st.Size(), least, io.ErrUnexpectedEOF)
		return bad
	}
	header, right, err := seg.ReadHeader(f)
	if err != nil {
		return err
	}
	if want := seg.SelectHeader(); !right || seg.Header != int64(len(want)) {
		bad.Err = fmt.Errorf("it opens with %q, not with %q", header, want)
		return bad
	}
	return nil
}

// scan walks the segment that is cut.
type scan struct {
	*archive.Walk
	ctx    context.Context
	path   string
	seg    archive.Segment
	proved int64 // the last boundary before a mark that was right; -1 before the first
}

// scanTo returns the last boundary of a segment up to an offset. On the way it
// checks the marks of the timeline, each of which has the checksum of all
// before it: they show damage inside a value, too.
func scanTo(ctx context.Context, r *archive.Reader, seg archive.Segment, offset int64) (int64, error) {
	f, err := os.Open(r.SegmentPath(seg))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	s := &scan{Walk: seg.Walk(f), ctx: ctx, path: f.Name(), seg: seg, proved: -1}
	var bad error
	err = r.Marks(func(m archive.Mark) bool {
		if m.Seq == seg.Seq && m.Offset > s.At() && m.Offset <= offset {
			bad = s.check(m)
		}
		return bad == nil && m.Offset < offset
	})
	if err = errors.Join(bad, err); err != nil {
		return 0, err
	}
	if err := s.readTo(offset); err != nil {
		return 0, err
	}
	return s.boundary(), nil
}

func (s *scan) boundary() int64 {
	offset, _ := s.Boundary()
	return offset
}

// check reads up to a mark.
func (s *scan) check(m archive.Mark) error {
	if err := s.readTo(m.Offset); err != nil {
		return err
	}
	if s.CRC() != m.CRC {
		from := max(s.proved, s.seg.From)
		e := s.damaged(from, "the bytes from there up to offset %d are not those that were received", m.Offset)
		e.Sound = from
		return e
	}
	s.proved = s.boundary()
	return nil
}

// readTo walks on to an offset.
func (s *scan) readTo(offset int64) error {
	err := s.To(s.ctx, offset)
	var broken *resp.ProtocolError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return s.damaged(s.At(), "the file ends there, before offset %d: %w", offset, err)
	case errors.As(err, &broken):
		return s.damaged(s.Parsed(), "%s", broken.Reason)
	}
	return err
}

// damaged says that the segment's file is damaged behind an offset. What is
// before is sound up to the last right mark, or, where there was none, up to
// the last boundary.
func (s *scan) damaged(offset int64, format string, args ...any) *DamagedError {
	e := &DamagedError{
		File: s.path, Byte: s.seg.Position(offset), Offset: offset,
		Sound: s.proved, Err: fmt.Errorf(format, args...),
	}
	if s.proved < 0 {
		e.Sound = s.boundary()
	}
	return e
}

// DamagedError says which file of an archive is damaged, and what can be
// restored instead.
type DamagedError struct {
	File   string
	Byte   int64 // of the file, from 0
	Offset int64 // the replication offset there; -1 in a base
	Sound  int64 // the last offset before it that can be restored; -1 for none in this generation
	// Generation has the file: another one may have other data at the offset.
	Generation int
	Err        error // what is wrong there
}

// Error says what to restore instead.
func (e *DamagedError) Error() string {
	text := fmt.Sprintf("%s: %v at byte %d", e.File, archive.ErrDamaged, e.Byte)
	if e.Offset >= 0 {
		text += fmt.Sprintf(" (offset %d)", e.Offset)
	}
	if e.Sound < 0 {
		return fmt.Sprintf("%s: %v; nothing of this generation can be restored", text, e.Err)
	}
	return fmt.Sprintf("%s: %v; it can be restored up to there with --generation %d --to offset:%d", text, e.Err, e.Generation, e.Sound)
}

// Unwrap returns archive.ErrDamaged and the cause.
func (e *DamagedError) Unwrap() []error { return []error{archive.ErrDamaged, e.Err} }

// short says whether a file was missing or ended too early. A daemon that has
// just started may have cut it.
func short(err error) bool {
	return errors.Is(err, archive.ErrDamaged) && (errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, fs.ErrNotExist))
}
