package minimaster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
)

// Flags of a stream entry in a listpack (stream.h).
const (
	streamDeleted    = 1
	streamSameFields = 2
)

// listpack builds a listpack (listpack.c): a header of 6 bytes, elements each with their length behind them, 0xFF.
type listpack struct {
	buf   []byte
	count int
}

// int appends an integer: 7 bits in one byte, or 64.
func (l *listpack) int(n int64) {
	if n >= 0 && n < 128 {
		l.element([]byte{byte(n)}, "")
		return
	}
	l.element(binary.LittleEndian.AppendUint64([]byte{0xF4}, uint64(n)), "")
}

// string appends a string with a length of 6, 12 or 32 bits.
func (l *listpack) string(s string) {
	n := len(s)
	switch {
	case n < 1<<6:
		l.element([]byte{0x80 | byte(n)}, s)
	case n < 1<<12:
		l.element([]byte{0xE0 | byte(n>>8), byte(n)}, s)
	default:
		l.element(binary.LittleEndian.AppendUint32([]byte{0xF0}, uint32(n)), s)
	}
}

func (l *listpack) element(head []byte, s string) {
	l.buf = append(append(l.buf, head...), s...)
	// The length behind the element, for those who come from the right: groups of 7 bits, the highest first, all but
	// the first with the top bit set.
	n := len(head) + len(s)
	groups := backlen(n)
	for i := groups - 1; i >= 0; i-- {
		b := byte(n>>(7*i)) & 0x7F
		if i != groups-1 {
			b |= 0x80
		}
		l.buf = append(l.buf, b)
	}
	l.count++
}

// backlen is how many bytes the length behind an element of n bytes takes.
func backlen(n int) int {
	groups := 1
	for n >>= 7; n > 0; n >>= 7 {
		groups++
	}
	return groups
}

// bytes is the finished listpack. A count that does not fit 16 bits is said to be unknown.
func (l *listpack) bytes() []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(6+len(l.buf)+1))
	b = binary.LittleEndian.AppendUint16(b, uint16(min(l.count, 0xFFFF)))
	return append(append(b, l.buf...), 0xFF)
}

var errListpack = errors.New("malformed listpack")

// readListpack returns the elements of a listpack as strings.
func readListpack(b []byte) ([]string, error) {
	if len(b) < 7 || binary.LittleEndian.Uint32(b) != uint32(len(b)) || b[len(b)-1] != 0xFF {
		return nil, errListpack
	}
	var list []string
	at, end := 6, len(b)-1
	for at < end {
		s, n, err := readElement(b[at:end])
		if err != nil {
			return nil, err
		}
		list = append(list, s)
		at += n + backlen(n)
	}
	if at != end {
		return nil, errListpack
	}
	return list, nil
}

// readElement returns the first element of b and how many bytes it takes without its length behind.
func readElement(b []byte) (string, int, error) {
	str := func(head, n int) (string, int, error) {
		if n < 0 || n > len(b)-head {
			return "", 0, errListpack
		}
		return string(b[head : head+n]), head + n, nil
	}
	num := func(size int) (string, int, error) {
		if len(b) < 1+size {
			return "", 0, errListpack
		}
		var n uint64
		for i := size - 1; i >= 0; i-- {
			n = n<<8 | uint64(b[1+i])
		}
		shift := 64 - 8*size // to carry the sign up
		return strconv.FormatInt(int64(n<<shift)>>shift, 10), 1 + size, nil
	}
	c := b[0]
	switch {
	case c&0x80 == 0:
		return strconv.Itoa(int(c)), 1, nil
	case c&0xC0 == 0x80:
		return str(1, int(c&0x3F))
	case c&0xE0 == 0xC0: // 13 bits, signed
		if len(b) < 2 {
			return "", 0, errListpack
		}
		n := int(c&0x1F)<<8 | int(b[1])
		if n >= 1<<12 {
			n -= 1 << 13
		}
		return strconv.Itoa(n), 2, nil
	case c&0xF0 == 0xE0:
		if len(b) < 2 {
			return "", 0, errListpack
		}
		return str(2, int(c&0x0F)<<8|int(b[1]))
	case c == 0xF0:
		if len(b) < 5 {
			return "", 0, errListpack
		}
		return str(5, int(binary.LittleEndian.Uint32(b[1:])))
	case c == 0xF1:
		return num(2)
	case c == 0xF2:
		return num(3)
	case c == 0xF3:
		return num(4)
	case c == 0xF4:
		return num(8)
	}
	return "", 0, fmt.Errorf("%w: element begins with 0x%02x", errListpack, c)
}

// readIntset returns the members of an intset (intset.c).
func readIntset(b []byte) ([]string, error) {
	if len(b) < 8 {
		return nil, errors.New("malformed intset")
	}
	size, count := uint64(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[4:]))
	if size != 2 && size != 4 && size != 8 || uint64(len(b)-8) != size*count {
		return nil, errors.New("malformed intset")
	}
	var list []string
	for b = b[8:]; len(b) > 0; b = b[size:] {
		var n int64
		switch size {
		case 2:
			n = int64(int16(binary.LittleEndian.Uint16(b)))
		case 4:
			n = int64(int32(binary.LittleEndian.Uint32(b)))
		default:
			n = int64(binary.LittleEndian.Uint64(b))
		}
		list = append(list, strconv.FormatInt(n, 10))
	}
	return list, nil
}
