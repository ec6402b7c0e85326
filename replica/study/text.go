package study

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"replicad/replica/units"
)

// TextOptions say how [Text] looks.
type TextOptions struct {
	Color bool
	Width int // columns to wrap at; 0 means 100
}

// Columns and widths of the text.
const (
	indent     = 16 // of what stands under the title of a step
	partIndent = 17
	partText   = 43 // where the explanation of a part begins
	mostBytes  = 40 // of a part's bytes are shown
)

// The colours, as terminals number them.
const (
	plain   = ""
	bold    = "1"
	red     = "31"
	green   = "32"
	yellow  = "33"
	blue    = "34"
	magenta = "35"
	cyan    = "36"
	grey    = "90"
)

// Text writes a study for reading.
func Text(w io.Writer, s *Study, opt TextOptions) error {
	if opt.Width <= 0 {
		opt.Width = 100
	}
	t := &textWriter{Writer: bufio.NewWriter(w), opt: opt, told: map[string]bool{}}
	t.line(t.paint(bold, "A study of "+s.Of))
	t.line(s.Summary())
	conn := 0
	for _, step := range s.Steps {
		if step.Connection != conn {
			conn = step.Connection
			t.line("\n" + t.paint(bold, fmt.Sprintf("Connection %d", conn)))
		}
		t.step(step)
	}
	if s.Dropped > 0 {
		t.line(fmt.Sprintf("\n%d more events of the stream were only counted.", s.Dropped))
	}
	if s.Failure != nil {
		t.line("\n" + t.paint(red, "It failed: "+s.Failure.Error()))
	}
	return t.Flush()
}

type textWriter struct {
	*bufio.Writer
	opt  TextOptions
	told map[string]bool // the sources that were named
}

func (t *textWriter) line(s string) { fmt.Fprintln(t, s) }

func (t *textWriter) paint(color, s string) string {
	if !t.opt.Color || s == "" || color == plain {
		return s
	}
	return "\x1b[" + color + "m" + s + "\x1b[0m"
}

// labels name the kinds and directions, each with its colour.
func labels() map[string][2]string {
	return map[string][2]string{
		string(KindKernel):  {"kernel", cyan},
		string(KindState):   {"state", magenta},
		string(KindSync):    {"sync", yellow},
		string(KindNote):    {"note", grey},
		string(KindFailure): {"failed", red},
		ToMaster:            {ToMaster, green},
		ToReplica:           {ToReplica, blue},
	}
}

func (t *textWriter) step(s Step) {
	label, title := labels()[string(s.Kind)], s.Title
	if s.Kind == KindMessage {
		label, title = labels()[s.Direction], units.Count(s.Bytes, "byte")+": "+title
	}
	head := fmt.Sprintf("%8s %s ", s.At, t.paint(label[1], fmt.Sprintf("%-6s", label[0])))
	t.wrapped(head, indent, title, bold)
	t.text(indent, s.Text, plain)
	if s.Kind != KindMessage {
		t.sources(s.Sources)
	}
	for _, item := range s.Items {
		t.item(item, len(s.Items) > 1)
	}
}

func (t *textWriter) item(i Item, own bool) {
	switch {
	case own && i.Last > 0:
		t.text(indent, fmt.Sprintf("%s  [offset %d to %d]", i.Heading(), i.First, i.Last), bold)
	case own:
		t.text(indent, i.Heading(), bold)
	case i.Last > 0:
		t.text(indent, fmt.Sprintf("Offset %d to %d.", i.First, i.Last), plain)
	}
	if own {
		t.text(indent, i.Text, plain)
	}
	t.sources(i.Sources)
	for _, p := range i.Parts {
		t.part(p)
	}
}

func (t *textWriter) part(p Part) {
	shown := "(" + units.Count(p.Bytes, "byte") + ")"
	if n := len(p.Data); n > 0 {
		shown = `"` + p.Data[:min(n, mostBytes)].String() + `"`
		if n > mostBytes {
			shown += "..."
		}
	}
	offset := ""
	if p.Offset > 0 {
		offset = fmt.Sprintf("%d ", p.Offset)
	}
	head := strings.Repeat(" ", partIndent) + t.paint(grey, offset) + t.paint(yellow, shown)
	room := partText - partIndent - len(offset) - len(shown)
	if room <= 1 {
		t.line(head)
		head, room = "", partText
	}
	t.wrapped(head+strings.Repeat(" ", room), partText, p.Name+": "+p.Text, plain)
}

// sources names versions and places, each only once.
func (t *textWriter) sources(s Sources) {
	key := fmt.Sprint(s)
	if t.told[key] || s.Known == "" {
		return
	}
	t.told[key] = true
	t.text(indent, "Known to "+s.Known+".", grey)
	for _, p := range s.Places {
		t.wrapped(strings.Repeat(" ", indent), indent+2, fmt.Sprintf("= %s in %s (%s)", p.Function, p.File, p.Versions), grey)
	}
}

// text writes a text that begins at a column.
func (t *textWriter) text(at int, s, color string) {
	if s != "" {
		t.wrapped(strings.Repeat(" ", at), at, s, color)
	}
}

// wrapped writes a text behind a head; further lines begin at a column.
func (t *textWriter) wrapped(head string, at int, s, color string) {
	for _, line := range wrap(s, max(t.opt.Width-at, 30)) {
		t.line(head + t.paint(color, line))
		head = strings.Repeat(" ", at)
	}
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
