package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// table is what the program prints.
type table struct {
	rows []row
}

// row compares two sides by the medians of what was measured.
type row struct {
	what, unit string
	ours, peer []float64 // either may be empty
	target     target    // for the ratio of ours to peer
	bound      float64   // for ours, where above zero
}

// target is a bound of a ratio; the zero value is none.
type target struct {
	atLeast, atMost float64
}

func atLeast(r float64) target { return target{atLeast: r} }
func atMost(r float64) target  { return target{atMost: r} }

func (t *table) add(r row) { t.rows = append(t.rows, r) }

func (t *table) print(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "WHAT\tREPLICAD\tPEER\tRATIO\tTARGET\tRESULT")
	for _, r := range t.rows {
		ratio, goal, result := r.judge()
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\n", r.what, show(r.ours, r.unit), show(r.peer, r.unit), ratio, goal, result)
	}
	return tw.Flush()
}

// judge gives the last three columns.
func (r row) judge() (ratio, goal, result string) {
	ratio, goal, result = "-", "-", "-"
	verdict := func(met bool) string {
		if met {
			return "met"
		}
		return "missed"
	}
	if r.bound > 0 {
		goal = fmt.Sprintf("below %g %s", r.bound, r.unit)
		if len(r.ours) > 0 {
			result = verdict(slices.Max(r.ours) < r.bound)
		}
	}
	if len(r.ours) == 0 || len(r.peer) == 0 {
		return ratio, goal, result
	}
	q := median(r.ours) / median(r.peer)
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

// each applies f to all.
func each[T any](v []T, f func(T) float64) []float64 {
	var out []float64
	for _, x := range v {
		out = append(out, f(x))
	}
	return out
}
