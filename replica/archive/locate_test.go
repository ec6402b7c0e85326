package archive

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"replicad/replica"
	"replicad/replica/rdb/rdbtest"
)

// epoch is when the histories of these tests begin.
const epoch = 1_800_000_000_000 // ms

func ms(n int64) time.Time { return time.UnixMilli(epoch + n) }

// written makes a generation that says of itself what facts say; its segment
// has so many bytes. "base 1000 at 0" and one segment come first.
func written(t *testing.T, dir string, number int, bytes int64, facts ...string) generation {
	t.Helper()
	g := generationIn(dir, number)
	if err := os.MkdirAll(g.aofs(), 0o750); err != nil {
		t.Fatal(err)
	}
	header := Segment{}.SelectHeader()
	var lines []byte
	for _, f := range append([]string{timelineVersion, baseFact(1000, 4, ms(0)), replidFact(strings.Repeat("a", 40), 1000), segmentFact(Segment{Seq: 1, From: 1000, Header: int64(len(header))})}, facts...) {
		lines = sealed(lines, f)
	}
	for path, p := range map[string][]byte{
		g.timeline(): lines, g.base(): []byte("base"), g.aof(ManifestName): Manifest(1),
		g.segment(1): append(header, make([]byte, bytes)...), filepath.Join(dir, lockName): nil,
	} {
		if err := os.WriteFile(path, p, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func at(n, offset int64) string { return markFact(Mark{Time: ms(n), Offset: offset}) }

func TestATimeMeansTheLastMomentAtOrBeforeIt(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	written(t, dir, 1, 900, at(100, 1100), at(200, 1200), at(300, 1300),
		cutFact(1250), at(1000, 1400), // a restart: what was marked as 1300 was cut
		clockFact(ms(700), ms(1000)), at(700, 1500), at(1100, 1600))
	for when, want := range map[int64]int64{
		0: 1000, 99: 1000, 100: 1100, 199: 1100, 250: 1200, 300: 1250, 699: 1250,
		// 700 to 1000 came twice; the answer is the second time.
		700: 1500, 999: 1500, 1000: 1500, 1099: 1500, 1100: 1600, 2000: 1600,
	} {
		r, p, err := Locate(dir, Target{byTime: true, time: ms(when)}, ms(5000))
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		if p.Offset != want || p.Generation != 1 {
			t.Errorf("at %d: offset %d, want %d", when, p.Offset, want)
		}
		if twice := when >= 700 && when < 1000; twice != (p.Twice != nil) {
			t.Errorf("at %d the time came twice: %v", when, p.Twice)
		}
	}
	_, p, err := Locate(dir, Target{byTime: true, time: ms(800)}, ms(5000))
	if err != nil || p.Twice.Offset != 1250 || !p.Next.Equal(ms(1100)) {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestAGenerationThatTookOverIsUsedFromThenOnAndIsNotBehind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	written(t, dir, 1, 900, at(100, 1100), at(500, 1500), endFact(1500))
	// It was still catching up when its last mark before was written.
	written(t, dir, 2, 900, at(450, 1200), sinceFact(ms(510), 1500), at(560, 1600))
	for when, want := range map[int64]Point{
		460: {Generation: 1, Offset: 1100}, 505: {Generation: 1, Offset: 1500},
		510: {Generation: 2, Offset: 1500}, 559: {Generation: 2, Offset: 1500}, 560: {Generation: 2, Offset: 1600},
	} {
		r, p, err := Locate(dir, Target{byTime: true, time: ms(when)}, ms(1000))
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		if p.Generation != want.Generation || p.Offset != want.Offset {
			t.Errorf("at %d: generation %d, offset %d, want %+v", when, p.Generation, p.Offset, want)
		}
	}
}

func TestWhatIsNotThereIsSaidWithWhatIs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	written(t, dir, 1, 500, at(1000, 1500), endFact(1500))
	later := written(t, dir, 2, 500, sinceFact(ms(3_600_000), 1400), at(3_601_000, 1500))
	for name, c := range map[string]struct {
		to            Target
		before, after int64 // ms; 0 for none
	}{
		"before all":    {Target{byTime: true, time: ms(-1)}, 0, -1},
		"between":       {Target{byTime: true, time: ms(1_800_000)}, 1000, 3_600_000},
		"behind all":    {Target{byTime: true, time: ms(7_200_000)}, 3_601_000, 0},
		"no offset":     {Target{byOffset: true, offset: 999}, 0, 0},
		"beyond offset": {Target{byOffset: true, offset: 1501}, 0, 0},
		"no number":     {Target{byTime: true, byOffset: true, offset: 7, time: time.Unix(7, 0)}, 0, -1},
	} {
		_, _, err := Locate(dir, c.to, ms(9_000_000))
		var e *UnavailableError
		if !errors.As(err, &e) || !errors.Is(err, ErrUnavailable) || len(e.Ranges) != 2 {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if c.before > 0 && !e.Before.Equal(ms(c.before)) || c.after > 0 && !e.After.Equal(ms(c.after)) {
			t.Errorf("%s: the nearest times are %v and %v", name, e.Before, e.After)
		}
		if !strings.Contains(err.Error(), "generation 1: ") || !strings.Contains(err.Error(), "offsets 1000 to 1500") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What is unreadable is said too; nothing older is passed off as the
	// latest.
	if err := os.WriteFile(later.timeline(), nil, 0o640); err != nil {
		t.Fatal(err)
	}
	_, _, err := Locate(dir, Target{}, ms(9_000_000))
	var e *UnavailableError
	if !errors.As(err, &e) || !errors.Is(err, ErrTimeline) || !e.Before.Equal(ms(1000)) {
		t.Errorf("latest: %v", err)
	}
	_, _, err = Locate(dir, Target{byTime: true, time: ms(3_600_500)}, ms(9_000_000))
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, ErrTimeline) {
		t.Errorf("%v", err)
	}
	if _, _, err := Locate(t.TempDir(), Target{}, ms(0)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("no archive: %v", err)
	}
}

func TestABareNumberIsWhatTheArchiveHas(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	written(t, dir, 1, 200_000, at(1000, 201_000))
	for s, want := range map[string]int64{
		"123456": 123_456, "offset:1100": 1100, fmt.Sprint(epoch/1000 + 2): 201_000, fmt.Sprint(epoch + 500): 1000, fmt.Sprintf("time:%d", epoch/1000+1): 201_000,
	} {
		to, err := ParseTarget(s, ms(0))
		if err != nil {
			t.Fatal(err)
		}
		r, p, err := Locate(dir, to, ms(2000))
		if err != nil || p.Offset != want {
			t.Errorf("%s: %+v, %v, want offset %d", s, p, err, want)
			continue
		}
		r.Close()
	}
}

func TestMomentsAreReadInTheFormsThatPeopleWrite(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.Local)
	for s, want := range map[string]time.Time{
		"2026-11-23T10:00:00Z": time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC), "2026-11-23T10:00:00.25+02:00": time.Date(2026, 11, 23, 8, 0, 0, 250e6, time.UTC),
		"2026-11-23 10:00:00": time.Date(2026, 11, 23, 10, 0, 0, 0, time.Local), "2026-11-23 10:00:00.5": time.Date(2026, 11, 23, 10, 0, 0, 500e6, time.Local),
		"2026-11-23 10:00": time.Date(2026, 11, 23, 10, 0, 0, 0, time.Local), "15m": now.Add(-15 * time.Minute), "5m": now.Add(-5 * time.Minute),
		"10:00": time.Date(2026, 11, 24, 10, 0, 0, 0, time.Local), "22:50": time.Date(2026, 11, 23, 22, 50, 0, 0, time.Local), // which has not come today
		"yesterday 10:00": time.Date(2026, 11, 23, 10, 0, 0, 0, time.Local), "today 22:50:30": time.Date(2026, 11, 24, 22, 50, 30, 0, time.Local), "2d": now.Add(-48 * time.Hour), "time:1h": now.Add(-time.Hour),
	} {
		to, err := ParseTarget(s, now)
		if err != nil || !to.byTime || to.byOffset || !to.time.Equal(want) {
			t.Errorf("%s: %v, %v, want %v", s, to.time, err, want)
		}
	}
	for _, s := range []string{"yesterday", "-5m", "offset:x", "offset:-1", "2026-13-01", "1.5", "25:00", "tomorrow 10:00", "today"} {
		if to, err := ParseTarget(s, now); err == nil {
			t.Errorf("%q is read as %+v", s, to)
		}
	}
	if _, err := ParseTarget("5", now); err == nil || !strings.Contains(err.Error(), "is 5m (minutes ago) meant, or offset:5?") {
		t.Errorf("5: %v", err)
	}
	if to, err := ParseTarget("latest", now); err != nil || to.byTime || to.byOffset {
		t.Errorf("latest: %v, %v", to, err)
	}
}

func TestMarksThatWereCutAreNotTold(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g := written(t, dir, 1, 900, at(1, 1100), at(2, 1200), at(3, 1300), cutFact(1250), at(4, 1260), at(5, 1400), cutFact(1150), at(6, 1500))
	r, err := openReader(g)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var got []int64
	if err := r.Marks(func(m Mark) bool { got = append(got, m.Offset); return true }); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != "[1100 1500]" {
		t.Errorf("%v", got)
	}
	for offset, want := range map[int64]int64{1000: 0, 1001: 1, 1100: 1, 1101: 6, 1500: 6, 1900: 6} {
		if when, err := r.When(offset); err != nil || !when.Equal(ms(want)) {
			t.Errorf("offset %d came at %v, %v, want %d ms", offset, when.UnixMilli()-epoch, err, want)
		}
	}
}

func TestATimeThatANewerGenerationMayHaveIsNotTakenFromAnOlderOneSilently(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	written(t, dir, 1, 100, at(10, 1010), at(20, 1020), sealedFact(Segment{Seq: 1, To: 1100}), endFact(1100))
	g := written(t, dir, 2, 100, at(50, 1050))
	if err := os.WriteFile(g.timeline(), []byte("damaged\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	for _, to := range []Target{{}, {time: ms(15), byTime: true}, {offset: 1010, byOffset: true}} {
		if _, _, err := Locate(dir, to, ms(60)); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "generation 2") {
			t.Errorf("%+v: %v", to, err)
		}
		r, p, err := Locate(dir, to.In(1), ms(60))
		if err != nil || p.Generation != 1 {
			t.Errorf("%+v in generation 1: %+v, %v", to, p, err)
			continue
		}
		r.Close()
	}
}

func TestAStateIsNoOlderThanItMayBe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	written(t, dir, 1, 100, at(10_000, 1010), at(400_000, 1050))
	at := func(n int64) Target { return Target{time: ms(n), byTime: true} }
	for name, c := range map[string]struct {
		to     Target
		now    int64
		offset int64 // 0 for none
	}{
		"soon behind a byte":                {at(60_000), 500_000, 1010},
		"long behind one":                   {at(75_000), 500_000, 0},
		"that may be longer":                {at(75_000).AtMost(2 * time.Minute), 500_000, 1010},
		"that may be shorter":               {at(60_000).AtMost(10 * time.Second), 500_000, 0},
		"the latest may have any age":       {Target{}, 9_000_000, 1100},
		"the latest with a bound":           {Target{}.AtMost(time.Minute), 9_000_000, 0},
		"the latest within its bound":       {Target{}.AtMost(time.Minute), 430_000, 1100},
		"a time behind the end, and recent": {at(430_000), 430_000, 1050},
	} {
		r, p, err := Locate(dir, c.to, ms(c.now))
		if err == nil {
			r.Close()
		}
		if (err == nil) != (c.offset > 0) || err == nil && p.Offset != c.offset || err != nil && !strings.Contains(err.Error(), "--at-most-stale") {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}

func TestWhatIsStillToComeAndWhatIsNotThereIsSaidInThoseWords(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	written(t, dir, 1, 100, at(10_000, 1010), at(400_000, 1050))
	for want, to := range map[string]Target{
		"still to come":            {time: ms(9_000_000), byTime: true},
		"no such generation":       Target{}.In(9),
		"--at-most-stale 1m16s":    {time: ms(475_000), byTime: true},
		"--at-most-stale 1m40s ta": {time: ms(499_000), byTime: true}, // within what a clock may differ
	} {
		if _, _, err := Locate(dir, to, ms(480_000)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", to, err, want)
		}
	}
}

func TestACopyIsReadUpToTheFirstSegmentThatIsMissing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, Options{AppendFsync: Always, SegmentSize: small})
	f := fullSync(t, a, replica.FullSync{ReplID: strings.Repeat("a", 40), Offset: 50, Size: -1}, rdbtest.Empty(0, true))
	f.feedSlowly(rand.New(rand.NewPCG(90, 1)), commands(rand.New(rand.NewPCG(90, 2)), 80))
	f.awaitDurable()
	mustClose(t, a)
	g := generationIn(dir, 1)
	tl, _, _ := g.readTimeline(visitor{})
	if len(tl.Segments) < 5 {
		t.Fatalf("%d segments", len(tl.Segments))
	}
	for n := 2; n <= len(tl.Segments); n++ {
		for _, short := range []bool{false, true} {
			to := filepath.Join(t.TempDir(), "main")
			if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			c := generationIn(to, 1)
			for i := n; i <= len(tl.Segments); i++ { // they were not there yet
				if err := os.Remove(c.segment(i)); err != nil {
					t.Fatal(err)
				}
			}
			end := tl.Segments[n-2].To
			if short {
				end -= 30
				if err := os.Truncate(c.segment(n-1), tl.Segments[n-2].Size()-30); err != nil {
					t.Fatal(err)
				}
			}
			r, err := openReader(c)
			if err != nil {
				t.Fatal(err)
			}
			if r.End() != end || r.Short == "" || len(r.Segments) != n-1 {
				t.Errorf("without segment %d, short %v: it ends at %d, want %d; %q", n, short, r.End(), end, r.Short)
			}
			r.Close()
		}
	}
}

func TestAGenerationThatBeganWhileTheClockWasAheadIsFoundBehindTheStepBack(t *testing.T) {
	t.Parallel()
	const m = 60_000
	dir := t.TempDir()
	// Generation 1 from minute 0 to 60, generation 2 from 61 on. The clock was
	// two hours ahead from minute 55 to minute 63.
	written(t, dir, 1, 9000, at(10*m, 1100), at(55*m, 1500), at(175*m, 1550), at(180*m, 1600), endFact(1600))
	written(t, dir, 2, 9000, sinceFact(ms(181*m), 1600), at(182*m, 1700), clockFact(ms(63*m), ms(182*m)), at(63*m, 1750), at(80*m, 2000), at(90*m, 3000), at(150*m, 4000))
	for _, c := range []struct {
		minute     int64
		generation int
		offset     int64
	}{{55, 1, 1500}, {80, 2, 2000}, {85, 2, 2000}, {90, 2, 3000}, {150, 2, 4000}} {
		r, p, err := Locate(dir, Target{time: ms(c.minute * m), byTime: true}.AtMost(10*time.Minute), ms(150*m))
		if err != nil {
			t.Errorf("minute %d: %v", c.minute, err)
			continue
		}
		r.Close()
		if p.Generation != c.generation || p.Offset != c.offset {
			t.Errorf("minute %d: generation %d, offset %d; want %d, %d", c.minute, p.Generation, p.Offset, c.generation, c.offset)
		}
	}
}
