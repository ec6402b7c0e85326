// Package page renders a study as one HTML file that needs nothing else: a
// sequence diagram with time going down, the state machine with the path that was
// taken, and every message unfoldable to its bytes, each explained.
package page

import (
	"bytes"
	_ "embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io"
	"strings"

	"replicad/replica"
	"replicad/replica/study"
)

//go:embed page.html
var source string

// mostShown is how many bytes of a part are written out.
const mostShown = 96

// Write writes the page.
func Write(w io.Writer, s *study.Study) error {
	t, err := template.New("page").Parse(source)
	if err != nil {
		return err
	}
	v, err := viewOf(s)
	if err != nil {
		return err
	}
	return t.Execute(w, v)
}

// view is what the template shows.
type view struct {
	Of, Summary     string
	Failure, Remedy string
	Dropped         int64
	Recorded        bool
	Style           template.CSS
	States          template.HTML
	Transitions     []transition
	Diagram         diagram
	Steps           []step
}

type transition struct {
	Number              int
	From, To            string
	Event, Action, Took string
}

type step struct {
	study.Step
	ID, Time, Label, Class string
	Alternative            string
	NewConn                bool
	Items                  []item
	Known                  string
	Places                 []study.Place
}

type item struct {
	study.Item
	Title  string
	Own    bool // it has a heading of its own
	Known  string
	Places []study.Place
	Parts  []part
	Ruler  []tick
}

type part struct {
	Name, Text, Hex, Shown, More string
	Offset                       int64
}

// tick is a piece of the ruler under a command of the stream.
type tick struct {
	Offset, Bytes int64
	Name          string
	Last          bool
}

func viewOf(s *study.Study) (view, error) {
	v := view{Of: s.Of, Summary: s.Summary(), Dropped: s.Dropped, Recorded: s.Recorded, Style: template.CSS(study.StatesStyle())}
	if s.Failure != nil {
		v.Failure, v.Remedy = fmt.Sprintf("%s: %v", replica.Place(s.Failure.State, s.Failure.Phase), s.Failure.Cause), s.Failure.Remedy
	}
	taken := s.Taken()
	var svg bytes.Buffer
	if err := study.StatesSVG(&svg, replica.Transitions(), taken, false); err != nil {
		return v, err
	}
	v.States = template.HTML(svg.String()) // our own drawing, its texts escaped
	for i, t := range replica.Transitions() {
		x := transition{Number: i + 1, From: t.From.String(), To: t.To.String(), Event: t.Event, Action: t.Action}
		switch n := taken[[2]replica.State{t.From, t.To}]; {
		case n == 1:
			x.Took = "taken once"
		case n > 1:
			x.Took = fmt.Sprintf("taken %d times", n)
		}
		v.Transitions = append(v.Transitions, x)
	}
	conn := 0
	for _, x := range s.Steps {
		y := stepOf(x)
		y.NewConn = x.Conn > 0 && x.Conn != conn
		conn = x.Conn
		v.Steps = append(v.Steps, y)
	}
	v.Diagram = draw(v.Steps)
	return v, nil
}

func stepOf(x study.Step) step {
	s := step{Step: x, ID: fmt.Sprintf("step-%d", x.Number), Time: fmt.Sprintf("%.4f", x.At.Seconds()), Alternative: x.Alternative()}
	s.Label, s.Class = string(x.Kind), string(x.Kind)
	if x.Kind == study.KindMessage {
		s.Label, s.Class = "M → R", "received"
		if x.ToMaster {
			s.Label, s.Class = "R → M", "sent"
		}
		for _, i := range x.Items {
			s.Items = append(s.Items, itemOf(i, len(x.Items) > 1))
		}
		return s
	}
	k := study.Knows(x.Key)
	s.Known, s.Places = k.Known, k.Places
	return s
}

func itemOf(x study.Item, own bool) item {
	k := study.Knows(x.Key)
	i := item{Item: x, Own: own, Title: x.Title, Known: k.Known, Places: k.Places}
	if x.Continued {
		i.Title += " (continued)"
	}
	for _, p := range x.Parts {
		i.Parts = append(i.Parts, partOf(p))
		if p.Offset > 0 {
			i.Ruler = append(i.Ruler, tick{Offset: p.Offset, Bytes: p.Bytes, Name: p.Name})
		}
	}
	if n := len(i.Ruler); n > 0 {
		i.Ruler[n-1].Last = true
	}
	return i
}

func partOf(p study.Part) part {
	x := part{Name: p.Name, Text: p.Text, Offset: p.Offset}
	if len(p.Data) == 0 {
		x.More = fmt.Sprintf("%d bytes", p.Bytes)
		return x
	}
	short := p
	if len(p.Data) > mostShown {
		short.Data = p.Data[:mostShown]
		x.More = fmt.Sprintf("and %d bytes more", len(p.Data)-mostShown)
	}
	x.Shown = short.Escaped()
	x.Hex = spaced(hex.EncodeToString(short.Data))
	return x
}

// spaced puts a space between bytes in hex.
func spaced(h string) string {
	var b strings.Builder
	for i := 0; i < len(h); i += 2 {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(h[i : i+2])
	}
	return b.String()
}

// The sequence diagram, in pixels. It is as wide as a phone, so that nothing need
// shrink there.
const (
	diagramWidth = 372
	replicaX     = 76
	masterX      = 332
	titleChars   = 36
	placeChars   = 20
)

type diagram struct {
	Width, Height, ReplicaX, MasterX, Middle int
	Bottom                                   int
	Rows                                     []row
}

// row is a step in the diagram.
type row struct {
	step
	Y, Mid, Line     int // of its text, and of its arrow
	From, To         int // where the arrow begins and ends
	Text             string
	Pill, PillX      int // of a state: its width and place
	Conn             int // not 0 where a connection begins above
	ConnY            int
	IsMessage, IsPil bool
}

func draw(steps []step) diagram {
	d := diagram{Width: diagramWidth, ReplicaX: replicaX, MasterX: masterX, Middle: (replicaX + masterX) / 2}
	y := 52
	for _, s := range steps {
		r := row{step: s}
		if s.NewConn && s.Conn > 1 {
			r.Conn, r.ConnY = s.Conn, y+14
			y += 30
		}
		r.Y = y
		switch s.Kind {
		case study.KindMessage:
			r.IsMessage = true
			r.Text = cut(s.Title, titleChars)
			r.Mid, r.Line = y+13, y+19
			r.From, r.To = replicaX+3, masterX-4
			if !s.ToMaster {
				r.From, r.To = masterX-3, replicaX+4
			}
			y += 32
		case study.KindState:
			r.IsPil = true
			r.Text = cut(s.Place(), placeChars)
			r.Pill = 16 + 7*len(r.Text)
			r.PillX = max(2, replicaX-r.Pill/2)
			r.Mid, r.Line = y+17, y+13
			y += 30
		default:
			r.Text = cut(s.Title, titleChars+2)
			r.Mid, r.Line = y+14, y+10
			y += 24
		}
		d.Rows = append(d.Rows, r)
	}
	d.Bottom, d.Height = y+6, y+14
	return d
}

func cut(s string, most int) string {
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	return string(r[:most-1]) + "…"
}
