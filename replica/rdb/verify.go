package rdb

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrChecksum is returned, with both values, for a file that is not what its
// server wrote.
var ErrChecksum = errors.New("rdb: wrong checksum")

// Verdict tells what is known of an RDB file that was not found to be damaged.
type Verdict uint8

const (
	// Verified: the checksum is right.
	Verified Verdict = iota
	// Disabled: the file has no checksum, as its server ran with
	// rdbchecksum no, or as its version is below 5.
	Disabled
)

// String names the verdict as a log would.
func (v Verdict) String() string {
	switch v {
	case Verified:
		return "verified"
	case Disabled:
		return "checksum disabled"
	}
	return fmt.Sprintf("Verdict(%d)", uint8(v))
}

// pieceSize is how many bytes VerifyChecksum reads at once, and how much memory
// it takes.
const pieceSize = 1 << 20

// checksumLen is how many bytes follow the EOF opcode, from version 5 on.
const checksumLen = 8

// VerifyChecksum reads an RDB file of size bytes and tells whether the file is
// what its server wrote. It takes 1 MiB of memory and looks at ctx before each
// MiB.
//
// The error is nil, ctx's, one of r, or wraps [ErrNotRDB], [ErrMalformed] (too
// short, or without the EOF opcode where it must be) or [ErrChecksum]. The
// verdict only counts without an error.
func VerifyChecksum(ctx context.Context, r io.ReaderAt, size int64) (Verdict, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	var magic [MagicLen]byte
	head := magic[:min(max(size, 0), MagicLen)]
	if err := readAt(r, head, 0); err != nil {
		return 0, err
	}
	version, ok := ParseMagic(head)
	switch {
	case !ok:
		return 0, fmt.Errorf("%w: it begins with %q", ErrNotRDB, head)
	case len(head) < MagicLen:
		return 0, fmt.Errorf("%w: %d bytes are no RDB file", ErrMalformed, size)
	}
	trailer := TrailerLen(version)
	if size < MagicLen+trailer {
		return 0, fmt.Errorf("%w: %d bytes are no RDB file of version %d", ErrMalformed, size, version)
	}
	var end [1 + checksumLen]byte
	if err := readAt(r, end[:trailer], size-trailer); err != nil {
		return 0, err
	}
	if end[0] != OpEOF {
		return 0, fmt.Errorf("%w: byte %d: 0x%02x instead of the EOF opcode 0x%02x", ErrMalformed, size-trailer, end[0], OpEOF)
	}
	want := binary.LittleEndian.Uint64(end[1:])
	if trailer == 1 || want == 0 {
		return Disabled, nil
	}
	sum, buf := NewChecksum(), make([]byte, min(size, pieceSize))
	for at := int64(0); at < size-checksumLen; {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		piece := buf[:min(size-checksumLen-at, pieceSize)]
		if err := readAt(r, piece, at); err != nil {
			return 0, err
		}
		sum.Write(piece)
		at += int64(len(piece))
	}
	if got := sum.Sum64(); got != want {
		return 0, fmt.Errorf("%w: the file says %016x, its bytes make %016x", ErrChecksum, want, got)
	}
	return Verified, nil
}

// readAt fills p. A file that ends before is malformed.
func readAt(r io.ReaderAt, p []byte, at int64) error {
	n, err := r.ReadAt(p, at)
	if n == len(p) {
		return nil
	}
	if err == io.EOF {
		return fmt.Errorf("%w: it ends at byte %d: %w", ErrMalformed, at+int64(n), io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("rdb: reading at byte %d: %w", at+int64(n), err)
}
