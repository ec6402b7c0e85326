package config

import (
	"cmp"
	"fmt"
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
	Line  int    // in the file, from 1; 0 for all of it
}

// String gives the place as people write it: replicad.yml:12, REPLICAD_DIR,
// --dir, default.
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
	Key    string // "" where it is about none
	Text   string
}

// String is one line: replicad.yml:12: appendfsync: ..., or --appendfsync: ...
func (p Problem) String() string {
	text := p.Text
	if p.Origin.Layer == File && p.Key != "" {
		text = p.Key + ": " + text
	}
	if p.Origin.Layer == Default || p.Origin.Name == "" {
		return text
	}
	return p.Origin.String() + ": " + text
}

// Problems is the error of [Load]: all that is wrong, not only the first.
type Problems []Problem

// Error gives one line for each problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.String()
	}
	return strings.Join(lines, "\n")
}

// add appends a problem, unless it is known: what stands outside of masters is
// looked at once for each.
func (p *Problems) add(o Origin, key, format string, args ...any) {
	one := Problem{Origin: o, Key: key, Text: fmt.Sprintf(format, args...)}
	for _, known := range *p {
		if known == one {
			return
		}
	}
	*p = append(*p, one)
}

// err is nil where there are none. Those of the file come first, in the order
// of its lines.
func (p Problems) err() error {
	if len(p) == 0 {
		return nil
	}
	slices.SortStableFunc(p, func(a, b Problem) int {
		if c := cmp.Compare(weight(a), weight(b)); c != 0 {
			return c
		}
		return cmp.Compare(a.Origin.Line, b.Origin.Line)
	})
	return p
}

func weight(p Problem) int {
	if p.Origin.Layer == File {
		return 0
	}
	return 1
}

// InFile says whether a line of the file is wrong.
func (p Problems) InFile() bool {
	return slices.ContainsFunc(p, func(one Problem) bool { return one.Origin.Layer == File })
}
