package statuspage

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"replicad/replica"
)

func TestFiguresAreWrittenForReading(t *testing.T) {
	for got, want := range map[string]string{
		each(0): "0/s", each(1.25): "1.2/s", each(12345): "12,345/s", perSecond(1 << 20): "1.0 MiB/s", inSeconds(0.04): "0.0 s", inSeconds(61.26): "61.3 s",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func FuzzCleanTextIsBoundedAndVisible(f *testing.F) {
	f.Add("-ERR \u202e\x00\x1b[31m\xff\ufffd \u00e9\n")
	f.Add(strings.Repeat("x", 2*longest))
	f.Fuzz(func(t *testing.T, s string) {
		got := clean(s)
		if n := utf8.RuneCountInString(got); n > 10*longest+4 || !utf8.ValidString(got) {
			t.Errorf("%d characters: %q", n, got)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) && r != utf8.RuneError {
				t.Errorf("%q has %U", got, r)
			}
		}
	})
}

// samplesOf makes samples a second apart, that end now; v gives the bytes in.
func samplesOf(now time.Time, n int, v func(i int) int64) []sample {
	var all []sample
	for i := range n {
		all = append(all, sample{at: now.Add(time.Duration(i-n+1) * time.Second), received: v(i), durable: v(i), up: true, known: true})
	}
	return all
}

// lines are those of a graph's first curve.
func lines(g graph) (all []string) {
	for _, l := range g.Curves[0].Lines {
		all = append(all, l.D)
	}
	return all
}

func TestACurveIsTheRateOfItsCounter(t *testing.T) {
	now := time.Now()
	steady := samplesOf(now, 301, func(i int) int64 { return int64(i) * 1000 })
	g := graphs(steady, now)[0]
	if got := lines(g); g.Now != "1000 B/s" || g.Top != "max 1000 B/s" || len(got) != 1 || got[0] != "M1 20"+strings.Repeat("l1 0", 299) {
		t.Errorf("%+v", g)
	}
	peak := samplesOf(now, 11, func(i int) int64 { return int64(max(i-9, 0)) * 5000 })
	if g := graphs(peak, now)[0]; g.Now != "4.9 KiB/s" || lines(g)[0] != "M291 96"+strings.Repeat("l1 0", 8)+"l1 -76" {
		t.Errorf("%+v", g)
	}
	if g := graphs(nil, now)[0]; g.Now != "0 B/s" || len(lines(g)) != 0 {
		t.Errorf("without samples %+v", g)
	}
}

func TestAFullSyncIsNoRateAndNoPaceAtWhichTheDiskFills(t *testing.T) {
	now := time.Now()
	all := samplesOf(now, 100, func(i int) int64 { return int64(i) * 1000 })
	for i := range all {
		if i >= 50 { // a full sync of 1 GiB, which begins a history far ahead
			all[i].fullSyncs, all[i].received = 1, all[i].received+1<<40
		}
	}
	if g := graphs(all, now)[0]; g.Top != "max 1000 B/s" || g.Now != "1000 B/s" {
		t.Errorf("the graph shows %q, %q", g.Top, g.Now)
	}
	if left := fills(all, stored{at: now, free: 1 << 20}); left < 17*time.Minute || left > 18*time.Minute {
		t.Errorf("the disk is full in %v", left)
	}
}

func TestTheOffsetIsDrawnFromWhereTheMinutesBegin(t *testing.T) {
	now := time.Now()
	g := graphs(samplesOf(now, 101, func(i int) int64 { return 1<<40 + int64(i)*1024 }), now)[2]
	if g.Now != "1,099,511,730,176" || g.Top != "+99.0 KiB" || !strings.HasPrefix(lines(g)[0], "M201 96l1 -1") || len(g.Curves) != 2 {
		t.Errorf("%+v", g)
	}
}

func TestTheLagIsTheWorstOfFiveSeconds(t *testing.T) {
	now := time.Now()
	all := samplesOf(now, 20, func(int) int64 { return 0 })
	all[16].lag = 3 * time.Second
	if g := graphs(all, now)[3]; g.Now != "3.0 s" {
		t.Errorf("%+v", g)
	}
	all[16].lag, all[14].lag = 0, 3*time.Second
	if g := graphs(all, now)[3]; g.Now != "0.0 s" || g.Top != "max 3.0 s" {
		t.Errorf("%+v", g)
	}
}

func TestATimeWithoutSamplesIsAGapAndNoLine(t *testing.T) {
	now := time.Now()
	all := samplesOf(now, 100, func(i int) int64 { return int64(i) })
	all = append(all[:40:40], all[60:]...)
	if got := lines(graphs(all, now)[0]); len(got) != 2 {
		t.Errorf("%q, want two lines", got)
	}
}

func TestACutIsABandAndItsLengthIsTold(t *testing.T) {
	now := time.Now()
	all := samplesOf(now, 300, func(i int) int64 { return int64(i) })
	for i := 100; i < 130; i++ {
		all[i].up = false
	}
	g := graphs(all, now)[0]
	if len(g.Down) != 1 || g.Down[0].Width != 30 || !strings.Contains(g.Label, "did not stream for 30 s") {
		t.Errorf("%+v, %q", g.Down, g.Label)
	}
}

func TestFiveMinutesAreKeptAndNothingOlderIsDrawn(t *testing.T) {
	now := time.Now()
	f := &followed{}
	for i := range 1000 {
		f.add(sample{at: now.Add(time.Duration(i-999) * time.Second), received: int64(i)})
	}
	if n := len(f.samples); n > graphWidth+3 || n < graphWidth || f.samples[n-1].received != 999 {
		t.Errorf("%d samples, the last %+v", n, f.samples[n-1])
	}
	if g := graphs(f.samples, now.Add(time.Hour))[0]; len(lines(g)) != 0 || len(g.Down) != 0 {
		t.Errorf("an hour later it is drawn: %+v", g)
	}
}

func TestEachStatePhaseAndTransitionIsDrawnAndTheOneInForceIsLit(t *testing.T) {
	m := draw(replica.Sync, replica.Psync, [2]replica.State{replica.ReceivePong, replica.Sync})
	var lit, done, taken []string
	for _, b := range append(m.Boxes, m.Chips...) {
		switch b.Class {
		case "lit":
			lit = append(lit, b.Name)
		case "done":
			done = append(done, b.Name)
		}
	}
	for _, a := range m.Arrows {
		if a.Class == "taken" {
			taken = append(taken, a.From.String()+" "+a.To.String())
		}
	}
	got := fmt.Sprintln(len(m.Boxes), len(m.Chips), len(m.Arrows) == len(replica.Transitions()), m.Place, lit, done, taken)
	if want := "4 8 true SYNC/PSYNC [SYNC PSYNC] [AUTH PORT IP CAPA VERSION] [RECEIVE_PONG SYNC]\n"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
