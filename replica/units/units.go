// Package units prints sizes, ages, counts and strangers' text for people, and
// reads sizes and ages as people and redis.conf write them.
package units

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// ParseAge reads a duration of zero or more, as time.ParseDuration does, with
// days before it: 90s, 12h, 7d, 1d12h.
func ParseAge(s string) (time.Duration, error) {
	bad := fmt.Errorf("%q is no duration: want for example 90s, 12h, 7d or 1d12h", s)
	days, rest, hasDays := strings.Cut(s, "d")
	if !hasDays {
		rest, days = s, "0"
	}
	n, err := strconv.ParseFloat(days, 64)
	if err != nil || !(n >= 0 && n <= 100_000) { // a NaN is neither
		return 0, bad
	}
	sum := time.Duration(n * 24 * float64(time.Hour))
	if hasDays && rest == "" {
		return sum, nil
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || d > math.MaxInt64-sum {
		return 0, bad
	}
	return sum + d, nil
}

// FormatAge prints a duration as short as ParseAge reads it: 7d, 1d12h, 90s as
// 1m30s.
func FormatAge(d time.Duration) string {
	const day = 24 * time.Hour
	if d < day {
		return trimZeros(d.String())
	}
	s := strconv.FormatInt(int64(d/day), 10) + "d"
	if d%day != 0 {
		s += trimZeros((d % day).String())
	}
	return s
}

// trimZeros takes "0m" and "0s" off the end: 12h of 12h0m0s.
func trimZeros(s string) string {
	return regexp.MustCompile(`([hm])(0m)?0s$`).ReplaceAllString(s, "$1")
}

// units are redis.conf's (memtoull in Redis' util.c), small before large.
var units = []struct {
	name  string
	bytes int64
}{
	{"", 1}, {"b", 1},
	{"k", 1000}, {"kb", 1 << 10},
	{"m", 1000 * 1000}, {"mb", 1 << 20},
	{"g", 1000 * 1000 * 1000}, {"gb", 1 << 30},
}

// ParseSize reads a number of bytes as redis.conf does: 1k is 1000, 1kb is 1024,
// likewise m, mb, g and gb, in either case. Other than there a size too large
// for an int64 is an error.
func ParseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	name := strings.ToLower(s[len(digits):])
	for _, u := range units {
		if u.name != name {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 63)
		if err != nil || int64(n) > math.MaxInt64/u.bytes {
			break
		}
		return int64(n) * u.bytes, nil
	}
	return 0, fmt.Errorf("%q is no size: want bytes, or for example 64mb or 10gb, as in redis.conf", s)
}

// FormatSize prints a number of bytes as ParseSize reads it, with the largest
// unit that it is a whole number of: 256mb.
func FormatSize(n int64) string {
	if n == 0 {
		return "0"
	}
	for i := len(units) - 1; i > 0; i-- {
		if u := units[i]; u.bytes > 1 && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}

// Size prints a number of bytes for a reader: 1.5 MiB.
func Size(n int64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1024, 0
	for ; f >= 1024 && i < len(units)-1; i++ {
		f /= 1024
	}
	return fmt.Sprintf("%.1f %ciB", f, units[i])
}

// Span prints a duration for a reader, in its two largest units: 3 h 5 min. A
// negative one is 0 s.
func Span(d time.Duration) string {
	d = max(d, 0)
	steps := []struct {
		name string
		is   time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"min", time.Minute}, {"s", time.Second}}
	for i, u := range steps {
		if d < u.is {
			continue
		}
		s := fmt.Sprintf("%d %s", d/u.is, u.name)
		if i+1 < len(steps) {
			if rest := d % u.is / steps[i+1].is; rest > 0 {
				s += fmt.Sprintf(" %d %s", rest, steps[i+1].name)
			}
		}
		return s
	}
	return "0 s"
}

// Thousands prints a number with its thousands apart: 12,345.
func Thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	digits := strings.TrimPrefix(s, "-")
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	if n < 0 {
		return "-" + digits
	}
	return digits
}

// Count prints a number with its noun: 1 segment, 2 segments.
func Count(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.FormatInt(n, 10) + " " + noun + "s"
}
