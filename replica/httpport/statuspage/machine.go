package statuspage

import (
	"fmt"

	"replicad/replica"
)

// The drawing of the state machine has the states in a column, in the order in
// which a link comes to them, and the phases inside SYNC, three in a row. Ways
// back run on the left, each in a lane of its own. The template has the sizes of
// the boxes.
const (
	boxLeft   = 84
	boxRight  = 304
	boxHeight = 38
	boxApart  = 66 // from top to top
	chipApart = 72 // from left to left
	rowApart  = 30
	laneWidth = 22
)

// machine is the state machine as SVG has it.
type machine struct {
	Place  string // the state in force, with its phase
	Arrows []arrow
	Boxes  []box // the states
	Chips  []box // the phases
}

type box struct {
	Name  string
	Class string // "", done, lit
	X, Y  int
}

type arrow struct {
	replica.Transition
	Class string // "" or taken
	D     string // of a path
}

// draw draws the state machine with the place in force lit, and the transition
// that was taken last.
func draw(state replica.State, phase replica.Phase, taken [2]replica.State) machine {
	m := machine{Place: replica.Place(state, phase)}
	for s := replica.None; s <= replica.Sync; s++ {
		b := box{Name: s.String(), X: boxLeft, Y: top(s)}
		if s == state {
			b.Class = "lit"
		}
		m.Boxes = append(m.Boxes, b)
	}
	for p := replica.Auth; p <= replica.Stream; p++ {
		i := int(p - replica.Auth)
		b := box{Name: p.String(), X: boxLeft + 5 + i%3*chipApart, Y: top(replica.Sync) + 34 + i/3*rowApart}
		switch {
		case state == replica.Sync && p == phase:
			b.Class = "lit"
		case state == replica.Sync && p < phase:
			b.Class = "done"
		}
		m.Chips = append(m.Chips, b)
	}
	lanes := 0
	for _, t := range replica.Transitions() {
		a := arrow{Transition: t}
		if t.To < t.From {
			lanes++
		}
		a.D = way(t, lanes)
		if taken == [2]replica.State{t.From, t.To} && t.From != t.To {
			a.Class = "taken"
		}
		m.Arrows = append(m.Arrows, a)
	}
	return m
}

func top(s replica.State) int { return 8 + boxApart*int(s) }

// way is the path of an arrow; lane is where a way back runs, from 1.
func way(t replica.Transition, lane int) string {
	from, to := top(t.From), top(t.To)
	switch {
	case t.From == t.To:
		return fmt.Sprintf("M%d %dc34 -11 34 29 3 18", boxRight, from+10)
	case t.From < t.To:
		return fmt.Sprintf("M%d %dV%d", (boxLeft+boxRight)/2, from+boxHeight, to-3)
	}
	x, start, end := boxLeft-lane*laneWidth, from+boxHeight/2, to+1+9*lane
	return fmt.Sprintf("M%d %dH%dQ%d %d %d %dV%dQ%d %d %d %dH%d", boxLeft, start, x+8, x, start, x, start-8, end+8, x, end, x+8, end, boxLeft-3)
}
