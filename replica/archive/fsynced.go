package archive

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
)

// The file fsynced says how far a generation is durable. It has two slots, a
// page apart, which are written in turn and each fsynced after the data it
// speaks of: when one is torn by a power cut the other still holds. A slot is
// one line, sealed like those of the timeline and padded with spaces:
//
//	fsynced <offset> segment <seq> crc <crc> boundary <offset> db <n> crc <crc> serial <n>
//
// Everything up to the first offset was fsynced; the boundary is the last one
// at or before it; the CRCs are those of the segment's file up to there.
//
// A third slot says how far the data is written, and is itself only written,
// with each write of data: what was acknowledged is known to be sound after
// kill -9, though the last mark of the timeline may be 100 ms old. After a
// power cut it counts for as much as its CRC proves.
//
//	written <offset> segment <seq> crc <crc>
const (
	slotSize    = 256
	slotStride  = 4096
	slots       = 2
	writtenSlot = slots // behind the others
)

// place is an offset with what is needed to go on from there.
type place struct {
	offset int64
	crc    uint32
}

// checkpoint is the content of a slot.
type checkpoint struct {
	serial   int64
	seq      int
	fsynced  place
	boundary place
	db       int
}

func (c checkpoint) line() string {
	return fmt.Sprintf("fsynced %d segment %d crc %08x boundary %d db %d crc %08x serial %d",
		c.fsynced.offset, c.seq, c.fsynced.crc, c.boundary.offset, c.db, c.boundary.crc, c.serial)
}

func parseCheckpoint(s string) (c checkpoint, ok bool) {
	line, ok := unseal(strings.TrimRight(s, " \n"))
	if !ok {
		return c, false
	}
	p := fields{f: strings.Fields(line)}
	c.fsynced.offset, c.seq, c.fsynced.crc = p.after(0, "fsynced"), int(p.after(2, "segment")), p.crc(4)
	c.boundary.offset, c.db, c.boundary.crc = p.after(6, "boundary"), int(p.after(8, "db")), p.crc(10)
	c.serial = p.after(12, "serial")
	return c, !p.bad
}

// encode gives the slot's bytes.
func (c checkpoint) encode() []byte { return slot(c.line()) }

// slot seals a line and pads it.
func slot(line string) []byte {
	p := sealed(make([]byte, 0, slotSize), line)
	p = p[:len(p)-1]
	p = append(p, bytes.Repeat([]byte{' '}, slotSize-1-len(p))...)
	return append(p, '\n')
}

// readCheckpoint returns the newest slot that checks; false when none does.
func readCheckpoint(r io.ReaderAt) (newest checkpoint, ok bool) {
	buf := make([]byte, slotSize)
	for i := range int64(slots) {
		n, _ := r.ReadAt(buf, i*slotStride)
		if c, good := parseCheckpoint(string(buf[:n])); good && (!ok || c.serial > newest.serial) {
			newest, ok = c, true
		}
	}
	return newest, ok
}

// readWritten returns what the third slot says, as a mark without a time; false
// when it does not check.
func readWritten(r io.ReaderAt) (m Mark, ok bool) {
	buf := make([]byte, slotSize)
	n, _ := r.ReadAt(buf, writtenSlot*slotStride)
	line, ok := unseal(strings.TrimRight(string(buf[:n]), " \n"))
	if !ok {
		return m, false
	}
	p := fields{f: strings.Fields(line)}
	m.Offset, m.Seq, m.CRC = p.after(0, "written"), int(p.after(2, "segment")), p.crc(4)
	return m, !p.bad
}

// fsyncedFile writes checkpoints.
type fsyncedFile struct {
	f      *os.File
	disk   disk
	serial int64
}

// createFsynced makes the file with its full length, so that writing a slot
// later never needs room.
func createFsynced(path string, c checkpoint) error {
	p := bytes.Repeat([]byte{' '}, slotStride*writtenSlot+slotSize)
	copy(p, c.encode())
	return writeSynced(path, p)
}

func openFsynced(path string, serial int64, d disk) (*fsyncedFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	return &fsyncedFile{f: f, disk: d, serial: serial}, nil
}

// put writes a checkpoint over the older slot and makes it durable. The data
// it speaks of must be.
func (s *fsyncedFile) put(c checkpoint) error {
	c.serial = s.serial + 1
	if _, err := s.disk.pwrite(s.f, c.encode(), c.serial%slots*slotStride); err != nil {
		return err
	}
	s.serial = c.serial
	return s.disk.fdatasync(s.f)
}

// wrote writes the third slot. It is no more than a hint, and so is its error.
func (s *fsyncedFile) wrote(seq int, at place) {
	_, _ = s.disk.pwrite(s.f, slot(fmt.Sprintf("written %d segment %d crc %08x", at.offset, seq, at.crc)), writtenSlot*slotStride)
}

func (s *fsyncedFile) close() error { return s.f.Close() }
