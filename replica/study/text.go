package study

import (
	_ "embed"
	"fmt"
	"io"
	"strings"
	"text/template"

	"replicad/replica/units"
)

//go:embed text.tmpl
var textTemplate string

// TextOptions say how [Text] looks.
type TextOptions struct {
	Color bool
	Width int // columns to wrap at; 0 means 100
}

// The columns of a part: where it begins, and where its explanation does; and how
// many of its bytes are shown.
const (
	partColumn = 19
	whyColumn  = 45
	mostBytes  = 40
)

// Text writes a study for reading.
func Text(w io.Writer, s *Study, opt TextOptions) error {
	if opt.Width <= 0 {
		opt.Width = 100
	}
	told := map[string]bool{}
	t, err := template.New("").Funcs(template.FuncMap{
		"at":    opt.at,
		"bold":  func(s string) string { return opt.paint("bold", s) },
		"count": units.Count,
		"mark":  func(k Kind) string { return strings.Replace(string(k), "failure", "failed", 1) },
		"paint": opt.paint,
		"part":  opt.part,
		// Sources are named once.
		"new": func(s Sources) *Sources {
			key := fmt.Sprint(s)
			if s.Known == "" || told[key] {
				return nil
			}
			told[key] = true
			return &s
		},
	}).Parse(textTemplate)
	if err != nil {
		return err
	}
	return t.Execute(w, pageOf(s))
}

// paint gives a text the colour of a row's class, as terminals number them.
func (opt TextOptions) paint(class, s string) string {
	class, _, _ = strings.Cut(class, " ")
	color := map[string]string{
		"bold": "1", "grey": "90", "kernel": "36", "state": "35", "sync": "33", "note": "90",
		"failure-row": "31", "sent": "32", "received": "34", "bytes": "33",
	}[class]
	if !opt.Color || s == "" || color == "" {
		return s
	}
	return "\x1b[" + color + "m" + s + "\x1b[0m"
}

// at wraps a text that begins at a column.
func (opt TextOptions) at(column int, class, s string) string {
	lines := wrap(s, max(opt.Width-column, 30))
	for i := range lines {
		lines[i] = opt.paint(class, lines[i])
	}
	return strings.Join(lines, "\n"+strings.Repeat(" ", column))
}

// part writes the bytes of a part, and what they are.
func (opt TextOptions) part(p Part) string {
	shown, offset := "("+units.Count(p.Bytes, "byte")+")", ""
	if n := len(p.Data); n > 0 {
		shown = `"` + p.Data[:min(n, mostBytes)].String() + `"`
		if n > mostBytes {
			shown += "..."
		}
	}
	if p.Offset > 0 {
		offset = fmt.Sprintf("%d ", p.Offset)
	}
	gap := strings.Repeat(" ", max(whyColumn-partColumn-len(offset)-len(shown), 0))
	if len(gap) <= 1 {
		gap = "\n" + strings.Repeat(" ", whyColumn)
	}
	return opt.paint("grey", offset) + opt.paint("bytes", shown) + gap + opt.at(whyColumn, "", p.Name+": "+p.Text)
}

// wrap cuts a text into lines of at most width columns, at spaces where possible.
func wrap(s string, width int) []string {
	var lines []string
	for len(s) > width {
		i := strings.LastIndexByte(s[:width+1], ' ')
		if i <= 0 {
			i = width
		}
		lines = append(lines, s[:i])
		s = strings.TrimLeft(s[i:], " ")
	}
	return append(lines, s)
}
