package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"replicad/replica/probe"
)

// ProbeCheck prints a check of a probe: its status, its name, what it took, what
// was found, and on a line of its own what helps.
func ProbeCheck(w io.Writer, c probe.Check) error {
	_, err := fmt.Fprintf(w, "%-4s  %-26s  %8s  %s\n", strings.ToUpper(string(c.Status)), c.Name, took(c.Took), c.Detail)
	if err == nil && c.Remedy != "" {
		_, err = fmt.Fprintf(w, "      -> %s\n", c.Remedy)
	}
	return err
}

// ProbeVerdict prints what a probe comes to.
func ProbeVerdict(w io.Writer, r probe.Report) error {
	what := r.Master
	if r.Server != "" {
		what += " (" + r.Server + ")"
	}
	warned := r.Count(probe.Warn)
	verdict := "can be followed"
	switch r.Verdict() {
	case probe.Fail:
		verdict = "can't be followed: " + checks(r.Count(probe.Fail)) + " failed"
		if warned > 0 {
			verdict += fmt.Sprintf(", %d warned", warned)
		}
	case probe.Warn:
		verdict += ", but " + checks(warned) + " warned"
	}
	_, err := fmt.Fprintf(w, "\n%s %s\n", what, verdict)
	return err
}

func checks(n int) string {
	if n == 1 {
		return "1 check"
	}
	return fmt.Sprintf("%d checks", n)
}

// took prints what a check took; nothing where nothing was asked.
func took(d time.Duration) string {
	switch ms := float64(d) / 1e6; {
	case d <= 0:
		return ""
	case ms < 10:
		return fmt.Sprintf("%.2f ms", ms)
	case ms < 1000:
		return fmt.Sprintf("%.0f ms", ms)
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
