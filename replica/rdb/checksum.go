package rdb

import (
	"encoding/binary"
	"math/bits"
)

// jones is the polynomial of Redis' crc64.c, 0xad93d23594c935a9, with its bits
// in reverse order: the highest bit belongs to x^0.
const jones = 0x95ac9329ac4bc9b5

// Pieces of at least two times minHalf bytes are computed as two halves at once,
// which are at most maxHalf bytes each.
const (
	minHalfBits = 9
	maxHalfBits = 19
	minHalf     = 1 << minHalfBits
)

// Checksum is the CRC-64 of RDB files, an [io.Writer]: Jones' polynomial,
// reflected, with an initial value of 0 and no final inversion. Of "123456789" it
// is 0xe9c6d914c4b8d9ca.
//
// The package hash/crc64 of the standard library inverts before and after. It
// also builds its tables anew in each call, unless the polynomial is one of its
// own two, and is half as fast.
//
// A Checksum must come from [NewChecksum], which builds the tables (16 KiB, some
// ten microseconds). It is not safe for use by several goroutines at once.
type Checksum struct {
	crc   uint64
	table *[8][256]uint64
	// past[k] is x^(8<<k) modulo the polynomial: multiplied with a checksum
	// it gives the one after 1<<k zero bytes more.
	past [maxHalfBits + 1]uint64
}

// NewChecksum returns the checksum of no bytes.
func NewChecksum() *Checksum {
	c := &Checksum{table: new([8][256]uint64)}
	t := c.table
	for i := range t[0] {
		crc := uint64(i)
		for range 8 {
			crc = timesX(crc)
		}
		t[0][i] = crc
	}
	for i := range t[0] {
		for j := 1; j < len(t); j++ {
			last := t[j-1][i]
			t[j][i] = t[0][byte(last)] ^ last>>8
		}
	}
	c.past[0] = 1 << (63 - 8)
	for k := 1; k < len(c.past); k++ {
		c.past[k] = multiply(c.past[k-1], c.past[k-1])
	}
	return c
}

// timesX multiplies a polynomial with x.
func timesX(a uint64) uint64 { return a>>1 ^ jones&-(a&1) }

// multiply multiplies two polynomials.
func multiply(a, b uint64) uint64 {
	product := uint64(0)
	for ; a != 0; a <<= 1 {
		product ^= b & -(a >> 63)
		b = timesX(b)
	}
	return product
}

// Write adds p to the checksum. It never fails.
func (c *Checksum) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) >= 2*minHalf {
		k := min(bits.Len(uint(len(p)))-2, maxHalfBits)
		half := 1 << k
		first, second := c.update2(c.crc, 0, p[:half], p[half:2*half])
		c.crc = multiply(c.past[k], first) ^ second
		p = p[2*half:]
	}
	c.crc = c.update(c.crc, p)
	return n, nil
}

// update adds p to crc, eight bytes at a time, each of them with a table of its
// own.
func (c *Checksum) update(crc uint64, p []byte) uint64 {
	t := c.table
	for len(p) >= 8 {
		crc ^= binary.LittleEndian.Uint64(p)
		crc = t[7][byte(crc)] ^ t[6][byte(crc>>8)] ^ t[5][byte(crc>>16)] ^ t[4][byte(crc>>24)] ^
			t[3][byte(crc>>32)] ^ t[2][byte(crc>>40)] ^ t[1][byte(crc>>48)] ^ t[0][byte(crc>>56)]
		p = p[8:]
	}
	for _, b := range p {
		crc = t[0][byte(crc)^b] ^ crc>>8
	}
	return crc
}

// update2 adds p to a and q to b; p and q have the same length, a multiple of
// eight bytes. Each step of a chain waits for the memory that the step before
// asked for, so two chains take hardly longer than one. For a third chain there
// are no registers left.
func (c *Checksum) update2(a, b uint64, p, q []byte) (uint64, uint64) {
	t := c.table
	for len(p) >= 8 && len(q) >= 8 {
		a ^= binary.LittleEndian.Uint64(p)
		b ^= binary.LittleEndian.Uint64(q)
		a = t[7][byte(a)] ^ t[6][byte(a>>8)] ^ t[5][byte(a>>16)] ^ t[4][byte(a>>24)] ^
			t[3][byte(a>>32)] ^ t[2][byte(a>>40)] ^ t[1][byte(a>>48)] ^ t[0][byte(a>>56)]
		b = t[7][byte(b)] ^ t[6][byte(b>>8)] ^ t[5][byte(b>>16)] ^ t[4][byte(b>>24)] ^
			t[3][byte(b>>32)] ^ t[2][byte(b>>40)] ^ t[1][byte(b>>48)] ^ t[0][byte(b>>56)]
		p, q = p[8:], q[8:]
	}
	return a, b
}

// Sum64 returns the checksum of all bytes written.
func (c *Checksum) Sum64() uint64 { return c.crc }
