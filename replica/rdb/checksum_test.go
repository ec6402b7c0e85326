package rdb

import (
	"bytes"
	"context"
	"hash/crc64"
	"math/rand/v2"
	"testing"
)

func TestTheChecksumOfTheCheckStringIsThatOfRedis(t *testing.T) {
	c := NewChecksum()
	c.Write([]byte("123456789"))
	if got := c.Sum64(); got != 0xe9c6d914c4b8d9ca {
		t.Errorf("%016x", got)
	}
}

// standard is the same by the standard library.
func standard(p []byte) uint64 {
	return ^crc64.Update(^uint64(0), crc64.MakeTable(jones), p)
}

func TestTheChecksumIsTheSameHoweverItIsWritten(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	p := make([]byte, 5<<20+3)
	for i := range p {
		p[i] = byte(rnd.Uint32())
	}
	lengths := []int{0, 1, 7, 8, 9, 511, 512, 1023, 1024, 1025, 2047, 2048, 3071, 1<<20 - 1, 1 << 20, 1<<20 + 1, 1<<21 - 1, 1 << 21, len(p)}
	for range 200 {
		lengths = append(lengths, rnd.IntN(10000))
	}
	for _, n := range lengths {
		c := NewChecksum()
		if m, err := c.Write(p[:n]); m != n || err != nil {
			t.Fatalf("Write of %d bytes = %d, %v", n, m, err)
		}
		if got, want := c.Sum64(), standard(p[:n]); got != want {
			t.Errorf("%d bytes at once: %016x, want %016x", n, got, want)
		}
		c = NewChecksum()
		for rest := p[:n]; len(rest) > 0; {
			m := 1 + rnd.IntN(min(len(rest), 1<<(1+rnd.IntN(22))))
			c.Write(rest[:m])
			rest = rest[m:]
		}
		if got, want := c.Sum64(), standard(p[:n]); got != want {
			t.Errorf("%d bytes in pieces: %016x, want %016x", n, got, want)
		}
	}
}

func BenchmarkChecksum(b *testing.B) {
	p := make([]byte, 1<<20)
	for i := range p {
		p[i] = byte(i * i >> 3)
	}
	for _, c := range []struct {
		name string
		size int
	}{{"64B", 64}, {"1KiB", 1 << 10}, {"16KiB", 16 << 10}, {"1MiB", 1 << 20}} {
		b.Run(c.name, func(b *testing.B) {
			sum := NewChecksum()
			b.ReportAllocs()
			b.SetBytes(int64(c.size))
			for b.Loop() {
				sum.Write(p[:c.size])
			}
		})
	}
	b.Run("standard/1MiB", func(b *testing.B) {
		table := crc64.MakeTable(jones)
		b.SetBytes(1 << 20)
		for crc := uint64(0); b.Loop(); {
			crc = crc64.Update(crc, table, p)
		}
	})
}

func BenchmarkNewChecksum(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		NewChecksum()
	}
}

func BenchmarkVerifyChecksum(b *testing.B) {
	file := rdbFile(11, bytes.Repeat([]byte("0123456789abcdef"), 4<<20), true)
	b.ReportAllocs()
	b.SetBytes(int64(len(file)))
	for b.Loop() {
		if _, err := VerifyChecksum(context.Background(), bytes.NewReader(file), int64(len(file))); err != nil {
			b.Fatal(err)
		}
	}
}
