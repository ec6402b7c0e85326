package resp

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// scanPieces scans the pieces one after the other, as a link would, and checks
// what Scan promises of its results.
func scanPieces(t testing.TB, s *Scanner, pieces ...[]byte) outcome {
	t.Helper()
	r := outcome{}
	for _, p := range pieces {
		p = p[:len(p):len(p)] // nothing behind the end to be read
		for {
			before := s.Scanned()
			n, kind, err := s.Scan(p)
			if n < 0 || n > len(p) || s.Scanned() != before+int64(n) {
				t.Fatalf("Scan of %d bytes took %d, Scanned went from %d to %d", len(p), n, before, s.Scanned())
			}
			if err != nil {
				var protocol *ProtocolError
				if !errors.Is(err, ErrProtocol) || !errors.As(err, &protocol) || protocol.Offset != s.Scanned() || protocol.Reason == "" {
					t.Fatalf("after %d bytes: error %#v", s.Scanned(), err)
				}
				r.found, r.Failed = s.found(), true
				return r
			}
			p = p[n:]
			if kind == More {
				if len(p) > 0 {
					t.Fatalf("More with %d bytes left", len(p))
				}
				break
			}
			r.Acks = append(r.Acks, ack{s.CommandStart(), s.Scanned()})
		}
	}
	r.found = s.found()
	return r
}

func compare(t testing.TB, what string, got, want outcome) {
	t.Helper()
	if got.found != want.found || got.Failed != want.Failed || !slices.Equal(got.Acks, want.Acks) {
		t.Errorf("%s\n got %+v\nwant %+v", what, got, want)
	}
}

// conversation has one of everything that a scanner is to follow or to pass.
func conversation() []byte {
	var p []byte
	add := func(args ...string) { p = AppendCommand(p, args...) }
	add("SELECT", "0")
	add("set", "foo", "bar")
	add("SeLeCt", "2147483647")
	add("select", "12")
	for _, bad := range []string{"", "-1", "+3", "03", "2147483648", "99999999999", "1 ", "x", "\xff"} {
		add("SELECT", bad)
	}
	add("SELECT")
	add("SELECT", "1", "2")
	add("EXEC")
	add("DISCARD")
	add("multi")
	add("SELECT", "7")
	add("SET", "k", strings.Repeat("\r\n$3\r\n", 20))
	add("MULTI")
	add("EXEC", "no")
	add("Exec")
	add("MULTI")
	add("select", "9")
	add("REPLCONF", "GETACK", "*")
	add("DISCARD")
	add("replconf", "getack", "*")
	add("REPLCONF", "GETACK")
	add("REPLCONF", "ACK", "12")
	add("REPLCONF", "GETBCK", "*")
	add("PING")
	add("")
	add("", "")
	add("exe\x03")
	add("MULTI ")
	add("\x00ulti")
	add("DISCARD2", "EXEC", "MULTI")
	add("MSET", "a", "", "b", "\r\n", "c", "*1\r\n$4\r\nEXEC\r\n", "d", "1", "e", "2", "f", "3")
	for _, n := range []int{8, 9, 10, 99, 100, 999, 1000} {
		add("APPEND", "k", strings.Repeat("v", n))
	}
	add("MULTI")
	add("INCR", "x")
	return p
}

func TestEveryCutOfAConversationFindsWhatOnePieceFinds(t *testing.T) {
	p := conversation()
	whole := reference(p, 5, Limits{})
	if whole.Failed || whole.Commands < 40 || len(whole.Acks) != 2 || !whole.InMulti {
		t.Fatalf("the conversation is not what it should be: %+v", whole)
	}
	compare(t, "in one piece", scanPieces(t, NewScanner(5, Limits{}), p), whole)
	for cut := range p {
		s := NewScanner(5, Limits{})
		head := scanPieces(t, s, p[:cut])
		compare(t, fmt.Sprintf("the first %d bytes", cut), head, reference(p[:cut], 5, Limits{}))
		tail := scanPieces(t, s, p[cut:])
		tail.Acks = append(head.Acks, tail.Acks...)
		compare(t, fmt.Sprintf("cut at %d", cut), tail, whole)
	}
	s := NewScanner(5, Limits{})
	compare(t, "byte by byte", scanPieces(t, s, bytes.SplitAfter(p, nil)...), whole)
}

func TestRandomStreamsInRandomPiecesFindWhatTheReferenceFinds(t *testing.T) {
	names := []string{"EXEC", "MULTI", "SELECT", "DISCARD", "REPLCONF", "GETACK", "SET", "ping", "exec", "select", ""}
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		lengths := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 98, 99, 100, 101, 998, 999, 1000, 1001, 9999, 10000}
		if seed%50 == 0 {
			lengths = append(lengths, 99999, 100000, 999999, 1000000)
		}
		var p []byte
		for range 40 {
			args := make([]string, 1+rnd.IntN(4))
			if rnd.IntN(8) == 0 {
				args = make([]string, 1+rnd.IntN(130))
			}
			for i := range args {
				switch rnd.IntN(4) {
				case 0:
					args[i] = strings.Repeat("x", lengths[rnd.IntN(len(lengths))])
				case 1:
					args[i] = strconv.Itoa(rnd.IntN(20))
				default:
					args[i] = names[rnd.IntN(len(names))]
				}
			}
			p = AppendCommand(p, args...)
			if len(p) > 2<<20 {
				break
			}
		}
		want := reference(p, 0, Limits{})
		if want.Failed {
			t.Fatalf("seed %d: the reference refuses what AppendCommand wrote", seed)
		}
		most := 1 << (1 + rnd.IntN(17))
		var pieces [][]byte
		for rest := p; len(rest) > 0; {
			n := min(len(rest), 1+rnd.IntN(most))
			pieces = append(pieces, rest[:n])
			rest = rest[n:]
		}
		compare(t, fmt.Sprintf("seed %d", seed), scanPieces(t, NewScanner(0, Limits{}), pieces...), want)
	}
}

func TestProtocolErrorsNameTheOffendingByteWhereverTheStreamIsCut(t *testing.T) {
	limits := Limits{MaxBulk: 1000, MaxArgs: 12}
	for _, c := range []struct {
		name, good, bad string
		reason          string
	}{
		{"an inline command", "", "PING\r\n", `expected '*', the begin of a command, got 'P'`},
		{"a newline between commands", "", "\n", `expected '*', the begin of a command, got '\n'`},
		{"a reply", "", "+OK\r\n", `expected '*', the begin of a command, got '+'`},
		{"no number of arguments", "*", "\r\n", `invalid number of arguments: got '\r'`},
		{"a plus sign", "*", "+3\r\n", `invalid number of arguments: got '+'`},
		{"a leading zero", "*0", "3\r\n", `invalid number of arguments: leading zero before '3'`},
		{"a second zero", "*0", "0\r\n", `invalid number of arguments: leading zero before '0'`},
		{"a blank", "*3", " \r\n", `invalid number of arguments: got ' '`},
		{"a letter", "*1", "a\r\n", `invalid number of arguments: got 'a'`},
		{"a colon, the character after 9", "*", ":\r\n", `invalid number of arguments: got ':'`},
		{"a slash, the character before 0", "*", "/\r\n", `invalid number of arguments: got '/'`},
		{"no arguments", "*0", "\r\n", `a command without arguments, which no server loads, ends with '\r'`},
		{"a null array", "*", "-1\r\n", `invalid number of arguments: got '-'`},
		{"a minus sign in the middle", "*1", "-\r\n", `invalid number of arguments: got '-'`},
		{"too many arguments", "*1", "3\r\n", `invalid number of arguments: more arguments than allowed with digit '3'`},
		{"an array without newline", "*1\r", "\r\n", `expected the newline behind the number of arguments, got '\r'`},
		{"an array with a newline only", "*1", "\n$4\r\n", `invalid number of arguments: got '\n'`},
		{"an array in an array", "*1\r\n", "*1\r\n$4\r\nPING\r\n", `expected '$', the begin of an argument, got '*'`},
		{"an integer in an array", "*1\r\n", ":1\r\n", `expected '$', the begin of an argument, got ':'`},
		{"a null bulk string", "*1\r\n$", "-1\r\n", `invalid argument length: got '-'`},
		{"a length with a plus sign", "*1\r\n$", "+4\r\nPING\r\n", `invalid argument length: got '+'`},
		{"a length with a leading zero", "*1\r\n$0", "4\r\nPING\r\n", `invalid argument length: leading zero before '4'`},
		{"no length", "*1\r\n$", "\r\nPING\r\n", `invalid argument length: got '\r'`},
		{"a length with a letter", "*1\r\n$4", "x\r\nPING\r\n", `invalid argument length: got 'x'`},
		{"a length beyond the limit", "*1\r\n$100", "1\r\n", `invalid argument length: longer than allowed with digit '1'`},
		{"a length of many digits", "*1\r\n$999", "99999999999999999999999\r\n", `invalid argument length: longer than allowed with digit '9'`},
		{"a length without newline", "*1\r\n$4\r", "P", `expected the newline behind an argument's length, got 'P'`},
		{"a string longer than its length", "*1\r\n$3\r\nPIN", "G\r\n", `expected CR LF behind an argument, got 'G'`},
		{"a string shorter than its length", "*1\r\n$5\r\nPING\r", "\n", `expected CR LF behind an argument, got '\n'`},
		{"a string without carriage return", "*1\r\n$4\r\nPING", "\n", `expected CR LF behind an argument, got '\n'`},
		{"a string without newline", "*1\r\n$4\r\nPING\r", "*1\r\n", `expected CR LF behind an argument, got CR and '*'`},
		{"an empty string without newline", "*2\r\n$0\r\n", "$0\r\n", `expected CR LF behind an argument, got '$'`},
		{"a second argument that is none", "*2\r\n$4\r\nPING\r\n", "PONG\r\n", `expected '$', the begin of an argument, got 'P'`},
		{"rubbish behind the last argument", "*1\r\n$4\r\nPING\r\n", "$4\r\nPONG\r\n", `expected '*', the begin of a command, got '$'`},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := AppendCommand(nil, "SELECT", "3")
			p := append(append(before, c.good...), c.bad...)
			p = AppendCommand(p, "set", "never", "reached")
			at := len(before) + len(c.good)
			for cut := 0; cut <= len(p); cut++ {
				s := NewScanner(0, limits)
				got := scanPieces(t, s, p[:cut], p[cut:])
				compare(t, fmt.Sprintf("cut at %d", cut), got, reference(p, 0, limits))
				if !got.Failed || got.Scanned != int64(at) {
					t.Fatalf("cut at %d: failed %v at byte %d, want %d", cut, got.Failed, got.Scanned, at)
				}
				_, _, err := s.Scan(p)
				if want := fmt.Sprintf("resp: protocol error at stream byte %d: %s", at, c.reason); err.Error() != want {
					t.Fatalf("cut at %d:\n got %s\nwant %s", cut, err, want)
				}
				if !errors.Is(err, ErrProtocol) || errors.Is(err, ErrLongArgument) != strings.Contains(c.reason, "longer") || errors.Is(err, ErrManyArguments) != strings.Contains(c.reason, "more arg") {
					t.Fatalf("%v passes the limit %v", err, err.(*ProtocolError).Limit)
				}
			}
		})
	}
}

func TestAFailedScannerStaysFailedAndKeepsWhatItFound(t *testing.T) {
	s := NewScanner(0, Limits{})
	n, _, err := s.Scan([]byte("*1\r\n$4\r\nPING\r\nPING\r\n"))
	if n != 14 || !errors.Is(err, ErrProtocol) {
		t.Fatalf("Scan = %d, %v", n, err)
	}
	if n, _, again := s.Scan([]byte("*1\r\n$4\r\nPING\r\n")); n != 0 || again != err {
		t.Errorf("second Scan = %d, %v", n, again)
	}
	if s.Scanned() != 14 || s.Commands() != 1 || s.Boundary().Offset != 14 {
		t.Errorf("%+v", s.found())
	}
}

func TestWhatIsExactlyAtTheLimitsIsTaken(t *testing.T) {
	limits := Limits{MaxBulk: 9, MaxArgs: 3}
	p := AppendCommand(nil, "123456789", "123456789", "123456789")
	if got := scanPieces(t, NewScanner(0, limits), p); got.Failed || got.Commands != 1 {
		t.Errorf("at the limits: %+v", got)
	}
	for _, over := range [][]byte{AppendCommand(nil, "a", "b", "c", "d"), AppendCommand(nil, "1234567890")} {
		if got := scanPieces(t, NewScanner(0, limits), over); !got.Failed {
			t.Errorf("%q is beyond the limits and was taken", over)
		}
	}
	// A name has no limit of its own.
	name := scanPieces(t, NewScanner(0, Limits{MaxBulk: 3}), AppendCommand(nil, "PING", "not", "all"))
	if !name.Failed || name.Scanned != int64(len("*3\r\n$")) {
		t.Errorf("a name beyond the limit: %+v", name)
	}
}

func TestWithoutLimitsEveryCommandThatIsWellFormedIsTaken(t *testing.T) {
	s := NewScanner(0, Limits{})
	p := []byte("*9223372036854775807\r\n$9223372036854775807\r\n")
	if n, _, err := s.Scan(p); n != len(p) || err != nil {
		t.Errorf("Scan of the largest numbers = %d, %v", n, err)
	}
	over := scanPieces(t, NewScanner(0, Limits{}), []byte("*9223372036854775808\r\n"))
	if !over.Failed {
		t.Error("a number of arguments that is no int64 was taken")
	}
}

func TestMillionsOfArgumentsAreFollowedWithoutAllocation(t *testing.T) {
	const args = 3 << 20
	s := NewScanner(0, Limits{MaxBulk: DefaultMaxBulk, MaxArgs: DefaultMaxArgs})
	some := bytes.Repeat([]byte("$1\r\nv\r\n"), 1024)
	feed := func(p []byte) {
		if n, _, err := s.Scan(p); n != len(p) || err != nil {
			t.Fatalf("Scan = %d, %v", n, err)
		}
	}
	if n := testing.AllocsPerRun(1, func() {
		feed(fmt.Appendf(nil, "*%d\r\n$5\r\nRPUSH\r\n$1\r\nl\r\n", args+2))
		for range args / 1024 {
			feed(some)
		}
	}); n > 100 { // a few are the test's own, and those of whatever runs beside it
		t.Errorf("%v allocations for %d arguments", n, args)
	}
	if s.Commands() != 2 || s.Boundary().Offset != s.Scanned() {
		t.Errorf("%+v", s.found())
	}
	feed([]byte("*2147483647\r\n"))
	if _, _, err := NewScanner(0, Limits{MaxArgs: DefaultMaxArgs}).Scan([]byte("*2147483648\r\n")); !errors.Is(err, ErrManyArguments) {
		t.Errorf("2^31 arguments: %v", err)
	}
}

func TestGetAckStopsTheScannerRightBehindTheCommand(t *testing.T) {
	head := AppendCommand(nil, "SELECT", "3")
	p := AppendCommand(append([]byte(nil), head...), "REPLCONF", "GETACK", "*")
	p = AppendCommand(p, "set", "a", "b")
	s := NewScanner(0, Limits{})
	n, kind, err := s.Scan(p)
	if err != nil || kind != GetAck || n != len(head)+37 {
		t.Fatalf("Scan = %d, %v, %v", n, kind, err)
	}
	if got := s.CommandStart(); got != int64(len(head)) {
		t.Errorf("CommandStart = %d, want %d", got, len(head))
	}
	m, kind, err := s.Scan(p[n:])
	if err != nil || kind != More || n+m != len(p) {
		t.Fatalf("Scan of the rest = %d, %v, %v", m, kind, err)
	}
	if got, want := s.Boundary(), (Boundary{int64(len(p)), 3}); got != want {
		t.Errorf("Boundary = %v, want %v", got, want)
	}
}

func TestABoundaryIsNeverInsideATransaction(t *testing.T) {
	s := NewScanner(4, Limits{})
	step := func(want Boundary, multi bool, args ...string) {
		t.Helper()
		scanPieces(t, s, AppendCommand(nil, args...))
		if got := s.Boundary(); got != want || s.inMulti != multi {
			t.Errorf("after %q: boundary %v, in multi %v; want %v, %v", args, got, s.inMulti, want, multi)
		}
	}
	step(Boundary{14, 4}, false, "PING")
	step(Boundary{14, 4}, true, "MULTI")
	step(Boundary{14, 4}, true, "SELECT", "6")
	if got := (Boundary{s.lastEnd, s.db}); got != (Boundary{14 + 15 + 23, 6}) {
		t.Errorf("behind SELECT: %v", got)
	}
	step(Boundary{14 + 15 + 23 + 14, 6}, false, "EXEC")
	step(Boundary{66, 6}, true, "MULTI")
	step(Boundary{66, 6}, true, "SELECT", "8")
	step(Boundary{66 + 15 + 23 + 17, 6}, false, "DISCARD")
}

// recordedStreams returns the replication streams of the recorded transcripts:
// what the master sent after the RDB payload.
func recordedStreams(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/transcripts/*.txt")
	if err != nil || len(files) < 14 {
		t.Fatalf("%d transcripts, %v", len(files), err)
	}
	streams := map[string][]byte{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var sent []byte
		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(line, "M>R") {
				continue
			}
			part, err := strconv.Unquote(strings.TrimSpace(line[strings.IndexByte(line, '"'):]))
			if err != nil {
				t.Fatalf("%s: %v in %s", file, err, line)
			}
			sent = append(sent, part...)
		}
		var r LineReader
		for {
			line, n, err := r.Read(sent)
			if err != nil || line == nil {
				t.Fatalf("%s: no RDB payload found: %v", file, err)
			}
			sent = sent[n:]
			if mark, found := bytes.CutPrefix(line, []byte("$EOF:")); found {
				sent = sent[bytes.Index(sent, mark)+len(mark):]
				break
			}
			if length, found := bytes.CutPrefix(line, []byte("$")); found {
				size, err := strconv.Atoi(string(length))
				if err != nil {
					t.Fatal(err)
				}
				sent = sent[size:]
				break
			}
		}
		streams[filepath.Base(file)] = sent
	}
	return streams
}

func TestRecordedStreamsOfAllServersScanCleanlyAtEveryCut(t *testing.T) {
	acks := 0
	for name, p := range recordedStreams(t) {
		want := reference(p, 0, Limits{})
		if want.Failed || want.Commands < 5 || want.Boundary.Offset != int64(len(p)) {
			t.Errorf("%s: %+v", name, want)
		}
		acks += len(want.Acks)
		for cut := 0; cut <= len(p); cut++ {
			compare(t, fmt.Sprintf("%s cut at %d", name, cut), scanPieces(t, NewScanner(0, Limits{}), p[:cut], p[cut:]), want)
		}
	}
	if acks < 8 {
		t.Errorf("%d GETACKs in all transcripts", acks)
	}
}

func TestScanningAllocatesNothing(t *testing.T) {
	p := conversation()
	s := NewScanner(0, Limits{})
	for _, size := range []int{1, 7, 64, len(p)} {
		if n := testing.AllocsPerRun(20, func() {
			for rest := p; len(rest) > 0; {
				n, _, err := s.Scan(rest[:min(size, len(rest))])
				if err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
		}); n != 0 {
			t.Errorf("pieces of %d bytes: %v allocations", size, n)
		}
	}
}

func FuzzScanner(f *testing.F) {
	f.Add(conversation(), uint64(1), uint8(0))
	for _, p := range recordedStreams(f) {
		f.Add(p, uint64(2), uint8(7))
	}
	f.Add([]byte("*1\r\n$4\r\nPING\r\nPING\r\n"), uint64(3), uint8(1))
	f.Add([]byte("*-9223372036854775809\r\n"), uint64(4), uint8(2))
	f.Add([]byte("*12\r\n$18446744073709551616\r\n"), uint64(5), uint8(3))
	f.Fuzz(func(t *testing.T, p []byte, seed uint64, narrow uint8) {
		limits := Limits{}
		if narrow > 0 {
			limits = Limits{MaxBulk: int64(narrow) * 11, MaxArgs: int(narrow)}
		}
		want := reference(p, 3, limits)
		compare(t, "in one piece", scanPieces(t, NewScanner(3, limits), p), want)

		rnd := rand.New(rand.NewPCG(seed, 0))
		most := 1 + rnd.IntN(64)
		var pieces [][]byte
		for rest := p; len(rest) > 0; {
			n := min(len(rest), 1+rnd.IntN(most))
			pieces = append(pieces, rest[:n])
			rest = rest[n:]
		}
		compare(t, "in pieces", scanPieces(t, NewScanner(3, limits), pieces...), want)
	})
}

func TestAWatchedCommandStopsTheScannerBehindItWhereverTheStreamIsCut(t *testing.T) {
	var p []byte
	type place struct{ start, end int64 }
	var want []place
	asked := 0
	for _, args := range [][]string{
		{"SET", "k", "v"}, {"setex", "k", "10", "v"}, {"SELECT", "40"}, {"PING"}, {"Watched"}, {"MULTI"}, {"SETEX", "k", "1", strings.Repeat("v", 3000)},
		{"EXEC"}, {"RESTORE-ASKING", "k", "0", "x"}, {"a-name-that-is-not-kept", "k"}, {strings.Repeat("x", 80), "k"}, {"SELECT", "3"},
	} {
		from := int64(len(p))
		p = AppendCommand(p, args...)
		switch strings.ToUpper(args[0]) {
		case "SETEX", "WATCHED", "RESTORE-ASKING", strings.Repeat("X", 80):
			want = append(want, place{from, int64(len(p))})
		}
	}
	for cut := 0; cut <= len(p); cut++ {
		s := NewScanner(2, Limits{})
		asked = 0
		s.Watch = func(name []byte, args uint64) bool {
			asked++
			switch strings.ToUpper(string(name)) {
			case "SETEX":
				return args == 4
			case "WATCHED", "RESTORE-ASKING", strings.Repeat("X", 64):
				return true
			case "SELECT", "MULTI", "EXEC":
				t.Errorf("asked about %s, which it follows itself", name)
			}
			return false
		}
		var got []place
		for _, piece := range [][]byte{p[:cut], p[cut:]} {
			for len(piece) > 0 {
				n, kind, err := s.Scan(piece)
				if err != nil {
					t.Fatal(err)
				}
				if kind == Watched {
					got = append(got, place{s.CommandStart(), s.CommandEnd()})
					if s.CommandEnd() != s.Scanned() {
						t.Fatalf("cut at %d: it stopped at %d, behind the end %d", cut, s.Scanned(), s.CommandEnd())
					}
				}
				piece = piece[n:]
			}
		}
		if !slices.Equal(got, want) || asked != 8 || s.HighestDB() != 40 || s.Boundary() != (Boundary{int64(len(p)), 3}) {
			t.Fatalf("cut at %d: %v, want %v; asked %d times; highest %d; %+v", cut, got, want, asked, s.HighestDB(), s.Boundary())
		}
	}
}
