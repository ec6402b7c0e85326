package statuspage

import (
	"fmt"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/logs"
)

// How many lines are kept of each master: the notices, and all steps. Of the
// notices the newest are shown.
const (
	keptNotices  = 30
	shownNotices = 12
	keptSteps    = 100
	fewerSteps   = 20 // of each of many masters
)

// line is an event as the log says it.
type line struct {
	logs.Line
	Count int // how often the event came in a row
}

// LevelName is the level as redis.conf's loglevel.
func (l line) LevelName() string { return logs.LevelName(l.Level) }

// Pairs are the line's keys and values.
func (l line) Pairs() (all [][2]string) {
	for i := 0; i+1 < len(l.Args); i += 2 {
		all = append(all, [2]string{fmt.Sprint(l.Args[i]), fmt.Sprint(l.Args[i+1])})
	}
	return all
}

// Observe implements replica.Observer. It keeps a line of each event that the
// log tells at level verbose or above. It waits for nothing but a lock, which is
// held while lines are copied.
func (p *Page) Observe(e replica.Event) {
	if level, logged := logs.Level(e.Kind); logged && level >= logs.LevelVerbose && e.Kind != replica.TransferProgress {
		p.note(logs.OfLink(e))
	}
	if e.Kind != replica.StateEntered || e.Rebase {
		return
	}
	if f := p.of(e.Master); f != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.taken = [2]replica.State{e.From, e.State}
	}
}

// ObserveArchive implements archive.Observer, as Observe does for links.
func (p *Page) ObserveArchive(e archive.Event) { p.note(logs.OfArchive(e)) }

func (p *Page) of(master string) *followed { return p.byName[master] }

func (p *Page) note(said logs.Line) {
	f := p.of(said.Master)
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	l := line{said, 1}
	most := keptSteps
	if len(p.masters) > many {
		most = fewerSteps
	}
	f.steps = keep(f.steps, l, most)
	if l.Level < logs.LevelNotice {
		return
	}
	// A master that is away for a night must not push out what came before.
	if n := len(f.notices); n > 0 && f.notices[n-1].Text == l.Text {
		l.Count += f.notices[n-1].Count
		f.notices = f.notices[:n-1]
	}
	f.notices = keep(f.notices, l, keptNotices)
}
