package rdb

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// rdbFile writes a file around body, with its checksum or with zeros.
func rdbFile(version int, body []byte, sum bool) []byte {
	p := fmt.Appendf(nil, "REDIS%04d", version)
	p = append(p, body...)
	p = append(p, 0xFF)
	if version < 5 {
		return p
	}
	if !sum {
		return append(p, make([]byte, 8)...)
	}
	return binary.LittleEndian.AppendUint64(p, standard(p))
}

// recorded returns the RDB payloads of the recorded transcripts.
func recorded(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/*.rdb")
	if err != nil || len(files) != 14 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	payloads := map[string][]byte{}
	for _, file := range files {
		p, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		payloads[strings.TrimSuffix(filepath.Base(file), ".rdb")] = p
	}
	return payloads
}

func TestHeadersOfRecordedFilesSayWhatTheServersWrote(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.DateTime, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	header := func(version int, redis, valkey, ctime string, memory int64, id string, offset int64) Header {
		h := Header{Version: version, Aux: map[string]string{"ctime": fmt.Sprint(at(ctime).Unix()), "used-mem": fmt.Sprint(memory)}}
		told := map[string]string{"redis-ver": redis, "valkey-ver": valkey}
		if id != "" {
			told["repl-stream-db"], told["repl-id"], told["repl-offset"] = "0", id, fmt.Sprint(offset)
		}
		for name, value := range told {
			if value != "" {
				h.Aux[name] = value
			}
		}
		return h
	}
	want := map[string]Header{
		"redis-2.6.17":          {Version: 6},
		"redis-2.8.24":          {Version: 6},
		"redis-3.2.13":          header(7, "3.2.13", "", "2026-11-23 12:03:36", 881560, "", 0),
		"redis-4.0.14":          header(8, "4.0.14", "", "2026-11-23 12:03:43", 1952089, "4e002de6c52904ade571738f53877464b8713555", 0),
		"redis-5.0.14":          header(9, "5.0.14", "", "2026-11-23 12:03:51", 1932104, "7c9b4f9be120e8d6513d80deffc596506747ff37", 28),
		"redis-6.2.16":          header(9, "6.2.16", "", "2026-11-23 12:03:57", 1991032, "88566f4087446ecef8cfee008a0398942cb6e132", 0),
		"redis-7.0.15-disk":     header(10, "7.0.15", "", "2026-11-23 11:57:19", 1038552, "a8db25a7bf14b8c9659966021beb053559c00634", 0),
		"redis-7.0.15-diskless": header(10, "7.0.15", "", "2026-11-23 11:57:12", 1038752, "970fd9e51603129ba206f0172d636db7cc9877d6", 0),
		"redis-7.2.6":           header(11, "7.2.6", "", "2026-11-23 12:04:04", 1115528, "a557dd41e9a1de41d4e7ab1da457f74eccc81e31", 0),
		"redis-7.4.1":           header(12, "7.4.1", "", "2026-11-23 12:04:10", 1128880, "fa829eb68ed0bdadc3d03ed09f2867b7160d36ae", 0),
		"redis-8.0-dev":         header(12, "255.255.255", "", "2026-11-23 12:04:17", 1109040, "8fe31fedbcdff300ecfd391dcc5a9651d1f4b44b", 0),
		"valkey-7.2.7":          header(11, "", "7.2.7", "2026-11-23 12:04:24", 1130152, "5b385a38e6623dff2bf1b057f4ee2ba5f20e0570", 0),
		"valkey-8.0.1":          header(11, "", "8.0.1", "2026-11-23 12:04:31", 1158872, "509ebf7b5da95cadca40cb6897cbcf5448271eee", 0),
		"valkey-8.1-dev":        header(11, "", "255.255.255", "2026-11-23 12:04:38", 1074960, "e3101b02ea56fefb18a9575d30478d7740b2b7fc", 0),
	}
	for name, p := range recorded(t) {
		got, err := ReadHeader(bytes.NewReader(p))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got.Version > 6 && got.Aux["redis-bits"] != "64" {
			t.Errorf("%s: aux %v", name, got.Aux)
		}
		maps.DeleteFunc(got.Aux, func(name, _ string) bool { return name == "redis-bits" || strings.HasPrefix(name, "aof-") })
		if len(got.Aux) == 0 {
			got.Aux = nil
		}
		if !reflect.DeepEqual(got, want[name]) {
			t.Errorf("%s\n got %+v\nwant %+v", name, got, want[name])
		}
	}
}

// Encodings of a string with its length.
func len6(s string) string  { return string([]byte{byte(len(s))}) + s }
func len14(s string) string { return string([]byte{0x40 | byte(len(s)>>8), byte(len(s))}) + s }
func len32(s string) string {
	return string(binary.BigEndian.AppendUint32([]byte{0x80}, uint32(len(s)))) + s
}
func len64(s string) string {
	return string(binary.BigEndian.AppendUint64([]byte{0x81}, uint64(len(s)))) + s
}
func unhex(s string) string {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func aux(name, encoded string) string { return "\xfa" + len6(name) + encoded }

// Strings as redis-server 7.0.15 compressed them (the payload of DUMP).
func compressed() map[string]string {
	prose := ""
	for i := range 40 {
		prose += fmt.Sprintf("replica %d follows master %d and ", i%7, i%3)
	}
	return map[string]string{
		strings.Repeat("a", 100):     unhex("c3094064016161e05700016161"),
		strings.Repeat("ab", 150):    unhex("c30d412c02616261e0ff01e01601016162"),
		strings.Repeat("\x00", 5000): unhex("c33f5388010000e0ff00e0ff00e0ff00e0ff00e0ff00e0ff00e0ff00e0ff00e0ff00e0ff00e0ff00e0ff00e0ff00e0ff00e0ff00e0ff00e0ff00e0ff00e0eb00010000"),
		"0123456789abcdefghij" + strings.Repeat("x", 40) + "0123456789abcdefghij": unhex("c31e405014303132333435363738396162636465666768696a78e01e000030e00a3b"),
		prose: unhex("c3411f44d8177265706c696361203020666f6c6c6f7773206d6173746572201004616e642072a01e0031e0071e0031e0041e0032e0071e0032e0041e0033e0071ee0055c0034e0071ee0055c0035e0071ee0055c0036e0071ee0055c" +
			strings.Repeat("e008d8e0055c", 32) + "e008d8405c016420"),
	}
}

func TestEveryEncodingOfAStringIsRead(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", MaxString/16)
	type encoded struct{ bytes, want string }
	cases := []encoded{
		{len6(""), ""}, {len6("x"), "x"}, {len6(long[:63]), long[:63]},
		{len14(""), ""}, {len14(long[:64]), long[:64]}, {len14(long[:16383]), long[:16383]},
		{len32("x"), "x"}, {len32(long), long},
		{len64("x"), "x"}, {len64(long), long},
		{"\xc0\x00", "0"}, {"\xc0\x7f", "127"}, {"\xc0\x80", "-128"}, {"\xc0\xff", "-1"},
		{"\xc1\x00\x00", "0"}, {"\xc1\xff\x7f", "32767"}, {"\xc1\x00\x80", "-32768"}, {"\xc1\x01\x02", "513"},
		{"\xc2\x00\x00\x00\x00", "0"}, {"\xc2\xff\xff\xff\x7f", "2147483647"}, {"\xc2\x00\x00\x00\x80", "-2147483648"}, {"\xc2\x01\x02\x03\x04", "67305985"},
		{"\xc3\x00\x00", ""},
	}
	for want, b := range compressed() {
		cases = append(cases, encoded{b, want})
	}
	for _, c := range cases {
		// Once as a value, once as a name, with a field behind it.
		p := rdbFile(11, []byte(aux("v", c.bytes)+"\xfa"+c.bytes+len6("n")+aux("last", "\xc0\x01")), true)
		h, err := ReadHeader(bytes.NewReader(p))
		if err != nil || h.Aux["v"] != c.want || h.Aux[c.want] != "n" || h.Aux["last"] != "1" {
			t.Errorf("% .20x: %v; want %.40q", c.bytes, err, c.want)
		}
	}
}

func TestFieldsWithoutSenseAreOnlyInAux(t *testing.T) {
	body := aux("ctime", len6("soon")) + aux("used-mem", len6("1x")) + aux("repl-stream-db", "\xc0\xff") +
		aux("repl-offset", "\xc0\xfe") + aux("aof-base", len6("")) + aux("", len6("nameless"))
	h, err := ReadHeader(bytes.NewReader(rdbFile(11, []byte(body), true)))
	if err != nil {
		t.Fatal(err)
	}
	want := Header{Version: 11, Aux: map[string]string{"ctime": "soon", "used-mem": "1x", "repl-stream-db": "-1",
		"repl-offset": "-2", "aof-base": "", "": "nameless"}}
	if !reflect.DeepEqual(h, want) {
		t.Errorf("%+v", h)
	}
}

func TestReplicationFieldsAreReadWithWhateverSize(t *testing.T) {
	body := aux("repl-stream-db", "\xc1\x2c\x01") + aux("repl-offset", len6("9007199254740993")) + aux("aof-base", "\xc0\x01") +
		aux("ctime", len6("4102444800"))
	h, err := ReadHeader(bytes.NewReader(rdbFile(11, []byte(body), true)))
	if err != nil {
		t.Fatal(err)
	}
	if h.ReplStreamDB != 300 || h.Aux["repl-offset"] != "9007199254740993" || h.Aux["aof-base"] != "1" || h.Aux["ctime"] != "4102444800" {
		t.Errorf("%+v", h)
	}
}

func TestTheHeaderEndsAtTheFirstOtherOpcode(t *testing.T) {
	for _, op := range []string{"\xff", "\xfe\x00", "\xf7\x81", "\xf5", "\x00"} {
		p := "REDIS0012" + aux("a", len6("b")) + op + aux("never", len6("read"))
		h, err := ReadHeader(strings.NewReader(p))
		if err != nil || len(h.Aux) != 1 || h.Aux["a"] != "b" {
			t.Errorf("opcode % x: %v, %v", op, h.Aux, err)
		}
	}
}

func TestAFileOfValkey9HasItsOwnMagic(t *testing.T) {
	p := "VALKEY080" + aux("valkey-ver", len6("9.0.0")) + "\xff"
	if h, err := ReadHeader(strings.NewReader(p)); err != nil || h.Version != 80 || h.Aux["valkey-ver"] != "9.0.0" {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestAnythingElseIsNotAnRDBFile(t *testing.T) {
	for _, p := range []string{"*1\r\n$4\r\nPING\r\n", "redis0011\xff", "REDIS00x1\xff", "REDIS-011\xff", "REDIS0000\xff", "VALKEY0x0\xff", "VALKEY000\xff", "x", "REDIX", "VALKEX"} {
		if _, err := ReadHeader(strings.NewReader(p)); !errors.Is(err, ErrNotRDB) || errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", p, err)
		}
	}
}

func TestAHeaderCutShortAnywhereIsMalformedAndGivesWhatItHas(t *testing.T) {
	payloads := recorded(t)
	all := "REDIS0011" + aux("a", len14("b")) + aux("c", len32("d")) + aux("e", len64("f")) + aux("g", "\xc1\x01\x02") + aux("h", "\xc2\x01\x02\x03\x04")
	for _, b := range compressed() {
		all += aux("z", b)
	}
	payloads["all encodings"] = []byte(all + "\xff")
	payloads["valkey 9"] = []byte("VALKEY080" + aux("a", "\xc0\x01") + "\xff")
	for name, p := range payloads {
		whole := 0
		for cut := 0; cut <= len(p); cut++ {
			h, err := ReadHeader(iotest.OneByteReader(bytes.NewReader(p[:cut])))
			if err == nil {
				whole++
				continue
			}
			if whole > 0 {
				t.Errorf("%s: whole with fewer than %d bytes: %v", name, cut, err)
			}
			if !errors.Is(err, ErrMalformed) || !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), fmt.Sprintf("byte %d", cut)) {
				t.Errorf("%s cut at %d: %v", name, cut, err)
			}
			if cut >= MagicLen && h.Version == 0 || len(h.Aux) > 0 && cut < MagicLen+3 {
				t.Errorf("%s cut at %d: %+v", name, cut, h)
			}
		}
		if whole == 0 {
			t.Errorf("%s: never whole", name)
		}
	}
}

func TestBrokenEncodingsAreMalformedWithTheirPlace(t *testing.T) {
	for _, c := range []struct{ encoded, want string }{
		{"\x82", `byte 13, in the value of aux field "k": unknown length encoding 0x82`},
		{"\xbf", `unknown length encoding 0xbf`},
		{"\xc4", `unknown string encoding 0xc4`},
		{"\xff", `unknown string encoding 0xff`},
		{"\x80\x00\x01\x00\x01", `byte 17, in the value of aux field "k": a string of 65537, more than 65536 bytes`},
		{"\x81\xff\xff\xff\xff\xff\xff\xff\xff", `a string of 18446744073709551615, more than 65536 bytes`},
		{"\xc3\xc0\x05", `the compressed length is given as encoding 0`},
		{"\xc3\x05\xc3", `the length is given as encoding 3`},
		{"\xc3\x80\x7f\xff\xff\xff\x05", `the compressed length is 2147483647, more than 65536 bytes`},
		{"\xc3\x05\x81\x00\x00\x00\x01\x00\x00\x00\x00", `the length is 4294967296, more than 65536 bytes`},
		{"\xc3\x02\x05\x04a", `LZF: literals cut short`},
		{"\xc3\x03\x01\x01ab", `LZF: more bytes than announced`},
		{"\xc3\x02\x09\x00a", `LZF: 1 bytes instead of 9`},
		{"\xc3\x03\x09\x00a\x20", `LZF: distance cut short`},
		{"\xc3\x03\x09\x00a\xe0", `LZF: length cut short`},
		{"\xc3\x04\x09\x00a\xe0\x01", `LZF: distance cut short`},
		{"\xc3\x04\x09\x00a\x20\x01", `LZF: distance before the begin`},
		{"\xc3\x04\x09\x00a\x3f\xff", `LZF: distance before the begin`},
		{"\xc3\x04\x03\x00a\x40\x00", `LZF: more bytes than announced`},
		{"\xc3\x00\x01", `LZF: 0 bytes instead of 1`},
	} {
		p := "REDIS0011" + aux("k", c.encoded) + "\xff"
		_, err := ReadHeader(strings.NewReader(p))
		if !errors.Is(err, ErrMalformed) || !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("% x: %v; want %s", c.encoded, err, c.want)
		}
	}
}

// counting counts what is read of an endless repetition of a piece.
type counting struct {
	piece []byte
	at    int
	n     int64
}

func (c *counting) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = c.piece[c.at%len(c.piece)]
		c.at++
	}
	c.n += int64(len(p))
	return len(p), nil
}

func TestAnEndlessHeaderIsGivenUp(t *testing.T) {
	bomb := compressed()[strings.Repeat("\x00", 5000)]
	for _, c := range []struct{ name, piece, want string }{
		{"long values", aux("k", len14(strings.Repeat("x", 16000))), "the header is longer than 1048576 bytes"},
		{"tiny fields", aux("k", "\xc0\x01"), "more than 4096 aux fields"},
		{"compressed values", aux("k", bomb), "aux fields of more than 1048576 bytes"},
	} {
		r := &counting{piece: []byte(c.piece)}
		h, err := ReadHeader(io.MultiReader(strings.NewReader("REDIS0011"), r))
		if !errors.Is(err, ErrMalformed) || errors.Is(err, io.ErrUnexpectedEOF) || !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if r.n > MaxHeader || len(h.Aux) != 1 {
			t.Errorf("%s: %d bytes read, %d fields", c.name, r.n, len(h.Aux))
		}
	}
}

func TestAnErrorOfTheReaderIsNoFaultOfTheFile(t *testing.T) {
	fault := errors.New("disk on fire")
	for _, p := range []string{"", "REDIS", "REDIS0011", "REDIS0011\xfa", "REDIS0011\xfa\x05na", "REDIS0011\xfa\x01n\xc2\x00"} {
		_, err := ReadHeader(io.MultiReader(strings.NewReader(p), iotest.ErrReader(fault)))
		if !errors.Is(err, fault) || errors.Is(err, ErrMalformed) || errors.Is(err, ErrNotRDB) {
			t.Errorf("after %q: %v", p, err)
		}
	}
}

func FuzzReadHeader(f *testing.F) {
	for _, p := range recorded(f) {
		f.Add(p)
	}
	for _, b := range compressed() {
		f.Add([]byte("REDIS0012" + aux("k", b) + "\xfa" + b + len6("v") + "\xff"))
	}
	f.Add([]byte("VALKEY080" + aux("a", len32("b")) + aux("c", len64("d")) + "\xf7"))
	f.Add([]byte("REDIS0011" + aux("repl-stream-db", "\xc2\x01\x00\x00\x00") + aux("e", len14("f"))))
	f.Fuzz(func(t *testing.T, p []byte) {
		h, err := ReadHeader(bytes.NewReader(p))
		if err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrNotRDB) {
			t.Fatalf("error %v", err)
		}
		size := 0
		for name, value := range h.Aux {
			if len(name) > MaxString || len(value) > MaxString {
				t.Fatalf("aux field of %d and %d bytes", len(name), len(value))
			}
			size += len(name) + len(value)
		}
		if size > MaxHeader || len(h.Aux) > MaxFields {
			t.Fatalf("%d aux fields of %d bytes", len(h.Aux), size)
		}
		if h.ReplStreamDB < 0 || h.ReplStreamDB > 1<<31-1 || err == nil && h.Version <= 0 {
			t.Fatalf("%+v", h)
		}
		again, errAgain := ReadHeader(iotest.OneByteReader(bytes.NewReader(p)))
		if !reflect.DeepEqual(h, again) || fmt.Sprint(err) != fmt.Sprint(errAgain) {
			t.Fatalf("byte by byte: %+v, %v; want %+v, %v", again, errAgain, h, err)
		}
	})
}
