package archive

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"replicad/replica"
	"replicad/replica/rdb/rdbtest"
	"replicad/replica/resp"
)

const idC = "cccccccccccccccccccccccccccccccccccccccc"

// master says what INFO of a master says that continues up to two lines.
func master(id string, end int64, id2 string, end2 int64) replica.Replication {
	return replica.Replication{Role: "master", ReplID: id, Offset: end, ReplID2: id2, Offset2: end2}
}

func TestTheForkIsWhereTheHistoryOfEitherSideEnds(t *testing.T) {
	t.Parallel()
	a, f, r := log1(t, t.TempDir(), 20, Options{})
	second := f.end() // where A ends in our history, and B begins
	a.Continue(idB)
	f.feedSlowly(r, commands(r, 40))
	f.feed(resp.AppendCommand(nil, "MULTI"), 100)
	f.feed(resp.AppendCommand(nil, "SET", "k", "v"), 100)
	inside := f.end()
	f.feed(resp.AppendCommand(nil, "EXEC"), 100)
	f.feed([]byte("*3\r\n$3\r\nSET\r\n$1"), 100)
	f.awaitStored()
	all := boundariesOf(t, f.sent.Bytes(), 50)
	last := all[len(all)-1].Offset
	upTo := func(offset int64) (b resp.Boundary) {
		for _, x := range all {
			if x.Offset <= offset {
				b = x
			}
		}
		return b
	}
	early := all[5].Offset
	for name, c := range map[string]struct {
		master replica.Replication
		at     int64 // -1 for none
		id     string
	}{
		"the master's history ends first":                    {master(idC, 1e6, idB, all[len(all)-8].Offset), all[len(all)-8].Offset, idB},
		"ours goes on under another id first":                {master(idC, 1e6, idA, last), second, idA},
		"an earlier id of ours is the master's present one":  {master(idA, early, idC, 20), early, idA},
		"the master has all of ours, and the rest of a part": {master(idB, 1e6, "", 0), last, idB},
		"of two the higher one":                              {master(idA, early, idB, all[len(all)-3].Offset), all[len(all)-3].Offset, idB},
		"inside a transaction":                               {master(idB, inside, "", 0), upTo(inside).Offset, idB},
		"inside a command":                                   {master(idB, all[len(all)-9].Offset+3, "", 0), all[len(all)-9].Offset, idB},
		"before the base":                                    {master(idA, 49, "", 0), -1, ""},
		"at the base":                                        {master(idA, 50, "", 0), 50, idA},
		"before the place where that id begins in ours":      {master(idB, second-1, "", 0), -1, ""},
		"another history":                                    {master(idC, 1e6, "", 0), -1, ""},
		"no id":                                              {replica.Replication{}, -1, ""},
	} {
		at, ok := a.ForkAt(c.master)
		if ok != (c.at >= 0) || ok && (at.Offset != c.at || at.ReplID != c.id || at.DB != upTo(c.at).DB) {
			t.Errorf("%s: %+v, %v; want %d of %q", name, at, ok, c.at, c.id)
		}
	}
}

func TestAForkGoesOnFromThePlaceAndKeepsTheTail(t *testing.T) {
	t.Parallel()
	linked := 0
	for seed := range uint64(soak(15, 300)) {
		dir := t.TempDir()
		a, f, r := log1(t, dir, 30+seed, Options{AppendFsync: Policy(seed % 3)})
		if seed%2 == 0 {
			a.Continue(idB)
			f.feedSlowly(r, commands(r, 20))
		}
		f.feed([]byte("*3\r\n$3\r\nSET\r\n$1"), 100) // the link was cut here
		f.awaitStored()
		all := boundariesOf(t, f.sent.Bytes(), 50)
		want := all[r.IntN(len(all))]
		id := idA
		for _, h := range a.log.Load().shared.histories {
			if h.From <= want.Offset {
				id = h.ReplID
			}
		}
		at, ok := a.ForkAt(master(idC, 1e9, id, want.Offset))
		if !ok || at.Offset != want.Offset || at.DB != want.DB {
			t.Fatalf("seed %d: %+v, %v; want %+v of %s", seed, at, ok, want, id)
		}
		got, err := a.Fork(at)
		if err != nil || got != at {
			t.Fatalf("seed %d: %+v, %v", seed, got, err)
		}
		if p := a.Progress(); p.Stored != at.Offset || p.Durable != at.Offset {
			t.Fatalf("seed %d: behind the fork at %d the progress is %+v", seed, at.Offset, p)
		}
		a.Continue(idC)
		g := newFeeder(t, a, at)
		g.feedSlowly(r, commands(r, 30))
		g.awaitStored()
		mustClose(t, a)
		g1, g2 := generationIn(dir, 1), generationIn(dir, 2)
		before := f.sent.Bytes()[:all[len(all)-1].Offset-50]
		if got := segmentBytes(t, g1); !bytes.Equal(got, before) {
			t.Fatalf("seed %d: generation 1 has changed", seed)
		}
		now := append(bytes.Clone(f.sent.Bytes()[:at.Offset-50]), g.sent.Bytes()...)
		if got := segmentBytes(t, g2); !bytes.Equal(got, now) {
			t.Fatalf("seed %d: generation 2 holds %d other bytes, want %d", seed, len(got), len(now))
		}
		loadable(t, g1)
		loadable(t, g2)
		agreesUpTo(t, g1, g2, 50, at.Offset)
		tl, _, _ := g2.readTimeline(visitor{})
		if tl.Fork != (Fork{at.Offset, 1}) || inode(t, g1.base()) != inode(t, g2.base()) {
			t.Errorf("seed %d: %+v", seed, tl.Fork)
		}
		if inode(t, g1.segment(1)) == inode(t, g2.segment(1)) {
			linked++
		}
		a = open(t, dir, Options{})
		if p, ok := a.Position(); !ok || p.ReplID != idC || a.Recovery().Cut != 0 {
			t.Errorf("seed %d: opened at %+v, %v; %+v", seed, p, ok, a.Recovery())
		}
		mustClose(t, a)
	}
	if linked == 0 {
		t.Error("nothing was linked")
	}
}

func TestTheHighestForkMayLieInAnOlderGeneration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, f, r := log1(t, dir, 60, Options{})
	f.awaitStored()
	first := bytes.Clone(f.sent.Bytes())
	all := boundariesOf(t, first, 50)
	awaitVerified(t, dir)
	other := fullSync(t, a, replica.FullSync{ReplID: idB, Offset: 9000, Size: -1}, rdbtest.Empty(0, true))
	other.feedSlowly(r, commands(r, 10))
	at, ok := a.ForkAt(master(idA, 1e9, "", 0))
	if want := all[len(all)-1].Offset; !ok || at.Offset != want || at.ReplID != idA {
		t.Fatalf("%+v, %v; want %d", at, ok, want)
	}
	if _, err := a.Fork(at); err != nil {
		t.Fatal(err)
	}
	g := newFeeder(t, a, at)
	g.feedSlowly(r, commands(r, 10))
	mustClose(t, a)
	if got := segmentBytes(t, generationIn(dir, 3)); !bytes.Equal(got, append(first[:at.Offset-50], g.sent.Bytes()...)) {
		t.Error("generation 3 holds other bytes")
	}
	if got := segmentBytes(t, generationIn(dir, 2)); !bytes.HasPrefix(other.sent.Bytes(), got) {
		t.Error("generation 2 has changed")
	}
	if tl, _, _ := generationIn(dir, 2).readTimeline(visitor{}); !tl.Closed {
		t.Error("generation 2 is not closed")
	}
}

func TestAForkThatIsNoneLeavesTheHistoryAsItWas(t *testing.T) {
	t.Parallel()
	a, f, r := log1(t, t.TempDir(), 61, Options{})
	f.awaitStored()
	all := boundariesOf(t, f.sent.Bytes(), 50)
	for _, at := range []replica.Position{
		{ReplID: idC, Offset: all[3].Offset}, {ReplID: idA, Offset: all[3].Offset + 1}, {ReplID: idA, Offset: f.end() + 9}, {ReplID: idA, Offset: 7},
	} {
		if _, err := a.Fork(at); !errors.Is(err, ErrNoFork) {
			t.Errorf("%+v: %v", at, err)
		}
	}
	f.feedSlowly(r, commands(r, 5))
	f.awaitStored()
}

// forkedAt makes an archive whose disk is d, and forks it. It gives the stream
// before, and where it was forked.
func forkedAt(t *testing.T, dir string, d disk, begin func(a *Archive)) (before []byte, at replica.Position, a *Archive, err error) {
	t.Helper()
	a, f, _ := log1(t, dir, 62, Options{AppendFsync: No, disk: d})
	f.awaitStored()
	all := boundariesOf(t, f.sent.Bytes(), 50)
	at, ok := a.ForkAt(master(idC, 1e9, idA, all[len(all)*2/3].Offset))
	if !ok {
		t.Fatal("no fork")
	}
	begin(a)
	_, err = a.Fork(at)
	return f.sent.Bytes()[:all[len(all)-1].Offset-50], at, a, err
}

func TestAForkThatFailsAtAnyStepLeavesTheHistoryAsItWas(t *testing.T) {
	t.Parallel()
	causes := []error{syscall.ENOSPC, syscall.EMFILE, syscall.EROFS}
	failed := map[string]bool{}
	// The number of steps varies a little: these are made to fail in any case.
	must := []string{"rename generation-000002", "pwrite " + TimelineName, "link appendonly.aof.1.base.rdb"}
	for n, all := 0, false; !all || len(must) > 0; n++ {
		cause, named := causes[n%3], ""
		if all {
			named, must = must[0], must[1:]
		}
		dir := t.TempDir()
		var mu sync.Mutex
		left, at := -1, ""
		d := stepped(func(op, name string) error {
			mu.Lock()
			defer mu.Unlock()
			if left < 0 || !strings.Contains(name, "generation-000002") {
				return nil
			}
			if named != "" && op+" "+filepath.Base(name) != named {
				return nil
			}
			if left--; left >= 0 && named == "" {
				return nil
			}
			left = -1
			at = op + " " + filepath.Base(name)
			return &os.PathError{Op: op, Path: name, Err: cause}
		})
		before, _, a, err := forkedAt(t, dir, d, func(*Archive) { mu.Lock(); left = n; mu.Unlock() })
		mu.Lock()
		done := at == ""
		left, all = -1, all || done
		failed[at] = true
		mu.Unlock()
		if done != (err == nil) || !done && !errors.Is(err, cause) {
			t.Fatalf("%q: %v", at, err)
		}
		if done {
			mustClose(t, a)
			continue
		}
		if left := inTheMaking(t, dir); len(left) > 0 || len(numbers(t, dir)) != 1 {
			t.Fatalf("%q left %v, %v", at, left, numbers(t, dir))
		}
		end := a.Progress().Stored
		mustClose(t, a)
		checkHolds(t, dir, before, end)
	}
	if !failed["rename generation-000002"] || !failed["pwrite "+TimelineName] || !failed["link appendonly.aof.1.base.rdb"] {
		t.Errorf("the steps that failed are %v", failed)
	}
}

func TestAKillAtAnyStepOfAForkLeavesOneHistoryOrTheOther(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var mu sync.Mutex
	on := false
	var kills []string
	var what []string
	d := stepped(func(op, name string) error {
		mu.Lock()
		defer mu.Unlock()
		if !on || len(kills) >= 400 {
			return nil
		}
		to := t.TempDir()
		if copyTree(dir, to) == nil {
			kills, what = append(kills, to), append(what, op+" "+filepath.Base(name))
		}
		return nil
	})
	before, at, a, err := forkedAt(t, dir, d, func(*Archive) { mu.Lock(); on = true; mu.Unlock() })
	if err != nil {
		t.Fatal(err)
	}
	after := commands(rand.New(rand.NewPCG(63, 1)), 20)
	newFeeder(t, a, at).feed(after, 500)
	mustClose(t, a)
	forked := 0
	for i, k := range kills {
		b := open(t, k, Options{})
		pos, ok := b.Position()
		mustClose(t, b)
		all, making, _ := generations(k)
		if !ok || len(making) > 0 {
			t.Fatalf("killed at %s: %+v, %v; %v", what[i], pos, ok, making)
		}
		if got := segmentBytes(t, generationIn(k, 1)); !bytes.Equal(got, before) {
			t.Fatalf("killed at %s: generation 1 holds %d other bytes than %d", what[i], len(got), len(before))
		}
		if len(all) == 1 {
			if pos.Offset != 50+int64(len(before)) {
				t.Fatalf("killed at %s: %+v", what[i], pos)
			}
			continue
		}
		forked++
		got := segmentBytes(t, generationIn(k, 2))
		if pos.Offset != 50+int64(len(got)) || !bytes.HasPrefix(slices.Concat(before[:at.Offset-50], after), got) || pos.Offset < at.Offset {
			t.Fatalf("killed at %s: generation 2 holds %d other bytes; %+v", what[i], len(got), pos)
		}
		if tl, _, _ := generationIn(k, 1).readTimeline(visitor{}); !tl.Closed {
			t.Fatalf("killed at %s: generation 1 is not closed", what[i])
		}
	}
	t.Logf("%d kills, %d behind the rename", len(kills), forked)
	if forked == 0 || forked == len(kills) {
		t.Error("the test does not test what it says")
	}
}

func TestRecoveryChangesNoFileThatAnotherGenerationHas(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, _, a, err := forkedAt(t, dir, realDisk(), func(*Archive) {})
	if err != nil {
		t.Fatal(err)
	}
	mustClose(t, a)
	g1, g2 := generationIn(dir, 1), generationIn(dir, 2)
	shared := 0
	for n := 1; n < segmentsOf(t, g2); n++ {
		if inode(t, g1.segment(n)) == inode(t, g2.segment(n)) {
			shared++
		}
	}
	if shared < 2 {
		t.Fatalf("%d segments are shared", shared)
	}
	had := snapshotDir(t, g1.dir)
	// No slot tells where the history ends, and the second segment was torn.
	if err := os.Remove(g2.fsynced()); err != nil {
		t.Fatal(err)
	}
	p, err := os.ReadFile(g2.timeline())
	if err != nil {
		t.Fatal(err)
	}
	var kept []byte
	for line := range bytes.Lines(p) {
		if !bytes.HasPrefix(line, []byte("verified segment")) {
			kept = append(kept, line...)
		}
	}
	if err := os.WriteFile(g2.timeline(), kept, 0o640); err != nil {
		t.Fatal(err)
	}
	a = open(t, dir, Options{AppendFsync: No})
	mustClose(t, a)
	for name, p := range snapshotDir(t, g1.dir) {
		if !bytes.Equal(p, had[name]) {
			t.Errorf("%s of generation 1 was changed", name)
		}
	}
	if inode(t, g1.segment(1)) == inode(t, g2.segment(1)) {
		t.Error("recovery did not look at the first segment: the test does not test what it says")
	}
}

func TestWhatAFailoverLostIsCountedFromTheFirstByteThatDiffers(t *testing.T) {
	t.Parallel()
	set := func(k, v string) []byte { return resp.AppendCommand(nil, "SET", k, v) }
	ping := resp.AppendCommand(nil, "PING")
	hello := resp.AppendCommand(nil, "PUBLISH", "__sentinel__:hello", "127.0.0.1,26379,x")
	shared := slices.Concat(set("a", "1"), set("b", "2"))
	for name, c := range map[string]struct {
		tail, after []byte
		want        Lost
	}{
		"nothing came since": {slices.Concat(set("t", "1"), ping), nil,
			Lost{Pending: true, Bytes: int64(len(set("t", "1")) + len(ping)), Writes: 1, Pings: 1}},
		"other writes came": {slices.Concat(set("t", "1"), ping, hello, resp.AppendCommand(nil, "PUBLISH", "c", "m")), set("new", "9"),
			Lost{Bytes: 1 << 40, Writes: 1, Pings: 1, Hellos: 1, Publishes: 1}},
		"the same came again, and then others": {slices.Concat(set("t", "1"), set("t", "2"), ping), slices.Concat(set("t", "1"), set("x", "2")),
			Lost{Bytes: int64(len(set("t", "2")) + len(ping)), Writes: 1, Pings: 1}},
		"all came again":    {slices.Concat(set("t", "1"), ping), slices.Concat(set("t", "1"), ping, set("x", "2")), Lost{}},
		"a part of it came": {slices.Concat(set("t", "1"), set("t", "2")), set("t", "1"), Lost{Pending: true, Bytes: int64(len(set("t", "2"))), Writes: 1}},
		"a command with a long name": {resp.AppendCommand(nil, strings.Repeat("renamed", 12), "k"), set("x", "1"),
			Lost{Bytes: int64(len(resp.AppendCommand(nil, strings.Repeat("renamed", 12), "k"))), Writes: 1}},
		"nothing but pings":     {slices.Concat(ping, ping), set("x", "1"), Lost{Bytes: int64(2 * len(ping)), Pings: 2}},
		"they differ in length": {set("t", "1"), set("t", "12345"), Lost{Bytes: int64(len(set("t", "1"))), Writes: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			a := open(t, dir, Options{SegmentSize: 60})
			f := fullSync(t, a, replica.FullSync{ReplID: idA, Offset: 50, Size: -1}, rdbtest.Empty(0, true))
			f.feed(shared, 1000)
			p := f.end()
			for _, b := range []int{len(c.tail) / 2, len(c.tail)} { // in two segments, where it can be
				f.feed(c.tail[f.end()-p:b], 1000)
				f.awaitStored()
			}
			at, ok := a.ForkAt(master(idC, 1e9, idA, p))
			if !ok || at.Offset != p {
				t.Fatalf("%+v, %v", at, ok)
			}
			if _, err := a.Fork(at); err != nil {
				t.Fatal(err)
			}
			g := newFeeder(t, a, at)
			g.feed(c.after, 1000)
			g.awaitStored()
			m, _, err := Describe(dir)
			if err != nil || len(m.Generations) != 2 || m.Generations[1].Lost == nil {
				t.Fatalf("%+v, %v", m, err)
			}
			got := *m.Generations[1].Lost
			if c.want.Bytes == 1<<40 {
				c.want.Bytes = int64(len(c.tail))
			}
			if got.From != got.To-got.Bytes || got.To != p+int64(len(c.tail)) || got.ForkOffset != p || got.Generation != 1 || got.Since.IsZero() != (got.Bytes == 0) {
				t.Errorf("%+v", got)
			}
			c.want.Generation, c.want.ForkOffset, c.want.From, c.want.To, c.want.Since, c.want.Until = got.Generation, got.ForkOffset, got.From, got.To, got.Since, got.Until
			if got != c.want {
				t.Errorf("lost are %+v, want %+v", got, c.want)
			}
			mustClose(t, a)
		})
	}
}

func TestATimeInTheTailNamesTheForkAndTheGenerationThatHasMore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	written(t, dir, 1, 100, baseFact(0, 36, time.UnixMilli(epoch)), replidFact(idA, 0), segmentFact(newSegment(1, 0, 0)), at(10, 10), at(20, 20), at(30, 30), sealedFact(Segment{Seq: 1, To: 30}), endFact(30))
	written(t, dir, 2, 100, baseFact(0, 36, time.UnixMilli(epoch)), replidFact(idA, 0), segmentFact(newSegment(1, 0, 0)), at(10, 10), at(15, 15), forkFact(15, 1), at(90, 40))
	for _, c := range []struct {
		ms, offset, lost int64
	}{{12, 10, 0}, {16, 15, 0}, {25, 15, 20}, {60, 15, 30}, {95, 40, 0}} {
		target, err := ParseTarget(ms(c.ms).Format(time.RFC3339Nano), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		r, p, err := Locate(dir, target, ms(100))
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		if p.Generation != 2 || p.Offset != c.offset || (p.Lost != nil) != (c.lost > 0) || c.lost > 0 && (p.Lost.Offset != c.lost || p.Lost.Generation != 1) {
			t.Errorf("at %d: %+v, lost %+v", c.ms, p, p.Lost)
		}
		r, p, err = Locate(dir, target.In(1), ms(100))
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		if p.Generation != 1 || c.lost > 0 && p.Offset != c.lost {
			t.Errorf("at %d in generation 1: %+v", c.ms, p)
		}
	}
	if _, _, err := Locate(dir, Target{}.In(7), ms(100)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("generation 7: %v", err)
	}
}

func TestAForkIsLookedForInAllThatWasReceivedFactsToo(t *testing.T) {
	t.Parallel()
	var slow atomic.Bool
	d := stepped(func(op, name string) error {
		if slow.Load() && op == "pwrite" && filepath.Base(name) == TimelineName {
			time.Sleep(50 * time.Millisecond) // such a disk
		}
		return nil
	})
	a, f, _ := log1(t, t.TempDir(), 64, Options{disk: d})
	f.feed(resp.AppendCommand(nil, "PING"), 100)
	f.awaitStored()
	all := boundariesOf(t, f.sent.Bytes(), 50)
	slow.Store(true)
	a.Continue(idB)
	if at, ok := a.ForkAt(master(idB, 1e9, "", 0)); !ok || at.ReplID != idB || at.Offset != all[len(all)-1].Offset {
		t.Errorf("%+v, %v; want %d of %s", at, ok, all[len(all)-1].Offset, idB)
	}
}

func TestRetentionLeavesTheGenerationOfAForkAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var on atomic.Bool
	all := Retention{KeepGenerations: 2, MaxBytes: 1}
	held := 0
	d := stepped(func(op, name string) error {
		if on.Load() && op != "pwrite" && strings.Contains(name, "generation-000003") {
			p, err := Prune(dir, all, time.Now(), false)
			if err != nil || len(p.Removals) > 0 && p.Removals[0].Removed {
				t.Errorf("at %s %s: %+v, %v", op, filepath.Base(name), p.Removals, err)
			}
			if len(p.Removals) > 0 && p.Removals[0].Held {
				held++
			}
		}
		return nil
	})
	a, f, r := log1(t, dir, 65, Options{AppendFsync: No, disk: d})
	f.awaitStored()
	first := bytes.Clone(f.sent.Bytes())
	awaitVerified(t, dir)
	other := fullSync(t, a, replica.FullSync{ReplID: idB, Offset: 9000, Size: -1}, rdbtest.Empty(0, true))
	other.feedSlowly(r, commands(r, 10))
	awaitVerified(t, dir)
	at, ok := a.ForkAt(master(idA, 1e9, "", 0))
	if !ok {
		t.Fatal("no fork")
	}
	// The master has not answered PSYNC yet.
	if p, err := Prune(dir, all, time.Now(), false); err != nil || len(p.Removals) != 1 || !p.Removals[0].Held {
		t.Fatalf("%+v, %v; generation 1 is not held", p.Removals, err)
	}
	on.Store(true)
	if _, err := a.Fork(at); err != nil {
		t.Fatal(err)
	}
	on.Store(false)
	if held == 0 {
		t.Error("retention never met the generation")
	}
	g := newFeeder(t, a, at)
	g.feedSlowly(r, commands(r, 10))
	g.awaitStored()
	awaitVerified(t, dir)
	if p, err := Prune(dir, all, time.Now(), false); err != nil || len(p.Removals) != 2 {
		t.Errorf("%+v, %v; behind the fork generations 1 and 2 may go", p.Removals, err)
	}
	mustClose(t, a)
	if got := segmentBytes(t, generationIn(dir, 3)); !bytes.Equal(got, append(first[:at.Offset-50], g.sent.Bytes()...)) {
		t.Error("generation 3 holds other bytes")
	}
}

func TestNoRebaseTakesOverDuringAFork(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var begin atomic.Pointer[Rebase]
	var took error
	d := stepped(func(op, name string) error {
		if op == "link" && strings.Contains(name, "generation-000003") {
			if re := begin.Swap(nil); re != nil {
				took = re.TakeOver(t.Context())
			}
		}
		return nil
	})
	a, f, _ := log1(t, dir, 66, Options{AppendFsync: No, disk: d})
	f.awaitStored()
	all := boundariesOf(t, f.sent.Bytes(), 50)
	re := takeBase(t, a, idA, all[5])
	at, ok := a.ForkAt(master(idC, 1e9, idA, all[len(all)/2].Offset))
	if !ok {
		t.Fatal("no fork")
	}
	begin.Store(re)
	if _, err := a.Fork(at); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(took, ErrRebase) || !errors.Is(took, errOtherLog) {
		t.Errorf("the rebase: %v", took)
	}
	if err := re.Abort(); err != nil {
		t.Error(err)
	}
	mustClose(t, a)
	if got := numbers(t, dir); !slices.Equal(got, []int{1, 3}) {
		t.Errorf("generations %v", got)
	}
	if got := segmentBytes(t, generationIn(dir, 1)); !bytes.Equal(got, f.sent.Bytes()[:all[len(all)-1].Offset-50]) {
		t.Error("generation 1 does not hold the whole tail")
	}
}
