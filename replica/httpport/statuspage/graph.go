package statuspage

import (
	"fmt"
	"math"
	"strings"
	"time"

	"replicad/replica/units"
)

// A graph is drawn in a box of 300 by 100: a unit of width is a second, and the
// height is the largest value. CSS stretches it.
const (
	graphWidth  = 300
	graphHeight = 100
	graphTop    = 20 // above the largest value, which is written there
	graphBottom = 4  // below the smallest
	apart       = 3  // seconds between samples that no line joins
)

// graph is one of the small graphs.
type graph struct {
	Title  string
	Now    string // the newest value
	Top    string // the largest in the window
	Label  string // all of it in a sentence, for who does not see it
	Area   string // d of a path, of the first curve
	Curves []curve
	Down   []band // where the link did not stream
	Keys   []key  // where there is more than one curve
}

type curve struct{ Class, D string }

type key struct{ Class, Text string }

type band struct{ X, Width int }

// value is a point of a curve.
type value struct {
	x int // 0 to graphWidth, in seconds
	v float64
}

// place is where on the x axis a moment stands; negative where it is too old.
func place(at, now time.Time) int {
	return graphWidth - int(math.Round(now.Sub(at).Seconds()))
}

// values computes a curve from samples; f gives the value at one, which may need
// the one before. It says no where there is none.
func values(all []sample, now time.Time, f func(before, s sample) (float64, bool)) []value {
	var vs []value
	for i := 1; i < len(all); i++ {
		v, ok := f(all[i-1], all[i])
		if x := place(all[i].at, now); ok && x >= 0 && x <= graphWidth {
			vs = append(vs, value{x, v})
		}
	}
	return vs
}

// rate is the growth of a counter, a second.
func rate(of func(sample) int64) func(before, s sample) (float64, bool) {
	return func(before, s sample) (float64, bool) {
		took := s.at.Sub(before.at).Seconds()
		if took <= 0 || took > apart {
			return 0, false
		}
		return math.Max(float64(of(s)-of(before))/took, 0), true
	}
}

// worst makes each value the largest of the last five seconds: under everysec lag
// is a saw, of which the tips matter.
func worst(vs []value) []value {
	all := make([]value, 0, len(vs))
	for i, v := range vs {
		for _, before := range vs[max(i-4, 0):i] {
			if v.x-before.x < 5 {
				v.v = math.Max(v.v, before.v)
			}
		}
		all = append(all, v)
	}
	return all
}

// bounds are the smallest and the largest value.
func bounds(curves ...[]value) (least, most float64) {
	least, most = math.Inf(1), math.Inf(-1)
	for _, vs := range curves {
		for _, v := range vs {
			least, most = math.Min(least, v.v), math.Max(most, v.v)
		}
	}
	if least > most {
		return 0, 0
	}
	return least, most
}

// point is a value in the box, where y counts from the top.
type point struct{ x, y int }

// scale turns values into runs of points: a gap in time ends a run.
func scale(vs []value, least, most float64) [][]point {
	var runs [][]point
	for i, v := range vs {
		y := graphHeight - graphBottom
		if most > least {
			y -= int(math.Round((v.v - least) / (most - least) * (graphHeight - graphTop - graphBottom)))
		}
		if i == 0 || v.x-vs[i-1].x > apart {
			runs = append(runs, nil)
		}
		last := &runs[len(runs)-1]
		*last = append(*last, point{v.x, y})
	}
	return runs
}

// trace writes what joins a run's points behind the first: steps that go on in the
// same direction are one.
func trace(out *strings.Builder, run []point) {
	var dx, dy int
	flush := func() {
		switch {
		case dx == 0 && dy == 0:
		case dy == 0:
			fmt.Fprintf(out, "h%d", dx)
		case dx == 0:
			fmt.Fprintf(out, "v%d", dy)
		default:
			fmt.Fprintf(out, "l%d %d", dx, dy)
		}
		dx, dy = 0, 0
	}
	for i := 1; i < len(run); i++ {
		nx, ny := run[i].x-run[i-1].x, run[i].y-run[i-1].y
		if dx*ny != dy*nx { // another slope
			flush()
		}
		dx, dy = dx+nx, dy+ny
	}
	flush()
}

// outline is the d of a path along the runs.
func outline(runs [][]point) string {
	var out strings.Builder
	for _, run := range runs {
		fmt.Fprintf(&out, "M%d %d", run[0].x, run[0].y)
		if len(run) == 1 {
			out.WriteString("h1")
		}
		trace(&out, run)
	}
	return out.String()
}

// area is the d of a path around what lies below the runs.
func area(runs [][]point) string {
	var out strings.Builder
	for _, run := range runs {
		fmt.Fprintf(&out, "M%d %dV%d", run[0].x, graphHeight, run[0].y)
		trace(&out, run)
		fmt.Fprintf(&out, "V%dz", graphHeight)
	}
	return out.String()
}

// down gives the times at which the link did not stream.
func down(all []sample, now time.Time) []band {
	var bands []band
	for i, s := range all {
		x := place(s.at, now)
		if s.up || x < 0 || x > graphWidth {
			continue
		}
		from := max(x-1, 0)
		if n := len(bands); n > 0 && i > 0 && !all[i-1].up && from-bands[n-1].X-bands[n-1].Width <= apart {
			bands[n-1].Width = x - bands[n-1].X
			continue
		}
		bands = append(bands, band{from, max(x-from, 1)})
	}
	return bands
}

// single draws one curve from zero up.
func single(title, what string, vs []value, bands []band, write func(float64) string) graph {
	_, most := bounds(vs)
	runs := scale(vs, 0, most)
	g := graph{Title: title, Now: write(0), Top: "max " + write(most), Area: area(runs), Curves: []curve{{"first", outline(runs)}}, Down: bands}
	if n := len(vs); n > 0 {
		g.Now = write(vs[n-1].v)
	}
	g.Label = fmt.Sprintf("%s over the last 5 minutes: %s now, %s at most%s", what, g.Now, write(most), outages(bands))
	return g
}

func outages(bands []band) string {
	total := 0
	for _, b := range bands {
		total += b.Width
	}
	if total == 0 {
		return ""
	}
	return fmt.Sprintf("; the link did not stream for %s of them", units.Span(time.Duration(total)*time.Second))
}

// graphs draws the last minutes of a link.
func graphs(all []sample, now time.Time) []graph {
	bands := down(all, now)
	in := values(all, now, rate(func(s sample) int64 { return s.bytesIn }))
	commands := values(all, now, rate(func(s sample) int64 { return s.commands }))
	lag := worst(values(all, now, func(_, s sample) (float64, bool) { return s.lag.Seconds(), true }))
	return []graph{
		single("Bytes in", "Bytes received per second", in, bands, perSecond),
		single("Commands", "Commands per second", commands, bands, each),
		offsets(all, now, bands),
		single("Lag", "How long received bytes waited for their fsync, the worst of 5 seconds,", lag, bands, seconds),
	}
}

// offsets draws how far was received and how far is fsynced.
func offsets(all []sample, now time.Time, bands []band) graph {
	received := values(all, now, func(_, s sample) (float64, bool) { return float64(s.received), s.knownOffs })
	durable := values(all, now, func(_, s sample) (float64, bool) { return float64(s.durable), s.knownOffs })
	least, most := bounds(received, durable)
	over, under := scale(received, least, most), scale(durable, least, most)
	g := graph{
		Title: "Offset", Area: area(under), Down: bands,
		Curves: []curve{{"first", outline(over)}, {"second", outline(under)}},
		Keys:   []key{{"first", "received"}, {"second", "fsynced"}},
		Now:    "none yet", Top: "+" + units.Size(int64(most-least)),
	}
	g.Label = "Replication offset over the last 5 minutes: none yet"
	if n := len(received); n > 0 {
		last := received[n-1].v
		g.Now = units.Thousands(int64(last))
		g.Label = fmt.Sprintf("Replication offset over the last 5 minutes: %s received, %s fsynced, %s more than at their beginning%s",
			g.Now, units.Thousands(int64(durable[n-1].v)), units.Size(int64(math.Max(last-received[0].v, 0))), outages(bands))
	}
	return g
}
