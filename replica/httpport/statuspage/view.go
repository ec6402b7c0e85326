package statuspage

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"replicad/replica/daemon/status"
	"replicad/replica/units"
)

// view is what the template gets: one master, or the overview of several.
type view struct {
	Title    string
	Version  string
	Now      time.Time
	Zone     string
	Overview *overview // nil on the page of a master
	Master   *masterView
	Masters  int // how many there are
	Wrong    int // that are not sound, where there are several
}

type masterView struct {
	status.Status
	status.Disk
	Now      time.Time
	Verdict  verdict
	Machine  machine
	Progress *progress
	Graphs   []graph
	Bar      timebar
	Left     time.Duration // until the disk is full at the pace of the last minutes; 0 where that is far away
	Restore  []command
	Notices  []line // the newest first
	Steps    []line
}

// progress is a full sync under way.
type progress struct {
	status.Transfer
	What string
}

// Percent is how much of the full sync is here.
func (p progress) Percent() int64 { return 100 * p.Bytes / p.Total }

// view tells how one master stands, or all where f is nil. The caller holds
// rendering.
func (p *Page) view(f *followed, q question, now time.Time) view {
	v := view{Version: p.version, Now: now, Zone: now.Local().Format("MST"), Masters: len(p.masters)}
	if v.Masters > 1 {
		v.Wrong = p.surveyed(now).wrong
	}
	switch {
	case f != nil:
		m := f.view(now, patience)
		v.Master, v.Title = &m, m.Verdict.Word+": "+m.Name
		return v
	case v.Masters == 0:
		v.Title = "No master"
		return v
	case v.Wrong == 0:
		v.Title = "Sound: all masters"
	default:
		v.Title = fmt.Sprintf("%d of %d masters need a look", v.Wrong, v.Masters)
	}
	o := p.seen.answer(q)
	v.Overview = &o
	return v
}

// view tells how the master stands. It waits for the disk as long as wait.
func (f *followed) view(now time.Time, wait time.Duration) masterView {
	d := f.Disk(wait)
	s := f.Status()
	f.mu.Lock()
	f.looked = now
	samples, notices, steps, taken := slices.Clone(f.samples), slices.Clone(f.notices), slices.Clone(f.steps), f.taken
	f.mu.Unlock()
	slices.Reverse(notices)
	slices.Reverse(steps)
	kept := newStored(d)
	left := fills(samples, kept)
	bar := newTimebar(d.Archive.Generations, now)
	return masterView{
		Status: s, Disk: d, Now: now,
		Verdict:  judge(s, kept, left, now),
		Machine:  draw(s.State, s.Phase, taken),
		Progress: underWay(s),
		Graphs:   graphs(samples, now),
		Bar:      bar, Left: left, Restore: commands(d.Archive, bar, now),
		Notices: notices[:min(len(notices), shownNotices)], Steps: steps,
	}
}

// Ago is how long ago a moment was.
func (m masterView) Ago(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return units.Span(m.Now.Sub(t)) + " ago"
}

// Until is how long a moment is ahead.
func (m masterView) Until(t time.Time) string { return units.Span(t.Sub(m.Now) + time.Second/2) }

// LagFor is for how long bytes have waited for their fsync.
func (m masterView) LagFor() time.Duration { return m.Lag(m.Now) }

// Lagging says whether they have waited for too long.
func (m masterView) Lagging() bool { return m.LagFor() > lagFor }

// Filling says whether the disk is full soon.
func (m masterView) Filling() bool { return m.Left > 0 && m.Left < fullWithin }

// underWay tells of the full sync that is under way; nil where none is.
func underWay(s status.Status) *progress {
	switch {
	case s.Transfer.Running():
		return &progress{s.Transfer, "Full sync"}
	case s.Rebase.Transfer.Running():
		return &progress{s.Rebase.Transfer, "Rebase: a new base"}
	}
	return nil
}

// fills says when the disk is full at the pace of the last minutes; 0 where that
// is not known or far away.
func fills(all []sample, d stored) time.Duration {
	const far = 90 * 24 * time.Hour
	if len(all) < 2 || all[len(all)-1].at.Sub(all[0].at) < 29*time.Second || d.at.IsZero() || d.err != nil {
		return 0
	}
	growth, grown := rate(received), 0.0
	for i := 1; i < len(all); i++ {
		if v, ok := growth(all, i); ok {
			grown += v * all[i].at.Sub(all[i-1].at).Seconds()
		}
	}
	pace := grown / all[len(all)-1].at.Sub(all[0].at).Seconds()
	left := float64(d.free) / pace // seconds
	if pace <= 0 || left > far.Seconds() {
		return 0
	}
	return time.Duration(max(left, 1) * float64(time.Second))
}

// short is a text of others for a narrow place.
func short(s string) string { return units.Printable(s, 120) }

// causes writes counts by cause: backlog 2, initial 1.
func causes(by map[string]int64) string {
	var all []string
	for _, cause := range slices.Sorted(maps.Keys(by)) {
		all = append(all, fmt.Sprintf("%s %d", cause, by[cause]))
	}
	return strings.Join(all, ", ")
}
