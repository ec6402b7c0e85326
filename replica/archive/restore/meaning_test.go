package restore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"replicad/integration/poll"
	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/rdb/rdbtest"
	"replicad/replica/resp"
)

// logged makes an archive of base and commands, in segments of about size
// bytes, and gives it with when each command was received, in milliseconds.
func logged(t testing.TB, base []byte, size int64, commands ...[]string) (dir string, received []int64) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "main")
	return dir, loggedIn(t, dir, base, archive.Options{SegmentSize: size}, commands...)
}

// loggedIn is logged, in a folder and with options. With a ContentReader it
// waits until the complete files are read.
func loggedIn(t testing.TB, dir string, base []byte, opt archive.Options, commands ...[]string) (received []int64) {
	t.Helper()
	opt.TimelineResolution = 1
	a, err := archive.Open(dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	b, err := a.BeginBase(replica.FullSync{ReplID: strings.Repeat("a", 40), Offset: baseOffset, Size: -1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Write(base); err != nil {
		t.Fatal(err)
	}
	pos, err := b.Commit()
	if err != nil {
		t.Fatal(err)
	}
	scanner := resp.NewScanner(pos.DB, resp.Limits{})
	var ends []int64
	for _, c := range commands {
		p := resp.AppendCommand(nil, c...)
		if _, _, err := scanner.Scan(p); err != nil {
			t.Fatal(err)
		}
		for len(p) > 0 {
			n := copy(a.Buffer(), p)
			if p = p[n:]; n == 0 {
				poll.Until(t, "there is room", func() bool { return len(a.Buffer()) > 0 })
				continue
			}
			end := baseOffset + scanner.Scanned() - int64(len(p))
			at := baseOffset + scanner.Boundary().Offset
			if at > end {
				at = 0
			}
			a.Commit(n, replica.Boundary{Offset: at, DB: scanner.Boundary().DB})
			poll.Until(t, "it is stored", func() bool { return a.Progress().Stored == end })
		}
		ends = append(ends, baseOffset+scanner.Scanned())
	}
	if opt.Content != nil {
		poll.Until(t, "the segments are read again", func() bool {
			d, _, err := archive.Describe(dir)
			return err == nil && d.Generations[0].Verified == d.Generations[0].Segments-1 && d.Generations[0].BaseVerified
		})
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	r, _, err := archive.Locate(dir, archive.Target{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, offset := range ends {
		at, err := r.When(offset)
		if err != nil {
			t.Fatal(err)
		}
		received = append(received, at.UnixMilli())
	}
	return received
}

// restored gives the commands behind the base in what is restored.
func restored(t testing.TB, dir string, opt Options) (Result, [][]string) {
	t.Helper()
	opt.Dir, opt.Out = dir, filepath.Join(t.TempDir(), "out")
	var done, total int64
	opt.Progress = func(d, all int64) { done, total = d, all }
	res, err := Run(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	var p []byte
	size := int64(0)
	for i := range res.Segments {
		part := read(t, filepath.Join(opt.Out, archive.AOFDir, fmt.Sprintf("appendonly.aof.%d.incr.aof", i+1)))
		size += int64(len(part))
		p = append(p, part...)
	}
	st, err := os.Stat(filepath.Join(opt.Out, archive.AOFDir, "appendonly.aof.1.base.rdb"))
	if err != nil {
		t.Fatal(err)
	}
	if size += st.Size(); res.Bytes != size || done != size || total != size {
		t.Errorf("the result has %d bytes, and is said to have %d; the progress ended with %d of %d", size, res.Bytes, done, total)
	}
	all, err := commandsOf(p)
	if err != nil {
		t.Fatalf("%v in %.200q", err, p)
	}
	return res, all
}

// commandsOf reads whole commands by their lengths, and nothing else.
func commandsOf(p []byte) (all [][]string, err error) {
	number := func(kind byte) int {
		line, rest, ok := bytes.Cut(p, []byte("\r\n"))
		if !ok || len(line) < 2 || line[0] != kind {
			err = fmt.Errorf("%.20q is no line of %c", p, kind)
			return 0
		}
		n, e := strconv.Atoi(string(line[1:]))
		err, p = e, rest
		return n
	}
	for len(p) > 0 {
		args := []string{}
		for range number('*') {
			n := number('$')
			if err == nil && (n < 0 || len(p) < n+2 || string(p[n:n+2]) != "\r\n") {
				err = fmt.Errorf("an argument of %d bytes begins with %.20q", n, p)
			}
			if err != nil {
				return nil, err
			}
			args = append(args, string(p[:n]))
			p = p[n+2:]
		}
		if err != nil {
			return nil, err
		}
		all = append(all, args)
	}
	return all, nil
}

func words(s string) []string {
	all := strings.Fields(s)
	for i, w := range all {
		all[i] = strings.NewReplacer("_", " ", "~", "%").Replace(w)
	}
	return all
}

func TestATimeToLiveBecomesTheTimeAtWhichItEnds(t *testing.T) {
	t.Parallel()
	const most = math.MaxInt64
	for _, c := range []struct {
		command string
		want    string // T+n is n milliseconds behind the time that the command came; "" for as it came
	}{
		{"SETEX k 10 v", "SET k v ; PEXPIREAT k T+10000"},
		{"setex k 10 ~", "SET k ~ ; PEXPIREAT k T+10000"},
		{"PSETEX 1~2 10 $-1", "SET 1~2 $-1 ; PEXPIREAT 1~2 T+10"},
		{"EXPIRE k 10", "PEXPIREAT k T+10000"},
		{"EXPIRE k -10", "PEXPIREAT k T+-10000"},
		{"EXPIRE k 10 NX", "PEXPIREAT k T+10000 NX"},
		{"PEXPIRE k 10 GT", "PEXPIREAT k T+10 GT"},
		{"PEXPIRE k 10 xx lt", "PEXPIREAT k T+10 xx lt"},
		{"EXPIRE k never", ""},
		{"EXPIRE k 010", ""},
		{"SET k v EX 10", "SET k v ; PEXPIREAT k T+10000"},
		{"SET k EX NX px 10 GET", "SET k EX ; PEXPIREAT k T+10"},
		{"SET k EX 10", ""},
		{"SET k v KEEPTTL", ""},
		{"SET k v PXAT 1700000000000", ""},
		{"SET k v IFEQ EX PXAT 1700000000000", ""},
		{"SET k v IFEQ PX EX 10", "SET k v ; PEXPIREAT k T+10000"},
		{"SET k v EX 0", ""}, // refused by every server
		{"GETEX k EX 10", "PEXPIREAT k T+10000"},
		{"GETEX k PX 10", "PEXPIREAT k T+10"},
		{"GETEX k PERSIST", ""},
		{"GETEX k EXAT 1700000000", ""},
		{"RESTORE k 10 payload", "RESTORE k 0 payload ; PEXPIREAT k T+10"},
		{"RESTORE k 10 ~~ REPLACE FREQ 5", "RESTORE k 0 ~~ REPLACE FREQ 5 ; PEXPIREAT k T+10"},
		{"restore-asking k 10 payload", "restore-asking k 0 payload ; PEXPIREAT k T+10"},
		{"RESTORE k 10 payload ABSTTL", ""},
		{"RESTORE k 0 payload", ""},
		{"EXPIREMEMBER h m 10", "PEXPIREMEMBERAT h m T+10000"},
		{"EXPIREMEMBER h m 10 ms", "PEXPIREMEMBERAT h m T+10"},
		{"EXPIREMEMBER h m 10 d", ""},
		{"PEXPIREAT k 1700000000000", ""},
		{"EXPIREAT k 1700000000", ""},
		// What no server can say, the last and the first time stand for.
		{fmt.Sprint("PSETEX k ", most, " v"), fmt.Sprint("SET k v ; PEXPIREAT k ", most)},
		{fmt.Sprint("SETEX k ", most/1000, " v"), fmt.Sprint("SET k v ; PEXPIREAT k ", most)},
		{fmt.Sprint("EXPIRE k ", most), fmt.Sprint("PEXPIREAT k ", most)},
		{fmt.Sprint("SET k v PX ", most/2), fmt.Sprint("SET k v ; PEXPIREAT k T+", most/2)},
		{fmt.Sprint("EXPIRE k ", math.MinInt64), "PEXPIREAT k 1"},
		{fmt.Sprint("PEXPIRE k ", math.MinInt64), "PEXPIREAT k 1"},
		{"EXPIRE k 9223372036854775808", ""},
		// A cluster's.
		{"CLUSTER SETSLOT 5 NODE x", "-"},
		{"TRIMSLOTS RANGES 1 5 4", "-"},
		{"TRIMSLOTS RANGES 2 0 1", "-"},
		{"TRIMSLOTS RANGES 1 0 16384", "-"},
		{"TRIMSLOTS RANGES 1 -1 16383", "-"},
		{"TRIMSLOTS RANGES 1 0", "-"},
		{"TRIMSLOTS RANGES 1 0 16383 x", "-"},
		{"SFLUSH 0 a", "-"},
		{"SFLUSH 0 1 ASYNC x", "-"},
		{"TRIMSLOTS RANGES 2 0 1 16383 16383", "EVAL S 0 0 1 16383 16383"},
		{"SFLUSH 7 7 ASYNC", "EVAL S 0 7 7"},
		{"EVAL return_1 0", ""},
		{"COPY db x 3", ""},
	} {
		t.Run(c.command, func(t *testing.T) {
			t.Parallel()
			before, after := []string{"SET", "b~efore", "%%"}, []string{"SET", "after", "%"}
			dir, received := logged(t, rdbtest.Empty(0, true), 1<<20, before, words(c.command), after)
			_, got := restored(t, dir, Options{})
			want := [][]string{{"SELECT", "0"}, before}
			switch c.want {
			case "":
				want = append(want, words(c.command))
			case "-":
			default:
				for s := range strings.SplitSeq(c.want, " ; ") {
					args := words(s)
					for i, a := range args {
						if n, relative := strings.CutPrefix(a, "T+"); relative {
							k, err := strconv.ParseInt(n, 10, 64)
							if err != nil {
								t.Fatal(err)
							}
							args[i] = fmt.Sprint(received[1] + k)
						}
						if a == "S" {
							args[i] = trimScript
						}
					}
					want = append(want, args)
				}
			}
			want = append(want, after)
			if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
				t.Errorf("restored is\n%q, want\n%q", got, want)
			}
		})
	}
}

func TestWhatIsFoundIsCounted(t *testing.T) {
	t.Parallel()
	moment := time.Now()
	now := moment.Add(10 * time.Hour)
	past, future := fmt.Sprint(moment.Add(-time.Hour).UnixMilli()), fmt.Sprint(moment.Add(20*time.Hour).UnixMilli())
	soon := moment.Add(time.Hour).UnixMilli()
	base := []byte("REDIS0010\xfe\x14")
	for i, ends := range []int64{soon, moment.Add(20 * time.Hour).UnixMilli(), soon} {
		base = binary.LittleEndian.AppendUint64(append(base, 0xfc), uint64(ends))
		base = append(base, 0, 1, byte('a'+i), 1, 'v')
	}
	base = append(binary.LittleEndian.AppendUint32(append(base, 0xfd), 7), 0, 1, 'd', 1, 'v', 0xff, 0, 0, 0, 0, 0, 0, 0, 0)
	for _, c := range []struct {
		commands string
		want     Meaning
	}{
		{"PING", Meaning{Databases: 21}},
		{"SELECT 30 ; SET k v", Meaning{Databases: 31}},
		{"COPY a b DB 40", Meaning{Databases: 41}},
		{"COPY db b REPLACE DB 41", Meaning{Databases: 42}},
		{"COPY db 50 REPLACE REPLACE", Meaning{Databases: 21}}, // the key is named db
		{"MOVE a 42", Meaning{Databases: 43}},
		{"SWAPDB 2 43", Meaning{Databases: 44}},
		{"EVAL x 0 ; evalsha y 0", Meaning{Databases: 21, Scripts: 2}},
		{"CLUSTER SETSLOT 1 NODE x ; TRIMSLOTS RANGES 1 0 1 ; SFLUSH 0 1", Meaning{Databases: 21, Cluster: 3}},
		{"SET k v PXAT SOON ; SET k v PXAT " + future + " ; PEXPIREAT k " + past + " ; PEXPIREAT k SOON ; EXPIREAT k 5 ; GETEX k PXAT SOON ; RESTORE k SOON p ABSTTL",
			Meaning{Databases: 21, StreamExpired: 4}},
		{"EXPIRE k -7 ; SETEX k 72000 v ; SETEX k 3600 v", Meaning{Databases: 21, StreamExpired: 1, Relative: 3}},
	} {
		var commands [][]string
		for s := range strings.SplitSeq(strings.ReplaceAll(c.commands, "SOON", fmt.Sprint(soon)), " ; ") {
			commands = append(commands, words(s))
		}
		dir, _ := logged(t, base, 1<<20, commands...)
		r, p, err := archive.Locate(dir, archive.Target{}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		cut, err := findCut(context.Background(), r, p.Offset)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readMeaning(context.Background(), r, cut, moment, now, false)
		if err != nil {
			t.Fatal(err)
		}
		got.ends, got.edited = ends{}, nil
		c.want.Expires, c.want.BaseExpired = true, 2
		if fmt.Sprintf("%+v", *got) != fmt.Sprintf("%+v", c.want) {
			t.Errorf("%s: %+v, want %+v", c.commands, got, c.want)
		}
	}
}

func TestEndsAreCountedBetweenTwoMoments(t *testing.T) {
	t.Parallel()
	e := ends{moment: 1000}
	for ms := range int64(3000) {
		e.add(ms)
	}
	e.add(math.MaxInt64)
	for _, c := range []struct{ from, to, least, most int64 }{
		{1000, 3000, 1950, 2001}, {0, 1000, 0, 0}, {1000, 1001, 1, 1}, {1000, 1500, 495, 505}, {3050, 5000, 0, 30}, {5000, 1 << 60, 0, 1}, {1000, math.MaxInt64, 2000, 2001},
	} {
		if n := e.before(c.from, c.to); n < c.least || n > c.most {
			t.Errorf("from %d to before %d end %d, want %d to %d", c.from, c.to, n, c.least, c.most)
		}
	}
}

func TestACommandIsReplacedAsAWholeHoweverManyArgumentsItHas(t *testing.T) {
	t.Parallel()
	many := make([]string, 70_000)
	for i := range many {
		many[i] = "5"
	}
	ranges := append([]string{"TRIMSLOTS", "RANGES", fmt.Sprint(len(many) / 2)}, many...)
	cluster := append([]string{"CLUSTER", "x"}, many...)
	expire := append([]string{"EXPIRE", "k", "10"}, many...)
	for _, size := range []int64{1 << 20, 100} {
		dir, received := logged(t, rdbtest.Empty(0, true), size, []string{"SET", "a", "1"}, []string{"MULTI"}, ranges, cluster, expire, []string{"EXEC"}, []string{"SET", "b", "2"})
		res, got := restored(t, dir, Options{})
		want := [][]string{{"SELECT", "0"}, {"SET", "a", "1"}, {"MULTI"}, append([]string{"EVAL", trimScript, "0"}, many...),
			append([]string{"PEXPIREAT", "k", fmt.Sprint(received[4] + 10_000)}, many...), {"EXEC"}, {"SET", "b", "2"}}
		got = withoutSelects(got)
		if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Errorf("in segments of %d: restored is %.500q", size, got)
		}
		if res.Relative != 1 || res.Cluster != 2 {
			t.Errorf("%+v", res.Meaning)
		}
	}
}

// withoutSelects leaves out the SELECTs that segments open with, but for
// the first.
func withoutSelects(all [][]string) (kept [][]string) {
	for i, c := range all {
		if i == 0 || c[0] != "SELECT" {
			kept = append(kept, c)
		}
	}
	return kept
}

func TestEachFormatAndEachCutIsInOtherWords(t *testing.T) {
	t.Parallel()
	var commands [][]string
	for i := range 30 {
		commands = append(commands, []string{"SET", "k" + strconv.Itoa(i), "v"}, []string{"SETEX", "e", "10", strings.Repeat("%", i)})
	}
	dir, _ := logged(t, rdbtest.Empty(0, true), 200, commands...)
	r, _, err := archive.Locate(dir, archive.Target{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for offset := int64(baseOffset); offset <= r.End(); offset += 17 {
		target, err := archive.ParseTarget(fmt.Sprint("offset:", offset), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		res, several := restored(t, dir, Options{Target: target})
		out := filepath.Join(t.TempDir(), "aof")
		one, err := Run(context.Background(), Options{Dir: dir, Out: out, Target: target, Format: AOF})
		if err != nil || one.Offset != res.Offset {
			t.Fatal(one, err)
		}
		p := read(t, filepath.Join(out, "appendonly.aof"))
		if one.Bytes != int64(len(p)) {
			t.Errorf("the AOF has %d bytes, and is said to have %d", len(p), one.Bytes)
		}
		single, err := commandsOf(p[len(rdbtest.Empty(0, true)):])
		if err != nil || fmt.Sprint(single) != fmt.Sprint(several) {
			t.Fatalf("up to offset %d: %v, %q and %q", offset, err, single, several)
		}
	}
}

func TestWhatCameBehindTheLastMarkCameBeforeItsFileWasLastWrittenTo(t *testing.T) {
	t.Parallel()
	dir, received := logged(t, rdbtest.Empty(0, true), 1<<20, []string{"SET", "a", "1"}, []string{"SETEX", "k", "10", "v"})
	timeline := filepath.Join(dir, "generation-000001", archive.TimelineName)
	whole := read(t, timeline)
	var kept []byte
	for line := range bytes.Lines(whole) { // the second command's mark is lost
		f := strings.Fields(string(line))
		if f[0] == "mark" && f[1] == fmt.Sprint(received[1]) && f[3] != fmt.Sprint(baseOffset+len(resp.AppendCommand(nil, "SET", "a", "1"))) || f[0] == "end" || f[0] == "sealed" {
			continue
		}
		kept = append(kept, line...)
	}
	if err := os.WriteFile(timeline, kept, 0o640); err != nil {
		t.Fatal(err)
	}
	segment := filepath.Join(dir, "generation-000001", archive.AOFDir, "appendonly.aof.1.incr.aof")
	mark := time.UnixMilli(received[0])
	for name, c := range map[string]struct{ written, least, most time.Time }{
		"behind the mark": {mark.Add(time.Minute / 100), mark.Add(time.Minute / 100), mark.Add(time.Minute / 100)},
		"before the mark": {mark.Add(-time.Hour), mark, mark},
		"in the future":   {mark.Add(time.Hour), mark, mark.Add(30 * time.Minute)},
	} {
		if c.written.After(time.Now()) && name == "behind the mark" {
			poll.Until(t, "that time has come", func() bool { return time.Now().After(c.written) })
		}
		if err := os.Chtimes(segment, c.written, c.written); err != nil {
			t.Fatal(err)
		}
		_, got := restored(t, dir, Options{})
		last := got[len(got)-1]
		ends, err := strconv.ParseInt(last[len(last)-1], 10, 64)
		if at := ends - 10_000; err != nil || last[0] != "PEXPIREAT" || at < c.least.UnixMilli() || at > c.most.UnixMilli() {
			t.Errorf("%s: %q, received %d, want %d to %d", name, last, at, c.least.UnixMilli(), c.most.UnixMilli())
		}
	}
}

func TestATimelineThatCannotBeReadFailsTheRestore(t *testing.T) {
	t.Parallel()
	dir, _ := logged(t, rdbtest.Empty(0, true), 1<<20, []string{"SETEX", "k", "10", "v"})
	r, p, err := archive.Locate(dir, archive.Target{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cut, err := findCut(context.Background(), r, p.Offset)
	if err != nil {
		t.Fatal(err)
	}
	timeline := filepath.Join(dir, "generation-000001", archive.TimelineName)
	if err := errors.Join(os.Remove(timeline), os.Mkdir(timeline, 0o750)); err != nil {
		t.Fatal(err)
	}
	if _, err := readMeaning(context.Background(), r, cut, time.Now(), time.Now(), false); err == nil {
		t.Error("the timeline is not there, and times were told")
	}
}

// FuzzEditedStream: whatever a stream says, what is restored of it are whole
// commands, and those that are not looked at stand as they came, in their order.
func FuzzEditedStream(f *testing.F) {
	for _, s := range []string{
		"SETEX k 9223372036854775807 ~ ; EXPIRE k 9223372036854775807 NX ; PEXPIRE k -9223372036854775808 ; SET k v",
		"MULTI ; SET k v EX 9 ; CLUSTER x ; TRIMSLOTS RANGES 1 0 5 ; EXEC ; PSETEX ~ 1 ~~ ; PING",
		"TRIMSLOTS RANGES 1 0 5 5 ; SFLUSH 0 1 ; SFLUSH x ; COPY db DB 5 DB 3 ; MULTI ; DISCARD",
		"RESTORE k 5 ~ ABSTTL ; RESTORE k 5 p REPLACE ; GETEX k PX 9223372036854775807 ; SET k v PX PX PX",
		"EXPIREMEMBER k m 5 ms ; EXPIREMEMBER k ; SETEX k 5 ; EXPIRE ; SET k v EX ; SELECT 5 ; INCR k",
	} {
		var p []byte
		for c := range strings.SplitSeq(s, " ; ") {
			p = resp.AppendCommand(p, words(c)...)
		}
		f.Add(p, len(p)/3)
	}
	f.Fuzz(func(t *testing.T, p []byte, border int) {
		// Two segments, the first one up to a boundary.
		segment := archive.Segment{Seq: 1, From: baseOffset}
		scanner := resp.NewScanner(0, resp.Limits{})
		_, _, _ = scanner.Scan(p[:max(0, min(border, len(p)))])
		end := scanner.Boundary()
		whole := resp.NewScanner(0, resp.Limits{})
		_, _, _ = whole.Scan(p)
		p = p[:whole.Boundary().Offset]
		m := &Meaning{edited: map[int]bool{}}
		var out bytes.Buffer
		for _, part := range [][]byte{p[:end.Offset], p[end.Offset:]} {
			segment.Header = int64(len(segment.SelectHeader()))
			segment.To = segment.From + int64(len(part))
			file, err := os.CreateTemp(t.TempDir(), "")
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			if _, err := file.Write(append(segment.SelectHeader(), part...)); err != nil {
				t.Fatal(err)
			}
			w := &writer{ctx: context.Background(), meaning: m}
			w.total = segment.Size()
			c := &clock{last: archive.Mark{Offset: math.MaxInt64, Time: time.UnixMilli(1_700_000_000_000)}}
			before := out.Len()
			if err := w.rewrite(&out, file, segment, c); err != nil {
				t.Fatal(err)
			}
			if n := int64(out.Len() - before); w.done != n || w.total != n {
				t.Errorf("%d bytes were written, and %d of %d are told", n, w.done, w.total)
			}
			segment = archive.Segment{Seq: 2, From: segment.To, DB: end.DB}
		}
		got, err := commandsOf(out.Bytes())
		if err != nil {
			t.Fatalf("%v in %q, of %q", err, out.Bytes(), p)
		}
		came, err := commandsOf(p)
		if err != nil {
			t.Fatal(err)
		}
		next := 0
		for _, c := range came {
			if asks([]byte(c[0]), uint64(len(c))) {
				continue
			}
			for next < len(got) && fmt.Sprintf("%q", got[next]) != fmt.Sprintf("%q", c) {
				next++
			}
			if next++; next > len(got) {
				t.Fatalf("%q is not in what is restored: %q", c, got)
			}
		}
	})
}
