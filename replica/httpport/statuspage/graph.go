package statuspage

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"replicad/replica/daemon/status"
	"replicad/replica/units"
)

// A graph is drawn in a box of 300 by 100: a unit of width is a second, and the
// height is the largest value. CSS stretches it.
const (
	graphWidth  = 300
	graphHeight = 100
	graphTop    = 20 // above the largest value, which is written there
	graphBottom = 4  // below the smallest
	apart       = 12 // seconds between samples that no line joins
)

// sample is how a link stood at one moment: what the graphs show of it.
type sample struct {
	at        time.Time
	received  int64
	durable   int64
	commands  int64
	fullSyncs int64 // that were done
	lag       time.Duration
	up        bool
	known     bool // there is a history, to which the offsets belong
}

func newSample(now time.Time, s status.Status) sample {
	return sample{now, s.Received, s.Durable, s.Commands, s.FullSyncsDone, s.Lag(now), s.Up(), s.HasOffset()}
}

// measure computes the value of a curve at all[i], where i is above zero; false
// where there is none.
type measure func(all []sample, i int) (v float64, ok bool)

// plot says what a graph shows.
type plot struct {
	title  string
	says   string // what the graph shows, as its label begins
	curves []curve
	write  func(float64) string
	growth bool // from the smallest value up; else from zero up
}

// curve is one of a graph. The first one is filled.
type curve struct {
	Class string
	Key   string // "" where there is only one curve
	Lines []segment
	of    measure
}

// segment is a line without a gap, which begins at X. D is the d of its path.
type segment struct {
	X int
	D string
}

func plots() []plot {
	return []plot{
		{title: "Stream", says: "Bytes of the stream per second", write: perSecond,
			curves: []curve{{Class: "first", of: rate(received)}}},
		{title: "Commands", says: "Commands per second", write: each,
			curves: []curve{{Class: "first", of: rate(func(s sample) int64 { return s.commands })}}},
		{title: "Offset", says: "Replication offset", write: func(v float64) string { return units.Thousands(int64(v)) }, growth: true,
			curves: []curve{
				{Class: "first", Key: "received", of: func(all []sample, i int) (float64, bool) { return float64(all[i].received), all[i].known }},
				{Class: "second", Key: "fsynced", of: func(all []sample, i int) (float64, bool) { return float64(all[i].durable), all[i].known }},
			}},
		{title: "Lag", says: "How long received bytes waited for their fsync, the worst of 5 seconds,", write: inSeconds,
			curves: []curve{{Class: "first", of: worstLag}}},
	}
}

// received is the offset up to where the stream has come. A full sync or a rebase
// would dwarf the stream, so the bytes of their RDBs are not counted.
func received(s sample) int64 { return s.received }

// rate is the growth of a counter, a second. A full sync that ended between two
// samples has set the offset anew: there is no rate.
func rate(of func(sample) int64) measure {
	return func(all []sample, i int) (float64, bool) {
		took := all[i].at.Sub(all[i-1].at).Seconds()
		return math.Max(float64(of(all[i])-of(all[i-1]))/took, 0), took > 0 && took <= apart && all[i].fullSyncs == all[i-1].fullSyncs
	}
}

// worstLag is the largest lag of the last five seconds: under everysec the lag is
// a saw, of which the tips matter.
func worstLag(all []sample, i int) (float64, bool) {
	worst := time.Duration(0)
	for _, s := range all[max(i-4, 0) : i+1] {
		if all[i].at.Sub(s.at) < 5*time.Second {
			worst = max(worst, s.lag)
		}
	}
	return worst.Seconds(), true
}

// Term is the title with its explanation.
func (g graph) Term() (term, error) {
	t, err := explain(g.Title)
	t.ID += "-graph"
	return t, err
}

// graph is a plot of the last minutes.
type graph struct {
	Title  string
	Now    string // the newest value
	Top    string // the largest value
	Label  string // the graph in a sentence, for screen readers (aria-label)
	Curves []curve
	Down   []band
}

// band is a time in which the link did not stream.
type band struct{ X, Width int }

// graphs draws the last minutes of a link.
func graphs(all []sample, now time.Time) (drawn []graph) {
	bands := outages(all, now)
	for _, p := range plots() {
		drawn = append(drawn, p.draw(all, now, bands))
	}
	return drawn
}

// place is where on the x axis a moment stands; negative where it is too old.
func place(at, now time.Time) int {
	return graphWidth - int(math.Round(now.Sub(at).Seconds()))
}

// outages finds where the link did not stream.
func outages(all []sample, now time.Time) (bands []band) {
	for i, s := range all {
		x := place(s.at, now)
		switch n := len(bands); {
		case s.up || x < 0:
		case n > 0 && !all[i-1].up:
			bands[n-1].Width = x - bands[n-1].X
		default:
			bands = append(bands, band{max(x-1, 0), 1})
		}
	}
	return bands
}

// value is a point of a curve: x is 0 to graphWidth.
type value struct {
	x int
	v float64
}

func (p plot) draw(all []sample, now time.Time, bands []band) graph {
	g := graph{Title: p.title, Now: p.write(0), Curves: p.curves, Down: bands}
	values := make([][]value, len(p.curves))
	least, most := math.Inf(1), math.Inf(-1)
	for c := range p.curves {
		for i := 1; i < len(all); i++ {
			v, ok := p.curves[c].of(all, i)
			if x := place(all[i].at, now); ok && x >= 0 {
				values[c] = append(values[c], value{x, v})
				least, most = math.Min(least, v), math.Max(most, v)
			}
		}
	}
	if least > most {
		least, most = 0, 0
	}
	g.Top = "max " + p.write(most)
	if p.growth {
		g.Top = "+" + units.Size(int64(most-least))
	} else {
		least = 0
	}
	for c := range g.Curves {
		g.Curves[c].Lines = trace(values[c], least, most)
	}
	if n := len(values[0]); n > 0 {
		g.Now = p.write(values[0][n-1].v)
	}
	g.Label = fmt.Sprintf("%s over the last 5 minutes: %s now, %s at most%s", p.says, g.Now, p.write(most), told(bands))
	return g
}

func told(bands []band) string {
	total := time.Duration(0)
	for _, b := range bands {
		total += time.Duration(b.Width) * time.Second
	}
	if total == 0 {
		return ""
	}
	return fmt.Sprintf("; the link did not stream for %s of them", units.Span(total))
}

// trace draws values; a gap in time ends a line. In the box y counts from the
// top.
func trace(values []value, least, most float64) (lines []segment) {
	height := func(v float64) int {
		if most <= least {
			return graphHeight - graphBottom
		}
		return graphHeight - graphBottom - int(math.Round((v-least)/(most-least)*(graphHeight-graphTop-graphBottom)))
	}
	last := 0 // the y of the point before
	for i, v := range values {
		y := height(v.v)
		switch {
		case i == 0 || v.x-values[i-1].x > apart:
			lines = append(lines, segment{v.x, fmt.Sprintf("M%d %d", v.x, y)})
		default:
			lines[len(lines)-1].D += fmt.Sprintf("l%d %d", v.x-values[i-1].x, y-last)
		}
		last = y
	}
	return lines
}

// inSeconds writes seconds with a digit behind the point.
func inSeconds(s float64) string { return strconv.FormatFloat(s, 'f', 1, 64) + " s" }

// perSecond writes a rate of bytes.
func perSecond(n float64) string { return units.Size(int64(n)) + "/s" }

// each writes a rate of things.
func each(n float64) string {
	if n > 0 && n < 10 {
		return strconv.FormatFloat(n, 'f', 1, 64) + "/s"
	}
	return units.Thousands(int64(n+0.5)) + "/s"
}
