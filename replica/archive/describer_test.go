package archive

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"replicad/integration/poll"
	"replicad/replica"
	"replicad/replica/rdb/rdbtest"
)

func TestADescriberSaysAtAllTimesWhatAReadingOfAllSays(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "m")
	d := NewDescriber(dir)
	same := func(when string) (got Master) { // soon, for somebody may write
		t.Helper()
		poll.Until(t, "a describer says the same "+when, func() bool {
			var ok bool
			var err error
			got, ok, err = d.Describe()
			want, wantOK, wantErr := Describe(dir)
			return reflect.DeepEqual(got, want) && ok == wantOK && fmt.Sprint(err) == fmt.Sprint(wantErr)
		})
		return got
	}
	same("before there is an archive")
	a := open(t, dir, Options{SegmentSize: small, TimelineResolution: time.Nanosecond})
	same("before there is a generation")
	r := rand.New(rand.NewPCG(61, 61))
	for gen := 1; gen <= 2; gen++ {
		f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
		for range 20 {
			f.feed(commands(r, 10), small)
			f.awaitStored()
			if m := same("while it grows"); m.Generations[gen-1].EndOffset != f.end() {
				t.Fatalf("%+v, want the end at %d", m.Generations, f.end())
			}
		}
	}
	mustClose(t, a)
	if m := same("when it is closed"); len(m.Generations) != 2 || m.Generations[1].Sealed == 0 || m.Generations[1].To.IsZero() {
		t.Errorf("%+v: nothing was sealed", m)
	}
	path := generationIn(dir, 2).timeline()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(len(p)/2)); err != nil {
		t.Fatal(err)
	}
	same("when a timeline was cut")
	if err := os.WriteFile(path+".new", p, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	same("when another file took a timeline's place")
	if err := os.RemoveAll(generationIn(dir, 1).dir); err != nil {
		t.Fatal(err)
	}
	if same("when a generation went"); len(d.read) != 1 {
		t.Errorf("%d timelines are remembered, of 1", len(d.read))
	}
}

// A day of a busy master: ten marks a second.
func BenchmarkDescribeADay(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "m")
	a, err := Open(dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	base, err := a.BeginBase(replica.FullSync{ReplID: idA, Size: -1})
	if err != nil {
		b.Fatal(err)
	}
	_, _ = base.Write(rdbtest.Empty(0, true))
	if _, err := base.Commit(); err != nil {
		b.Fatal(err)
	}
	if err := a.Close(); err != nil {
		b.Fatal(err)
	}
	f, err := os.OpenFile(generationIn(dir, 1).timeline(), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	var p []byte
	for i := range int64(864_000) {
		p = sealed(p, fmt.Sprintf("mark %d offset %d crc %08x", 1_700_000_000_000+100*i, 1000*i, i))
	}
	if _, err := f.Write(p); err != nil {
		b.Fatal(err)
	}
	f.Close()
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			_, _, _ = Describe(dir)
		}
	})
	b.Run("what is new", func(b *testing.B) {
		d := NewDescriber(dir)
		_, _, _ = d.Describe()
		for b.Loop() {
			_, _, _ = d.Describe()
		}
	})
}
