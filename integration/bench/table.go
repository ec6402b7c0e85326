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
}

func (t table) print(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "WHAT\tREPLICAD\tPEER\tRATIO")
	for _, r := range t {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", r.what, show(r.values[0], r.unit), show(r.values[1], r.unit), r.ratio())
	}
	return tw.Flush()
}

// ratio is that of our median to the peer's.
func (r row) ratio() string {
	if len(r.values[0]) == 0 || len(r.values[1]) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", median(r.values[0])/median(r.values[1]))
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
