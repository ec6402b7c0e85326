package resp

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// readPieces feeds the pieces to r, and returns the lines, copied.
func readPieces(t testing.TB, r *LineReader, pieces ...[]byte) (lines []string, err error) {
	t.Helper()
	for _, p := range pieces {
		p = p[:len(p):len(p)]
		for {
			before := string(p)
			line, n, err := r.Read(p)
			if string(p) != before {
				t.Fatalf("Read changed what it was given")
			}
			if n < 0 || n > len(p) {
				t.Fatalf("Read of %d bytes took %d", len(p), n)
			}
			if err != nil {
				if line != nil || !errors.Is(err, ErrLineTooLong) {
					t.Fatalf("Read = %q, %d, %v", line, n, err)
				}
				return lines, err
			}
			if line == nil {
				if n != len(p) {
					t.Fatalf("no line, and %d of %d bytes taken", n, len(p))
				}
				break
			}
			if n == 0 || p[n-1] != '\n' {
				t.Fatalf("a line, but %d bytes taken of %q", n, p)
			}
			lines = append(lines, string(line))
			p = p[n:]
		}
	}
	return lines, nil
}

// referenceLines is how the lines of p, which is there as a whole, are found in
// the most obvious way.
func referenceLines(p []byte, max int) (lines []string, tooLong bool) {
	for {
		line, rest, found := bytes.Cut(p, []byte("\n"))
		if !found {
			// It may still become a line of max bytes with CR LF.
			return lines, len(bytes.TrimSuffix(line, []byte("\r"))) > max
		}
		line = bytes.TrimSuffix(line, []byte("\r"))
		if len(line) > max {
			return lines, true
		}
		lines = append(lines, string(line))
		p = rest
	}
}

func TestLinesAreTheSameWhereverTheyAreCut(t *testing.T) {
	p := []byte("+PONG\r\n\n\n\r\n-ERR a\rb\r\r\n+FULLRESYNC ? 1\n$EOF:x\r\nrest\r")
	want := []string{"+PONG", "", "", "", "-ERR a\rb\r", "+FULLRESYNC ? 1", "$EOF:x"}
	for cut := 0; cut <= len(p); cut++ {
		var r LineReader
		if got, err := readPieces(t, &r, p[:cut], p[cut:]); err != nil || !slices.Equal(got, want) {
			t.Errorf("cut at %d: %q, %v", cut, got, err)
		}
	}
	var r LineReader
	if got, err := readPieces(t, &r, bytes.SplitAfter(p, nil)...); err != nil || !slices.Equal(got, want) {
		t.Errorf("byte by byte: %q, %v", got, err)
	}
}

func TestABareNewlineIsALineAndNoBytesAreNone(t *testing.T) {
	var r LineReader
	if line, n, err := r.Read([]byte("\n")); line == nil || len(line) != 0 || n != 1 || err != nil {
		t.Errorf("newline: %v, %d, %v", line, n, err)
	}
	if line, n, err := r.Read(nil); line != nil || n != 0 || err != nil {
		t.Errorf("nothing: %v, %d, %v", line, n, err)
	}
	r.Read([]byte("\r"))
	if line, n, err := r.Read([]byte("\n")); line == nil || len(line) != 0 || n != 1 || err != nil {
		t.Errorf("newline behind a carriage return that came alone: %v, %d, %v", line, n, err)
	}
}

func TestALineOfMaxBytesIsTakenAndALongerOneIsNot(t *testing.T) {
	for _, max := range []int{1, 5, 0} {
		size := max
		if max == 0 {
			size = DefaultMaxLine
		}
		for _, end := range []string{"\n", "\r\n"} {
			fits := []byte(strings.Repeat("x", size) + end)
			over := []byte(strings.Repeat("x", size+1) + end)
			for _, cut := range []int{0, 1, size - 1, size, size + 1, len(fits)} {
				r := LineReader{Max: max}
				if got, err := readPieces(t, &r, fits[:cut], fits[cut:]); err != nil || len(got) != 1 || len(got[0]) != size {
					t.Errorf("Max %d, %d bytes and %q, cut at %d: %d lines, %v", max, size, end, cut, len(got), err)
				}
				if got, err := readPieces(t, &r, over[:cut], over[cut:]); err == nil || len(got) != 0 {
					t.Errorf("Max %d, %d bytes and %q, cut at %d: %d lines, %v", max, size+1, end, cut, len(got), err)
				}
			}
		}
	}
}

func TestALineThatNeverEndsIsRefusedAndHoldsNoMoreThanMaxBytes(t *testing.T) {
	r := LineReader{Max: 100}
	var err error
	for i := range 1000 {
		if _, _, err = r.Read([]byte("x")); err != nil {
			if i != 100 {
				t.Errorf("refused at byte %d", i)
			}
			break
		}
	}
	if !errors.Is(err, ErrLineTooLong) || cap(r.held) > 1000 {
		t.Errorf("%v with %d bytes held", err, cap(r.held))
	}
	if _, n, err := r.Read([]byte("\n")); n != 0 || err != ErrLineTooLong {
		t.Errorf("the next Read: %d, %v", n, err)
	}
}

func FuzzLineReader(f *testing.F) {
	f.Add([]byte("+PONG\r\n\n-ERR x\r\n"), uint64(1), uint8(10))
	f.Add([]byte("\r\r\n\r"), uint64(2), uint8(1))
	f.Add([]byte(strings.Repeat("x", 300)+"\r\n"), uint64(3), uint8(255))
	for _, p := range recordedStreams(f) {
		f.Add(p, uint64(4), uint8(100))
	}
	f.Fuzz(func(t *testing.T, p []byte, seed uint64, max uint8) {
		limit := 1 + int(max)
		want, tooLong := referenceLines(p, limit)
		check := func(what string, pieces ...[]byte) {
			t.Helper()
			r := LineReader{Max: limit}
			got, err := readPieces(t, &r, pieces...)
			if g, w := fmt.Sprintf("%q %v", got, err != nil), fmt.Sprintf("%q %v", want, tooLong); g != w {
				t.Errorf("%s\n got %s\nwant %s", what, g, w)
			}
		}
		check("in one piece", p)
		rnd := rand.New(rand.NewPCG(seed, 0))
		most := 1 + rnd.IntN(32)
		var pieces [][]byte
		for rest := p; len(rest) > 0; {
			n := min(len(rest), 1+rnd.IntN(most))
			pieces = append(pieces, rest[:n])
			rest = rest[n:]
		}
		check("in pieces", pieces...)
	})
}
