package archive

import (
	"context"
	"errors"
	"fmt"
	"os"

	"replicad/replica/resp"
)

// examiner reads a segment on from a place that is known, and finds how far the
// segment can be trusted.
//
// Up to where a slot of the file fsynced says, the bytes are there, and their
// CRC-32C has to be the slot's. What proves the bytes behind depends on how the
// file was left. The word is lost where no slot can be read, and broken where
// the file is shorter than the slot says. An archive is opened strictly after
// an fsync that failed: the page cache may then hold what the disk does not.
//
//	                          the word holds   it is lost or broken
//	                          usual  strict    usual  strict
//	marks of the timeline     yes    no        yes    yes
//	the CRC of the "sealed"   yes    no        yes    yes
//	the third slot, "written" yes    no        yes    no
//	well-formed commands      no     no        yes    no
//
// The first of them that turns out wrong ends the search.
type examiner struct {
	f       *os.File
	seg     Segment
	from    checkpoint // what is trusted, and where to begin
	end     int64      // offset where the file ends
	written Mark       // what the third slot says

	strict bool
	lost   bool  // no slot can be read
	short  int64 // how many fsynced bytes are missing at the end

	walk *Walk
	good resp.Boundary // the last boundary that is trusted, from from.boundary on
	why  string        // why the bytes behind are not
}

// examine returns the last boundary that can be trusted, as end and boundary
// both.
func (e *examiner) examine(marks []Mark) (checkpoint, error) {
	e.walk = e.seg.walkFrom(e.f, e.from.boundary, resp.NewScanner(e.from.db, resp.Limits{}))
	e.good = resp.Boundary{DB: e.from.db}
	if err := e.durable(); err != nil {
		return checkpoint{}, err
	}
	for _, m := range e.proofs(marks) {
		if err := e.prove(m); err != nil {
			return checkpoint{}, err
		}
	}
	if (e.lost || e.short > 0) && !e.strict && e.why == "" {
		if err := e.to(e.end); err != nil {
			return checkpoint{}, err
		}
		e.good = e.walk.scanner.Boundary()
	}
	cut := e.from.boundary.offset + e.good.Offset
	e.explain(cut)
	again := e.seg.walkFrom(e.f, e.from.boundary, nil)
	if err := again.To(context.Background(), cut); err != nil {
		return checkpoint{}, err
	}
	return checkpoint{seq: e.seg.Seq, end: again.at, boundary: again.at, db: e.good.DB}, nil
}

// durable reads what was fsynced: it is there, and only its boundaries are not
// known.
func (e *examiner) durable() error {
	if err := e.to(e.from.end.offset); err != nil {
		return err
	}
	if e.why != "" || e.walk.at.crc != e.from.end.crc {
		// Rot, or a slot from before a cut. The boundary is older than both,
		// and the master has the rest.
		e.why = fmt.Sprintf("the fsynced bytes before offset %d are not those that were written", e.walk.at.offset)
		return nil
	}
	e.good = e.walk.scanner.Boundary()
	return nil
}

// proofs gives the places whose CRC-32C is known, in order, of those that the
// table trusts.
func (e *examiner) proofs(marks []Mark) (all []Mark) {
	if !e.strict || e.lost || e.short > 0 {
		all = append(all, marks...)
		if e.seg.Sealed {
			all = append(all, Mark{Offset: e.seg.To, CRC: e.seg.CRC})
		}
	}
	if !e.strict && e.written.Seq == e.seg.Seq {
		all = append(all, e.written)
	}
	return all
}

// prove reads up to a place whose CRC is known. Where the CRC is right, all
// before is what was received.
func (e *examiner) prove(m Mark) error {
	if e.why != "" || m.Offset <= e.walk.at.offset || m.Offset > e.end {
		return nil
	}
	if err := e.to(m.Offset); err != nil {
		return err
	}
	if e.walk.at.crc != m.CRC {
		e.why = fmt.Sprintf("the bytes before offset %d are not those that were received", m.Offset)
		return nil
	}
	e.good = e.walk.scanner.Boundary()
	return nil
}

// to reads up to an offset. Where the commands are not well-formed it stops,
// and why says so.
func (e *examiner) to(offset int64) error {
	err := e.walk.To(context.Background(), offset)
	var broken *resp.ProtocolError
	if errors.As(err, &broken) {
		e.why = broken.Error()
		return nil
	}
	return err
}

// explain says why bytes are cut, unless that is known.
func (e *examiner) explain(cut int64) {
	switch {
	case e.why != "":
	case e.lost:
		e.why = "the record of what was fsynced is damaged"
	case e.short > 0:
		e.why = fmt.Sprintf("%d fsynced bytes are missing at the end of the file", e.short)
	case cut < e.end:
		e.why = "not fsynced, or an unfinished command or transaction"
	}
}

// repairHeader writes the SELECT that opens a segment where it is missing or
// damaged: what it must be, the timeline says.
func repairHeader(f *os.File, seg Segment) error {
	want := seg.SelectHeader()
	if int64(len(want)) != seg.Header {
		return fmt.Errorf("%w: the header of segment %d is said to have %d bytes, SELECT %d has %d", ErrTimeline, seg.Seq, seg.Header, seg.DB, len(want))
	}
	_, right, err := seg.ReadHeader(f)
	if err != nil || right {
		return err
	}
	_, err = f.WriteAt(want, 0)
	return err
}
