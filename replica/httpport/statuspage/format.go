package statuspage

import (
	"html/template"
	"strconv"
	"strings"
	"time"

	"replicad/replica/units"
)

// longest is how many characters are shown of what others said.
const longest = 400

// clean makes text of others fit to be shown. HTML is escaped by the templates.
func clean(s string) string { return units.Printable(s, longest) }

// seconds writes a short duration with a digit behind the point.
func seconds(s float64) string { return strconv.FormatFloat(s, 'f', 1, 64) + " s" }

// perSecond writes a rate of bytes.
func perSecond(n float64) string { return units.Size(int64(n)) + "/s" }

// each writes a rate of things.
func each(n float64) string {
	if n > 0 && n < 10 {
		return strconv.FormatFloat(n, 'f', 1, 64) + "/s"
	}
	return units.Thousands(int64(n+0.5)) + "/s"
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

// functions are those of the templates.
func functions() template.FuncMap {
	return template.FuncMap{
		"size": units.Size, "count": units.Thousands, "clock": clock, "machineTime": machineTime, "span": units.Span,
	}
}
