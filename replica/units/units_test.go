package units

import (
	"math"
	"testing"
	"time"
)

func TestAnAgeIsWhatGoKnowsWithDaysBefore(t *testing.T) {
	const day = 24 * time.Hour
	for s, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "90s": 90 * time.Second, "15m": 15 * time.Minute, "12h": 12 * time.Hour,
		"7d": 7 * day, "1d12h": 36 * time.Hour, "0.5d": 12 * time.Hour, "1d0s": day, "100000d": 100_000 * day,
		"1ms": time.Millisecond,
	} {
		if got, err := ParseAge(s); got != want || err != nil {
			t.Errorf("ParseAge(%q) is %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "d", "7", "soon", "-1h", "-1d", "NaNd", "Infd", "1d-1h", "100001d", "100000d2562047h", "1d1d", "7 d"} {
		if got, err := ParseAge(s); err == nil {
			t.Errorf("ParseAge(%q) is %v, want an error", s, got)
		}
	}
}

func TestASizeIsWhatRedisConfTakes(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "1": 1, "1b": 1, "1k": 1000, "1kb": 1024, "3M": 3_000_000, "3Mb": 3 << 20, "5g": 5_000_000_000, "5GB": 5 << 30,
		"9223372036854775807": math.MaxInt64,
	} {
		if got, err := ParseSize(s); got != want || err != nil {
			t.Errorf("ParseSize(%q) is %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "kb", "-1", "+1", "1.5gb", "1tb", "1 kb", "1kbb", "9223372036854775808", "9000000000gb", "1_000"} {
		if got, err := ParseSize(s); err == nil {
			t.Errorf("ParseSize(%q) is %d, want an error", s, got)
		}
	}
}

func TestAgesAndSizesArePrintedShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 90 * time.Second: "1m30s", 12 * time.Hour: "12h", 7 * 24 * time.Hour: "7d", 36 * time.Hour: "1d12h",
		10 * time.Minute: "10m", 20 * time.Hour: "20h", time.Hour + time.Second: "1h0m1s", 24*time.Hour + 10*time.Second: "1d10s",
	} {
		if got := FormatAge(d); got != want {
			t.Errorf("FormatAge(%v) is %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0", 1: "1", 1000: "1k", 1024: "1kb", 256 << 20: "256mb", 1 << 30: "1gb", 1_500_000: "1500k", 2_000_000_000: "2g"} {
		if got := FormatSize(n); got != want {
			t.Errorf("FormatSize(%d) is %q, want %q", n, got, want)
		}
	}
}

func FuzzUnitsComeBackAsTheyWerePrinted(f *testing.F) {
	for _, s := range []string{"0", "7d", "1d12h", "0.5d", "90s", "1kb", "10gb", "1k", "NaNd"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := ParseAge(s); err == nil {
			if back, err := ParseAge(FormatAge(d)); back != d || err != nil || d < 0 {
				t.Errorf("ParseAge(%q) is %v, printed as %q, read as %v, %v", s, d, FormatAge(d), back, err)
			}
		}
		if n, err := ParseSize(s); err == nil {
			if back, err := ParseSize(FormatSize(n)); back != n || err != nil || n < 0 {
				t.Errorf("ParseSize(%q) is %d, printed as %q, read as %d, %v", s, n, FormatSize(n), back, err)
			}
		}
	})
}
