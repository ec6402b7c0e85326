package study

import (
	_ "embed"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/template"

	"replicad/replica"
)

//go:embed states.tmpl
var statesTemplate string

// StateFormats are the formats of [States].
func StateFormats() []string { return []string{"text", "mermaid", "svg"} }

// States writes a transition table in one of the StateFormats. The drawing says
// beside the states what the numbers of its arrows mean.
func States(w io.Writer, format string, table []replica.Transition) error {
	d := draw(table, nil)
	if format == "svg" {
		d.addLegend()
	}
	return d.write(w, format)
}

func (d *drawing) write(w io.Writer, name string) error {
	t, err := template.New("").Funcs(template.FuncMap{
		"number": func(i int) int { return i + 1 },
		"top":    top,
		// These characters end a statement or a label in Mermaid.
		"label": strings.NewReplacer(";", ",", ":", ",", "#", "no. ").Replace,
	}).Parse(statesTemplate)
	if err != nil {
		return err
	}
	return t.ExecuteTemplate(w, name, d)
}

// The drawing, in pixels: the states in a column that begins at 0, and on the
// right the legend.
const (
	boxWidth    = 150
	boxHeight   = 44
	boxApart    = 78 // between two boxes
	boxTop      = 34
	lane        = 34  // between arrows beside the boxes
	legendLeft  = 224 // where the numbers are
	legendWidth = 600
	legendChars = 74 // of a line
	lineHeight  = 18
)

// drawing is what states.tmpl shows.
type drawing struct {
	Table               []replica.Transition
	States              []string // in the order in which a link comes to them
	Left, Width, Height int
	Arrows              []arrow
	Legend              []legendLine

	taken map[[2]string]int // how often each change of state was made
}

// badge shows the numbers of transitions, around X and Y.
type badge struct {
	Numbers string
	Taken   bool
	X, Y    int
}

// Width and Left are of the badge's rectangle.
func (b badge) Width() int { return 14 + 8*len(b.Numbers) }
func (b badge) Left() int  { return -b.Width() / 2 }

// arrow is all transitions from one state to another.
type arrow struct {
	badge
	Path     string
	from, to int // the rows of the states
}

type legendLine struct {
	badge       // in the first line of a transition
	Class, Text string
	Line        int // the y of the text
}

// top is where the box of a row begins.
func top(row int) int { return boxTop + row*(boxHeight+boxApart) }

func draw(table []replica.Transition, taken map[[2]string]int) *drawing {
	d := &drawing{Table: table, taken: taken}
	for i, t := range table {
		from, to := d.row(t.From), d.row(t.To)
		if n := slices.IndexFunc(d.Arrows, func(a arrow) bool { return a.from == from && a.to == to }); n >= 0 {
			d.Arrows[n].Numbers += fmt.Sprintf(" %d", i+1)
			continue
		}
		d.Arrows = append(d.Arrows, arrow{badge: badge{Numbers: fmt.Sprint(i + 1), Taken: d.Times(t) > 0}, from: from, to: to})
	}
	lanes := 0
	for i := range d.Arrows {
		if a := &d.Arrows[i]; a.to < a.from {
			lanes++
			a.back(lanes)
		} else {
			a.forward()
		}
	}
	d.Left = -24 - lanes*lane
	d.Width, d.Height = boxWidth+54-d.Left, top(len(d.States))-boxApart/2
	return d
}

// row gives the row of a state, a new one if it has none.
func (d *drawing) row(s replica.State) int {
	if !slices.Contains(d.States, s.String()) {
		d.States = append(d.States, s.String())
	}
	return slices.Index(d.States, s.String())
}

// Times tells how often the change of state of a transition was made.
func (d *drawing) Times(t replica.Transition) int {
	return d.taken[[2]string{t.From.String(), t.To.String()}]
}

// Visited tells whether a state was entered or left.
func (d *drawing) Visited(state string) bool {
	for pair := range d.taken {
		if slices.Contains(pair[:], state) {
			return true
		}
	}
	return false
}

// forward draws an arrow to the next box, past boxes, or to the box itself.
func (a *arrow) forward() {
	const right, middle = boxWidth, boxWidth / 2
	from, to := top(a.from), top(a.to)
	switch a.to - a.from {
	case 0:
		a.X, a.Y = right+36, from+boxHeight/2
		a.Path = fmt.Sprintf("M%d %dc46 -13 46 35 2 22", right, a.Y-11)
	case 1:
		a.X, a.Y = middle, (from+boxHeight+to)/2-2
		a.Path = fmt.Sprintf("M%d %dV%d", middle, from+boxHeight, to-2)
	default: // past boxes
		a.X, a.Y = right+50, (from+to+boxHeight)/2
		a.Path = fmt.Sprintf("M%d %dH%dV%dH%d", right, from+boxHeight-8, a.X, to+10, right+2)
	}
}

// back draws an arrow to a box above, in a lane of its own on the left. Each
// arrow ends at a place of its own.
func (a *arrow) back(n int) {
	x, from, to := -n*lane, top(a.from)+boxHeight/2, top(a.to)+8+(n-1)*12%(boxHeight-12)
	a.X, a.Y = x, from-34
	a.Path = fmt.Sprintf("M0 %dH%dq-10 0 -10 -10V%dq0 -10 10 -10H-2", from, x+10, to+10)
}

// addLegend says what the numbers mean.
func (d *drawing) addLegend() {
	y := boxTop + lineHeight - 5
	for i, t := range d.Table {
		first := badge{Numbers: fmt.Sprint(i + 1), X: legendLeft, Y: y - 5}
		add := func(class, text string) {
			for _, s := range wrap(text, legendChars) {
				d.Legend = append(d.Legend, legendLine{first, class, s, y})
				first, y = badge{}, y+lineHeight
			}
		}
		add("way", fmt.Sprintf("%s → %s", t.From, t.To))
		add("event", t.Event)
		add("action", "then "+t.Action)
		y += lineHeight - 4
	}
	d.Width, d.Height = legendLeft+legendWidth-d.Left, max(d.Height, y)
}
