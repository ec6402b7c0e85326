package rdb

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Bounds of [ReadHeader], whatever the file says.
const (
	MaxHeader = 1 << 20  // bytes read, and bytes of all names and values
	MaxString = 64 << 10 // bytes of a name or value, also after decompression
	MaxFields = 4096     // aux fields; real files have ten or so
)

var (
	// ErrNotRDB is returned for a file that does not begin as RDB files do.
	ErrNotRDB = errors.New("rdb: not an RDB file")
	// ErrMalformed is returned, wrapped with the place, for a file that
	// begins as an RDB file but is broken or cut short.
	ErrMalformed = errors.New("rdb: malformed file")
)

// Header is what the beginning of an RDB file says about it. A field that the
// file does not have, or has with a value that makes no sense, is zero; Aux
// shows what was written.
type Header struct {
	Version       int       // of the format, e.g. 11
	RedisVersion  string    // redis-ver, since Redis 3.2
	ValkeyVersion string    // valkey-ver
	CTime         time.Time // ctime: when the file was begun, to the second
	UsedMemory    int64     // used-mem: bytes

	// ReplStreamDB is the database selected in the stream that follows;
	// HasReplStreamDB tells whether the file says so.
	ReplStreamDB    int
	HasReplStreamDB bool

	// ReplID and ReplOffset are the master's replication id and offset at
	// the moment of the snapshot; HasReplOffset tells whether the file has
	// the latter.
	ReplID        string
	ReplOffset    int64
	HasReplOffset bool

	AOFBase bool // aof-base (once aof-preamble): written as base of an AOF

	// Aux has all aux fields by name, integers in decimal. Of a name that
	// occurs twice it has the last value.
	Aux map[string]string
}

// Opcodes and encodings, as in Redis' rdb.h.
const (
	opAux = 0xFA
	opEOF = 0xFF

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

// magicLen is how long the magic is, version included.
const magicLen = 9

// ReadHeader reads the magic and the aux fields that open an RDB file, up to the
// first opcode that is another (which for some servers is 0xF7, the aux data of a
// module). It reads at most [MaxHeader] bytes, in pieces of up to 4 KiB, and so
// perhaps a little more of r than the header is long.
//
// The error wraps [ErrNotRDB], or [ErrMalformed] with the place; a file that ends
// inside its header gives both ErrMalformed and [io.ErrUnexpectedEOF]. Errors of
// r are wrapped. The Header then has what was read up to there.
func ReadHeader(r io.Reader) (Header, error) {
	in := &input{limit: io.LimitedReader{R: r, N: MaxHeader}}
	in.r = bufio.NewReaderSize(&in.limit, 4096)
	h := Header{Aux: map[string]string{}}

	var magic [magicLen]byte
	n, err := io.ReadFull(in, magic[:])
	version, ok := parseMagic(magic[:n])
	if !ok {
		return h, fmt.Errorf("%w: it begins with %q", ErrNotRDB, magic[:n])
	}
	if n < len(magic) {
		return h, in.broken("in the magic", err)
	}
	h.Version = version
	for size, fields := 0, 0; ; {
		op, err := in.ReadByte()
		if err != nil {
			return h, in.broken("before an opcode", err)
		}
		if op != opAux {
			return h, nil
		}
		name, err := in.str()
		if err != nil {
			return h, in.broken("in the name of an aux field", err)
		}
		value, err := in.str()
		if err != nil {
			return h, in.broken(fmt.Sprintf("in the value of aux field %q", name), err)
		}
		// A few compressed bytes may make very many.
		if size += len(name) + len(value); size > MaxHeader {
			return h, in.broken("after an aux field", malformed(fmt.Sprintf("aux fields of more than %d bytes", MaxHeader)))
		}
		if fields++; fields > MaxFields {
			return h, in.broken("after an aux field", malformed(fmt.Sprintf("more than %d aux fields", MaxFields)))
		}
		h.set(string(name), string(value))
	}
}

// parseMagic returns the version that a magic, or what there is of one, names:
// REDIS and four digits, or, from Valkey 9 on, VALKEY and three. A magic cut short
// is accepted as far as it goes, with version 0.
func parseMagic(b []byte) (version int, ok bool) {
	for _, name := range []string{"REDIS", "VALKEY"} {
		digits, found := bytes.CutPrefix(b, []byte(name))
		if !found {
			ok = ok || strings.HasPrefix(name, string(b))
			continue
		}
		for _, c := range digits {
			if c < '0' || c > '9' {
				return 0, false
			}
			version = version*10 + int(c-'0')
		}
		if len(b) < magicLen {
			return 0, true
		}
		return version, version > 0
	}
	return 0, ok
}

// set notes an aux field.
func (h *Header) set(name, value string) {
	h.Aux[name] = value
	n, err := strconv.ParseInt(value, 10, 64)
	isInt := err == nil
	switch name {
	case "redis-ver":
		h.RedisVersion = value
	case "valkey-ver":
		h.ValkeyVersion = value
	case "ctime":
		if isInt {
			h.CTime = time.Unix(n, 0).UTC()
		}
	case "used-mem":
		if isInt {
			h.UsedMemory = n
		}
	case "repl-stream-db":
		if isInt && n >= 0 && n <= 1<<31-1 {
			h.ReplStreamDB, h.HasReplStreamDB = int(n), true
		}
	case "repl-id":
		h.ReplID = value
	case "repl-offset":
		if isInt && n >= 0 {
			h.ReplOffset, h.HasReplOffset = n, true
		}
	case "aof-base", "aof-preamble":
		h.AOFBase = isInt && n != 0
	}
}

// input reads the primitives of the format and counts bytes.
type input struct {
	limit io.LimitedReader
	r     *bufio.Reader
	at    int64 // bytes taken
}

func (in *input) Read(p []byte) (int, error) {
	n, err := in.r.Read(p)
	in.at += int64(n)
	return n, err
}

func (in *input) ReadByte() (byte, error) {
	c, err := in.r.ReadByte()
	if err == nil {
		in.at++
	}
	return c, err
}

// malformed is the reason why an encoding is broken.
type malformed string

func (m malformed) Error() string { return string(m) }

// broken adds the place to an error met while reading.
func (in *input) broken(where string, err error) error {
	var reason malformed
	switch {
	case errors.As(err, &reason):
		return fmt.Errorf("%w: byte %d, %s: %s", ErrMalformed, in.at, where, string(reason))
	case (err == io.EOF || err == io.ErrUnexpectedEOF) && in.limit.N <= 0:
		return fmt.Errorf("%w: byte %d, %s: the header is longer than %d bytes", ErrMalformed, in.at, where, MaxHeader)
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return fmt.Errorf("%w: byte %d, %s: %w", ErrMalformed, in.at, where, io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("rdb: byte %d, %s: %w", in.at, where, err)
}

// length reads a length. If encoded, n is instead the way in which the string
// that follows is encoded (rdbLoadLenByRef in Redis' rdb.c).
func (in *input) length() (n uint64, encoded bool, err error) {
	c, err := in.ReadByte()
	if err != nil {
		return 0, false, err
	}
	var b [8]byte
	switch {
	case c>>6 == len6Bit:
		return uint64(c), false, nil
	case c>>6 == len14Bit:
		d, err := in.ReadByte()
		return uint64(c&0x3f)<<8 | uint64(d), false, err
	case c>>6 == lenEncoded:
		return uint64(c & 0x3f), true, nil
	case c == len32Bit:
		_, err = io.ReadFull(in, b[:4])
		return uint64(binary.BigEndian.Uint32(b[:4])), false, err
	case c == len64Bit:
		_, err = io.ReadFull(in, b[:])
		return binary.BigEndian.Uint64(b[:]), false, err
	}
	return 0, false, malformed(fmt.Sprintf("unknown length encoding 0x%02x", c))
}

// plainLength reads a length that must be one, and of at most MaxString.
func (in *input) plainLength(what string) (int, error) {
	n, encoded, err := in.length()
	if err != nil {
		return 0, err
	}
	if encoded {
		return 0, malformed(fmt.Sprintf("%s is given as encoding %d", what, n))
	}
	if n > MaxString {
		return 0, malformed(fmt.Sprintf("%s is %d, more than %d bytes", what, n, MaxString))
	}
	return int(n), nil
}

// str reads a string in any of its encodings (rdbGenericLoadStringObject).
func (in *input) str() ([]byte, error) {
	n, encoded, err := in.length()
	if err != nil {
		return nil, err
	}
	if !encoded {
		if n > MaxString {
			return nil, malformed(fmt.Sprintf("a string of %d, more than %d bytes", n, MaxString))
		}
		return in.bytes(int(n))
	}
	switch n {
	case encInt8, encInt16, encInt32:
		return in.number(n)
	case encLZF:
		packed, err := in.plainLength("the compressed length")
		if err != nil {
			return nil, err
		}
		size, err := in.plainLength("the length")
		if err != nil {
			return nil, err
		}
		b, err := in.bytes(packed)
		if err != nil {
			return nil, err
		}
		return decompress(b, size)
	}
	return nil, malformed(fmt.Sprintf("unknown string encoding 0x%02x", 0xC0|n))
}

func (in *input) bytes(n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(in, b)
	return b, err
}

// number reads an integer of one, two or four bytes, little endian and signed,
// and returns it in decimal (rdbLoadIntegerObject).
func (in *input) number(encoding uint64) ([]byte, error) {
	var b [4]byte
	if _, err := io.ReadFull(in, b[:1<<encoding]); err != nil {
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
