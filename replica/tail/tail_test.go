package tail

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/rdb/rdbtest"
	"replicad/replica/resp"
)

const id = "0123456789012345678901234567890123456789"

// written makes an archive of a stream behind offset 100.
func written(t testing.TB, stream []byte) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "main")
	a := opened(t, dir)
	begin(t, a, id, 100)
	feed(t, a, 100, stream)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func opened(t testing.TB, dir string) *archive.Archive {
	t.Helper()
	a, err := archive.Open(dir, archive.Options{SegmentSize: 64 << 10, AppendFsync: archive.No})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// begin begins a history behind an offset.
func begin(t testing.TB, a *archive.Archive, id string, offset int64) {
	t.Helper()
	base, err := a.BeginBase(replica.FullSync{ReplID: id, Offset: offset, Size: -1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := base.Write(rdbtest.Empty(0, true)); err != nil {
		t.Fatal(err)
	}
	if _, err := base.Commit(); err != nil {
		t.Fatal(err)
	}
}

// feed commits a stream behind an offset.
func feed(t testing.TB, a *archive.Archive, offset int64, stream []byte) {
	t.Helper()
	s := resp.NewScanner(0, resp.Limits{})
	for len(stream) > 0 {
		n := copy(a.Buffer(), stream)
		for p := stream[:n]; len(p) > 0; {
			k, _, err := s.Scan(p)
			if err != nil {
				t.Fatal(err)
			}
			p = p[k:]
		}
		b := s.Boundary()
		a.Commit(n, replica.Boundary{Offset: offset + b.Offset, DB: b.DB})
		stream = stream[n:]
	}
}

// anyBytes is a string as JSON has it, or an object with base64.
type anyBytes string

func (b *anyBytes) UnmarshalJSON(p []byte) error {
	var s string
	if json.Unmarshal(p, &s) == nil {
		*b = anyBytes(s)
		return nil
	}
	var o struct{ Base64 []byte }
	err := json.Unmarshal(p, &o)
	*b = anyBytes(o.Base64)
	return err
}

// printed is a line that was printed.
type printed struct {
	ID          string
	Offset      int64
	DB          int
	Transaction *int64
	Command     anyBytes
	Keys        []anyBytes
	Touches     Touches
	Args        []anyBytes
	Cut         bool
	Arguments   int
	After       *archive.Moment
	Before      *archive.Moment
	Event       string
	Void        *where `json:"void_from"`
	Was         where
	GoesOn      where `json:"goes_on"`
}

type where struct {
	ID     string
	Offset int64
}

func (p printed) words() string {
	all := []string{string(p.Command)}
	for _, a := range p.Args {
		all = append(all, string(a))
	}
	return strings.Join(all, " ")
}

func tailOf(t testing.TB, dir string, opt Options) (lines []printed) {
	t.Helper()
	var out bytes.Buffer
	if opt.Out = &out; opt.DB == 0 {
		opt.DB = -1
	}
	tl, err := New(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	defer tl.Close()
	if err := tl.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(&out)
	for d.More() {
		var p printed
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, p)
	}
	return lines
}

func stream(commands ...string) (p []byte) {
	for _, c := range commands {
		p = resp.AppendCommand(p, strings.Fields(c)...)
	}
	return p
}

func words(lines []printed) (all []string) {
	for _, l := range lines {
		all = append(all, l.words())
	}
	return all
}

func TestEachCommandIsPrintedWithItsPlaceKeysAndTransaction(t *testing.T) {
	commands := []string{"SELECT 3", "SET user:42 x", "MULTI", "DEL user:42 other", "SELECT 5", "XGROUP CREATE s g $", "EXEC", "PING", "EVAL return 1 k a"}
	p := stream(commands...)
	lines := tailOf(t, written(t, p), Options{})
	if !slices.Equal(words(lines), commands) {
		t.Fatalf("%q", words(lines))
	}
	at := func(n int) int64 { return 100 + int64(len(stream(commands[:n]...))) }
	for i, l := range lines {
		if l.ID != id || l.Offset != at(i+1) || l.After == nil {
			t.Errorf("%+v", l)
		}
		if in := i >= 2 && i <= 6; in != (l.Transaction != nil) || in && *l.Transaction != at(2) {
			t.Errorf("%s: transaction %v", l.words(), l.Transaction)
		}
	}
	dbs := []int{0, 3, 3, 3, 3, 5, 5, 5, 5}
	for i, db := range dbs {
		if lines[i].DB != db {
			t.Errorf("%s: database %d, want %d", commands[i], lines[i].DB, db)
		}
	}
	if k := lines[3].Keys; len(k) != 2 || k[0] != "user:42" || k[1] != "other" || len(lines[5].Keys) != 1 || lines[5].Keys[0] != "s" || lines[8].Touches != Script {
		t.Errorf("%+v", lines)
	}
}

func TestTheKeySaysWhatMayHaveTouchedIt(t *testing.T) {
	dir := written(t, stream("SET user:42 a", "SET user:420 b", "SET other user:42", "MSET a 1 user:42 2", "FLUSHALL", "flushdb", "SWAPDB 0 1", "EVAL code 0",
		"NEW.COMMAND x user:42", "NEW.COMMAND x y", "MULTI", "UNLINK q user:42", "EXEC", "XGROUP NEWSUB user:42", "SORT l STORE user:42", "ZUNIONSTORE d 2 a user:42", "SPUBLISH user:42 x"))
	want := []string{"SET user:42 a", "MSET a 1 user:42 2", "FLUSHALL", "flushdb", "SWAPDB 0 1", "EVAL code 0", "NEW.COMMAND x user:42", "UNLINK q user:42",
		"XGROUP NEWSUB user:42", "SORT l STORE user:42", "ZUNIONSTORE d 2 a user:42"}
	touches := []Touches{"", "", AllKeys, AllKeys, AllKeys, Script, Unknown, "", Unknown, "", ""}
	for _, pattern := range []string{"user:42", "[u]s*:4?"} {
		lines := tailOf(t, dir, Options{Key: pattern})
		if !slices.Equal(words(lines), want) {
			t.Fatalf("%s: %q", pattern, words(lines))
		}
		for i, l := range lines {
			if l.Touches != touches[i] {
				t.Errorf("%s touches %q", l.words(), l.Touches)
			}
		}
		if lines[7].Transaction == nil {
			t.Error("UNLINK is outside of its transaction")
		}
	}
	if got := words(tailOf(t, dir, Options{Command: "set", Key: "*"})); len(got) != 3 {
		t.Errorf("--command: %q", got)
	}
	if got := tailOf(t, dir, Options{DB: 7}); len(got) != 0 {
		t.Errorf("--db: %+v", got)
	}
}

// random makes commands of any bytes and sizes.
func random(r *rand.Rand, n int) (all [][]string) {
	multi := false
	for range n {
		switch k := r.IntN(20); {
		case k == 0:
			all = append(all, []string{"SELECT", strconv.Itoa(r.IntN(16))})
		case k == 1:
			all = append(all, []string{[]string{"MULTI", "EXEC"}[btoi(multi)]})
			multi = !multi
		case k == 2:
			all = append(all, []string{"FLUSHALL"})
		default:
			v := make([]byte, r.IntN(300))
			for i := range v {
				v[i] = byte(r.Uint32())
			}
			key := fmt.Sprintf("key:%d", r.IntN(40))
			if k == 3 {
				v = append(v, key...)
			}
			all = append(all, [][]string{{"SET", key, string(v)}, {"DEL", "a", key, string(v)}, {"UNHEARD", string(v), key}}[r.IntN(3)])
		}
	}
	if multi {
		all = append(all, []string{"EXEC"})
	}
	return all
}

func TestTailGoesOnAtAnyCommandWithoutMissingOrRepeating(t *testing.T) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(7, seed))
		var p []byte
		all := random(r, 400)
		for _, c := range all {
			p = resp.AppendCommand(p, c...)
		}
		dir := written(t, p)
		lines := tailOf(t, dir, Options{})
		if len(lines) != len(all) {
			t.Fatalf("%d lines of %d commands", len(lines), len(all))
		}
		for i, l := range lines {
			if l.words() != strings.Join(all[i], " ") {
				t.Fatalf("command %d is %q, want %q", i, l.words(), all[i])
			}
		}
		key := "key:7"
		var matching []printed
		for _, l := range lines {
			in := l.Keys
			if l.Touches == Unknown {
				in = l.Args
			}
			if l.Touches == AllKeys || slices.Contains(in, anyBytes(key)) {
				matching = append(matching, l)
			}
		}
		same := func(got, want []printed) {
			t.Helper()
			a, _ := json.Marshal(got)
			b, _ := json.Marshal(want)
			if !bytes.Equal(a, b) {
				t.Fatalf("seed %d: %d lines, want %d", seed, len(got), len(want))
			}
		}
		same(tailOf(t, dir, Options{Key: key}), matching)
		for range 10 {
			i := r.IntN(len(lines))
			same(tailOf(t, dir, Options{From: fmt.Sprintf("%s:%d", id, lines[i].Offset)}), lines[i+1:])
			same(tailOf(t, dir, Options{To: fmt.Sprintf("offset:%d", lines[i].Offset)}), lines[:i+1])
		}
	}
}

func TestACommandOfAnySizeTakesConstantMemoryAndIsCut(t *testing.T) {
	long := strings.Repeat("v", 5<<20)
	many := []string{"DEL"}
	for i := range 200_000 {
		many = append(many, fmt.Sprint("some:long:key:of:many:", i, strings.Repeat("k", 80)))
	}
	p := resp.AppendCommand(nil, "SET", "k", long)
	p = resp.AppendCommand(p, many...)
	p = resp.AppendCommand(p, "SET", "k", "short")
	dir := written(t, p)
	lines := tailOf(t, dir, Options{})
	if len(lines) != 3 || !lines[0].Cut || len(lines[0].Args[1]) != mostPrinted || lines[0].Arguments != 2 ||
		!lines[1].Cut || len(lines[1].Args) != mostPrintedArgs || lines[1].Arguments != 200_000 || lines[2].Cut {
		t.Fatalf("%d lines", len(lines))
	}
	// It may be among the keys that are not held.
	if got := tailOf(t, dir, Options{Key: "nothing"}); len(got) != 1 || got[0].Touches != Unknown {
		t.Fatalf("%d lines", len(got))
	}
	if got := words(tailOf(t, dir, Options{Key: "k"})); len(got) != 3 || got[2] != "SET k short" {
		t.Fatalf("%d lines", len(got))
	}
	var c collector
	c.begin()
	c.feed([]byte("*2\r\n$3\r\nSET\r\n$536870912\r\n"))
	piece := make([]byte, 1<<20)
	for range 512 {
		c.feed(piece)
	}
	if n, whole := c.feed([]byte("\r\n*1")); n != 2 || !whole || cap(c.held) > 4*mostArgument {
		t.Fatalf("%d, %v; %d bytes are held", n, whole, cap(c.held))
	}
}

func TestPatternsMatchAsRedisHasThem(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
		literal       string
	}{
		{"", "", true, ""}, {"", "a", false, ""}, {"*", "", true, ""}, {"*", "a/b", true, ""}, {"a*c", "abbc", true, "c"}, {"a*c", "abcd", false, "c"}, {"a**c", "ac", true, "c"},
		{"h?llo", "hello", true, "llo"}, {"h?llo", "hllo", false, "llo"}, {"h[ae]llo", "hallo", true, "llo"}, {"h[ae]llo", "hillo", false, "llo"},
		{"h[^e]llo", "hallo", true, "llo"}, {"h[^e]llo", "hello", false, "llo"}, {"h[a-c]llo", "hbllo", true, "llo"}, {"h[c-a]llo", "hdllo", false, "llo"},
		{`h\*llo`, "h*llo", true, "h*llo"}, {`h\*llo`, "hello", false, "h*llo"}, {`[\]]`, "]", true, ""}, {"[", "a", false, ""}, {"a?c", "a\xffc", true, "c"},
		{"*a*b*c*", "xxaxxbxxcxx", true, "c"}, {"*a*b*c*", "xxaxxcxxbxx", false, "c"}, {"[a", "a", true, ""},
	} {
		p := newPattern(c.pattern)
		if got := p.match([]byte(c.name)); got != c.want || string(p.literal) != c.literal {
			t.Errorf("%q with %q: %v, literal %q", c.pattern, c.name, got, p.literal)
		}
	}
	if newPattern(strings.Repeat("a*", 500) + "b").match(bytes.Repeat([]byte("a"), 5000)) {
		t.Error("it matches")
	}
}

// TestTheTableIsTheServers compares the table with what a redis-server finds.
func TestTheTableIsTheServers(t *testing.T) {
	tb, err := newTable(commandsText)
	if err != nil {
		t.Fatal(err)
	}
	for command, want := range map[string]string{
		"SET k v": "k", "MSET a 1 b 2": "a b", "BITOP AND d a b": "d a b", "ZUNIONSTORE d 2 a b WEIGHTS 1 2": "d a b", "XREADGROUP GROUP g c STREAMS a b 1 2": "a b",
		"EVAL s 2 a b c": "a b", "SORT l LIMIT 0 1 STORE d": "l d", "GEORADIUS g 1 2 3 m STORE d": "g d", "XGROUP DESTROY s g": "s", "LMPOP 2 a b LEFT": "a b",
		"PING": "", "SPUBLISH c m": "", "OBJECT FREQ k": "k", "RENAME a b": "a b", "COPY a b": "a b", "MIGRATE h 1 '' 0 1 KEYS a b": "'' a b", "EVAL s 9 a": "", "ZMPOP 1 a MIN": "a",
		"HPEXPIREAT k 1 FIELDS 1 f": "k", "MSETEX 2 a 1 b 2 EX 3": "a b", "BRPOPLPUSH a b 0": "a b", "SINTERCARD 1 a": "a", "PFMERGE d a b": "d a b", "XCLAIM s g c 0 1": "s",
	} {
		var args [][]byte
		for _, w := range strings.Fields(command) {
			args = append(args, []byte(w))
		}
		var got []string
		tb.of(args).keys(args, len(args), func(i int) { got = append(got, string(args[i])) })
		if strings.Join(got, " ") != want {
			t.Errorf("%s: the keys are %q, want %q", command, got, want)
		}
	}
	for _, wrong := range []string{"SET; index", "SET; index 1 range 0 0 0", "SET; index 1 keynum 0 1 0"} {
		if _, err := newTable(wrong); err == nil {
			t.Errorf("%q is read", wrong)
		}
	}
}

func TestAForkAndAGapAreEachToldByALine(t *testing.T) {
	const second, third = "1111111111111111111111111111111111111111", "2222222222222222222222222222222222222222"
	kept, lost := stream("SELECT 2", "SET a 1"), stream("SET a 2", "SET a 3")
	dir := written(t, append(bytes.Clone(kept), lost...))
	fork, end := 100+int64(len(kept)), 100+int64(len(kept)+len(lost))
	a := opened(t, dir)
	at, ok := a.ForkAt(replica.Replication{Role: "master", ReplID: second, Offset: 1e6, ReplID2: id, Offset2: fork})
	if !ok || at.Offset != fork || at.DB != 2 {
		t.Fatalf("%+v, %v", at, ok)
	}
	if _, err := a.Fork(at); err != nil {
		t.Fatal(err)
	}
	a.Continue(second)
	feed(t, a, fork, stream("SET a 4"))
	begin(t, a, third, 9000)
	feed(t, a, 9000, stream("SET a 5"))
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	lines := tailOf(t, dir, Options{From: fmt.Sprintf("%s:%d", id, end)})
	if len(lines) != 4 {
		t.Fatalf("%+v", lines)
	}
	if l := lines[0]; l.Event != "fork" || l.Void == nil || *l.Void != (where{id, fork}) || l.Was != (where{id, end}) || l.GoesOn != (where{second, fork}) {
		t.Errorf("of the fork: %+v", l)
	}
	if l := lines[1]; l.words() != "SET a 4" || l.DB != 2 || l.ID != second {
		t.Errorf("behind the fork: %+v", l)
	}
	if l := lines[2]; l.Event != "gap" || l.Void != nil || l.GoesOn != (where{third, 9000}) {
		t.Errorf("of the gap: %+v", l)
	}
	if l := lines[3]; l.words() != "SET a 5" || l.DB != 0 {
		t.Errorf("behind the gap: %+v", l)
	}
	// Who lags reads nothing that is void.
	if got := words(tailOf(t, dir, Options{})); !slices.Equal(got, []string{"SELECT 2", "SET a 1", "SET a 4", "", "SET a 5"}) {
		t.Errorf("%q", got)
	}
	var out bytes.Buffer
	tl, err := New(dir, Options{From: fmt.Sprintf("%s:%d", id, end), DB: -1, Text: true, Out: &out})
	if err != nil {
		t.Fatal(err)
	}
	defer tl.Close()
	if err := tl.Run(t.Context()); err != nil || strings.Count(out.String(), "\n-- ")+1 != 2 || !strings.Contains(out.String(), "is void") {
		t.Errorf("%v: %s", err, out.String())
	}
}

func TestAPlaceThatIsNoneIsRefused(t *testing.T) {
	dir := written(t, stream("PING"))
	for from, want := range map[string]error{
		"x": ErrPlace, strings.Repeat("f", 40) + ":100": archive.ErrNotKept, id + ":99": archive.ErrNotKept, "2001-01-01": archive.ErrUnavailable,
	} {
		if _, err := New(dir, Options{From: from}); !errors.Is(err, want) {
			t.Errorf("%s: %v", from, err)
		}
	}
	if _, err := New(dir, Options{To: "x"}); !errors.Is(err, ErrPlace) {
		t.Error(err)
	}
}

func TestTextIsForEyes(t *testing.T) {
	dir := written(t, append(stream("MULTI", "FLUSHALL"), append(resp.AppendCommand(nil, "SET", "a b", "\x00\n\""), stream("EXEC")...)...))
	var out bytes.Buffer
	tl, err := New(dir, Options{DB: -1, Text: true, Out: &out})
	if err != nil {
		t.Fatal(err)
	}
	defer tl.Close()
	if err := tl.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{` db0 tx 100 "MULTI"`, `"FLUSHALL"  (all keys)`, `"SET" "a b" "\x00\n\""`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s lacks %s", out.String(), want)
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add([]byte("SET"), []byte("k"), []byte("\xff\x00"))
	f.Add([]byte("EVAL"), []byte("s"), []byte("9223372036854775807"))
	f.Add([]byte("xgroup"), []byte("create"), []byte("\u2028\""))
	tb, err := newTable(commandsText)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, a, b, c []byte) {
		l := line{command: command{args: [][]byte{a, b, c}, sizes: []int64{int64(len(a)), int64(len(b)), int64(len(c))}, argc: 3}, tx: -1, id: id}
		tb.of(l.args).keys(l.args, l.argc, func(i int) { l.keys = append(l.keys, l.args[i]) })
		var p printed
		if err := json.Unmarshal(l.appendJSON(nil), &p); err != nil {
			t.Fatal(err)
		}
		if p.Args[0] != anyBytes(b[:min(len(b), mostPrinted)]) && base64.StdEncoding.EncodeToString(b) == "" || len(b) <= mostPrinted && p.Args[0] != anyBytes(b) {
			t.Fatalf("%q came back as %q", b, p.Args[0])
		}
		if text := l.appendText(nil); bytes.Count(text, []byte("\n")) != 1 {
			t.Fatalf("%q is not one line", text)
		}
		newPattern(string(a)).match(b)

		// In pieces a command is what it is as a whole.
		raw := resp.AppendCommand(nil, string(a), string(b), string(c))
		var whole, pieces command
		if n := whole.parse(raw); n != len(raw) {
			t.Fatalf("%d bytes of %d", n, len(raw))
		}
		var col collector
		col.begin()
		cut := int(uint(len(a)+7*len(b)) % uint(len(raw)))
		col.feed(raw[:cut])
		if n, done := col.feed(raw[cut:]); n != len(raw)-cut || !done {
			t.Fatalf("%d, %v", n, done)
		}
		col.command(&pieces)
		for i := range whole.args {
			if !bytes.Equal(whole.args[i], pieces.args[i]) || whole.sizes[i] != pieces.sizes[i] {
				t.Fatalf("argument %d is %q, and in pieces %q", i, whole.args[i], pieces.args[i])
			}
		}
	})
}

// BenchmarkKey looks for a key in a stream, beside grep in its files.
func BenchmarkKey(b *testing.B) {
	var p []byte
	n := 0
	for ; len(p) < 64<<20; n++ {
		p = resp.AppendCommand(p, "SET", fmt.Sprintf("key:%012d", n*7919%1e6), "a value of some bytes")
	}
	dir := written(b, p)
	for _, key := range []string{"absent:key", "key:000000000077", "key:*0042"} {
		b.Run("tail/"+key, func(b *testing.B) {
			b.SetBytes(int64(len(p)))
			for b.Loop() {
				t, err := New(dir, Options{DB: -1, Key: key, Out: &bytes.Buffer{}})
				if err != nil {
					b.Fatal(err)
				}
				if err := t.Run(context.Background()); err != nil || t.Commands != int64(n) {
					b.Fatal(err, t.Commands)
				}
				t.Close()
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "commands/s")
		})
	}
	grep, err := exec.LookPath("grep")
	if err != nil {
		b.Skip(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*/appendonlydir/*.incr.aof"))
	b.Run("grep", func(b *testing.B) {
		b.SetBytes(int64(len(p)))
		for b.Loop() {
			cmd := exec.Command(grep, append([]string{"-a", "-c", "absent:key"}, files...)...)
			cmd.Env = append(os.Environ(), "LC_ALL=C")
			if err := cmd.Run(); err != nil && cmd.ProcessState.ExitCode() != 1 {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "commands/s")
	})
}
