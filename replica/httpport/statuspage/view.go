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

// view is what the template gets.
type view struct {
	Title   string
	Version string
	Now     time.Time
	Zone    string
	Masters []masterView
}

type masterView struct {
	ID, Name string
	Address  string
	Verdict  verdict
	Machine  machine
	Entered  time.Time
	For      string // how long the place has been in force
	Progress *progress
	Link     []fact
	Graphs   []graph
	Disk     status.Disk
	Bar      timebar
	Archive  []fact
	Commands []command
	Notices  []line // the newest first
	Steps    []line
}

// fact is a term with its value.
type fact struct {
	Term, Value, Note string
	Class             string // "", warn, or mono for the font of code
}

// progress is a full sync under way.
type progress struct {
	status.Transfer
	What string
	Text string
}

// view tells how things stand. It waits for disks as long as patience at most.
func (p *Page) view(now time.Time) view {
	v := view{Version: p.version, Now: now, Zone: now.Local().Format("MST")}
	wrong := 0
	for _, f := range p.masters {
		m := f.view(now, max(patience-time.Since(now), 0))
		if m.Verdict.Class != "good" {
			wrong++
		}
		v.Masters = append(v.Masters, m)
	}
	switch {
	case len(v.Masters) == 1:
		v.Title = v.Masters[0].Verdict.Word + ": " + v.Masters[0].Name
	case wrong == 0:
		v.Title = "Sound: all masters"
	default:
		v.Title = fmt.Sprintf("%d of %d masters need a look", wrong, len(v.Masters))
	}
	return v
}

func (f *followed) view(now time.Time, wait time.Duration) masterView {
	d := f.Disk(wait)
	s := f.Status()
	f.mu.Lock()
	samples, notices, steps, taken := slices.Clone(f.samples), slices.Clone(f.notices), slices.Clone(f.steps), f.taken
	f.mu.Unlock()
	slices.Reverse(notices)
	slices.Reverse(steps)
	left := fills(samples, d)
	bar := newTimebar(d.Archive.Generations, now)
	return masterView{
		ID: f.id, Name: f.Name(), Address: address(s),
		Verdict: judge(s, d, left, now),
		Machine: draw(s.State, s.Phase, taken), Entered: s.Entered, For: units.Span(now.Sub(s.Entered)),
		Progress: underWay(s, now),
		Link:     linkFacts(s, now),
		Graphs:   graphs(samples, now),
		Disk:     d, Bar: bar, Archive: archiveFacts(s, d, bar, left, now), Commands: commands(d.Archive, bar, now),
		Notices: notices[:min(len(notices), shownNotices)], Steps: steps,
	}
}

// address is how the master is reached.
func address(s status.Status) string {
	a := s.Address
	if a == "" {
		return "no master"
	}
	if s.TLS {
		a += ", TLS"
	}
	if s.User != "" {
		a += ", user " + s.User
	}
	return a
}

// underWay tells of the full sync that is under way; nil where none is.
func underWay(s status.Status, now time.Time) *progress {
	p := &progress{s.Transfer, "Full sync", ""}
	if !p.Running() {
		p = &progress{s.Rebase.Transfer, "Rebase: full sync of a second link", ""}
	}
	if !p.Running() {
		return nil
	}
	p.Text = units.Size(p.Bytes)
	if p.Total > 0 {
		p.Text += fmt.Sprintf(" of %s, %d %%", units.Size(p.Total), 100*p.Bytes/p.Total)
	}
	if p.Storing {
		p.Text += ", being made durable"
	}
	p.Text += ", for " + units.Span(now.Sub(p.Began))
	return p
}

// known says whether there is a history, which offsets belong to.
func known(s status.Status) bool { return s.ReplID != "" || s.Received > 0 }

// offset writes an offset where there is one.
func offset(n int64, is bool) string {
	if !is {
		return "none yet"
	}
	return units.Thousands(n)
}

// linkFacts tells of the link.
func linkFacts(s status.Status, now time.Time) []fact {
	behind := fact{"Lag", units.Size(s.LagBytes()) + ", " + seconds(s.Lag(now).Seconds()), "received, not fsynced yet", ""}
	if s.Lag(now) > lagFor {
		behind.Class = "warn"
	}
	all := []fact{
		{"Received", offset(s.Received, known(s)), "", ""},
		{"Stored", offset(s.Stored, known(s)), "", ""},
		{"Fsynced", offset(s.Durable, known(s)), "", ""},
		{"Acknowledged", offset(s.Acked, !s.AckTime.IsZero()), ago(s.AckTime, now), ""},
		behind,
		{"Last byte", ago(s.LastByte, now), "", ""},
		{"In and out", units.Size(s.BytesIn) + " in, " + units.Size(s.BytesOut) + " out", units.Thousands(s.Commands) + " commands since the start " + ago(s.Started, now), ""},
		{"Syncs", fmt.Sprintf("%d full, %d partial", s.FullSyncsDone, s.PartialSyncs), causes("begun", s.FullSyncs), ""},
	}
	if s.ReplID != "" {
		all = append(all, fact{"Replication id", s.ReplID, "", "mono"})
	}
	if s.FormerReplID != "" {
		all = append(all, fact{"Former id", s.FormerReplID, "up to offset " + units.Thousands(s.SecondOffset), "mono"})
	}
	if s.Paused {
		all = append(all, fact{"Paused", "the disk is behind; the master's bytes wait in TCP", "", "warn"})
	}
	if s.LastFailure != "" {
		all = append(all, fact{"Last failure", short(s.LastFailure), ago(s.LastFailureAt, now) + "; " + causes("by cause", s.Failures), ""})
	}
	if d := s.NextAttempt.Sub(now); !s.NextAttempt.IsZero() && s.Following() {
		all = append(all, fact{"Next attempt", "in " + units.Span(d+time.Second/2), "", ""})
	}
	return all
}

// archiveFacts tells of the disk; left is when the disk is full.
func archiveFacts(s status.Status, d status.Disk, b timebar, left time.Duration, now time.Time) []fact {
	if d.At.IsZero() {
		return nil
	}
	free := fact{Term: "Disk free", Value: units.Size(d.Free)}
	if left > 0 {
		free.Note = "full in about " + units.Span(left) + " at the pace of the last minutes"
	}
	if left > 0 && left < fullWithin {
		free.Class = "warn"
	}
	rebases := fact{Term: "Rebases", Value: fmt.Sprintf("%d done, %d failed", s.Rebase.Done, s.Rebase.Failed)}
	switch {
	case s.Rebase.Running:
		rebases.Note = "one runs for " + units.Span(now.Sub(s.Rebase.Began)) + ": " + s.Rebase.Why
	case s.Rebase.LastTook > 0:
		rebases.Note = "the last one took " + seconds(s.Rebase.LastTook.Seconds())
	}
	all := []fact{
		{"Archive", units.Size(b.Bytes), units.Count(int64(len(d.Archive.Generations)), "generation"), ""},
		free,
		{"Segments", units.Thousands(s.SegmentsSealed) + " sealed", units.Thousands(s.SegmentsVerified) + " verified, " + units.Thousands(s.SegmentsDamaged) + " damaged since the start", ""},
		rebases,
	}
	if s.Rebase.LastFailure != "" {
		all = append(all, fact{Term: "Rebase failed", Value: short(s.Rebase.LastFailure)})
	}
	return append(all, fact{"Folder", d.Archive.Dir, "", "mono"})
}

// fills says when the disk is full at the pace of the last minutes; 0 where that
// is not known or far away.
func fills(all []sample, d status.Disk) time.Duration {
	const far = 90 * 24 * time.Hour
	if len(all) < 30 || d.At.IsZero() || d.Err != nil {
		return 0
	}
	first, last := all[0], all[len(all)-1]
	pace := float64(last.bytesIn-first.bytesIn) / last.at.Sub(first.at).Seconds()
	left := float64(d.Free) / pace // seconds
	if pace <= 0 || left > far.Seconds() {
		return 0
	}
	return time.Duration(max(left, 1) * float64(time.Second))
}

func ago(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return units.Span(now.Sub(t)) + " ago"
}

// short is a text of others for a narrow place.
func short(s string) string { return units.Printable(s, 120) }

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
