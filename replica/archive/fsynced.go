package archive

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"strings"
)

// The file fsynced says how far a generation is durable. It has two slots, a
// page apart. They are written in turn, and each is fsynced after the data that
// it speaks of: when a power cut tears one, the other still holds. A slot is
// one line of durableForm, sealed like those of the timeline and padded with
// spaces. Everything up to its first offset was fsynced; the boundary is the
// last one at or before it; the CRCs are those of the segment's file up to
// there.
//
// A third slot, of storedForm, says how far the data is stored. It is written
// with each write of data, and not fsynced. So after kill -9 all that was
// acknowledged is known to be sound, though the last mark of the timeline may
// be 100 ms old. After a power cut the slot counts for as much as its CRC
// proves.
const (
	slotSize   = 256
	slotStride = 4096
	slots      = 2
	storedSlot = slots // behind the others
)

// place is an offset with what is needed to go on from there.
type place struct {
	offset int64
	crc    uint32 // CRC-32C of the segment's file up to there
}

// behind is the place behind more bytes.
func (p place) behind(b []byte) place {
	return place{p.offset + int64(len(b)), crc32.Update(p.crc, castagnoli, b)}
}

// checkpoint is the content of a slot.
type checkpoint struct {
	serial   int64
	seq      int
	end      place // all up to there was fsynced
	boundary place // the last one at or before end
	db       int   // the database selected there
}

// encode gives the slot's bytes.
func (c checkpoint) encode() []byte {
	return slot(fmt.Appendf(make([]byte, 0, slotSize), durableForm,
		c.end.offset, c.seq, c.end.crc, c.boundary.offset, c.db, c.boundary.crc, c.serial))
}

// slot seals a line and pads it.
func slot(line []byte) []byte {
	line = seal(line)
	for len(line) < slotSize-1 {
		line = append(line, ' ')
	}
	return append(line, '\n')
}

// Fsynced is what the file fsynced of a generation says.
type Fsynced struct {
	Found   bool    // one of the two slots checks
	Written Mark    // up to there it is stored; zero where nothing says so
	Damaged []int64 // where the slots begin that neither check nor are blank

	newest checkpoint // of the slots that check
}

// Durable is the place up to which the generation is fsynced, without a time.
func (r Fsynced) Durable() Mark {
	return Mark{Offset: r.newest.end.offset, CRC: r.newest.end.crc, Seq: r.newest.seq}
}

// Boundary is the last boundary at or before Durable, without a time.
func (r Fsynced) Boundary() Mark {
	return Mark{Offset: r.newest.boundary.offset, CRC: r.newest.boundary.crc, Seq: r.newest.seq}
}

// ReadFsynced reads the file fsynced. Beside a running daemon a slot may be
// read while it is written.
func (g Generation) ReadFsynced() (Fsynced, error) {
	f, err := os.Open(generation{dir: g.Dir}.fsynced())
	if err != nil {
		return Fsynced{}, err
	}
	defer f.Close()
	return readFsynced(f)
}

// readFsynced reads the slots. Beside an error it says what the readable ones
// hold.
func readFsynced(f io.ReaderAt) (r Fsynced, err error) {
	buf := make([]byte, slotSize)
	for i := range int64(slots + 1) {
		n, e := f.ReadAt(buf, i*slotStride)
		if e != nil && e != io.EOF {
			err = e
		}
		text := string(buf[:n])
		line, sound := unseal(strings.TrimRight(text, " \n"))
		sound = sound && r.take(i, line)
		// What stands behind the line is checked, too, but costs no slot.
		blank := strings.Trim(text, " \n\x00") == ""
		if !blank && (!sound || string(slot([]byte(line))) != text) {
			r.Damaged = append(r.Damaged, i*slotStride)
		}
	}
	return r, err
}

// take takes what a slot says.
func (r *Fsynced) take(i int64, line string) (ok bool) {
	var n values
	if i == storedSlot {
		if n, ok = parse(storedForm, line); ok {
			r.Written = Mark{Offset: n[0], Seq: int(n[1]), CRC: uint32(n[2])}
		}
		return ok
	}
	if n, ok = parse(durableForm, line); ok && (!r.Found || n[6] > r.newest.serial) {
		r.Found = true
		r.newest = checkpoint{
			end: place{n[0], uint32(n[2])}, seq: int(n[1]),
			boundary: place{n[3], uint32(n[5])}, db: int(n[4]), serial: n[6],
		}
	}
	return ok
}

// fsyncedFile writes the slots.
type fsyncedFile struct {
	f      *os.File
	disk   disk
	serial int64
	buf    [slotSize]byte // of the third slot
}

// blankFsynced is the file with its full length, so that writing a slot later
// never needs room, and with one slot.
func blankFsynced(c checkpoint) []byte {
	p := bytes.Repeat([]byte{' '}, slotStride*storedSlot+slotSize)
	copy(p, c.encode())
	return p
}

func openFsynced(path string, serial int64, d disk) (*fsyncedFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	return &fsyncedFile{f: f, disk: d, serial: serial}, nil
}

// put writes a checkpoint over the older slot and makes it durable. The data
// that it speaks of must be durable.
func (s *fsyncedFile) put(c checkpoint) error {
	c.serial = s.serial + 1
	if _, err := s.disk.pwrite(s.f, c.encode(), c.serial%slots*slotStride); err != nil {
		return err
	}
	s.serial = c.serial
	return fsynced(s.disk.fdatasync(s.f))
}

// wrote writes the third slot, without allocating. The slot is no more than a
// hint, and so is an error.
func (s *fsyncedFile) wrote(seq int, at place) {
	p := strconv.AppendInt(append(s.buf[:0], "written "...), at.offset, 10)
	p = strconv.AppendInt(append(p, " segment "...), int64(seq), 10)
	p = appendCRC(append(p, " crc "...), at.crc)
	_, _ = s.disk.pwrite(s.f, slot(p), storedSlot*slotStride)
}

func (s *fsyncedFile) close() error { return s.f.Close() }
