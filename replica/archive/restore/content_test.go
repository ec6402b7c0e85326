package restore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"replicad/replica/archive"
)

// withTTLs is a base of n keys of 100 bytes, each third with a time to live of
// an hour and more.
func withTTLs(n int, from time.Time) []byte {
	p := []byte("REDIS0010\xfe\x07")
	value := strings.Repeat("v", 100)
	for i := range n {
		if i%3 == 0 {
			p = binary.LittleEndian.AppendUint64(append(p, 0xfc), uint64(from.UnixMilli()+3600_000+int64(i)))
		}
		p = append(p, 0, 16)
		p = fmt.Appendf(p, "key:%012d\x40\x64%s", i, value)
	}
	return append(p, 0xff, 0, 0, 0, 0, 0, 0, 0, 0)
}

// meant reads the meaning of an archive's latest moment.
func meant(t testing.TB, dir string, moment, now time.Time) (*archive.Reader, *Meaning) {
	t.Helper()
	r, p, err := archive.Locate(dir, archive.Target{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	cut, err := findCut(context.Background(), r, p.Offset)
	if err != nil {
		t.Fatal(err)
	}
	m, err := readMeaning(context.Background(), r, cut, moment, now, false)
	if err != nil {
		t.Fatal(err)
	}
	return r, m
}

func TestWhatTheTimelineSaysOfItsFilesIsWhatReadingThemWouldShow(t *testing.T) {
	t.Parallel()
	began := time.Now()
	ends := fmt.Sprint(began.Add(time.Hour).UnixMilli())
	var commands [][]string
	for i := range 40 {
		n := strconv.Itoa(i)
		commands = append(commands, []string{"SET", "k" + n, strings.Repeat("v", 50)}, []string{"SET", "l" + n, "v", "PXAT", ends})
		switch i {
		case 3:
			commands = append(commands, []string{"SELECT", "30"}, []string{"SELECT", "0"}, []string{"MOVE", "k3", "33"})
		case 9:
			commands = append(commands, []string{"MULTI"}, []string{"EVAL", "return 1", "0"}, []string{"EXEC"})
		case 20:
			commands = append(commands, []string{"SETEX", "m", "7200", "v"}, []string{"CLUSTER", "x"})
		}
	}
	told := filepath.Join(t.TempDir(), "main")
	loggedIn(t, told, withTTLs(300, began), archive.Options{SegmentSize: 400, Content: Content{}}, commands...)
	untold, _ := logged(t, withTTLs(300, began), 400, commands...)
	moment, now := time.Now(), began.Add(100*time.Hour)
	r, got := meant(t, told, moment, now)
	defer r.Close()
	plain, want := meant(t, untold, moment, now)
	defer plain.Close()
	told1, edited := 0, 0
	for _, s := range r.Segments[:len(r.Segments)-1] {
		switch {
		case got.edited[s.Seq] && s.Content != "":
			t.Errorf("segment %d is edited, and the timeline says %q", s.Seq, s.Content)
		case got.edited[s.Seq]:
			edited++
		case s.Content == "":
			t.Errorf("of segment %d the timeline says nothing", s.Seq)
		default:
			told1++
		}
	}
	if r.Timeline.BaseContent == "" || told1 < 10 || edited == 0 || plain.Timeline.BaseContent != "" {
		t.Errorf("the base: %q; %d segments are told, %d edited", r.Timeline.BaseContent, told1, edited)
	}
	if want.BaseExpired != 100 || want.StreamExpired != 41 || want.Databases != 34 || want.Scripts != 1 {
		t.Errorf("read: %+v", want)
	}
	if g, w := fmt.Sprintf("%+v %v", facts(got), got.edited), fmt.Sprintf("%+v %v", facts(want), want.edited); g != w {
		t.Errorf("told %s, read %s", g, w)
	}
	_, one := restored(t, told, Options{})
	_, other := restored(t, untold, Options{})
	for i := range one { // the relative ones ended at other times
		if len(one) != len(other) || one[i][0] != other[i][0] {
			t.Fatalf("told %q, read %q", one, other)
		}
	}
}

func TestARestoreThatIsToBeProvedReadsWhatTheTimelineTellsOf(t *testing.T) {
	t.Parallel()
	var commands [][]string
	for i := range 40 {
		commands = append(commands, []string{"SET", "k" + strconv.Itoa(i), strings.Repeat("v", 50)})
	}
	dir := filepath.Join(t.TempDir(), "main")
	loggedIn(t, dir, withTTLs(3, time.Now()), archive.Options{SegmentSize: 400, Content: Content{}}, commands...)
	r, _ := meant(t, dir, time.Now(), time.Now())
	defer r.Close()
	if r.Segments[1].Content == "" {
		t.Fatal("the timeline says nothing of segment 2")
	}
	path := r.SegmentPath(r.Segments[1])
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p[bytes.LastIndex(p, []byte("\r\n*3\r\n"))+2] ^= 1
	if err := os.WriteFile(path, p, 0o640); err != nil {
		t.Fatal(err)
	}
	_, err = Run(context.Background(), Options{Dir: dir, Out: filepath.Join(t.TempDir(), "out"), Prove: true})
	var damaged *DamagedError
	if !errors.As(err, &damaged) || !errors.Is(err, archive.ErrDamaged) || !strings.Contains(err.Error(), "appendonly.aof.2.incr.aof") {
		t.Errorf("the restore of a damaged segment: %v", err)
	}
}

// facts is a meaning without how it was found.
func facts(m *Meaning) Meaning {
	f := *m
	f.ends, f.edited = ends{}, nil
	return f
}

func TestContentsOfAnotherFormAreReadAgain(t *testing.T) {
	for _, s := range []string{"", "2 databases 7 scripts 0 expires true ends 5", "1 databases x", "1 databases 7 scripts 0 expires true ends x", "1 databases 7 scripts 0 expires true ends 5,64=1", "1 databases 7 scripts 0 expires true ends 5,1"} {
		m := contentOf(time.UnixMilli(1000))
		if _, ok := m.add(s, 0, 10); ok || m.Databases != leastDatabases {
			t.Errorf("%q is taken: %+v", s, m)
		}
	}
	m := contentOf(time.UnixMilli(1000))
	if n, ok := m.add("1 databases 70 scripts 3 expires true ends 1000,0=2,5=1 and more", 1000, 2000); !ok || n != 3 || m.Databases != 70 || m.Scripts != 3 || !m.Expires {
		t.Errorf("%d, %v, %+v", n, ok, m)
	}
}

func TestWhatNoPlainServerHasIsNotedOnce(t *testing.T) {
	t.Parallel()
	secret := strings.Repeat("S3cret", 14) // a name of 84 bytes
	var commands [][]string
	for i := range 30 {
		commands = append(commands, []string{"SET", "k", strings.Repeat("v", 50)}, []string{secret, "k", "v"}, []string{"JSON.SET", "k", "$", "1"}, []string{"x y\x00", strconv.Itoa(i)})
	}
	dir := filepath.Join(t.TempDir(), "main")
	told := make(chan archive.Event, 1000)
	opt := archive.Options{SegmentSize: 500, Content: Content{}, Observe: func(e archive.Event) { told <- e }}
	// A base with data of a module.
	base := []byte("REDIS0011\xf7\x81\xb5\xeb\x2d\xfa\xdc\xa9\x78\x03\x02\x01\x00\xff\x00\x00\x00\x00\x00\x00\x00\x00")
	loggedIn(t, dir, base, opt, commands...)
	a, err := archive.Open(dir, opt) // and again
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	close(told)
	var events []string
	for e := range told {
		if e.Kind == archive.NotPlain {
			events = append(events, e.Text)
		}
	}
	want := []string{"the module test-type", "the command " + strings.ToLower(secret[:64]), "the command json.set", "the command x?y?"}
	slices.Sort(events)
	slices.Sort(want)
	if !slices.Equal(events, want) {
		t.Errorf("told %q, want %q", events, want)
	}
	d, _, err := archive.Describe(dir)
	if err != nil || len(d.Generations[0].Needs) != 4 {
		t.Errorf("%v, %+v", err, d.Generations[0].Needs)
	}
	first := int64(baseOffset)
	for _, n := range d.Generations[0].Needs {
		if n.Offset < first || n.Offset > first+300 {
			t.Errorf("%+v is not near the first", n)
		}
	}
	r, m := meant(t, dir, time.Now(), time.Now())
	defer r.Close()
	if len(m.Needs) != 4 {
		t.Errorf("needs %+v", m.Needs)
	}
}

// BenchmarkMeaning compares what a restore needs to know of files that it must
// read, and of those of which the timeline tells.
func BenchmarkMeaning(b *testing.B) {
	const size = 64 << 20
	var commands [][]string
	value := strings.Repeat("v", 100)
	for i := range 64 {
		p := []string{"MSET"}
		for len(p) < size/64/140*2 {
			p = append(p, "key:000000000000", value)
		}
		commands = append(commands, p, []string{"SET", "k", "v", "PXAT", strconv.Itoa(i)})
	}
	base := withTTLs(size/128, time.Now())
	for name, content := range map[string]archive.ContentReader{"read": nil, "told": Content{}} {
		dir := filepath.Join(b.TempDir(), "main")
		loggedIn(b, dir, base, archive.Options{SegmentSize: size / 8, Content: content}, commands...)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(2 * size)
			for b.Loop() {
				r, _ := meant(b, dir, time.Now(), time.Now())
				r.Close()
			}
		})
	}
}
