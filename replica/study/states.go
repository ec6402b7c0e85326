package study

import (
	"bufio"
	_ "embed"
	"fmt"
	"html"
	"io"
	"strings"

	"replicad/replica"
)

// statesOf are the states of a transition table, in the order in which a link
// comes to them.
func statesOf(table []replica.Transition) []replica.State {
	var all []replica.State
	seen := map[replica.State]bool{}
	add := func(s replica.State) {
		if !seen[s] {
			seen[s] = true
			all = append(all, s)
		}
	}
	for _, t := range table {
		add(t.From)
		add(t.To)
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
			if t.From != s {
				continue
			}
			fmt.Fprintf(out, "  -> %-13s when  %s\n", t.To, t.Event)
			fmt.Fprintf(out, "     %-13s then  %s\n", "", t.Action)
		}
	}
	return out.Flush()
}

// StatesMermaid writes a transition table as a Mermaid state diagram.
func StatesMermaid(w io.Writer, table []replica.Transition) error {
	out := bufio.NewWriter(w)
	fmt.Fprintln(out, "stateDiagram-v2")
	if states := statesOf(table); len(states) > 0 {
		fmt.Fprintf(out, "    [*] --> %s\n", states[0])
	}
	// What ends a statement, or a label, in Mermaid.
	plain := strings.NewReplacer(";", ",", ":", ",", "#", "no. ")
	for _, t := range table {
		fmt.Fprintf(out, "    %s --> %s: %s / %s\n", t.From, t.To, plain.Replace(t.Event), plain.Replace(t.Action))
	}
	return out.Flush()
}

// arrow is one arrow of the drawing: all transitions from one state to another.
type arrow struct {
	from, to replica.State
	numbers  []int // of its transitions, from 1 on
}

func arrows(table []replica.Transition) []arrow {
	var all []arrow
next:
	for i, t := range table {
		for k := range all {
			if all[k].from == t.From && all[k].to == t.To {
				all[k].numbers = append(all[k].numbers, i+1)
				continue next
			}
		}
		all = append(all, arrow{t.From, t.To, []int{i + 1}})
	}
	return all
}

// The drawing, in pixels: the states in a column on the left, and what the
// numbers of the arrows mean on the right.
const (
	svgWidth    = 940
	boxWidth    = 150
	boxHeight   = 44
	boxApart    = 78 // between two boxes
	lane        = 34 // between arrows beside the boxes
	boxTop      = 34
	legendRoom  = 74 // characters of a line of the legend
	lineHeight  = 18
	legendApart = 14
)

//go:embed states.css
var statesStyle string

// StatesStyle is the style that StatesSVG needs where it is not a file: light and
// dark.
func StatesStyle() string { return statesStyle }

// StatesSVG draws a transition table. taken says how often which change was made;
// nil for a drawing that shows no path. As a file it brings its style, and says
// beside the states what the numbers of the arrows mean; a page says that in its
// own way.
func StatesSVG(w io.Writer, table []replica.Transition, taken map[[2]replica.State]int, file bool) error {
	d := drawing{table: table, taken: taken, at: map[replica.State]int{}}
	states := statesOf(table)
	for i, s := range states {
		d.at[s] = i
	}
	all := arrows(table)
	lanes := 0
	for _, a := range all {
		if d.at[a.to] < d.at[a.from] {
			lanes++
		}
	}
	d.left = 24 + lanes*lane
	legend := d.left + boxWidth + 74
	width, height := legend-20, boxTop+len(states)*(boxHeight+boxApart)-boxApart/2
	if file {
		width, height = svgWidth, max(height, d.legendHeight()+boxTop)
	}
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, `<svg xmlns="http://www.w3.org/2000/svg" class="states" viewBox="0 0 %d %d" role="img" aria-labelledby="states-title states-desc">`+"\n", width, height)
	fmt.Fprintf(out, "<title id=\"states-title\">The state machine of a link</title>\n<desc id=\"states-desc\">")
	for i, t := range table {
		fmt.Fprintf(out, "%d: from %s to %s when %s; then %s. ", i+1, t.From, t.To, esc(t.Event), esc(t.Action))
	}
	fmt.Fprintln(out, "</desc>")
	if file {
		fmt.Fprintf(out, "<style>\n%s</style>\n<rect class=\"card\" x=\"1\" y=\"1\" width=\"%d\" height=\"%d\" rx=\"10\"/>\n", statesStyle, width-2, height-2)
	}
	fmt.Fprintln(out, `<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse"><path class="tip" d="M0 0L10 5L0 10z"/></marker><marker id="tip-taken" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse"><path class="tip taken" d="M0 0L10 5L0 10z"/></marker></defs>`)
	used := 0
	for _, a := range all {
		if d.at[a.to] < d.at[a.from] {
			used++
			d.back(out, a, used)
			continue
		}
		d.forward(out, a)
	}
	for _, s := range states {
		d.box(out, s)
	}
	if file {
		d.legend(out, legend)
	}
	fmt.Fprintln(out, "</svg>")
	return out.Flush()
}

func esc(s string) string { return html.EscapeString(s) }

type drawing struct {
	table []replica.Transition
	taken map[[2]replica.State]int
	at    map[replica.State]int // the row of a state
	left  int                   // of the boxes
}

func (d *drawing) top(s replica.State) int { return boxTop + d.at[s]*(boxHeight+boxApart) }

// class is how a thing is drawn that belongs to a change of state.
func (d *drawing) class(name string, a arrow) string {
	if d.taken[[2]replica.State{a.from, a.to}] > 0 {
		return name + " taken"
	}
	return name
}

func (d *drawing) path(w io.Writer, a arrow, shape string) {
	tip := "tip"
	if d.taken[[2]replica.State{a.from, a.to}] > 0 {
		tip = "tip-taken"
	}
	fmt.Fprintf(w, `<path class="%s" d="%s" marker-end="url(#%s)"/>`+"\n", d.class("arrow", a), shape, tip)
}

// badge writes the numbers of an arrow's transitions, around x and y.
func (d *drawing) badge(w io.Writer, a arrow, x, y int) {
	var numbers []string
	for _, n := range a.numbers {
		numbers = append(numbers, fmt.Sprint(n))
	}
	text := strings.Join(numbers, " ")
	width := 14 + 8*len(text)
	fmt.Fprintf(w, `<rect class="%s" x="%d" y="%d" width="%d" height="22" rx="11"/><text class="%s" x="%d" y="%d">%s</text>`+"\n",
		d.class("badge", a), x-width/2, y-11, width, d.class("number", a), x, y+4, text)
}

// forward draws an arrow to the next box, past boxes, or to the box itself.
func (d *drawing) forward(w io.Writer, a arrow) {
	from, to := d.top(a.from), d.top(a.to)
	right, middle := d.left+boxWidth, d.left+boxWidth/2
	switch d.at[a.to] - d.at[a.from] {
	case 0:
		y := from + boxHeight/2
		d.path(w, a, fmt.Sprintf("M%d %dC%d %d %d %d %d %d", right, y-11, right+46, y-24, right+46, y+24, right+2, y+11))
		d.badge(w, a, right+36, y)
	case 1:
		d.path(w, a, fmt.Sprintf("M%d %dL%d %d", middle, from+boxHeight, middle, to-2))
		d.badge(w, a, middle, (from+boxHeight+to)/2-2)
	default:
		x := right + 50
		d.path(w, a, fmt.Sprintf("M%d %dH%dV%dH%d", right, from+boxHeight-8, x, to+10, right+2))
		d.badge(w, a, x, (from+to+boxHeight)/2)
	}
}

// back draws an arrow to a box above, in a lane of its own on the left. Each comes
// in at a place of its own.
func (d *drawing) back(w io.Writer, a arrow, n int) {
	x := d.left - n*lane
	from, to := d.top(a.from)+boxHeight/2, d.top(a.to)+8+(n-1)*12%(boxHeight-12)
	d.path(w, a, fmt.Sprintf("M%d %dH%dQ%d %d %d %dV%dQ%d %d %d %dH%d", d.left, from, x+10, x, from, x, from-10, to+10, x, to, x+10, to, d.left-2))
	d.badge(w, a, x, from-34)
}

func (d *drawing) box(w io.Writer, s replica.State) {
	class := "box"
	for pair, n := range d.taken {
		if n > 0 && (pair[0] == s || pair[1] == s) {
			class = "box taken"
		}
	}
	y := d.top(s)
	fmt.Fprintf(w, `<rect class="%s" x="%d" y="%d" width="%d" height="%d" rx="8"/><text class="name" x="%d" y="%d">%s</text>`+"\n",
		class, d.left, y, boxWidth, boxHeight, d.left+boxWidth/2, y+boxHeight/2+5, s)
}

// note is what the legend says of a transition.
func note(t replica.Transition) (event, action []string) {
	return wrap(t.Event, legendRoom), wrap("then "+t.Action, legendRoom)
}

func (d *drawing) legendHeight() int {
	h := 0
	for _, t := range d.table {
		event, action := note(t)
		h += (1+len(event)+len(action))*lineHeight + legendApart
	}
	return h
}

func (d *drawing) legend(w io.Writer, x int) {
	y := boxTop
	for i, t := range d.table {
		a := arrow{t.From, t.To, []int{i + 1}}
		d.badge(w, a, x, y+8)
		times := ""
		switch n := d.taken[[2]replica.State{t.From, t.To}]; {
		case n == 1:
			times = ", taken once"
		case n > 1:
			times = fmt.Sprintf(", taken %d times", n)
		}
		y += lineHeight - 5
		fmt.Fprintf(w, `<text class="way" x="%d" y="%d">%s → %s%s</text>`+"\n", x+26, y, t.From, t.To, times)
		event, action := note(t)
		for _, line := range event {
			y += lineHeight
			fmt.Fprintf(w, `<text class="event" x="%d" y="%d">%s</text>`+"\n", x+26, y, esc(line))
		}
		for _, line := range action {
			y += lineHeight
			fmt.Fprintf(w, `<text class="action" x="%d" y="%d">%s</text>`+"\n", x+26, y, esc(line))
		}
		y += legendApart + 5
	}
}

// Taken counts the changes of state of a study.
func (s *Study) Taken() map[[2]replica.State]int {
	taken := map[[2]replica.State]int{}
	for _, step := range s.Steps {
		if step.Kind == KindState && (step.From != step.State || step.FromPhase == step.Phase) {
			taken[[2]replica.State{step.From, step.State}]++
		}
	}
	return taken
}
