package archive

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"replicad/integration/poll"
	"replicad/replica"
	"replicad/replica/rdb/rdbtest"
	"replicad/replica/resp"
)

const day = 24 * time.Hour

// noon is the now of the tables; times in them are days before it.
var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func daysAgo(d float64) time.Time { return noon.Add(-time.Duration(d * float64(day))) }

// kept describes an archive: generations of 100 bytes from 1 on, sound and
// closed, each with the days ago that it begins and ends.
func kept(spans ...[2]float64) Master {
	m := Master{Name: "main", Dir: "main"}
	for i, s := range spans {
		m.Generations = append(m.Generations, Generation{Number: i + 1, Dir: generationIn("main", i+1).dir, Complete: true, Closed: true,
			BaseVerified: true, Bytes: 100, Frees: 100, From: daysAgo(s[0]), To: daysAgo(s[1]), Witnessed: daysAgo(s[1]).Sub(daysAgo(s[0]))})
	}
	return m
}

// with changes a described generation.
func (m Master) with(number int, change func(*Generation)) Master {
	change(&m.Generations[number-1])
	return m
}

func broken(g *Generation) {
	g.Problem, g.From, g.To = "timeline is damaged", time.Time{}, time.Time{}
}

func TestRetentionLetsGoWhatNoTimeInTheWindowNeeds(t *testing.T) {
	t.Parallel()
	week := Retention{KeepFor: 7 * day, KeepGenerations: 2}
	bounded := func(n int64) Retention { return Retention{KeepFor: 7 * day, KeepGenerations: 2, MaxBytes: n} }
	old := [][2]float64{{40, 30}, {30, 20}, {20, 10}, {10, 5}, {5, 0}}
	for _, c := range []struct {
		name     string
		r        Retention
		m        Master
		want     []int
		warnings string // in the order; parts are separated by |
	}{
		{"nothing is there", week, kept(), nil, ""},
		{"one", week, kept([2]float64{40, 0}), nil, ""},
		{"the one that covers the window's start stays", week, kept(old...), []int{1, 2, 3}, ""},
		{"the window's start is the next one's", week, kept([2]float64{20, 7}, [2]float64{7, 3}, [2]float64{3, 0}), []int{1}, ""},
		{"the next one begins a moment inside the window", week, kept([2]float64{20, 6.999}, [2]float64{6.999, 3}, [2]float64{3, 0}), nil, ""},
		{"keep-generations", Retention{KeepFor: 7 * day, KeepGenerations: 4}, kept(old...), []int{1}, ""},
		{"two stay at least", week, kept([2]float64{40, 30}, [2]float64{30, 20}, [2]float64{20, 10}), []int{1}, ""},
		{"no window", Retention{KeepGenerations: 2}, kept(old...), []int{1, 2, 3}, ""},
		{"the newest is long silent", week, kept([2]float64{40, 30}, [2]float64{30, 20}, [2]float64{20, 19}), []int{1}, ""},
		{"a gap over the window's start", week, kept([2]float64{40, 30}, [2]float64{30, 10}, [2]float64{4, 2}, [2]float64{2, 0}), []int{1}, ""},
		{"the middle one's clock was ahead", week, kept([2]float64{40, 30}, [2]float64{-900, -910}, [2]float64{20, 10}, [2]float64{10, 0}), []int{1, 2}, ""},
		{"the first one's clock was ahead", week, kept([2]float64{-900, -910}, [2]float64{6, 5}, [2]float64{5, 0}), nil, ""},
		{"a later one's clock was at zero", week, kept([2]float64{6, 4}, [2]float64{20000, 4}, [2]float64{4, 0}), nil, ""},
		{"the newest one's clock was ahead, or now is behind", week, kept([2]float64{40, 30}, [2]float64{30, 20}, [2]float64{20, 10}, [2]float64{-1, -2}), nil, ""},
		{"the newest can't be read", week, kept(old...).with(5, broken), nil, "newest generation, 5, is not known to be sound: timeline is damaged"},
		{"the newest has no manifest", week, kept(old...).with(5, func(g *Generation) { g.Complete = false }), nil, "not complete"},
		{"the newest is not verified", week, kept(old...).with(5, func(g *Generation) { g.BaseVerified = false }), nil, "not verified yet"},
		{"a damaged one that later ones outlived", week, kept(old...).with(2, broken), []int{1, 2, 3}, ""},
		{"a damaged one inside the window", week, kept([2]float64{6, 5}, [2]float64{5, 4}, [2]float64{4, 0}).with(1, broken), nil, ""},
		{"a damaged one outlives no sound one", week, kept([2]float64{20, 10}, [2]float64{10, 5}, [2]float64{5, 0}, [2]float64{4, 0}).with(2, func(g *Generation) { g.Problem = "x" }), nil, ""},
		{"a damaged one is none that stays", week, kept([2]float64{40, 30}, [2]float64{30, 20}, [2]float64{20, 0}).with(2, broken), nil, ""},
		{"a rebase under way counts for nothing", week, func() Master {
			m := kept([2]float64{40, 30}, [2]float64{30, 20}, [2]float64{20, 0}, [2]float64{10, 0}).with(3, func(g *Generation) { g.Closed = false })
			m.Running = true
			return m
		}(), []int{1}, ""},
		{"and where no daemon runs it was left open by a kill", week, kept([2]float64{40, 30}, [2]float64{30, 20}, [2]float64{20, 0}, [2]float64{10, 0}).with(3, func(g *Generation) { g.Closed = false }), []int{1, 2}, ""},

		{"as large as the bound", bounded(300), kept([2]float64{6, 4}, [2]float64{4, 2}, [2]float64{2, 0}), nil, ""},
		{"larger than the bound", bounded(299), kept([2]float64{6, 4}, [2]float64{4, 2}, [2]float64{2, 0}), []int{1}, "without generation 1 the times from"},
		{"age first, then size", bounded(150), kept([2]float64{40, 30}, [2]float64{20, 8}, [2]float64{8, 2}, [2]float64{2, 0}), []int{1, 2, 3}, "without generation 3|of the 2 generations that keep-generations wants 1 stay"},
		{"only the current one is left", bounded(50), kept([2]float64{6, 4}, [2]float64{4, 0}), []int{1}, "without generation 1|wants 1 stay|100 bytes stay, and no more can go"},
		{"larger, and outside the window", bounded(100), kept([2]float64{40, 30}, [2]float64{20, 0}), []int{1}, "wants 1 stay"},
		{"a damaged one counts for bytes", bounded(250), kept([2]float64{6, 4}, [2]float64{4, 2}, [2]float64{2, 0}).with(1, broken), []int{1}, ""},
		{"a rebase under way saves no old one's life, nor costs it", bounded(250), func() Master {
			m := kept([2]float64{6, 4}, [2]float64{4, 0}, [2]float64{1, 0}).with(2, func(g *Generation) { g.Closed = false })
			m.Running = true
			return m
		}(), nil, ""},
		{"a full sync under way is not counted", bounded(200), kept([2]float64{6, 4}, [2]float64{4, 0}, [2]float64{0, 0}).with(3, func(g *Generation) { g.Dir += tmpSuffix }), nil, ""},
		{"size with the newest not verified", bounded(100), kept([2]float64{6, 4}, [2]float64{4, 0}).with(2, func(g *Generation) { g.BaseVerified = false }), nil, "not verified yet"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := c.r.Plan(c.m, noon)
			var got []int
			for _, g := range p.Removals {
				got = append(got, g.Generation)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("%v go, want %v: %+v", got, c.want, p)
			}
			parts := strings.Split(c.warnings, "|")
			if c.warnings == "" {
				parts = nil
			}
			if len(p.Warnings) != len(parts) {
				t.Fatalf("the warnings are %q, want %q", p.Warnings, parts)
			}
			for i, part := range parts {
				if !strings.Contains(p.Warnings[i], part) {
					t.Errorf("warning %d is %q, want %q", i, p.Warnings[i], part)
				}
			}
		})
	}
}

func TestAPlanSaysWhichTimesGo(t *testing.T) {
	t.Parallel()
	r := Retention{KeepFor: 7 * day, KeepGenerations: 2}
	// 1 ends where 2 begins but for a silence, 3 comes after a gap, 4 lies
	// before 3.
	m := kept([2]float64{40, 30.0001}, [2]float64{30, 20}, [2]float64{15, 14}, [2]float64{18, 10}, [2]float64{10, 8}, [2]float64{8, 0})
	p := r.Plan(m, noon)
	want := [][2]time.Time{{daysAgo(40), daysAgo(30)}, {daysAgo(30), daysAgo(20).Add(time.Millisecond)}, {}, {daysAgo(18), daysAgo(10)}}
	if len(p.Removals) != len(want) || p.Bytes != 600 || p.BytesAfter != 200 || !p.WindowStart.Equal(daysAgo(7)) {
		t.Fatalf("%+v", p)
	}
	for i, g := range p.Removals {
		if !g.From.Equal(want[i][0]) || !g.To.Equal(want[i][1]) || g.Reason != TooOld {
			t.Errorf("generation %d: %s to %s go by %s, want %v", g.Generation, g.From, g.To, g.Reason, want[i])
		}
	}
}

func TestAWrongRetentionIsRefused(t *testing.T) {
	t.Parallel()
	for _, r := range []Retention{{KeepFor: -1, KeepGenerations: 2}, {KeepGenerations: 1}, {}, {KeepGenerations: 2, MaxBytes: -1}} {
		if r.Check() == nil {
			t.Errorf("%+v is taken", r)
		}
		if _, err := Prune(t.TempDir(), r, noon, true); err == nil {
			t.Errorf("Prune takes %+v", r)
		}
	}
	if err := (Retention{KeepFor: DefaultKeepFor, KeepGenerations: DefaultKeepGenerations}).Check(); err != nil {
		t.Error(err)
	}
}

// serves says which generation Locate would restore a time from: the newest
// that began by then, if it had something then; 0 for none.
func serves(all []Generation, t time.Time) int {
	for i := len(all) - 1; i >= 0; i-- {
		if g := all[i]; g.sound() && !g.From.After(t) {
			if t.After(g.To.Add(quiet)) && i < len(all)-1 {
				return 0
			}
			return g.Number
		}
	}
	return 0
}

func TestNoSecondOfTheWindowIsLostByAge(t *testing.T) {
	t.Parallel()
	n, gone := soak(3000, 100_000), 0
	t.Logf("random archives: %d", n)
	for i := range n {
		r := rand.New(rand.NewPCG(7, uint64(i)))
		var spans [][2]float64
		at := 10 + r.Float64()*20
		for at > 0 && len(spans) < 12 {
			end := at - r.Float64()*at/2
			from, to := at, end
			switch r.IntN(12) {
			case 0: // a clock that was wrong
				from, to = from+1000, to+1000
			case 1:
				from, to = from-1000, to-1000
			}
			spans = append(spans, [2]float64{from, to})
			if at = end; r.IntN(3) == 0 {
				at -= r.Float64() * 2 // a gap
			}
		}
		m := kept(spans...)
		for j := range m.Generations {
			g := &m.Generations[j]
			g.Bytes = int64(r.IntN(1000))
			if r.IntN(8) == 0 {
				broken(g)
			}
			g.BaseVerified = r.IntN(8) != 0
		}
		keep := Retention{KeepFor: time.Duration(r.Float64() * 15 * float64(day)), KeepGenerations: 2 + r.IntN(3)}
		if r.IntN(3) == 0 {
			keep.MaxBytes = int64(1 + r.IntN(3000))
		}
		p := keep.Plan(m, noon)
		left := m.Generations[len(p.Removals):]
		sound, aged := 0, 0
		for j, g := range p.Removals {
			if g.Generation != j+1 {
				t.Fatalf("archive %d: a hole: %+v", i, p)
			}
			if g.Reason == TooOld && j == aged { // before the first that size takes
				aged++
			}
		}
		for _, g := range m.Generations[aged:] {
			if g.sound() {
				sound++
			}
		}
		gone += len(p.Removals)
		if len(left) == 0 && len(m.Generations) > 0 || aged > 0 && sound < keep.KeepGenerations && m.Generations[aged-1].sound() {
			t.Fatalf("archive %d: %d sound ones stay, want %d: %+v", i, sound, keep.KeepGenerations, p)
		}
		if keep.MaxBytes > 0 && p.BytesAfter > keep.MaxBytes != p.Overfull {
			t.Fatalf("archive %d: overfull is %v: %+v", i, p.Overfull, p)
		}
		for range 30 {
			at := noon.Add(-time.Duration(r.Float64() * float64(keep.KeepFor)))
			was, is := serves(m.Generations, at), serves(m.Generations[aged:], at)
			if was != is {
				t.Fatalf("archive %d: %s was served by generation %d, is by %d: keep %v\n%+v\n%+v", i, at, was, is, keep, m.Generations, p)
			}
		}
	}
	if gone < n/2 {
		t.Errorf("only %d generations went in %d archives: nothing was tried", gone, n)
	}
}

// several makes an archive of n generations, and returns it open.
func several(t *testing.T, dir string, n int) (*Archive, *feeder) {
	t.Helper()
	a := open(t, dir, Options{AppendFsync: Always})
	var f *feeder
	for i := range n {
		f = fullSync(t, a, replica.FullSync{ReplID: idA, Offset: int64(1000 * i), Size: -1}, rdbtest.Empty(0, true))
		f.feed(resp.AppendCommand(nil, "SET", "k", "v"), 100)
		f.awaitDurable()
		awaitVerified(t, dir)
	}
	return a, f
}

func awaitVerified(t *testing.T, dir string) {
	t.Helper()
	poll.Until(t, "the newest base is verified", func() bool {
		m, _, err := Describe(dir)
		return err == nil && m.Generations[len(m.Generations)-1].BaseVerified
	})
}

// numbers are the generations that a folder holds.
func numbers(t *testing.T, dir string) (n []int) {
	t.Helper()
	m, ok, err := Describe(dir)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	for _, g := range m.Generations {
		if g.Problem != "" {
			t.Errorf("generation %d: %s", g.Number, g.Problem)
		}
		n = append(n, g.Number)
	}
	return n
}

// leftovers are names that a prune left behind.
func leftovers(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"+prunedSuffix))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// all lets everything go but two generations.
var all = Retention{KeepGenerations: 2}

func TestPruneRemovesOldGenerationsWhileTheArchiveIsWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, f := several(t, dir, 4)
	later := time.Now().Add(time.Hour)
	p, err := Prune(dir, all, later, true)
	if err != nil || len(p.Removals) != 2 || p.Removals[0].Removed || !reflect.DeepEqual(numbers(t, dir), []int{1, 2, 3, 4}) {
		t.Fatalf("a dry run: %+v, %v", p, err)
	}
	p, err = Prune(dir, all, later, false)
	if err != nil || len(p.Removals) != 2 || !p.Removals[1].Removed || !reflect.DeepEqual(numbers(t, dir), []int{3, 4}) || p.BytesAfter >= p.Bytes {
		t.Fatalf("%+v, %v, left %v", p, err, numbers(t, dir))
	}
	f.feed(resp.AppendCommand(nil, "SET", "k", "after"), 100)
	f.awaitDurable()
	mustClose(t, a)
	if got := string(segmentBytes(t, generationIn(dir, 4))); got != f.sent.String() {
		t.Errorf("the newest holds %q, want %q", got, f.sent.String())
	}
	if p, err := Prune(dir, all, later, false); err != nil || len(p.Removals) != 0 {
		t.Errorf("a second prune: %+v, %v", p, err)
	}
	// The numbers go on.
	b := open(t, dir, Options{})
	fullSync(t, b, replica.FullSync{ReplID: idB, Size: -1}, rdbtest.Empty(0, true))
	if got := numbers(t, dir); !reflect.DeepEqual(got, []int{3, 4, 5}) {
		t.Errorf("after the next full sync: %v", got)
	}
}

func TestAGenerationThatIsReadStaysAndSoDoThoseBehindIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	several(t, dir, 5)
	later := time.Now().Add(time.Hour)
	m, _, _ := Describe(dir)
	r, err := m.Generations[1].OpenReader()
	if err != nil {
		t.Fatal(err)
	}
	for _, dry := range []bool{true, false} {
		p, err := Prune(dir, all, later, dry)
		if err != nil || len(p.Removals) != 2 || p.Removals[0].Held || !p.Removals[1].Held || p.Removals[1].Removed || len(p.Warnings) != 1 {
			t.Fatalf("dry %v: %+v, %v", dry, p, err)
		}
	}
	if got := numbers(t, dir); !reflect.DeepEqual(got, []int{2, 3, 4, 5}) {
		t.Errorf("left are %v", got)
	}
	if _, err := os.Stat(r.BasePath()); err != nil {
		t.Error(err)
	}
	r.Close()
	if _, err := Prune(dir, all, later, false); err != nil || len(numbers(t, dir)) != 2 {
		t.Errorf("after the reader: %v, %v", numbers(t, dir), err)
	}
}

func TestWhatAnInterruptedPruneLeavesIsRemovedByTheNextPruneOrOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, _ := several(t, dir, 2)
	leave := func() string {
		t.Helper()
		half := generationIn(dir, 1).dir + prunedSuffix
		if err := os.MkdirAll(filepath.Join(half, AOFDir), 0o750); err != nil {
			t.Fatal(err)
		}
		return half
	}
	half := leave()
	f, err := LockDir(half, unix.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Prune(dir, all, time.Now(), false); err != nil || len(leftovers(t, dir)) != 1 {
		t.Errorf("one that another removes: %v, left %v", err, leftovers(t, dir))
	}
	f.Close()
	if _, err := Prune(dir, all, time.Now(), true); err != nil || len(leftovers(t, dir)) != 1 {
		t.Errorf("a dry run removed what an interrupted prune left: %v", err)
	}
	if got := numbers(t, dir); !reflect.DeepEqual(got, []int{1, 2}) {
		t.Errorf("listed are %v", got)
	}
	if _, err := Prune(dir, all, time.Now(), false); err != nil || len(leftovers(t, dir)) != 0 {
		t.Errorf("left by prune: %v, %v", leftovers(t, dir), err)
	}
	leave()
	mustClose(t, a)
	open(t, dir, Options{})
	if len(leftovers(t, dir)) != 0 {
		t.Errorf("left by Open: %v", leftovers(t, dir))
	}
}

func TestTwoPrunesAtTheSameTimeDoNotDisturbEachOther(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const before = 12
	several(t, dir, before)
	later := time.Now().Add(time.Hour)
	var wg sync.WaitGroup
	var mu sync.Mutex
	removed := map[int]int{}
	for range 4 {
		wg.Go(func() {
			for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
				p, err := Prune(dir, all, later, false)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for _, g := range p.Removals {
					if g.Removed {
						removed[g.Generation]++
					}
				}
				mu.Unlock()
				if len(p.Removals) == 0 {
					return
				}
			}
		})
	}
	wg.Wait()
	if got := numbers(t, dir); !reflect.DeepEqual(got, []int{before - 1, before}) || len(leftovers(t, dir)) != 0 {
		t.Errorf("left are %v, %v", got, leftovers(t, dir))
	}
	for n := 1; n <= before-2; n++ {
		if removed[n] != 1 {
			t.Errorf("generation %d was removed %d times", n, removed[n])
		}
	}
}

func TestAClockThatIsSetAheadTakesNothingAway(t *testing.T) {
	t.Parallel()
	t0 := noon.Add(-20 * day)
	m := Master{Running: true}
	for i := range 8 {
		from := t0.Add(time.Duration(i) * 12 * time.Hour)
		m.Generations = append(m.Generations, Generation{Number: i + 1, Complete: true, Closed: i < 7, BaseVerified: true, From: from, To: from.Add(12 * time.Hour), Witnessed: 12 * time.Hour, Bytes: 1, Frees: 1})
	}
	r := Retention{KeepFor: 7 * day, KeepGenerations: 2}
	now := t0.Add(4 * day)
	ahead := now.Add(365 * day)
	for name, c := range map[string]struct {
		now    time.Time
		to     time.Time // of the newest
		unseen bool
	}{
		"the right clock":               {now, now, false},
		"a year ahead":                  {ahead, now, true},
		"and the daemon marked with it": {ahead, ahead, true},
	} {
		all := m
		all.Generations = slices.Clone(m.Generations)
		all.Generations[7].To = c.to
		p := r.Plan(all, c.now)
		if len(p.Removals) > 0 || (len(p.Warnings) > 0) != c.unseen {
			t.Errorf("%s: %d removals, %q", name, len(p.Removals), p.Warnings)
		}
	}
	// Once the marks have seen the window go by, what is older goes.
	old := m
	old.Generations = slices.Clone(m.Generations)
	old.Generations[7].To, old.Generations[7].Witnessed = now.Add(8*day), 8*day
	if p := r.Plan(old, now.Add(8*day)); len(p.Removals) != 6 {
		t.Errorf("%d removals, %q", len(p.Removals), p.Warnings)
	}
}

func TestTheMarksSeeNoMoreTimeGoByThanTheyWitness(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const hour = 3_600_000
	g := written(t, dir, 1, 100, at(0, 1001), at(hour/2, 1002), at(hour, 1003), at(9000*hour, 1004), clockFact(ms(2*hour), ms(9000*hour)), at(2*hour, 1005), at(3*hour, 1006))
	tl, _, err := g.readTimeline(visitor{})
	if want := 3 * time.Hour; err != nil || tl.Witnessed != want || !tl.SteppedBack {
		t.Errorf("%v, want %v; stepped back: %v; %v", tl.Witnessed, want, tl.SteppedBack, err)
	}
}
