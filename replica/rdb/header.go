package rdb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
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

// Header is what the beginning of an RDB file says about the file.
type Header struct {
	Version int // of the format, e.g. 11

	// ReplStreamDB is the database selected in the stream that follows
	// (repl-stream-db); 0 also where the file does not tell one.
	ReplStreamDB int

	// Aux has all aux fields by name, integers in decimal. Of a name that
	// occurs twice it has the last value.
	Aux map[string]string
}

// ReadHeader reads the magic and the aux fields that open an RDB file, up to the
// first other opcode (for some servers that is 0xF7, the data of a module). It
// reads at most [MaxHeader] bytes, in pieces of up to 4 KiB, and so perhaps a
// little more of r than the header is long.
//
// The error wraps [ErrNotRDB], or [ErrMalformed] with the place; a file that ends
// inside its header gives both ErrMalformed and [io.ErrUnexpectedEOF]. Errors of
// r are wrapped. The Header then has what was read up to there.
func ReadHeader(r io.Reader) (Header, error) {
	in := NewReader(&headerReader{io.LimitedReader{R: r, N: MaxHeader}})
	h := Header{Aux: map[string]string{}}
	var magic [MagicLen]byte
	n, err := io.ReadFull(in, magic[:])
	version, ok := ParseMagic(magic[:n])
	if !ok {
		return h, fmt.Errorf("%w: it begins with %q", ErrNotRDB, magic[:n])
	}
	if err != nil {
		return h, in.place("in the magic", err)
	}
	h.Version = version
	for size, fields := 0, 0; ; {
		op, err := in.ReadByte()
		if err != nil {
			return h, in.place("before an opcode", err)
		}
		if op != OpAux {
			return h, nil
		}
		name, err := in.ReadString()
		if err != nil {
			return h, in.place("in the name of an aux field", err)
		}
		value, err := in.ReadString()
		if err != nil {
			return h, in.place(fmt.Sprintf("in the value of aux field %q", name), err)
		}
		// A few compressed bytes may make very many.
		if size += len(name) + len(value); size > MaxHeader {
			return h, in.place("after an aux field", malformed(fmt.Sprintf("aux fields of more than %d bytes", MaxHeader)))
		}
		if fields++; fields > MaxFields {
			return h, in.place("after an aux field", malformed(fmt.Sprintf("more than %d aux fields", MaxFields)))
		}
		h.Aux[string(name)] = string(value)
		if db, err := strconv.ParseUint(string(value), 10, 31); err == nil && string(name) == "repl-stream-db" {
			h.ReplStreamDB = int(db)
		}
	}
}

// headerReader refuses to read more than its limit.
type headerReader struct{ io.LimitedReader }

func (r *headerReader) Read(p []byte) (int, error) {
	if r.N <= 0 {
		return 0, malformed(fmt.Sprintf("the header is longer than %d bytes", MaxHeader))
	}
	return r.LimitedReader.Read(p)
}

// MagicLen is the length in bytes of the magic that opens a file.
const MagicLen = 9

// ParseMagic returns the version of the format that a magic names: REDIS and four
// digits, or, from Valkey 9 on, VALKEY and three. A magic that is cut short is
// accepted as far as it goes, with version 0.
func ParseMagic(b []byte) (version int, ok bool) {
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
		if len(b) < MagicLen {
			return 0, true
		}
		return version, version > 0
	}
	return 0, ok
}

// TrailerLen returns how many bytes end a file of a version of the format: the
// EOF opcode, and from version 5 on a checksum of 8 bytes.
func TrailerLen(version int) int64 {
	if version < 5 {
		return 1
	}
	return 1 + checksumLen
}
