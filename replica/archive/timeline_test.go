package archive

import (
	"bytes"
	"testing"
)

func TestEveryFlippedBitOfASealedLineBreaksItsSeal(t *testing.T) {
	t.Parallel()
	letters := 0
	for _, fact := range []string{"since 1732410000000 offset 4711", "sealed 1 to 77 crc 00abcdef", ""} {
		line := bytes.TrimSuffix(sealed(nil, fact), []byte("\n"))
		if got, ok := unseal(string(line)); !ok || got != fact {
			t.Fatalf("%q is read back as %q, %v", line, got, ok)
		}
		for i := range line {
			if i >= len(line)-8 && line[i] >= 'a' {
				letters++
			}
			for bit := range 8 {
				line[i] ^= 1 << bit
				if got, ok := unseal(string(line)); ok {
					t.Errorf("bit %d of byte %d of %q: read as %q", bit, i, line, got)
				}
				line[i] ^= 1 << bit
			}
		}
	}
	if letters == 0 {
		t.Fatal("no checksum had a letter, whose case could be flipped")
	}
}
