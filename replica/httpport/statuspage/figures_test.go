package statuspage

import (
	"replicad/replica/units"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestFiguresAreWrittenForReading(t *testing.T) {
	for got, want := range map[string]string{
		units.Thousands(0): "0", units.Thousands(999): "999", units.Thousands(1000): "1,000", units.Thousands(-1234567): "-1,234,567", units.Thousands(1 << 62): "4,611,686,018,427,387,904",
		units.Span(-time.Hour): "0 s", units.Span(1500 * time.Millisecond): "1 s", units.Span(61 * time.Second): "1 min 1 s", units.Span(50 * time.Hour): "2 d 2 h", units.Span(24*time.Hour + time.Minute): "1 d",
		each(0): "0/s", each(1.25): "1.2/s", each(12345): "12,345/s", perSecond(1 << 20): "1.0 MiB/s",
		units.ShellWord("/var/lib/x"): "/var/lib/x", units.ShellWord("a b"): "'a b'", units.ShellWord("it's"): `'it'\''s'`, units.ShellWord(""): "''", units.ShellWord("$(x)"): "'$(x)'",
		sentence("why?"): "why?", sentence("so"): "so.", sentence(""): ".",
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
		all = append(all, sample{at: now.Add(time.Duration(i-n+1) * time.Second), up: true, bytesIn: v(i), received: v(i), durable: v(i), knownOffs: true})
	}
	return all
}

func TestACurveIsTheRateOfItsCounter(t *testing.T) {
	now := time.Now()
	steady := samplesOf(now, 301, func(i int) int64 { return int64(i) * 1000 })
	g := graphs(steady, now)[0]
	if g.Now != "1000 B/s" || g.Top != "max 1000 B/s" || g.Curves[0].D != "M1 20h299" || g.Area != "M1 100V20h299V100z" {
		t.Errorf("%+v", g)
	}
	peak := samplesOf(now, 11, func(i int) int64 { return int64(max(i-9, 0)) * 5000 })
	if g := graphs(peak, now)[0]; g.Now != "4.9 KiB/s" || g.Curves[0].D != "M291 96h8l1 -76" {
		t.Errorf("%+v", g)
	}
	if g := graphs(nil, now)[0]; g.Now != "0 B/s" || g.Curves[0].D != "" || g.Area != "" {
		t.Errorf("without samples %+v", g)
	}
}

func TestATimeWithoutSamplesIsAGapAndNoLine(t *testing.T) {
	now := time.Now()
	all := samplesOf(now, 100, func(i int) int64 { return int64(i) })
	all = append(all[:40:40], all[60:]...)
	g := graphs(all, now)[0]
	if n := strings.Count(g.Curves[0].D, "M"); n != 2 {
		t.Errorf("%d runs in %q, want 2", n, g.Curves[0].D)
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

func TestTheRingKeepsFiveMinutes(t *testing.T) {
	now := time.Now()
	var s samples
	for i := range 1000 {
		s.add(sample{at: now.Add(time.Duration(i-999) * time.Second), bytesIn: int64(i)})
	}
	all := s.window(now)
	if len(all) < 300 || len(all) > 302 || all[len(all)-1].bytesIn != 999 {
		t.Errorf("%d samples, the last %+v", len(all), all[len(all)-1])
	}
	if n := len(s.window(now.Add(time.Hour))); n != 0 {
		t.Errorf("an hour later %d samples are shown", n)
	}
}
