package config

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Layer is one of the places that a value may come from; a later one is
// stronger.
type Layer int

// The layers.
const (
	Default Layer = iota
	File
	Environment
	Flag
)

// Origin is where a value comes from.
type Origin struct {
	Layer Layer
	Name  string // the file's path, the variable, or the flag with its dashes; "" for an argument
	Line  int    // in the file, from 1; 0 for the whole file
}

// String writes the place as people do: replicad.yml:12, REPLICAD_DIR, --dir,
// default.
func (o Origin) String() string {
	switch {
	case o.Layer == Default:
		return "default"
	case o.Line > 0:
		return fmt.Sprintf("%s:%d", o.Name, o.Line)
	}
	return o.Name
}

// Problem is one thing that is wrong. Its text never holds a secret.
type Problem struct {
	Origin Origin
	Text   string
}

// String is one line: replicad.yml:12: appendfsync: ..., or --appendfsync: ...
func (p Problem) String() string {
	if p.Origin.Name == "" {
		return p.Text
	}
	return p.Origin.String() + ": " + p.Text
}

// Problems is the error of [Load]: all that is wrong.
type Problems []Problem

// Error has one line for each problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.String()
	}
	return strings.Join(lines, "\n")
}

// add appends a problem, unless it is there already: what stands outside of
// masters is read once for each master. key is "" where the problem is about no
// key; the names of flags and variables say the key anyway.
func (p *Problems) add(o Origin, key, format string, args ...any) {
	one := Problem{o, fmt.Sprintf(format, args...)}
	if o.Layer == File && key != "" {
		one.Text = key + ": " + one.Text
	}
	if !slices.Contains(*p, one) {
		*p = append(*p, one)
	}
}

// err returns the problems, those of the file first, in the order of its lines;
// nil where there are none.
func (p Problems) err() error {
	if len(p) == 0 {
		return nil
	}
	place := func(one Problem) int {
		if one.Origin.Layer == File {
			return one.Origin.Line
		}
		return math.MaxInt
	}
	slices.SortStableFunc(p, func(a, b Problem) int { return cmp.Compare(place(a), place(b)) })
	return p
}

// InFile says whether a line of the file is wrong.
func (p Problems) InFile() bool {
	return slices.ContainsFunc(p, func(one Problem) bool { return one.Origin.Layer == File })
}
