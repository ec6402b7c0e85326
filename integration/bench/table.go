package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// table is what the program prints.
type table []row

// row compares two sides by the medians of what was measured.
type row struct {
	what, unit string
	values     [2][]float64 // ours and those of the peer; either may be empty
	target     target       // for the ratio of ours to the peer's
	bound      float64      // for ours, where above zero
}

// target is a bound of a ratio; the zero value is none.
type target struct {
	atLeast, atMost float64
}

func atLeast(r float64) target { return target{atLeast: r} }
func atMost(r float64) target  { return target{atMost: r} }

func (t table) print(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "WHAT\tREPLICAD\tPEER\tRATIO\tTARGET\tRESULT")
	for _, r := range t {
		ratio, goal, result := r.judge()
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", r.what, show(r.values[0], r.unit), show(r.values[1], r.unit), ratio, goal, result)
	}
	return tw.Flush()
}

// judge gives the last three columns.
func (r row) judge() (ratio, goal, result string) {
	ratio, goal, result = "-", "-", "-"
	ours, peer := r.values[0], r.values[1]
	verdict := func(met bool) string {
		if met {
			return "met"
		}
		return "missed"
	}
	if r.bound > 0 {
		goal = fmt.Sprintf("below %g %s", r.bound, r.unit)
		if len(ours) > 0 {
			result = verdict(slices.Max(ours) < r.bound)
		}
	}
	if len(ours) == 0 || len(peer) == 0 {
		return ratio, goal, result
	}
	q := median(ours) / median(peer)
	ratio = fmt.Sprintf("%.2f", q)
	switch {
	case r.target.atLeast > 0:
		goal, result = fmt.Sprintf("at least %g", r.target.atLeast), verdict(q >= r.target.atLeast)
	case r.target.atMost > 0:
		goal, result = fmt.Sprintf("at most %g", r.target.atMost), verdict(q <= r.target.atMost)
	}
	return ratio, goal, result
}

// show gives the median, and from where to where the values went.
func show(v []float64, unit string) string {
	if len(v) == 0 {
		return "-"
	}
	digits := 2
	if median(v) >= 100 {
		digits = 0
	}
	return fmt.Sprintf("%.*f %s (%.*f..%.*f)", digits, median(v), unit, digits, slices.Min(v), digits, slices.Max(v))
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	n := len(s)
	if n%2 == 1 {
		return s[n/2]
	}
	return (s[n/2-1] + s[n/2]) / 2
}
