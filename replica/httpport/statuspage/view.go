package statuspage

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"replicad/replica"
	"replicad/replica/daemon/status"
	"replicad/replica/units"
)

// How many lines are shown of those that are kept.
const shownNotices = 12

// view is what the page's template gets.
type view struct {
	Title   string
	Version string
	Now     time.Time
	Zone    string
	Masters []masterView
}

// parts are the templates that may change while the page is open; each has an
// element of its name.
func (view) parts() []string { return []string{"clock", "overview"} }

type masterView struct {
	ID, Name string
	Address  string
	Verdict  verdict
	Machine  drawing
	Entered  time.Time
	For      string // how long the place has been in force
	Since    string
	Progress *progress
	Link     []fact
	Archive  []fact
	Graphs   []graph
	Bar      timebar
	Read     bool // the archive was read at least once
	ReadErr  string
	Commands []command
	Notices  []line
	Steps    []line
}

// parts of a master; their elements are named by its ID, "-" and the name.
func (masterView) parts() []string {
	return []string{"verdict", "machine", "link", "graphs", "stored", "restore", "notices", "steps"}
}

// fact is a term with its value.
type fact struct {
	Term, Value, Note string
	Code              bool // in the font of code
	Class             string
}

// progress is a full sync under way.
type progress struct {
	What  string
	Bytes int64
	Total int64 // -1 where it is not known
	Text  string
}

// view tells how things stand; archives are waited for so long at most.
func (p *Page) view(now time.Time, wait time.Duration) view {
	v := view{Version: p.cfg.Version, Now: now, Zone: now.Local().Format("MST")}
	deadline := now.Add(wait)
	for _, f := range p.masters {
		v.Masters = append(v.Masters, p.master(f, now, max(time.Until(deadline), 0)))
	}
	wrong := 0
	for _, m := range v.Masters {
		if m.Verdict.Class != "good" {
			wrong++
		}
	}
	switch {
	case len(v.Masters) == 1:
		v.Title = v.Masters[0].Verdict.Word + ": " + v.Masters[0].Name + " - replicad"
	case wrong == 0:
		v.Title = "Sound: all masters - replicad"
	default:
		v.Title = fmt.Sprintf("%d of %d masters need a look - replicad", wrong, len(v.Masters))
	}
	return v
}

func (p *Page) master(f *followed, now time.Time, wait time.Duration) masterView {
	s, since := f.Status(), f.LagSince()
	r := f.disk.look(wait)
	p.mu.Lock()
	window, taken := f.samples.window(now), f.taken
	notices, steps := f.notices.newest(shownNotices), f.steps.newest(keptSteps)
	p.mu.Unlock()
	lag := time.Duration(0)
	if !since.IsZero() {
		lag = max(now.Sub(since), 0)
	}
	left := fills(window, r)
	m := masterView{
		ID: f.id, Name: f.Name(), Address: address(s),
		Verdict: judge(s, r, lag, left, now),
		Machine: draw(replica.Transitions(), s.State, s.Phase, taken),
		Entered: s.Entered, For: units.Span(now.Sub(s.Entered)), Since: sinceWhen(s.Entered, now),
		Progress: underWay(s, now),
		Link:     linkFacts(s, lag, now),
		Graphs:   graphs(window, now),
		Read:     !r.At.IsZero(),
		Notices:  notices, Steps: steps,
	}
	if r.Err != nil {
		m.ReadErr = clean(r.Err.Error())
	}
	m.Bar = spans(r.Archive, now)
	m.Commands = commands(r.Archive, m.Bar, now)
	m.Archive = archiveFacts(s, r, m.Bar, left, now)
	return m
}

// address is how the master is reached.
func address(s status.Status) string {
	if !s.Following() {
		return "no master"
	}
	a := clean(s.Address)
	if s.TLS {
		a += ", TLS"
	}
	if s.User != "" {
		a += ", user " + clean(s.User)
	}
	return a
}

// underWay tells of the full sync that is, if one is.
func underWay(s status.Status, now time.Time) *progress {
	t, what := s.Transfer, "Full sync"
	if !t.Running() {
		t, what = s.Rebase.Transfer, "Rebase: full sync of a second link"
	}
	if !t.Running() {
		return nil
	}
	p := &progress{What: what, Bytes: t.Bytes, Total: t.Total, Text: units.Size(t.Bytes)}
	if t.Total > 0 {
		p.Text += fmt.Sprintf(" of %s, %d %%", units.Size(t.Total), 100*t.Bytes/t.Total)
	}
	if t.Storing {
		p.Text += ", being made durable"
	}
	p.Text += ", for " + units.Span(now.Sub(t.Began))
	return p
}

// offset writes an offset where there is a history.
func offset(n int64, known bool) string {
	if !known {
		return "none yet"
	}
	return units.Thousands(n)
}

// linkFacts tells of the link.
func linkFacts(s status.Status, lag time.Duration, now time.Time) []fact {
	known := s.ReplID != "" || s.Received > 0
	behind := fact{Term: "Lag", Value: units.Size(s.LagBytes()) + ", " + seconds(lag.Seconds()), Note: "received, not fsynced yet"}
	if lag > lagFor {
		behind.Class = "warn"
	}
	all := []fact{
		{Term: "Received", Value: offset(s.Received, known)},
		{Term: "Stored", Value: offset(s.Stored, known)},
		{Term: "Fsynced", Value: offset(s.Durable, known)},
		{Term: "Acknowledged", Value: offset(s.Acked, !s.AckTime.IsZero()), Note: ago(s.AckTime, now)},
		behind,
		{Term: "Last byte", Value: ago(s.LastByte, now), Note: at(s.LastByte)},
		{Term: "In and out", Value: units.Size(s.BytesIn) + " in, " + units.Size(s.BytesOut) + " out", Note: units.Thousands(s.Commands) + " commands since the start " + units.Span(now.Sub(s.Started)) + " ago"},
		{Term: "Syncs", Value: fmt.Sprintf("%d full, %d partial", s.FullSyncsDone, s.PartialSyncs), Note: causes("begun", s.FullSyncs)},
	}
	if s.ReplID != "" {
		all = append(all, fact{Term: "Replication id", Value: clean(s.ReplID), Code: true})
	}
	if s.FormerReplID != "" {
		all = append(all, fact{Term: "Former id", Value: clean(s.FormerReplID), Code: true, Note: "up to offset " + units.Thousands(s.SecondOffset)})
	}
	if s.Paused {
		all = append(all, fact{Term: "Paused", Value: "the disk is behind; the master's bytes wait in TCP", Class: "warn"})
	}
	if s.LastFailure != "" {
		all = append(all, fact{Term: "Last failure", Value: short(clean(s.LastFailure)), Note: ago(s.LastFailureAt, now) + "; " + causes("by cause", s.Failures)})
	}
	if !s.NextAttempt.IsZero() && s.Following() {
		next := "now"
		if d := s.NextAttempt.Sub(now); d > 0 {
			next = "in " + units.Span(d+time.Second/2)
		}
		all = append(all, fact{Term: "Next attempt", Value: next})
	}
	return all
}

// archiveFacts tells of the disk.
func archiveFacts(s status.Status, r reading, b timebar, left time.Duration, now time.Time) []fact {
	if r.At.IsZero() {
		return nil
	}
	free := fact{Term: "Disk free", Value: units.Size(r.Free)}
	switch {
	case r.FreeErr != nil:
		free.Value, free.Class = "not known", "warn"
		free.Note = clean(r.FreeErr.Error())
	case left > 0:
		free.Note = "full in about " + units.Span(left) + " at the pace of the last minutes"
		if left < fullWithin {
			free.Class = "warn"
		}
	}
	all := []fact{
		{Term: "Archive", Value: units.Size(b.Bytes), Note: things(len(r.Archive.Generations), "generation")},
		free,
		{Term: "Segments", Value: units.Thousands(s.SegmentsSealed) + " sealed", Note: units.Thousands(s.SegmentsVerified) + " verified, " + units.Thousands(s.SegmentsDamaged) + " damaged since the start"},
		{Term: "Rebases", Value: fmt.Sprintf("%d done, %d failed", s.Rebase.Done, s.Rebase.Failed), Note: rebaseNote(s, now)},
	}
	if s.Rebase.LastFailure != "" {
		all = append(all, fact{Term: "Rebase failed", Value: short(clean(s.Rebase.LastFailure))})
	}
	return append(all, fact{Term: "Folder", Value: clean(r.Archive.Dir), Code: true})
}

func rebaseNote(s status.Status, now time.Time) string {
	switch {
	case s.Rebase.Running:
		return "one runs for " + units.Span(now.Sub(s.Rebase.Began)) + ": " + clean(s.Rebase.Why)
	case s.Rebase.LastTook > 0:
		return "the last one took " + seconds(s.Rebase.LastTook.Seconds())
	}
	return ""
}

// fills says when the disk is full at the pace of the window; 0 where nothing
// comes, or that is far away.
func fills(all []sample, r reading) time.Duration {
	const far = 90 * 24 * time.Hour
	if len(all) < 30 || r.At.IsZero() || r.FreeErr != nil {
		return 0
	}
	first, last := all[0], all[len(all)-1]
	pace := float64(last.bytesIn-first.bytesIn) / last.at.Sub(first.at).Seconds()
	if pace <= 0 || float64(r.Free)/pace > far.Seconds() {
		return 0
	}
	return max(time.Duration(float64(r.Free)/pace*float64(time.Second)), time.Second)
}

func ago(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return units.Span(now.Sub(t)) + " ago"
}

func at(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return clock(t)
}

// causes writes counts by cause: begun: initial 1, backlog 2.
func causes(what string, by map[string]int64) string {
	var all []string
	for _, cause := range slices.Sorted(maps.Keys(by)) {
		all = append(all, fmt.Sprintf("%s %d", cause, by[cause]))
	}
	if len(all) == 0 {
		return ""
	}
	return what + ": " + strings.Join(all, ", ")
}
