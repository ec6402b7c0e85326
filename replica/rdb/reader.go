package rdb

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

// Opcodes that this package reads, as in Redis' rdb.h.
const (
	OpAux = 0xFA // two strings: name and value
	OpEOF = 0xFF // the end; from version 5 on a checksum follows
)

// Encodings of lengths and strings, as in Redis' rdb.h.
const (
	len6Bit    = 0 // in the two highest bits
	len14Bit   = 1
	lenEncoded = 3
	len32Bit   = 0x80
	len64Bit   = 0x81

	encInt8  = 0
	encInt16 = 1
	encInt32 = 2
	encLZF   = 3
)

// malformed is the reason why an encoding is broken. It is an [ErrMalformed].
type malformed string

func (m malformed) Error() string        { return string(m) }
func (m malformed) Is(target error) bool { return target == ErrMalformed }

// Reader reads what an RDB file consists of: bytes, lengths and strings. An
// error is [ErrMalformed], one of the underlying reader, [io.EOF], or
// [io.ErrUnexpectedEOF] for a file that ends inside of what is read. After an
// error the Reader is of no more use.
type Reader struct {
	r  *bufio.Reader
	at int64
}

// NewReader returns a Reader of r. It reads r in pieces of up to 4 KiB.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, 4096)} }

// Offset returns how many bytes were read.
func (r *Reader) Offset() int64 { return r.at }

// Read reads bytes as they are.
func (r *Reader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.at += int64(n)
	return n, err
}

// ReadByte reads one byte, such as an opcode.
func (r *Reader) ReadByte() (byte, error) {
	c, err := r.r.ReadByte()
	if err == nil {
		r.at++
	}
	return c, err
}

// Skip passes over n bytes, and takes no memory for them.
func (r *Reader) Skip(n uint64) error {
	if n > math.MaxInt64 {
		return malformed(fmt.Sprintf("%d bytes", n))
	}
	for n > 0 {
		skipped, err := r.r.Discard(int(min(n, 1<<30)))
		r.at += int64(skipped)
		n -= uint64(skipped)
		if err != nil {
			return err
		}
	}
	return nil
}

// length reads a length. If encoded, n is instead the way in which the string
// that follows is encoded (rdbLoadLenByRef in Redis' rdb.c).
func (r *Reader) length() (n uint64, encoded bool, err error) {
	c, err := r.ReadByte()
	if err != nil {
		return 0, false, err
	}
	var b [8]byte
	switch {
	case c>>6 == len6Bit:
		return uint64(c), false, nil
	case c>>6 == len14Bit:
		d, err := r.ReadByte()
		return uint64(c&0x3f)<<8 | uint64(d), false, err
	case c>>6 == lenEncoded:
		return uint64(c & 0x3f), true, nil
	case c == len32Bit:
		_, err = io.ReadFull(r, b[:4])
		return uint64(binary.BigEndian.Uint32(b[:])), false, err
	case c == len64Bit:
		_, err = io.ReadFull(r, b[:])
		return binary.BigEndian.Uint64(b[:]), false, err
	}
	return 0, false, malformed(fmt.Sprintf("unknown length encoding 0x%02x", c))
}

// ReadLength reads a length, or any other number that is written as one.
func (r *Reader) ReadLength() (uint64, error) { return r.plainLength("a length") }

func (r *Reader) plainLength(what string) (uint64, error) {
	n, encoded, err := r.length()
	if err == nil && encoded {
		err = malformed(fmt.Sprintf("%s is given as encoding %d", what, n))
	}
	return n, err
}

// ReadString reads a string in any of its encodings, integers in decimal
// (rdbGenericLoadStringObject in Redis' rdb.c). One of more than [MaxString]
// bytes, compressed or not, is an [ErrMalformed].
func (r *Reader) ReadString() ([]byte, error) {
	n, encoded, err := r.length()
	switch {
	case err != nil:
		return nil, err
	case !encoded:
		if n > MaxString {
			return nil, malformed(fmt.Sprintf("a string of %d, more than %d bytes", n, MaxString))
		}
		return r.bytes(n)
	case n <= encInt32:
		return r.number(n)
	case n != encLZF:
		return nil, malformed(fmt.Sprintf("unknown string encoding 0x%02x", 0xC0|n))
	}
	packed, err := r.plainLength("the compressed length")
	if err != nil {
		return nil, err
	}
	size, err := r.plainLength("the length")
	switch {
	case err != nil:
		return nil, err
	case packed > MaxString:
		return nil, malformed(fmt.Sprintf("the compressed length is %d, more than %d bytes", packed, MaxString))
	case size > MaxString:
		return nil, malformed(fmt.Sprintf("the length is %d, more than %d bytes", size, MaxString))
	}
	b, err := r.bytes(packed)
	if err != nil {
		return nil, err
	}
	return decompress(b, int(size))
}

func (r *Reader) bytes(n uint64) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

// number reads an integer of one, two or four bytes, little endian and signed,
// and returns it in decimal (rdbLoadIntegerObject in Redis' rdb.c).
func (r *Reader) number(encoding uint64) ([]byte, error) {
	var b [4]byte
	if _, err := io.ReadFull(r, b[:1<<encoding]); err != nil {
		return nil, err
	}
	u := binary.LittleEndian.Uint32(b[:])
	n := int64(int32(u))
	switch encoding {
	case encInt8:
		n = int64(int8(u))
	case encInt16:
		n = int64(int16(u))
	}
	return strconv.AppendInt(nil, n, 10), nil
}

// place adds to an error where in the file it was met.
func (r *Reader) place(where string, err error) error {
	switch {
	case errors.Is(err, ErrMalformed):
		return fmt.Errorf("%w: byte %d, %s: %s", ErrMalformed, r.at, where, err)
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return fmt.Errorf("%w: byte %d, %s: %w", ErrMalformed, r.at, where, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("rdb: byte %d, %s: %w", r.at, where, err)
}
