package archive

import (
	"bytes"
	"context"
	"hash/crc32"
	"io"
	"strconv"

	"replicad/replica/resp"
)

// Segment is one INCR file of a generation.
type Segment struct {
	Seq    int   // from 1
	From   int64 // the offset behind which it starts
	DB     int   // the database its header selects
	Header int64 // bytes before the stream's

	Sealed   bool   // it is complete
	To       int64  // where it ends; of a segment that is not sealed only a Reader knows
	CRC      uint32 // CRC-32C of the file; of a sealed one
	Verified bool   // it was read again, and is what was written
	Damaged  bool   // it was read again, and is not
	// Content is what a ContentReader found in it; "" where none did, or a
	// restore must read the segment itself.
	Content string
}

// newSegment is a segment that begins behind offset from, with db selected.
func newSegment(seq int, from int64, db int) Segment {
	s := Segment{Seq: seq, From: from, DB: db}
	s.Header = int64(len(s.SelectHeader()))
	return s
}

// start is the checkpoint of a segment that holds its header and no more.
func (s Segment) start() checkpoint {
	at := place{s.From, crc32.Checksum(s.SelectHeader(), castagnoli)}
	return checkpoint{seq: s.Seq, end: at, boundary: at, db: s.DB}
}

// SelectHeader is the command that a segment opens with, Header bytes long:
// redis-server starts every file in database 0.
func (s Segment) SelectHeader() []byte {
	return resp.AppendCommand(nil, "SELECT", strconv.Itoa(s.DB))
}

// ReadHeader reads what the segment's file opens with. right says whether that
// is SelectHeader.
func (s Segment) ReadHeader(f io.ReaderAt) (got []byte, right bool, err error) {
	want := s.SelectHeader()
	got = make([]byte, len(want))
	n, err := f.ReadAt(got, 0)
	if err == io.EOF {
		err = nil
	}
	return got[:n], bytes.Equal(got[:n], want), err
}

// Size is the length of the segment's file in bytes.
func (s Segment) Size() int64 { return s.Header + s.To - s.From }

// Position is where the byte behind offset lies in the segment's file.
func (s Segment) Position(offset int64) int64 { return s.Header + offset - s.From }

// Walk reads a segment from a place on, in order. It keeps the CRC-32C of the
// file up to where it is, and the last command boundary.
type Walk struct {
	file    io.ReaderAt
	seg     Segment
	scanner *resp.Scanner // nil: the bytes are not parsed
	from    int64         // offset where the scanner began
	at      place
	broken  bool                 // the scanner found no well-formed command
	each    func(p []byte) error // is given what was read; nil for nobody
	found   func(from, to int64) error
	buf     []byte
}

// Walk begins to read the segment's file behind its header, which the caller
// has checked.
func (s Segment) Walk(file io.ReaderAt) *Walk {
	start := s.start()
	return s.walkFrom(file, start.boundary, resp.NewScanner(start.db, resp.Limits{}))
}

// Watch has To call found with the offsets of each command that asks says true
// of; asks is that of [resp.Scanner]. An error of found ends To.
func (w *Walk) Watch(asks func(name []byte, args uint64) bool, found func(from, to int64) error) {
	w.scanner.Watch, w.found = asks, found
}

func (s Segment) walkFrom(file io.ReaderAt, at place, scanner *resp.Scanner) *Walk {
	return &Walk{file: file, seg: s, scanner: scanner, from: at.offset, at: at}
}

// To reads up to an offset. The error is ctx's or the file's,
// io.ErrUnexpectedEOF where the file ends before the offset, or a
// [*resp.ProtocolError]: the segment's bytes are then read and parsed up to
// there, and the next To goes on without parsing.
func (w *Walk) To(ctx context.Context, offset int64) error {
	for w.at.offset < offset {
		if err := ctx.Err(); err != nil {
			return err
		}
		if w.buf == nil {
			w.buf = make([]byte, 256<<10)
		}
		p := w.buf[:min(int64(len(w.buf)), offset-w.at.offset)]
		n, err := w.file.ReadAt(p, w.seg.Position(w.at.offset))
		w.at = w.at.behind(p[:n])
		if w.each != nil {
			if err := w.each(p[:n]); err != nil {
				return err
			}
		}
		if err := w.scan(p[:n]); err != nil {
			return err
		}
		switch {
		case n == len(p):
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		default:
			return err
		}
	}
	return nil
}

func (w *Walk) scan(p []byte) error {
	for len(p) > 0 && w.scanner != nil && !w.broken {
		n, kind, err := w.scanner.Scan(p)
		if err != nil {
			w.broken = true
			return err
		}
		p = p[n:]
		if kind == resp.Watched {
			if err := w.found(w.from+w.scanner.CommandStart(), w.from+w.scanner.CommandEnd()); err != nil {
				return err
			}
		}
	}
	return nil
}

// Rest gives the walk's memory back until the next To.
func (w *Walk) Rest() { w.buf = nil }

// At is the offset of the last byte that was read.
func (w *Walk) At() int64 { return w.at.offset }

// CRC is the CRC-32C of the segment's file up to At.
func (w *Walk) CRC() uint32 { return w.at.crc }

// Boundary is the last command boundary outside MULTI at or before At, and DB
// the database that is selected there.
func (w *Walk) Boundary() (offset int64, db int) {
	b := w.scanner.Boundary()
	return w.from + b.Offset, b.DB
}

// Parsed is the offset up to which the bytes are well-formed.
func (w *Walk) Parsed() int64 { return w.from + w.scanner.Scanned() }

// HighestDB is the highest database that the segment selects.
func (w *Walk) HighestDB() int { return w.scanner.HighestDB() }

// Commands counts the commands that are complete.
func (w *Walk) Commands() int64 { return w.scanner.Commands() }
