package minimaster

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func TestTheBacklogHoldsExactlyTheLastBytes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{1, 7, 64} {
		const base = 1000 // the offset before the first byte
		b := newBacklog(size, base)
		var all []byte
		for range 300 {
			p := make([]byte, rnd.IntN(3*size))
			for i := range p {
				p[i] = byte(rnd.Uint32())
			}
			b.write(p)
			all = append(all, p...)
			first := max(0, len(all)-size)
			for i := -2; i <= len(all)+3; i++ {
				offset := int64(base + 1 + i) // of all[i]
				want := i >= first && i <= len(all)
				if b.has(offset) != want {
					t.Fatalf("size %d, %d bytes written: has(%d) = %v", size, len(all), i, !want)
				}
				if want && !bytes.Equal(b.from(offset), all[i:]) {
					t.Fatalf("size %d, %d bytes written: from(%d) = %x, want %x", size, len(all), i, b.from(offset), all[i:])
				}
			}
		}
	}
}
