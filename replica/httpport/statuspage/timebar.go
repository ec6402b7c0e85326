package statuspage

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"time"

	"replicad/replica/archive"
	"replicad/replica/units"
)

const (
	barWidth  = 1000
	rowsShown = 6 // generations in the table
)

// timebar is what can be restored: a bar of time, which CSS stretches, and a
// table.
type timebar struct {
	Oldest, Newest time.Time // what can be restored; zero where nothing can
	Now            time.Time
	Label          string
	Pieces         []piece
	Marks          []mark
	Rows           []row // the newest first
	Older          int   // generations that are not in Rows
	Holes          int   // times between generations that can't be restored
	Bytes          int64 // of all
}

// piece is a time that can be restored.
type piece struct {
	X, Width int
	Class    string // odd or even
	Says     string
}

// mark is where a generation begins.
type mark struct {
	X     int
	Class string // base or rebase
	Says  string
}

type row struct {
	archive.Generation
	State  string
	Class  string // "", warn, bad
	Began  string
	Proven string
}

// spans draws the archive at a time.
func spans(m archive.Master, now time.Time) timebar {
	b := timebar{Now: now}
	var sound []archive.Generation
	for _, g := range m.Generations {
		b.Bytes += g.Bytes
		if restorable(g) {
			sound = append(sound, g)
		}
	}
	b.rows(m.Generations)
	if len(sound) == 0 {
		b.Label = "Nothing can be restored yet"
		return b
	}
	b.Oldest, b.Newest = sound[0].From, sound[0].To
	for _, g := range sound { // a clock may have been stepped back
		b.Oldest, b.Newest = earlier(b.Oldest, g.From), later(b.Newest, g.To)
	}
	holes := b.draw(sound, later(now, b.Newest))
	b.Label = fmt.Sprintf("From %s to %s can be restored, from %s; %s", clock(b.Oldest), clock(b.Newest), things(len(sound), "generation"), holes)
	return b
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// draw fills pieces and marks, and says in words which times are missing.
func (b *timebar) draw(sound []archive.Generation, end time.Time) string {
	total := end.Sub(b.Oldest).Seconds()
	x := func(t time.Time) int {
		if total <= 0 {
			return 0
		}
		return min(max(int(math.Round(t.Sub(b.Oldest).Seconds()/total*barWidth)), 0), barWidth)
	}
	missing := time.Duration(0)
	for i, g := range sound {
		to := g.To
		if i+1 < len(sound) {
			next := sound[i+1]
			switch hole := next.From.Sub(g.To); {
			case hole <= 0, next.Rebased && next.Number == g.Number+1:
				to = next.From
			default:
				b.Holes, missing = b.Holes+1, missing+hole
			}
		}
		p := piece{X: x(g.From), Class: []string{"even", "odd"}[i%2], Says: fmt.Sprintf("generation %d: %s to %s", g.Number, clock(g.From), clock(to))}
		p.Width = max(x(to)-p.X, 3)
		if total <= 0 {
			p.Width = barWidth
		}
		p.X = min(p.X, barWidth-p.Width)
		b.Pieces = append(b.Pieces, p)
		k := mark{X: p.X, Class: "base", Says: fmt.Sprintf("%s: full sync, generation %d", clock(g.From), g.Number)}
		if g.Rebased {
			k.Class, k.Says = "rebase", fmt.Sprintf("%s: rebase, generation %d", clock(g.From), g.Number)
		}
		b.Marks = append(b.Marks, k)
	}
	if b.Holes == 0 {
		return "without a gap"
	}
	return fmt.Sprintf("with %s, %s in all", things(b.Holes, "gap"), units.Span(missing))
}

func (b *timebar) rows(all []archive.Generation) {
	for i := len(all) - 1; i >= 0; i-- {
		if len(b.Rows) == rowsShown {
			b.Older = i + 1
			return
		}
		g := all[i]
		r := row{Generation: g, State: "complete", Began: "full sync"}
		if g.Rebased {
			r.Began = "rebase"
		}
		r.Problem = clean(g.Problem)
		switch {
		case g.Problem != "" || g.Damaged > 0:
			r.State, r.Class = "damaged", "bad"
		case !g.Complete:
			r.State, r.Class = "transferring", "warn"
		case !g.Closed:
			r.State = "current"
		}
		r.Proven = proven(g)
		b.Rows = append(b.Rows, r)
	}
}

// proven says what reading the files again has shown.
func proven(g archive.Generation) string {
	if !g.Complete {
		return "nothing yet"
	}
	base := "base pending"
	if g.BaseVerified {
		base = "base"
	}
	return fmt.Sprintf("%s, %d of %d segments", base, g.Verified, g.Segments)
}

// command is a command line, and what it is good for.
type command struct {
	Line string
	For  string
}

// Words are the line's, but what is quoted is one: a line is broken between them.
func (c command) Words() []string {
	var all []string
	quoted := false
	for _, w := range strings.Split(c.Line, " ") {
		if quoted {
			all[len(all)-1] += " " + w
		} else {
			all = append(all, w)
		}
		if strings.Count(w, "'")%2 == 1 { // it begins or ends there
			quoted = !quoted
		}
	}
	return all
}

// commands are those that restore from an archive.
func commands(m archive.Master, b timebar, now time.Time) []command {
	if b.Oldest.IsZero() {
		return nil
	}
	folder := filepath.Dir(m.Dir)
	if abs, err := filepath.Abs(folder); err == nil {
		folder = abs
	}
	restore := fmt.Sprintf("replicad restore --dir %s --name %s", units.ShellWord(folder), units.ShellWord(m.Name))
	moment := "15m"
	why := "as it was 15 minutes ago"
	if now.Sub(b.Oldest) < 15*time.Minute {
		moment, why = units.ShellWord(clock(b.Oldest.Add(b.Newest.Sub(b.Oldest)/2))), "as it was at a moment of your choice"
	}
	return []command{
		{restore + " --to latest --out restored", "the newest state"},
		{restore + " --to " + moment + " --out restored", why},
		{"redis-server --dir restored --appendonly yes", "loads what was restored"},
		{restore + " --check-only", "the drill: restores aside, loads, and tells whether it would work"},
	}
}
