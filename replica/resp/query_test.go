package resp

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// readQueries feeds b to a reader in pieces of size bytes, 0 for all at once,
// each time in other memory, and gives the queries that have arguments.
func readQueries(t testing.TB, r *QueryReader, b []byte, size int) (queries [][]string, err error) {
	t.Helper()
	if size == 0 {
		size = max(1, len(b))
	}
	here := min(size, len(b))
	for {
		held := slices.Clone(b[:here])
		args, n, err := r.Next(held)
		switch {
		case n < 0 || n > here || n == 0 && len(args) > 0 || err != nil && (n > 0 || args != nil):
			t.Fatalf("Next of %d bytes = %q, %d, %v", here, args, n, err)
		case err != nil:
			if !errors.Is(err, ErrProtocol) && !errors.Is(err, ErrQueryTooLong) {
				t.Fatalf("an error of no kind: %v", err)
			}
			if _, _, again := r.Next(held); again != err {
				t.Fatalf("%v, and then %v", err, again)
			}
			return queries, err
		case n == 0 && here == len(b):
			return queries, nil
		case n == 0:
			here = min(here+size, len(b))
			continue
		}
		if len(args) > 0 {
			q := make([]string, len(args))
			for i, a := range args {
				q[i] = string(a)
			}
			queries = append(queries, q)
		}
		b = b[n:]
		here = min(max(0, here-n), len(b))
		if here == 0 {
			here = min(size, len(b))
		}
	}
}

func command(args ...string) string { return string(AppendCommand(nil, args...)) }

func TestQueriesAreReadHoweverTheyAreCut(t *testing.T) {
	for sent, want := range map[string]string{
		"PING\r\n":                               "[[PING]]",
		"PING\n":                                 "[[PING]]",
		command("PING") + command("ECHO", "a b"): "[[PING] [ECHO a b]]",
		command("SET", "k", "") + command("GET", "\r\n"): "[[SET k ] [GET \r\n]]",
		"\r\n\n*0\r\n*-1\r\n*-7\r\n  \r\nPING\n*0\r\n":   "[[PING]]",
		"*1\r\n$4\r\nPI":     "[]",
		"*1\r\n$4\r\nPING\r": "[]",
		"PING":               "[]",
		`ECHO "a \x41\n'b'" 'it\'s' "\q\"" a"b" '\n'` + "\n": `[[ECHO a A` + "\n" + `'b' it's q" ab \n]]`,
		"  a\tb\v\fc \r\n":    "[[a b c]]",
		`"" ''` + "\r\n":      "[[ ]]",
		`"\x4" "\xzz"` + "\n": "[[x4 xzz]]",
	} {
		for _, size := range []int{0, 1, 2, 3, 7} {
			got, err := readQueries(t, &QueryReader{}, []byte(sent), size)
			if err != nil || fmt.Sprint(got) != want {
				t.Errorf("%q by %d: %q, %v, want %s", sent, size, fmt.Sprint(got), err, want)
			}
		}
	}
}

func TestWhatIsNoQueryIsToldAsRedisTellsIt(t *testing.T) {
	for sent, want := range map[string]string{
		"*x\r\n":                               "invalid multibulk length",
		"*\r\n":                                "invalid multibulk length",
		"*01\r\n":                              "invalid multibulk length",
		"*+1\r\n":                              "invalid multibulk length",
		"*1\n":                                 "invalid multibulk length",
		"*99999999999999999999999\r\n":         "invalid multibulk length",
		"*9223372036854775807\r\n":             "invalid multibulk length",
		"*1\r\n+PING\r\n":                      "expected '$', got '+'",
		"*1\r\n\x00":                           "expected '$', got '?'",
		"*1\r\n$-1\r\n":                        "invalid bulk length",
		"*1\r\n$x\r\n":                         "invalid bulk length",
		"*1\r\n$4\r\nPINGxx":                   "invalid bulk length",
		"*1\r\n$536870913\r\n":                 "invalid bulk length",
		"ECHO \"open\r\n":                      "unbalanced quotes in request",
		"ECHO 'open\\'\r\n":                    "unbalanced quotes in request",
		"ECHO \"a\"b\r\n":                      "unbalanced quotes in request",
		strings.Repeat("a", 66000):             "too big inline request",
		"*" + strings.Repeat("1", 66000):       "too big mbulk count string",
		"*1\r\n$" + strings.Repeat("1", 66000): "too big bulk count string",
	} {
		for _, size := range []int{0, 1, 1000} {
			if size == 1 && len(sent) > 1000 {
				continue
			}
			if _, err := readQueries(t, &QueryReader{}, []byte(sent), size); fmt.Sprint(err) != "Protocol error: "+want {
				t.Errorf("%.40q by %d: %v, want %s", sent, size, err, want)
			}
		}
	}
	for sent, want := range map[string]string{
		"*11\r\n":              "unauthenticated multibulk length",
		"*1\r\n$16385\r\n":     "unauthenticated bulk length",
		"*10\r\n$16384\r\nabc": "",
	} {
		_, err := readQueries(t, &QueryReader{Unauthenticated: true}, []byte(sent), 0)
		if want == "" && err != nil || want != "" && fmt.Sprint(err) != "Protocol error: "+want {
			t.Errorf("before AUTH, %q: %v, want %q", sent, err, want)
		}
	}
}

func TestAQueryIsRefusedAsSoonAsItSaysThatItWillBeTooLong(t *testing.T) {
	for _, sent := range []string{"*1\r\n$9000\r\n", "*1500\r\n" + strings.Repeat("$0\r\n\r\n", 1500), "*" + strings.Repeat("1", 9<<10)} {
		if _, err := readQueries(t, &QueryReader{MaxQuery: 8 << 10}, []byte(sent), 0); !errors.Is(err, ErrQueryTooLong) {
			t.Errorf("%.40q: %v", sent, err)
		}
	}
	for _, sent := range []string{"*65537\r\n", "*1048576\r\n"} {
		if _, err := readQueries(t, &QueryReader{}, []byte(sent), 0); fmt.Sprint(err) != "Protocol error: invalid multibulk length" {
			t.Errorf("%q: %v", sent, err)
		}
	}
	if _, err := readQueries(t, &QueryReader{}, []byte("a b c\r\n*65536\r\n"), 0); err != nil {
		t.Error(err)
	}
}

// A header that promises many arguments costs what was sent, and no more.
func TestTheMemoryOfManyArgumentsIsToldAndGivenBack(t *testing.T) {
	var r QueryReader
	if _, _, err := r.Next([]byte("*65536\r\n")); err != nil || r.Held() > 1<<10 {
		t.Errorf("the header alone holds %d bytes, %v", r.Held(), err)
	}
	r = QueryReader{}
	many := []byte("*50000\r\n" + strings.Repeat("$0\r\n\r\n", 50000))
	if args, n, err := r.Next(many); len(args) != 50000 || n != len(many) || err != nil {
		t.Errorf("%d arguments, %d bytes, %v", len(args), n, err)
	}
	if held := r.Held(); held < 50000*40 {
		t.Errorf("50000 arguments hold %d bytes", held)
	}
	_, _, _ = r.Next([]byte("PING\r\n"))
	if held := r.Held(); held > 1<<10 {
		t.Errorf("%d bytes are held behind the query", held)
	}
}

// A reader that began anew with each piece would take minutes.
func TestEachByteIsLookedAtOnce(t *testing.T) {
	began := time.Now()
	b := []byte("*65536\r\n" + strings.Repeat("$0\r\n\r\n", 30_000))
	var r QueryReader
	for here := 1; here <= len(b); here++ {
		if _, n, err := r.Next(b[:here]); n != 0 || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("%d bytes one by one took %v", len(b), took)
	}
}

func TestIntegersAreThoseOfString2ll(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "7": 7, "-1": -1, "9223372036854775807": 1<<63 - 1, "-9223372036854775808": -1 << 63} {
		if n, ok := ParseInteger([]byte(text)); n != want || !ok {
			t.Errorf("%s: %d, %v", text, n, ok)
		}
	}
	for _, text := range []string{"", "-", "+1", "01", "-0", " 1", "1 ", "1e3", "0x1", "9223372036854775808", "1_000", strings.Repeat("1", 99)} {
		if n, ok := ParseInteger([]byte(text)); ok {
			t.Errorf("%q is taken for %d", text, n)
		}
	}
}

// However the bytes come, the queries are the same; and written again as arrays
// they are read as the same.
func FuzzQueryReader(f *testing.F) {
	for i, s := range []string{
		"PING\r\n", command("PING"), command("SET", "k", "") + command("GET", "k"), "*0\r\n*-1\r\n\r\nPING\r\n", "ECHO \"a\\x41\" 'b'\r\n",
		"*1\r\n$4\r\nPI", "*x\r\n", "*1\r\n$-1\r\n", "*9223372036854775807\r\n", "*2\r\n$4\r\nECHO\r\n$3\r\n\r\n\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"'\r\n\"\r\n\\\r\n", "\x00\r\n", strings.Repeat("a ", 100) + "\n", "*3\r\n$5000\r\n", "a\"b\\\\\"\n'\\''\n",
	} {
		f.Add([]byte(s), uint64(i))
	}
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		const most = 4 << 10
		whole, err := readQueries(t, &QueryReader{MaxQuery: most}, b, 0)
		rnd := rand.New(rand.NewPCG(seed, 0))
		for _, size := range []int{1, 1 + rnd.IntN(64)} {
			pieces, errPieces := readQueries(t, &QueryReader{MaxQuery: most}, b, size)
			// Which of two limits a line breaks may depend on how it comes.
			if (err == nil) != (errPieces == nil) && len(b) < most || fmt.Sprint(whole) != fmt.Sprint(pieces) {
				t.Errorf("at once %q, %v; by %d %q, %v", whole, err, size, pieces, errPieces)
			}
		}
		var again []byte
		for _, q := range whole {
			again = AppendCommand(again, q...)
		}
		if got, err := readQueries(t, &QueryReader{}, again, 0); err != nil || fmt.Sprint(got) != fmt.Sprint(whole) {
			t.Errorf("%q, and written again %q, %v", whole, got, err)
		}
	})
}

func BenchmarkQueryReader(b *testing.B) {
	for name, q := range map[string]string{"ping": command("PING"), "inline": "PING\r\n", "set": command("SET", "key:000001", strings.Repeat("x", 100))} {
		b.Run(name, func(b *testing.B) {
			p := []byte(q)
			var r QueryReader
			b.SetBytes(int64(len(p)))
			b.ReportAllocs()
			for b.Loop() {
				if args, n, err := r.Next(p); len(args) == 0 || n != len(p) || err != nil {
					b.Fatal(args, n, err)
				}
			}
		})
	}
}
