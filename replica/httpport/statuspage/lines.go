package statuspage

import (
	"fmt"
	"time"

	"replicad/replica/logs"
)

// How many lines are kept of each master: the notices, and all steps.
const (
	keptNotices = 30
	keptSteps   = 100
)

// line is an event as the log says it.
type line struct {
	Time  time.Time
	Level string // as redis.conf's loglevel
	Text  string
	Pairs []pair
	Count int // how often it was said in a row

	notice bool // it is no mere step
}

type pair struct{ Key, Value string }

func newLine(said logs.Line) line {
	l := line{Time: said.Time, Level: logs.LevelName(said.Level), Text: clean(said.Text), Count: 1, notice: said.Level >= logs.LevelNotice}
	for i := 0; i+1 < len(said.Args); i += 2 {
		l.Pairs = append(l.Pairs, pair{fmt.Sprint(said.Args[i]), clean(fmt.Sprint(said.Args[i+1]))})
	}
	return l
}

// lines are the newest, in the order in which they came. A snapshot may be kept:
// what it shares is not changed.
type lines struct {
	most int
	all  []line
}

func (l *lines) add(x line) {
	if len(l.all) >= l.most {
		l.all = append([]line(nil), l.all[len(l.all)-l.most+1:]...)
	}
	l.all = append(l.all, x)
}

// addOrCount adds a line, or counts it where the last one says the same: a master
// that is away for a night does not push out what came before.
func (l *lines) addOrCount(x line) {
	if n := len(l.all); n > 0 && l.all[n-1].Text == x.Text {
		x.Count = l.all[n-1].Count + 1
		l.all = append([]line(nil), l.all[:n-1]...)
	}
	l.add(x)
}

// newest gives the last n, the newest first.
func (l *lines) newest(n int) []line {
	var some []line
	for i := len(l.all) - 1; i >= 0 && len(some) < n; i-- {
		some = append(some, l.all[i])
	}
	return some
}
