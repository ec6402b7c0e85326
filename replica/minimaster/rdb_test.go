package minimaster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"replicad/replica/rdb"
)

// snapshot is an RDB file with some of everything.
func snapshot(t testing.TB, large bool) ([]byte, Dump) {
	t.Helper()
	m, err := Start(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	smallWrites(t, m.NewClient(), "")
	if large {
		largeWrites(t, m.NewClient(), "")
	}
	var b bytes.Buffer
	m.mu.Lock()
	defer func() { m.mu.Unlock() }()
	if err := m.engine.writeRDB(&b, m.replid, 42); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), m.engine.dump()
}

func TestWhatTheWriterWritesTheReaderReads(t *testing.T) {
	b, want := snapshot(t, true)
	e := newEngine(t)
	if err := e.LoadRDB(bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	sameDump(t, want, e.Dump())
}

func TestTheHeaderSaysWhereInTheStreamTheSnapshotStands(t *testing.T) {
	b, _ := snapshot(t, false)
	h, err := rdb.ReadHeader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	s := fmt.Sprintf("%+v", h)
	for _, want := range []string{"42", Version} {
		if !strings.Contains(s, want) {
			t.Errorf("%q is not in the header: %s", want, s)
		}
	}
}

func TestATruncatedOrChangedSnapshotIsAnError(t *testing.T) {
	b, _ := snapshot(t, false)
	for n := 0; n < len(b); n += 1 + n/40 {
		err := newEngine(t).LoadRDB(bytes.NewReader(b[:n]))
		if !errors.Is(err, ErrRDB) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("of %d bytes the first %d: %v", len(b), n, err)
		}
	}
	for at := 0; at < len(b)-8; at += 37 {
		c := slices.Clone(b)
		c[at] ^= 0x20
		if err := newEngine(t).LoadRDB(bytes.NewReader(c)); !errors.Is(err, ErrRDB) {
			t.Fatalf("byte %d changed: %v", at, err)
		}
	}
}

// file wraps records into an RDB file without a checksum.
func file(records ...any) []byte {
	b := []byte("REDIS0011")
	for _, r := range records {
		switch r := r.(type) {
		case int:
			b = append(b, byte(r))
		case string:
			b = append(append(b, byte(len(r))), r...)
		case []byte:
			b = append(b, r...)
		}
	}
	return append(append(b, opEOF), make([]byte, 8)...)
}

func TestTheReaderKnowsTheCompactEncodingsOfRedis(t *testing.T) {
	var lp listpack
	for _, s := range []string{"a", "1", "b", "2.5"} {
		lp.string(s)
	}
	packed := string(lp.bytes())
	intset := []byte{2, 0, 0, 0, 2, 0, 0, 0, 0xFF, 0xFF, 7, 0}
	lzf := []byte{0xC0 | encLZF, 5, 10, 0, 'x', 0xE0, 0, 0} // one literal, then 9 times the byte before
	zset1 := []byte{typeZSet, 1, 'z', 3, 1, 'a', 255, 1, 'b', 254, 1, 'c', 3, '1', '.', '5'}
	ints := []byte{opExpireMS}
	ints = binary.LittleEndian.AppendUint64(ints, 4000000000123)
	for name, c := range map[string]struct {
		file []byte
		want Value
	}{
		"intset":           {file(typeSetIntset, "k", string(intset)), Value{Type: "set", Items: []string{"-1", "7"}}},
		"listpack set":     {file(typeSetListpack, "k", packed), Value{Type: "set", Items: []string{"1", "2.5", "a", "b"}}},
		"listpack hash":    {file(typeHashListpack, "k", packed), Value{Type: "hash", Items: []string{"a", "1", "b", "2.5"}}},
		"listpack zset":    {file(typeZSetListpack, "k", packed), Value{Type: "zset", Items: []string{"a", "1", "b", "2.5"}}},
		"quicklist":        {file(typeListQuicklist2, "k", 2, 2, packed, 1, "plain"), Value{Type: "list", Items: []string{"a", "1", "b", "2.5", "plain"}}},
		"LZF":              {file(typeString, "k", lzf), Value{Type: "string", Items: []string{"xxxxxxxxxx"}}},
		"old zset":         {file(zset1), Value{Type: "zset", Items: []string{"a", "-inf", "b", "inf", "c", "1.5"}}},
		"integers":         {file(typeList, "k", 3, []byte{0xC0, 0x80, 0xC1, 0, 0x80, 0xC2, 0, 0, 0, 0x80}), Value{Type: "list", Items: []string{"-128", "-32768", "-2147483648"}}},
		"expiry":           {file(ints, typeString, "k", "v"), Value{Type: "string", Items: []string{"v"}, Expire: 4000000000123}},
		"expiry in s":      {file(opExpire, []byte{1, 0, 0, 0}, opIdle, 5, opFreq, 9, typeString, "k", "v"), Value{Type: "string", Items: []string{"v"}, Expire: 1000}},
		"functions passed": {file(opFunction2, "lua code", typeString, "k", "v"), Value{Type: "string", Items: []string{"v"}}},
	} {
		e := newEngine(t)
		if err := e.LoadRDB(bytes.NewReader(c.file)); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		key := "k"
		if name == "old zset" {
			key = "z"
		}
		sameDump(t, Dump{0: {key: c.want}}, e.Dump())
	}
}

func TestWhatTheEngineCannotHoldIsAClearError(t *testing.T) {
	for name, f := range map[string][]byte{
		"values of type 10 are not known":     file(10, "k", "x"),
		"values of type 247":                  file(247, "k", "x"),
		"database 99":                         file(opSelectDB, 0x40, 99),
		"empty collection":                    file(typeSet, "k", 0),
		"odd number":                          file(typeHashListpack, "k", string((&listpack{buf: []byte{1, 1}, count: 1}).bytes())),
		"twice":                               file(typeString, "k", "v", typeString, "k", "v"),
		"an empty stream":                     file(typeStreamListpacks, "k", 0, 0, 0, 0, 0),
		"consumer groups":                     file(typeStreamListpacks, "k", 0, 0, 0, 0, 1),
		"it begins with":                      []byte("RUBBISH00"),
		"malformed listpack":                  file(typeSetListpack, "k", "rubbish"),
		"an expiry":                           file(append([]byte{opExpireMS}, bytes.Repeat([]byte{0xFF}, 8)...), typeString, "k", "v"),
		"a string of 549755813888 bytes":      file(typeString, []byte{0x81, 0, 0, 0, 0x80, 0, 0, 0, 0}),
		"unknown encoding":                    file(typeString, []byte{0xC9}),
		"an encoded string where a length":    file(typeSet, "k", []byte{0xC0}),
		"a length that begins":                file(typeString, []byte{0x99}),
		"score":                               file(typeZSet2, "k", 1, "m", binary.LittleEndian.AppendUint64(nil, math.Float64bits(math.NaN()))),
		"malformed intset":                    file(typeSetIntset, "k", "\x03\x00\x00\x00\x01\x00\x00\x00abc"),
		"malformed compressed":                file(typeString, []byte{0xC3, 2, 10, 0xE0, 0}),
		"a stream node with an id":            file(typeStreamListpacks, "k", 1, "short"),
		"a quicklist node of kind 3":          file(typeListQuicklist2, "k", 1, 3, "x"),
		"a stream of 0 entries says it has 5": file(typeStreamListpacks, "k", 0, 5, 0, 0, 0),
		"malformed stream node":               file(typeStreamListpacks, "k", 1, "0123456789abcdef", string((&listpack{buf: []byte{1, 1}, count: 1}).bytes())),
	} {
		err := newEngine(t).LoadRDB(bytes.NewReader(f))
		if !errors.Is(err, ErrRDB) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestListpackElementsSurviveTheRoundTrip(t *testing.T) {
	want := []string{"", "x", strings.Repeat("y", 63), strings.Repeat("z", 64), strings.Repeat("w", 4095), strings.Repeat("v", 70000)}
	var lp listpack
	for _, s := range want {
		lp.string(s)
	}
	for _, n := range []int64{0, 127, 128, -1, math.MaxInt64, math.MinInt64} {
		lp.int(n)
		want = append(want, fmt.Sprint(n))
	}
	got, err := readListpack(lp.bytes())
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%.200q, %v", got, err)
	}
	// What Redis writes and the writer here does not.
	for s, b := range map[string][]byte{
		"-4096": {0xD0, 0x00}, "4095": {0xCF, 0xFF}, "-2": {0xF1, 0xFE, 0xFF}, "-3": {0xF2, 0xFD, 0xFF, 0xFF}, "-4": {0xF3, 0xFC, 0xFF, 0xFF, 0xFF},
	} {
		if got, n, err := readElement(b); got != s || n != len(b) || err != nil {
			t.Errorf("% x: %q, %d, %v, want %q", b, got, n, err, s)
		}
	}
}

func FuzzLoadRDB(f *testing.F) {
	b, _ := snapshot(f, false)
	f.Add(b)
	f.Add(file(typeString, "k", "v"))
	f.Add(file(typeSetIntset, "k", "\x02\x00\x00\x00\x01\x00\x00\x00\x01\x00"))
	f.Add(file(typeString, "k", []byte{0xC0 | encLZF, 5, 10, 0, 'x', 0xE0, 0, 0}))
	f.Add(file(typeListQuicklist2, "k", 1, 1, "plain"))
	f.Add(file(typeStream2, "k", 0, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		e := newEngine(t)
		if err := e.LoadRDB(bytes.NewReader(b)); err != nil {
			if !errors.Is(err, ErrRDB) {
				t.Errorf("%v does not wrap ErrRDB", err)
			}
			return
		}
		// What it accepts it can write, and read again.
		var again bytes.Buffer
		if err := e.writeRDB(&again, strings.Repeat("0", 40), 0); err != nil {
			t.Fatal(err)
		}
		e2 := newEngine(t)
		if err := e2.LoadRDB(&again); err != nil {
			t.Fatal(err)
		}
		sameDump(t, e.Dump(), e2.Dump())
	})
}
