package statuspage

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"replicad/replica/archive"
	"replicad/replica/daemon/status"
	"replicad/replica/units"
)

const (
	barWidth  = 1000 // CSS stretches it
	rowsShown = 6    // generations in the table
)

// timebar is what can be restored: a bar of time and a table.
type timebar struct {
	Oldest, Newest time.Time // the window of what can be restored
	Label          string
	Pieces         []piece   // the oldest first
	Rows           []row     // the newest first
	Until          time.Time // the right end of the bar
	Older          int       // generations that are not in Rows
	Gaps           int       // times between generations that can't be restored
	Bytes          int64     // of all
}

// piece is the time that a generation restores: From to Last.
type piece struct {
	archive.Generation
	Last     time.Time
	X, Width int
	Says     string
}

type row struct {
	archive.Generation
	State string
	Class string // "", warn, bad
}

// First is the first whole second of the piece, in Unix time.
func (p piece) First() int64 { return p.From.Add(time.Second - 1).Unix() }

// newTimebar draws the archive at a time.
func newTimebar(all []archive.Generation, now time.Time) timebar {
	b := timebar{Label: "Nothing can be restored yet", Older: max(len(all)-rowsShown, 0)}
	for _, g := range slices.Backward(all[b.Older:]) {
		b.Rows = append(b.Rows, newRow(g))
	}
	for _, g := range all {
		b.Bytes += g.Frees
	}
	var sound []archive.Generation
	sound, b.Oldest, b.Newest = status.Restorable(all)
	if len(sound) > 0 {
		b.draw(sound, now)
	}
	return b
}

func newRow(g archive.Generation) row {
	switch {
	case g.Problem != "" || g.Damaged > 0:
		return row{g, "damaged", "bad"}
	case !g.Complete:
		return row{g, "transferring", "warn"}
	case !g.Closed:
		return row{g, "current", ""}
	}
	return row{g, "complete", ""}
}

// draw fills the pieces, and says in words which times are missing.
func (b *timebar) draw(sound []archive.Generation, now time.Time) {
	b.Until = now
	if b.Newest.After(now) { // a clock was set back
		b.Until = b.Newest
	}
	total := max(b.Until.Sub(b.Oldest), 1).Seconds()
	x := func(t time.Time) int { return int(math.Round(t.Sub(b.Oldest).Seconds() / total * barWidth)) }
	missing := time.Duration(0)
	for i, g := range sound {
		to := g.To
		if i+1 < len(sound) {
			next := sound[i+1]
			if gap := next.From.Sub(g.To); gap <= 0 || next.Rebased && next.Number == g.Number+1 {
				to = next.From
			} else {
				b.Gaps, missing = b.Gaps+1, missing+gap
			}
		}
		width := min(max(x(to)-x(g.From), 3), barWidth)
		b.Pieces = append(b.Pieces, piece{g, to, min(x(g.From), barWidth-width), width, clock(g.From) + " to " + clock(to)})
	}
	b.Label = fmt.Sprintf("From %s to %s can be restored, from %s; ", clock(b.Oldest), clock(b.Newest), units.Count(int64(len(sound)), "generation"))
	if b.Gaps == 0 {
		b.Label += "without a gap"
	} else {
		b.Label += fmt.Sprintf("with %s, %s in all", units.Count(int64(b.Gaps), "gap"), units.Span(missing))
	}
}

// command is a command line, and what it is good for.
type command struct {
	Line, For string
	Moment    bool // its --to is chosen in the bar
}

// Words are the parts of the line between which a narrow page breaks it.
func (c command) Words() (all []word) {
	before := ""
	for _, w := range strings.Split(c.Line, " ") {
		all = append(all, word{w, c.Moment && before == "--to"})
		before = w
	}
	return all
}

// word is a part of a command; Moment says that the bar fills it in.
type word struct {
	Text   string
	Moment bool
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
	moment, why := "15m", "as it was 15 minutes ago"
	if now.Sub(b.Oldest) < 15*time.Minute {
		moment, why = machineTime(b.Oldest.Add(b.Newest.Sub(b.Oldest)/2).Local()), "as it was at a moment of your choice"
	}
	return []command{
		{Line: restore + " --to latest --out restored", For: "the newest state"},
		{Line: restore + " --to " + moment + " --out restored", For: why, Moment: true},
		{Line: "redis-server --dir restored --appendonly yes --port 7000", For: "loads what was restored"},
		{Line: restore + " --check-only", For: "the drill: restores aside, loads, and tells whether it would work"},
	}
}
