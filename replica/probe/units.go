package probe

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// size prints bytes for a reader: 1.5 MiB.
func size(f float64) string {
	const units = "KMGTPE"
	if f < 1024 {
		return fmt.Sprintf("%.0f B", f)
	}
	f /= 1024
	i := 0
	for ; f >= 1023.95 && i < len(units)-1; i++ {
		f /= 1024
	}
	return fmt.Sprintf("%s %ciB", tenths(f), units[i])
}

// tenths has one digit behind the point, unless that is a zero.
func tenths(f float64) string { return strings.TrimSuffix(strconv.FormatFloat(f, 'f', 1, 64), ".0") }

// span prints seconds for a reader, in one unit: 30 ms, 4.2 s, 12 min, 5 h.
func span(s float64) string {
	switch {
	case s > 0 && s < 0.0995:
		return fmt.Sprintf("%.0f ms", max(s*1000, 1))
	case s < 9.95:
		return tenths(s) + " s"
	case s < 120:
		return fmt.Sprintf("%.0f s", s)
	case s < 2*3600:
		return fmt.Sprintf("%.0f min", s/60)
	case s < 2*86400:
		return tenths(s/3600) + " h"
	case s < 1000*86400:
		return fmt.Sprintf("%.0f days", s/86400)
	}
	return "years"
}

// sizeSetting rounds bytes up to a power of two, and to no less than a MiB, and
// prints them as CONFIG SET takes them: 64mb.
func sizeSetting(f float64) string {
	mb := 1 << int(math.Ceil(math.Log2(min(max(f/(1<<20), 1), 1<<40))))
	if mb >= 1024 {
		return strconv.Itoa(mb/1024) + "gb"
	}
	return strconv.Itoa(mb) + "mb"
}

// short prints a duration that was measured.
func short(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }
