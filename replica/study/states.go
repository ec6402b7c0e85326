package study

import (
	"bufio"
	_ "embed"
	"fmt"
	"io"
	"slices"
	"strings"

	"replicad/replica"
)

// statesOf are the states of a transition table, in the order in which a link
// comes to them.
func statesOf(table []replica.Transition) []string {
	var all []string
	for _, t := range table {
		for _, s := range []string{t.From.String(), t.To.String()} {
			if !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	return all
}

// StatesText writes a transition table for reading.
func StatesText(w io.Writer, table []replica.Transition) error {
	out := bufio.NewWriter(w)
	for i, s := range statesOf(table) {
		if i > 0 {
			fmt.Fprintln(out)
		}
		fmt.Fprintln(out, s)
		for _, t := range table {
			if t.From.String() == s {
				fmt.Fprintf(out, "  -> %-13s when  %s\n     %-13s then  %s\n", t.To, t.Event, "", t.Action)
			}
		}
	}
	return out.Flush()
}

// StatesMermaid writes a transition table as a Mermaid state diagram.
func StatesMermaid(w io.Writer, table []replica.Transition) error {
	out := bufio.NewWriter(w)
	fmt.Fprintln(out, "stateDiagram-v2")
	if len(table) > 0 {
		fmt.Fprintf(out, "    [*] --> %s\n", table[0].From)
	}
	// These characters end a statement or a label in Mermaid.
	plain := strings.NewReplacer(";", ",", ":", ",", "#", "no. ")
	for _, t := range table {
		fmt.Fprintf(out, "    %s --> %s: %s / %s\n", t.From, t.To, plain.Replace(t.Event), plain.Replace(t.Action))
	}
	return out.Flush()
}

// The drawing, in pixels: the states in a column on the left, and what the
// numbers of the arrows mean on the right. states.tmpl has the sizes too.
const (
	fileWidth   = 940
	boxWidth    = 150
	boxHeight   = 44
	boxApart    = 78 // between two boxes
	lane        = 34 // between arrows beside the boxes
	boxTop      = 34
	legendChars = 74 // of a line of the legend
	lineHeight  = 18
	legendApart = 19
)

//go:embed states.tmpl
var statesTemplate string

// drawing is what states.tmpl draws.
type drawing struct {
	Table         []replica.Transition
	File          bool
	Width, Height int
	Boxes         []box
	Arrows        []arrow
	Legend        []legendLine

	states []string
	taken  map[[2]string]int
	left   int // of the boxes
}

// CardWidth and CardHeight are the size of the background of a file.
func (d *drawing) CardWidth() int  { return d.Width - 2 }
func (d *drawing) CardHeight() int { return d.Height - 2 }

type box struct {
	Name  string
	Taken bool
	X, Y  int
}

// arrow is all transitions from one state to another.
type arrow struct {
	Taken    bool
	Path     string
	Badge    badge
	from, to int // rows of its states
}

// badge holds the numbers of transitions, around X and Y.
type badge struct {
	Taken bool
	Text  string
	X, Y  int
}

// Width and Left are of the badge's rectangle.
func (b badge) Width() int { return 14 + 8*len(b.Text) }
func (b badge) Left() int  { return -b.Width() / 2 }

type legendLine struct {
	Badge       badge // empty but for the first line of a transition
	Class, Text string
	X, Y        int
}

// StatesSVG draws a transition table, as a file that has its own style and says
// beside the states what the numbers of the arrows mean.
func StatesSVG(w io.Writer, table []replica.Transition) error {
	d := draw(table, nil)
	d.File, d.Width = true, fileWidth
	d.Height = max(d.Height, d.legend(d.left+boxWidth+74))
	t, err := parse(statesTemplate)
	if err != nil {
		return err
	}
	return t.ExecuteTemplate(w, "states", d)
}

// draw draws a transition table. taken says how often each change was made.
func draw(table []replica.Transition, taken map[[2]string]int) *drawing {
	d := &drawing{Table: table, states: statesOf(table), taken: taken}
	lanes := 0
	for _, a := range d.arrows() {
		if a.to < a.from {
			lanes++
		}
	}
	d.left = 24 + lanes*lane
	d.Width, d.Height = d.left+boxWidth+54, boxTop+len(d.states)*(boxHeight+boxApart)-boxApart/2
	used := 0
	for _, a := range d.arrows() {
		if a.to < a.from {
			used++
			d.back(&a, used)
		} else {
			d.forward(&a)
		}
		d.Arrows = append(d.Arrows, a)
	}
	for i, s := range d.states {
		b := box{Name: s, X: d.left, Y: top(i)}
		for pair, n := range taken {
			b.Taken = b.Taken || n > 0 && slices.Contains(pair[:], s)
		}
		d.Boxes = append(d.Boxes, b)
	}
	return d
}

// top is where the box of a row begins.
func top(row int) int { return boxTop + row*(boxHeight+boxApart) }

// arrows joins the transitions that lead from one state to another.
func (d *drawing) arrows() (all []arrow) {
	for i, t := range d.Table {
		from, to := slices.Index(d.states, t.From.String()), slices.Index(d.states, t.To.String())
		n := slices.IndexFunc(all, func(a arrow) bool { return a.from == from && a.to == to })
		if n >= 0 {
			all[n].Badge.Text += fmt.Sprintf(" %d", i+1)
			continue
		}
		taken := d.times(t) > 0
		all = append(all, arrow{Taken: taken, from: from, to: to, Badge: badge{Taken: taken, Text: fmt.Sprint(i + 1)}})
	}
	return all
}

func (d *drawing) times(t replica.Transition) int {
	return d.taken[[2]string{t.From.String(), t.To.String()}]
}

// Taken says how often a transition's change of state was made.
func (d *drawing) Taken(t replica.Transition) string {
	switch n := d.times(t); n {
	case 0:
		return ""
	case 1:
		return "taken once"
	default:
		return fmt.Sprintf("taken %d times", n)
	}
}

// forward draws an arrow to the next box, past boxes, or to the box itself.
func (d *drawing) forward(a *arrow) {
	from, to := top(a.from), top(a.to)
	right, middle := d.left+boxWidth, d.left+boxWidth/2
	switch a.to - a.from {
	case 0:
		y := from + boxHeight/2
		a.Path = fmt.Sprintf("M%d %dC%d %d %d %d %d %d", right, y-11, right+46, y-24, right+46, y+24, right+2, y+11)
		a.Badge.X, a.Badge.Y = right+36, y
	case 1:
		a.Path = fmt.Sprintf("M%d %dL%d %d", middle, from+boxHeight, middle, to-2)
		a.Badge.X, a.Badge.Y = middle, (from+boxHeight+to)/2-2
	default:
		x := right + 50
		a.Path = fmt.Sprintf("M%d %dH%dV%dH%d", right, from+boxHeight-8, x, to+10, right+2)
		a.Badge.X, a.Badge.Y = x, (from+to+boxHeight)/2
	}
}

// back draws an arrow to a box above, in a lane of its own on the left. Each
// arrow ends at a place of its own.
func (d *drawing) back(a *arrow, n int) {
	x := d.left - n*lane
	from, to := top(a.from)+boxHeight/2, top(a.to)+8+(n-1)*12%(boxHeight-12)
	a.Path = fmt.Sprintf("M%d %dH%dQ%d %d %d %dV%dQ%d %d %d %dH%d", d.left, from, x+10, x, from, x, from-10, to+10, x, to, x+10, to, d.left-2)
	a.Badge.X, a.Badge.Y = x, from-34
}

// legend says what the numbers mean, and returns how high that is.
func (d *drawing) legend(x int) int {
	y := boxTop + lineHeight - 5
	for i, t := range d.Table {
		line := func(class, text string) {
			d.Legend = append(d.Legend, legendLine{Class: class, Text: text, X: x + 26, Y: y})
			y += lineHeight
		}
		first := len(d.Legend)
		line("way", fmt.Sprintf("%s → %s", t.From, t.To))
		d.Legend[first].Badge = badge{Text: fmt.Sprint(i + 1), X: x, Y: y - lineHeight - 5}
		for _, s := range wrap(t.Event, legendChars) {
			line("event", s)
		}
		for _, s := range wrap("then "+t.Action, legendChars) {
			line("action", s)
		}
		y += legendApart - 5
	}
	return y
}
