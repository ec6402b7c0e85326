package rdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

func verify(p []byte) (Verdict, error) {
	return VerifyChecksum(context.Background(), bytes.NewReader(p), int64(len(p)))
}

func TestRecordedFilesAreVerified(t *testing.T) {
	for name, p := range recorded(t) {
		if v, err := verify(p); v != Verified || err != nil {
			t.Errorf("%s: %v, %v", name, v, err)
		}
	}
}

func TestAnyDamagedByteIsNoticed(t *testing.T) {
	for name, p := range recorded(t) {
		for i := range p {
			for _, flip := range []byte{0x01, 0x80, 0xFF} {
				p[i] ^= flip
				if v, err := verify(p); err == nil {
					t.Errorf("%s: byte %d ^ %02x: %v", name, i, flip, v)
				} else if !errors.Is(err, ErrChecksum) && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrNotRDB) {
					t.Errorf("%s: byte %d ^ %02x: %v", name, i, flip, err)
				}
				p[i] ^= flip
			}
		}
		for cut := range p {
			if v, err := verify(p[:cut]); !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrChecksum) {
				t.Errorf("%s cut at %d: %v, %v", name, cut, v, err)
			}
		}
	}
}

func TestAWrongChecksumSaysBothValues(t *testing.T) {
	p := recorded(t)["redis-7.2.6"]
	p[100] ^= 1
	_, err := verify(p)
	both := fmt.Sprintf("the file says 26461613c1cc497a, its bytes make %016x", standard(p[:len(p)-8]))
	if !errors.Is(err, ErrChecksum) || !strings.Contains(err.Error(), both) {
		t.Errorf("%v", err)
	}
}

func TestAFileWithoutChecksumIsNotDamaged(t *testing.T) {
	for _, p := range [][]byte{rdbFile(12, []byte("\xfe\x00"), false), rdbFile(5, nil, false), rdbFile(4, []byte("\xfe\x00"), false), rdbFile(1, nil, false)} {
		if v, err := verify(p); v != Disabled || err != nil {
			t.Errorf("%q: %v, %v", p, v, err)
		}
	}
}

func TestAFileThatDoesNotEndWithEOFIsMalformed(t *testing.T) {
	for _, p := range []string{"REDIS0011\xfe\x00\x00\x00\x00\x00\x00\x00\x00\x00", "REDIS0011\xff", "REDIS0011\xff\x00\x00\x00\x00\x00\x00\x00", "REDIS0004\xfe", "REDIS0004", "REDIS0011", "REDIS", ""} {
		if v, err := verify([]byte(p)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v, %v", p, v, err)
		}
	}
	if _, err := verify([]byte("*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n")); !errors.Is(err, ErrNotRDB) {
		t.Errorf("a stream of commands: %v", err)
	}
	if _, err := VerifyChecksum(context.Background(), strings.NewReader("REDIS0011"), -1); !errors.Is(err, ErrMalformed) {
		t.Errorf("a negative size: %v", err)
	}
}

// pieces notes how it is read.
type pieces struct {
	io.ReaderAt
	reads   int
	largest int
	onRead  func(n int) error
}

func (r *pieces) ReadAt(p []byte, at int64) (int, error) {
	r.reads++
	r.largest = max(r.largest, len(p))
	if r.onRead != nil {
		if err := r.onRead(r.reads); err != nil {
			return 0, err
		}
	}
	return r.ReaderAt.ReadAt(p, at)
}

func largeFile() []byte {
	body := make([]byte, 5<<20+12345)
	rnd := rand.New(rand.NewPCG(3, 4))
	for i := range body {
		body[i] = byte(rnd.Uint32())
	}
	return rdbFile(11, body, true)
}

func TestALargeFileIsReadInPieces(t *testing.T) {
	p := largeFile()
	r := &pieces{ReaderAt: bytes.NewReader(p)}
	if v, err := VerifyChecksum(context.Background(), r, int64(len(p))); v != Verified || err != nil {
		t.Errorf("%v, %v", v, err)
	}
	if r.largest != pieceSize || r.reads != 2+6 {
		t.Errorf("%d reads of up to %d bytes", r.reads, r.largest)
	}
	p[len(p)/2] ^= 0x10
	if _, err := VerifyChecksum(context.Background(), r, int64(len(p))); !errors.Is(err, ErrChecksum) {
		t.Errorf("damaged: %v", err)
	}
}

func TestACancelledVerificationStopsReading(t *testing.T) {
	p := largeFile()
	ctx, cancel := context.WithCancel(context.Background())
	r := &pieces{ReaderAt: bytes.NewReader(p), onRead: func(n int) error {
		if n == 4 {
			cancel()
		}
		return nil
	}}
	if _, err := VerifyChecksum(ctx, r, int64(len(p))); !errors.Is(err, context.Canceled) || r.reads != 4 {
		t.Errorf("%v after %d reads", err, r.reads)
	}
	if _, err := VerifyChecksum(ctx, r, int64(len(p))); !errors.Is(err, context.Canceled) || r.reads != 4 {
		t.Errorf("%v after %d reads", err, r.reads)
	}
}

func TestAReadErrorIsNoVerdict(t *testing.T) {
	p, fault := largeFile(), errors.New("I/O error")
	for fail := 1; fail <= 8; fail++ {
		r := &pieces{ReaderAt: bytes.NewReader(p), onRead: func(n int) error {
			if n == fail {
				return fault
			}
			return nil
		}}
		if _, err := VerifyChecksum(context.Background(), r, int64(len(p))); !errors.Is(err, fault) || errors.Is(err, ErrMalformed) {
			t.Errorf("read %d: %v", fail, err)
		}
	}
}

func TestAFileShorterThanItsSizeIsMalformed(t *testing.T) {
	p := largeFile()
	if _, err := VerifyChecksum(context.Background(), bytes.NewReader(p[:len(p)-1]), int64(len(p))); !errors.Is(err, ErrMalformed) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v", err)
	}
}
