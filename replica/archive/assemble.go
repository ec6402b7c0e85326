package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Assembly says what a generation is made of whose bytes come from elsewhere, as
// from object storage.
type Assembly struct {
	Number     int
	BaseOffset int64
	BaseSize   int64
	BaseTime   time.Time
	BaseCRC    uint32 // CRC-32C of the base
	Since      Moment // as [Timeline] has it; zero where no generation was taken over
	Fork       Fork
	Histories  []History // at least one
	// Segments follow one upon the other from BaseOffset on; at least one. Of
	// each, From, To and DB hold.
	Segments []Segment
	// Marks are in the order of their offsets. Of each, Time and Offset hold.
	Marks []Mark
}

// Assemble makes the generation in the archive folder dir, which it makes where
// there is none. The base and the segments are files of the right length, without
// a byte of the stream: List and Locate answer as of a whole archive. The caller
// writes the bytes to the files that the [Reader] names, and calls Settle then.
// It is no archive that a daemon may write, and nothing of it is durable.
func Assemble(dir string, a Assembly) error {
	gen := generationIn(dir, a.Number)
	if err := os.MkdirAll(gen.aofs(), 0o750); err != nil {
		return err
	}
	if err := sparse(gen.base(), nil, a.BaseSize); err != nil {
		return err
	}
	for i := range a.Segments {
		s := a.segment(i)
		if err := sparse(gen.segment(s.Seq), s.SelectHeader(), s.Size()); err != nil {
			return err
		}
	}
	if err := os.WriteFile(gen.aof(ManifestName), Manifest(len(a.Segments)), 0o640); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, lockName), nil, 0o640); err != nil {
		return err
	}
	return a.write(gen, make([]uint32, len(a.Marks)), make([]uint32, len(a.Segments)), 0)
}

// sparse makes a file of a size that begins with some bytes.
func sparse(path string, head []byte, size int64) error {
	return errors.Join(os.WriteFile(path, head, 0o640), os.Truncate(path, size))
}

// segment is a segment as a generation has it.
func (a Assembly) segment(i int) Segment {
	s := newSegment(i+1, a.Segments[i].From, a.Segments[i].DB)
	s.To = a.Segments[i].To
	return s
}

// Settle has the generation say that the base, and the first segments, now hold
// what they are to hold. It reads those segments for the checksums of the marks.
func (a Assembly) Settle(ctx context.Context, dir string, segments int) error {
	gen := generationIn(dir, a.Number)
	marks, sums := make([]uint32, len(a.Marks)), make([]uint32, len(a.Segments))
	next := 0
	for i := range segments {
		s := a.segment(i)
		f, err := os.Open(gen.segment(s.Seq))
		if err != nil {
			return err
		}
		w := s.walkFrom(f, s.start().boundary, nil)
		for ; next < len(a.Marks) && a.Marks[next].Offset <= s.To && err == nil; next++ {
			err = w.To(ctx, a.Marks[next].Offset)
			marks[next] = w.CRC()
		}
		err = cmp.Or(err, w.To(ctx, s.To))
		sums[i] = w.CRC()
		f.Close()
		if err != nil {
			return fmt.Errorf("segment %d: %w", s.Seq, err)
		}
	}
	return a.write(gen, marks, sums, segments)
}

// write writes the timeline. The first segments are whole.
func (a Assembly) write(gen generation, marks, sums []uint32, whole int) error {
	f, err := os.Create(gen.timeline())
	if err != nil {
		return err
	}
	t := &timelineFile{f: f, disk: realDisk()}
	defer t.close()
	facts := []string{timelineVersion, baseFact(a.BaseOffset, a.BaseSize, a.BaseTime), replidFact(a.Histories[0].ReplID, a.BaseOffset)}
	if whole > 0 {
		facts = append(facts, verifiedBaseFact(a.BaseCRC))
	}
	if !a.Since.Time.IsZero() {
		facts = append(facts, sinceFact(a.Since.Time, a.Since.Offset))
	}
	if a.Fork != (Fork{}) {
		facts = append(facts, forkFact(a.Fork.Offset, a.Fork.Generation))
	}
	ids, next := 1, 0
	upTo := func(offset int64) { // what the timeline has of the history up to there
		for ; next < len(a.Marks) && a.Marks[next].Offset <= offset; next++ {
			m := a.Marks[next]
			m.CRC = marks[next]
			facts = append(facts, t.marked(m)...)
		}
	}
	for i := range a.Segments {
		s := a.segment(i)
		facts = append(facts, segmentFact(s))
		for ; ids < len(a.Histories) && a.Histories[ids].From < s.To; ids++ {
			upTo(a.Histories[ids].From)
			facts = append(facts, replidFact(a.Histories[ids].ReplID, a.Histories[ids].From))
		}
		upTo(s.To)
		if i+1 == len(a.Segments) {
			break // it is the one that a log would go on in
		}
		s.CRC = sums[i]
		facts = append(facts, sealedFact(s))
		if i < whole {
			facts = append(facts, examinedSegmentFact(s.Seq, true))
		}
	}
	return t.add(facts...)
}
