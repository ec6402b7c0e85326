package statuspage

import (
	"fmt"
	"html/template"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"replicad/replica/report"
)

// longest is how many characters are shown of what others said.
const longest = 400

// clean makes text of others fit to be shown: bounded, valid, and without
// characters that are invisible or turn the direction of what follows. HTML is
// escaped by the templates.
func clean(s string) string {
	var out strings.Builder
	n := 0
	for i, r := range s {
		if n == longest {
			out.WriteString(" ...")
			break
		}
		n++
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)):
			fmt.Fprintf(&out, `\x%02x`, s[i])
		case r == '\n' || r == '\t':
			out.WriteByte(' ')
		case !unicode.IsPrint(r) || unicode.Is(unicode.Cf, r):
			out.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}

// count writes a number with its thousands apart: 12,345.
func count(n int64) string {
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

// span writes a duration in its two largest units: 3 h 5 min.
func span(d time.Duration) string {
	d = max(d, 0)
	units := []struct {
		name string
		is   time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"min", time.Minute}, {"s", time.Second}}
	for i, u := range units {
		if d < u.is {
			continue
		}
		s := fmt.Sprintf("%d %s", d/u.is, u.name)
		if i+1 < len(units) {
			if rest := d % u.is / units[i+1].is; rest > 0 {
				s += fmt.Sprintf(" %d %s", rest, units[i+1].name)
			}
		}
		return s
	}
	return "0 s"
}

// seconds writes a short duration with a digit behind the point.
func seconds(s float64) string { return strconv.FormatFloat(s, 'f', 1, 64) + " s" }

// perSecond writes a rate of bytes.
func perSecond(n float64) string { return report.Size(int64(n)) + "/s" }

// each writes a rate of things.
func each(n float64) string {
	if n > 0 && n < 10 {
		return strconv.FormatFloat(n, 'f', 1, 64) + "/s"
	}
	return count(int64(n+0.5)) + "/s"
}

// clock is a time of the server's zone.
func clock(t time.Time) string { return t.Local().Format(time.DateTime) }

// sinceWhen is a time, without its day where that is clear.
func sinceWhen(t, now time.Time) string {
	if now.Sub(t) < 12*time.Hour {
		return t.Local().Format(time.TimeOnly)
	}
	return clock(t)
}

// sentence ends a text of others as one.
func sentence(s string) string {
	s = clean(s)
	if s != "" && strings.ContainsAny(s[len(s)-1:], ".?!") {
		return s
	}
	return s + "."
}

// short cuts what was cleaned for a narrow place.
func short(s string) string {
	const most = 120
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + " ..."
	}
	return s
}

// machineTime is a time as <time datetime> takes it.
func machineTime(t time.Time) string { return t.Format(time.RFC3339) }

// quote is a word of a shell command.
func quote(s string) string {
	plain := func(r rune) bool {
		return r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r)) || strings.ContainsRune("/._-+:@%,", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// functions are those of the templates.
func functions() template.FuncMap {
	return template.FuncMap{
		"size": report.Size, "count": count, "clock": clock, "machineTime": machineTime, "span": span,
	}
}
