package rdb

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestTheContentOfEveryServersFileIsRead(t *testing.T) {
	files, err := filepath.Glob("testdata/*.rdb")
	if err != nil || len(files) < 10 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		p, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c, err := ReadContent(context.Background(), bytes.NewReader(p), func(int64) {})
		if err != nil || c.Keys != 2 || c.Expires != 0 || c.HighestDB != 2 || c.Modules != nil {
			t.Errorf("%s: %+v, %v", file, c, err)
		}
		if _, err := ReadContent(context.Background(), bytes.NewReader(p[:len(p)/2]), func(int64) {}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("half of %s: %v", file, err)
		}
	}
}

func TestDatabasesExpiriesAndModulesAreCounted(t *testing.T) {
	// The id of the type test-type, version 3: 6 bits a letter.
	id := "\x81\xb5\xeb\x2d\xfa\xdc\xa9\x78\x03"
	body := "REDIS0011\xfa\x01a\x01b" +
		"\xf7" + id + "\x02\x01" + "\x05\x03abc\x01\x07\x02\x07\x03\x00\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
		"\xfe\x05\xfb\x02\x01" + "\xfc\x00\x00\x00\x00\x01\x00\x00\x00\x00\x01k\xc0\x07" + // a string
		"\xf9\x03\x07\x02m1" + id + "\x05\x01x\x00" + // a module's
		"\xfe\x40\x64" + "\xfd\x00\x01\x00\x00\x03\x01z\x02\x01a\x031.5\x01b\xff" + // a sorted set of old
		"\x04\x01h\x01\xc3\x02\x40\xff\x00\x00\x01v" + // a hash with a compressed field
		"\x18\x01f" + strings.Repeat("\x00", 8) + "\x01\x00\x01a\x01b" // a hash whose fields expire
	var ends []int64
	c, err := ReadContent(context.Background(), strings.NewReader(body+"\xff"), func(ms int64) { ends = append(ends, ms) })
	if err != nil || c.Keys != 5 || c.Expires != 3 || c.HighestDB != 100 || !slices.Equal(c.Modules, []string{"test-type"}) {
		t.Errorf("%+v, %v", c, err)
	}
	if !slices.Equal(ends, []int64{1 << 32, 256_000}) {
		t.Errorf("the times to live end at %d", ends)
	}
	for cut := range len(body) {
		if _, err := ReadContent(context.Background(), strings.NewReader(body[:cut]), func(int64) {}); err == nil {
			t.Fatalf("the first %d bytes are a whole file", cut)
		}
	}
	c, err = ReadContent(context.Background(), strings.NewReader(body+"\x63\x01k"), func(int64) {})
	if !errors.Is(err, ErrUnknown) || c.HighestDB != 100 {
		t.Errorf("a type of the future: %+v, %v", c, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := ReadContent(ctx, strings.NewReader(body), func(int64) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func FuzzReadContent(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.rdb")
	for _, file := range files {
		p, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
	}
	f.Add([]byte("VALKEY080\x16\x01h\x01\x01a\x01b\x00\x00\x00\x00\x00\x00\x00\x00\xff"))
	f.Add([]byte("REDIS0011\x02\x01s\x81\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, p []byte) {
		c, err := ReadContent(context.Background(), bytes.NewReader(p), func(int64) {})
		if c.Keys > int64(len(p)) || c.Expires > c.Keys {
			t.Errorf("%+v, %v of %d bytes", c, err, len(p))
		}
	})
}
