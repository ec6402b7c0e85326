package tables

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"replicad/replica/probe"
	"replicad/replica/units"
)

// Probe prints the checks of a probe as they are made. It is for one goroutine.
type Probe struct {
	Width int  // in columns; 0 where no line is wrapped
	Color bool // the status has a colour

	w       io.Writer
	skipped []probe.Check // those in a row, for one reason
	err     error
}

// NewProbe prints to w.
func NewProbe(w io.Writer) *Probe { return &Probe{w: w} }

// Check prints a check: its status, its name, what it took, what was found, and
// on a line of its own what helps. Those that are skipped for one reason share
// a line, which comes when the reason ends.
func (p *Probe) Check(c probe.Check) {
	if c.Status == probe.Skip {
		if len(p.skipped) > 0 && p.skipped[0].Detail != c.Detail {
			p.flush()
		}
		p.skipped = append(p.skipped, c)
		return
	}
	p.flush()
	p.line(c)
}

func (p *Probe) line(c probe.Check) {
	status := fmt.Sprintf("%-4s", strings.ToUpper(string(c.Status)))
	if p.Color {
		colors := map[probe.Status]string{probe.Warn: "33", probe.Fail: "31", probe.Skip: "2"}
		status = "\x1b[" + cmp.Or(colors[c.Status], "32") + "m" + status + "\x1b[m"
	}
	p.print("%s", status)
	p.wrapped(4, fmt.Sprintf("  %-26s  %8s  ", c.Name, took(c.Took)), c.Detail)
	if c.Remedy != "" {
		p.wrapped(0, "      -> ", c.Remedy)
	}
}

// wrapped prints first, of which already so many columns are printed, and text
// behind it. Later lines of the text begin where its first one does, or, where
// that leaves no room, a little from the left.
func (p *Probe) wrapped(already int, first, text string) {
	p.print("%s", first)
	at := already + utf8.RuneCountInString(first)
	margin, fresh := at, true
	if p.Width-margin < 30 {
		margin = 9
	}
	for _, word := range strings.Split(text, " ") {
		n := utf8.RuneCountInString(word)
		switch {
		case p.Width > 0 && at > margin && at+1+n > p.Width:
			p.print("\n%*s", margin, "")
			at = margin
		case !fresh:
			p.print(" ")
			at++
		}
		p.print("%s", word)
		at, fresh = at+n, false
	}
	p.print("\n")
}

// flush prints what was skipped.
func (p *Probe) flush() {
	if len(p.skipped) == 0 {
		return
	}
	c := p.skipped[0]
	if n := len(p.skipped); n > 1 {
		names := make([]string, n)
		for i, s := range p.skipped {
			names[i] = s.Name
		}
		c.Name = units.Count(int64(n), "check")
		c.Detail += ": " + strings.Join(names, ", ")
	}
	p.skipped = nil
	p.line(c)
}

// print keeps the first error.
func (p *Probe) print(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// Verdict prints what a probe comes to. It returns the first error of all that
// was printed.
func (p *Probe) Verdict(r probe.Report) error {
	p.flush()
	what := r.Master
	if r.Server != "" {
		what += " (" + r.Server + ")"
	}
	warned := r.Count(probe.Warn)
	verdict := "can be followed"
	switch r.Verdict {
	case probe.Fail:
		verdict = "can't be followed: " + units.Count(int64(r.Count(probe.Fail)), "check") + " failed"
		if warned > 0 {
			verdict += fmt.Sprintf(", %d warned", warned)
		}
	case probe.Warn:
		verdict += ", but " + units.Count(int64(warned), "check") + " warned"
	}
	p.print("\n%s %s\n", what, verdict)
	return p.err
}

// took prints the seconds that a check took; nothing where nothing was asked.
func took(seconds float64) string {
	switch ms := 1000 * seconds; {
	case seconds <= 0:
		return ""
	case ms < 10:
		return fmt.Sprintf("%.2f ms", ms)
	case ms < 1000:
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.1f s", seconds)
}
