package statuspage

import (
	"fmt"
	"strings"

	"replicad/replica"
)

// The drawing of the state machine: the states in a column, in the order in
// which a link comes to them; the phases inside SYNC. Ways back run on the left,
// each in a lane of its own.
const (
	drawingWidth = 340
	boxLeft      = 84
	boxWidth     = 220
	boxHeight    = 38
	boxApart     = 28
	laneWidth    = 22
	chipColumns  = 3
	chipWidth    = 66
	chipHeight   = 24
	chipApart    = 6
	chipTop      = 34 // from the top of SYNC
)

// drawing is the state machine as SVG has it.
type drawing struct {
	Width, Height int
	Place         string // the state in force, with its phase
	Arrows        []arrow
	Boxes         []box
	Chips         []box
	Table         []replica.Transition
}

type box struct {
	Name                string
	Class               string // "", done, lit
	X, Y, Width, Height int
	TextX, TextY        int
}

type arrow struct {
	Class string // "" or taken
	D     string
	Says  string
}

// draw draws the table of transitions with the place in force lit, and the way
// that was taken last.
func draw(table []replica.Transition, state replica.State, phase replica.Phase, taken [2]replica.State) drawing {
	d := drawing{Width: drawingWidth, Place: replica.Place(state, phase), Table: table}
	row, top := map[replica.State]int{}, map[replica.State]int{}
	y := 8
	for i, s := range statesOf(table) {
		b := box{Name: s.String(), X: boxLeft, Y: y, Width: boxWidth, Height: boxHeight, TextX: boxLeft + boxWidth/2, TextY: y + boxHeight/2 + 5}
		if s == state {
			b.Class = "lit"
		}
		if s == replica.Sync {
			d.Chips = chips(y, state, phase)
			last := d.Chips[len(d.Chips)-1]
			b.Height, b.TextY = last.Y+last.Height+10-y, y+22
		}
		row[s], top[s] = i, y
		d.Boxes = append(d.Boxes, b)
		y += b.Height + boxApart
	}
	d.Height = y - boxApart + 8
	lanes := 0
	for _, w := range ways(table) {
		from, to := w.pair[0], w.pair[1]
		a := arrow{Says: w.says}
		switch {
		case from == to:
			x, m := boxLeft+boxWidth, top[from]+boxHeight/2
			a.D = fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x, m-9, x+34, m-20, x+34, m+20, x+3, m+9)
		case row[to] > row[from]:
			a.D = fmt.Sprintf("M%d %dV%d", boxLeft+boxWidth/2, top[from]+boxHeight, top[to]-3)
		default:
			lanes++
			x, start, end := boxLeft-lanes*laneWidth, top[from]+boxHeight/2, top[to]+10+(lanes-1)*9%(boxHeight-18)
			a.D = fmt.Sprintf("M%d %dH%dQ%d %d %d %dV%dQ%d %d %d %dH%d", boxLeft, start, x+8, x, start, x, start-8, end+8, x, end, x+8, end, boxLeft-3)
		}
		if w.pair == taken && from != to {
			a.Class = "taken"
		}
		d.Arrows = append(d.Arrows, a)
	}
	return d
}

// chips are the phases.
func chips(top int, state replica.State, phase replica.Phase) []box {
	var all []box
	left := boxLeft + (boxWidth-chipColumns*chipWidth-(chipColumns-1)*chipApart)/2
	for p := replica.Auth; p <= replica.Stream; p++ {
		i := len(all)
		b := box{
			Name: p.String(), Width: chipWidth, Height: chipHeight,
			X: left + i%chipColumns*(chipWidth+chipApart), Y: top + chipTop + i/chipColumns*(chipHeight+chipApart),
		}
		b.TextX, b.TextY = b.X+b.Width/2, b.Y+b.Height/2+4
		switch {
		case state == replica.Sync && p == phase:
			b.Class = "lit"
		case state == replica.Sync && p < phase:
			b.Class = "done"
		}
		all = append(all, b)
	}
	return all
}

// way is all transitions from one state to another.
type way struct {
	pair [2]replica.State
	says string
}

func ways(table []replica.Transition) []way {
	var all []way
next:
	for _, t := range table {
		says := fmt.Sprintf("%s to %s when %s: %s", t.From, t.To, t.Event, t.Action)
		for i, w := range all {
			if w.pair == [2]replica.State{t.From, t.To} {
				all[i].says = strings.Join([]string{w.says, says}, "; ")
				continue next
			}
		}
		all = append(all, way{[2]replica.State{t.From, t.To}, says})
	}
	return all
}

// statesOf are the states of a table, in the order in which they come up.
func statesOf(table []replica.Transition) []replica.State {
	var all []replica.State
	seen := map[replica.State]bool{}
	for _, t := range table {
		for _, s := range []replica.State{t.From, t.To} {
			if !seen[s] {
				seen[s] = true
				all = append(all, s)
			}
		}
	}
	return all
}
