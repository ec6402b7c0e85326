package study

import (
	"bufio"
	"fmt"
	"io"
	"replicad/replica/units"
	"strings"
)

// TextOptions say how [Text] looks.
type TextOptions struct {
	Color bool
	Width int // columns to wrap at; 0 means 100
}

// widest is how much of a part's bytes a line shows.
const widest = 40

// Text writes a study for reading.
func Text(w io.Writer, s *Study, opt TextOptions) error {
	if opt.Width <= 0 {
		opt.Width = 100
	}
	t := &textWriter{w: bufio.NewWriter(w), opt: opt, told: map[Key]bool{}}
	t.line("%s", t.bold("A study of "+s.Of))
	t.line("%s", s.summary())
	conn := -1
	for _, step := range s.Steps {
		if step.Conn != conn {
			conn = step.Conn
			if conn > 0 {
				t.line("\n%s", t.bold(fmt.Sprintf("Connection %d", conn)))
			}
		}
		t.step(step)
	}
	if s.Dropped > 0 {
		t.line("\n%d more events of the stream were only counted.", s.Dropped)
	}
	if s.Failure != nil {
		t.line("\n%s", t.paint(red, "It failed: "+s.Failure.Error()))
	}
	return t.w.Flush()
}

// summary counts what a study holds.
func (s *Study) summary() string {
	conns, messages, sent, received := 0, 0, int64(0), int64(0)
	for _, step := range s.Steps {
		conns = max(conns, step.Conn)
		if step.Kind != KindMessage {
			continue
		}
		messages++
		if step.ToMaster {
			sent += step.Bytes
		} else {
			received += step.Bytes
		}
	}
	from := "seen live: kernel, states and bytes"
	if s.Recorded {
		from = "from a recording: it holds the bytes; the states follow from them, and the kernel is not told of"
	}
	return fmt.Sprintf("%s, %s: %s to the master, %s from it (%s).",
		units.Count(int64(conns), "connection"), units.Count(int64(messages), "message"), units.Count(sent, "byte"), units.Count(received, "byte"), from)
}

// Summary is what a study holds, in one sentence.
func (s *Study) Summary() string { return s.summary() }

const (
	red     = "31"
	green   = "32"
	yellow  = "33"
	blue    = "34"
	magenta = "35"
	cyan    = "36"
	grey    = "90"
	boldOn  = "1"
)

type textWriter struct {
	w    *bufio.Writer
	opt  TextOptions
	told map[Key]bool // whose places were named
}

func (t *textWriter) line(format string, args ...any) {
	fmt.Fprintf(t.w, format+"\n", args...)
}

func (t *textWriter) paint(color, s string) string {
	if !t.opt.Color || s == "" || color == "" {
		return s
	}
	return "\x1b[" + color + "m" + s + "\x1b[0m"
}

func (t *textWriter) bold(s string) string { return t.paint(boldOn, s) }

const (
	indent     = 15 // under the title of a step
	partIndent = 17
)

func (t *textWriter) step(s Step) {
	label, color := "", ""
	switch s.Kind {
	case KindKernel:
		label, color = "kernel", cyan
	case KindState:
		label, color = "state", magenta
	case KindSync:
		label, color = "sync", yellow
	case KindNote:
		label, color = "note", grey
	case KindFailure:
		label, color = "failed", red
	case KindMessage:
		label, color = s.Direction(), blue
		if s.ToMaster {
			color = green
		}
	}
	title := s.Title
	if s.Kind == KindMessage {
		title = fmt.Sprintf("%s: %s", units.Count(s.Bytes, "byte"), s.Title)
	}
	head := fmt.Sprintf("%8.4f %s ", s.At.Seconds(), t.paint(color, fmt.Sprintf("%-6s", label)))
	t.wrapped(head, indent+1, title, boldOn)
	t.text(indent+1, s.Text)
	if s.Kind != KindMessage {
		t.places(indent+1, s.Key)
		return
	}
	for _, item := range s.Items {
		t.item(item, len(s.Items) > 1)
	}
}

func (t *textWriter) item(i Item, own bool) {
	if own {
		title := i.Title
		if i.Continued {
			title += continued
		}
		if i.Last > 0 {
			title += fmt.Sprintf("  [offset %d to %d]", i.First, i.Last)
		}
		t.line("%*s%s", indent+1, "", t.bold(title))
		t.text(indent+1, i.Text)
	} else if i.Last > 0 {
		t.line("%*sOffset %d to %d.", indent+1, "", i.First, i.Last)
	}
	t.places(indent+1, i.Key)
	for _, p := range i.Parts {
		shown := "(" + units.Count(p.Bytes, "byte") + ")"
		if len(p.Data) > 0 {
			shown = `"` + escape(p.Data[:min(len(p.Data), widest)]) + `"`
			if len(p.Data) > widest {
				shown += "..."
			}
		}
		offset := ""
		if p.Offset > 0 {
			offset = fmt.Sprintf("%d ", p.Offset)
		}
		head := strings.Repeat(" ", partIndent) + t.paint(grey, offset) + t.paint(yellow, shown)
		if n := partIndent + len(offset) + len(shown); n < 42 {
			head += strings.Repeat(" ", 42-n)
		} else {
			t.line("%s", head)
			head = strings.Repeat(" ", 42)
		}
		t.wrapped(head+" ", 43, p.Name+": "+p.Text, "")
	}
}

// places names the sources and versions, once for each kind of step.
func (t *textWriter) places(at int, key Key) {
	if t.told[key] || key == keyNone {
		return
	}
	t.told[key] = true
	k := Knows(key)
	t.wrapped(strings.Repeat(" ", at), at, "Known to "+k.Known+".", grey)
	for _, p := range k.Places {
		t.wrapped(strings.Repeat(" ", at), at+2, "= "+p.String(), grey)
	}
}

func (t *textWriter) text(at int, s string) {
	if s != "" {
		t.wrapped(strings.Repeat(" ", at), at, s, "")
	}
}

// wrapped writes a text behind a head, and its further lines below its first.
func (t *textWriter) wrapped(head string, at int, s, color string) {
	room := max(t.opt.Width-at, 30)
	for i, line := range wrap(s, room) {
		if i > 0 {
			head = strings.Repeat(" ", at)
		}
		t.line("%s%s", head, t.paint(color, line))
	}
}

// wrap cuts a text into lines of at most width columns, at spaces where it can.
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
