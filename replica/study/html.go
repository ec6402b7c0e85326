package study

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"

	"replicad/replica"
)

//go:embed page.html
var pageTemplate string

// mostHex is how many bytes of a part the page shows.
const mostHex = 96

// HTML writes a study as one HTML file that needs nothing else: a sequence
// diagram with time going down, the state machine with the way that was taken,
// and every message, which unfolds to its bytes, each explained.
func HTML(w io.Writer, s *Study) error {
	t, err := template.New("").Funcs(template.FuncMap{
		"arrow":  func(d string) string { return strings.ReplaceAll(d, ">", " → ") },
		"number": func(i int) int { return i + 1 },
		"place":  replica.Place,
		"head":   func(d Data) Data { return d[:min(len(d), mostHex)] },
		"hex":    func(d Data) string { return fmt.Sprintf("% x", []byte(d)) },
	}).Parse(pageTemplate)
	if err != nil {
		return err
	}
	return t.Execute(w, pageOf(s))
}

// page is what page.html and text.tmpl show. The sequence diagram is as wide as
// a telephone, so that nothing need shrink there; its sizes are in pixels.
type page struct {
	*Study
	Table          []replica.Transition
	Rows           []row
	Bottom, Height int // of the lines of the diagram, and of all of it
}

// row is a step, in the diagram and in the list.
type row struct {
	Step
	Begins bool // it is the first one of a connection
	Y      int  // where it is in the diagram
	Height int  // likewise
}

func pageOf(s *Study) page {
	p := page{Study: s, Table: replica.Transitions()}
	y, conn := 52, 0
	for _, step := range s.Steps {
		r := row{Step: step, Begins: step.Connection != conn}
		conn = step.Connection
		if r.Begins && conn > 1 {
			y += 30 // for a line across
		}
		r.Y = y
		r.Height = cmp.Or(map[Kind]int{KindMessage: 32, KindState: 30}[step.Kind], 24)
		y += r.Height
		p.Rows = append(p.Rows, r)
	}
	p.Bottom, p.Height = y+6, y+14
	return p
}

// Picture is our own, and needs no escapes.
func (p page) Picture() template.HTML { return template.HTML(picture(p.taken)) }

// Times tells how often the change of state of a transition was made.
func (p page) Times(t replica.Transition) int {
	return p.taken[[2]string{t.From.String(), t.To.String()}]
}

// Class is how the page draws the step: classes of its kind, and "alive" for
// what only keeps the link alive.
func (r row) Class() string {
	classes := map[string]string{ToMaster: "sent", ToReplica: "received", string(KindFailure): "failure-row"}
	class := cmp.Or(classes[r.Direction], classes[string(r.Kind)], string(r.Kind))
	if r.KeepAlive() {
		class += " alive"
	}
	return class
}

// Short is what the diagram has room for.
func (r row) Short() string {
	text, most := r.Title, 38
	switch r.Kind {
	case KindMessage:
		most = 36
	case KindState:
		text, most = r.State, 20
	}
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}

// PillWidth and PillLeft are of the shape around the name of a state.
func (r row) PillWidth() int { return 16 + 7*len(r.Short()) }
func (r row) PillLeft() int  { return max(2, 76-r.PillWidth()/2) }
