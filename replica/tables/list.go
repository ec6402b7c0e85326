package tables

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"replicad/replica/archive"
	"replicad/replica/units"
)

// Archives prints a table for each master's archive below dir. It fits in 120
// columns; what it shortens JSON has in full.
func Archives(w io.Writer, dir string, masters []archive.Master) error {
	if len(masters) == 0 {
		_, err := fmt.Fprintf(w, "no archive below %s\n", dir)
		return err
	}
	for _, m := range masters {
		state := "no daemon writes to it"
		if m.Running {
			state = "a daemon writes to it"
		}
		fmt.Fprintf(w, "%s: %s\n", m.Name, state)
		t := tabwriter.NewWriter(w, 2, 0, 2, ' ', 0)
		fmt.Fprintln(t, "  GEN\tSTATE\tRESTORES FROM\tTO\tOFFSETS\tSIZE\tVERIFIED\tREPL ID")
		for _, g := range m.Generations {
			fmt.Fprintf(t, "  %d\t%s\t%s\t%s\t%d-%d\t%s\t%s\t%s\n", g.Number, stateOf(g), clock(g.From), clock(g.To),
				g.BaseOffset, g.EndOffset, units.Size(g.Bytes), verified(g), ids(g.Histories))
		}
		if err := t.Flush(); err != nil {
			return err
		}
		for _, g := range m.Generations {
			if g.Problem != "" {
				fmt.Fprintf(w, "  generation %d is damaged: %s\n", g.Number, g.Problem)
			}
		}
	}
	return nil
}

func stateOf(g archive.Generation) string {
	switch {
	case g.Problem != "":
		return "damaged"
	case !g.Complete:
		return "transferring"
	}
	return "complete"
}

// verified says what reading the files again has shown: of the base, then how
// many segments of how many.
func verified(g archive.Generation) string {
	if !g.Complete {
		return "none"
	}
	s := "pending"
	if g.BaseVerified {
		s = "base"
	}
	s += fmt.Sprintf(", %d/%d", g.Verified, g.Segments)
	if g.Damaged > 0 {
		s += fmt.Sprintf(", %d damaged", g.Damaged)
	}
	return s
}

// ids prints the replication id that holds at the end, and how many came before.
func ids(all []archive.History) string {
	if len(all) == 0 {
		return "-"
	}
	id := all[len(all)-1].ReplID
	if id == "" {
		id = "none (SYNC)"
	} else {
		id = id[:min(len(id), 8)]
	}
	if n := len(all) - 1; n > 0 {
		id += fmt.Sprintf(" +%d", n)
	}
	return id
}

// Located is what a target means in one master's archive.
type Located struct {
	Name        string         `json:"name"`
	Dir         string         `json:"dir"`
	Point       *archive.Point `json:"point,omitempty"`
	Unavailable string         `json:"unavailable,omitempty"` // why it means nothing there, and what there is instead
}

// Places prints what a target means in each archive.
func Places(w io.Writer, places []Located) error {
	for _, l := range places {
		if l.Point == nil {
			if _, err := fmt.Fprintf(w, "%s: %s\n", l.Name, l.Unavailable); err != nil {
				return err
			}
			continue
		}
		p := l.Point
		fmt.Fprintf(w, "%s: generation %d, offset %d, as of %s", l.Name, p.Generation, p.Offset, moment(p.Time))
		if !p.Next.IsZero() {
			fmt.Fprintf(w, "; the next bytes came by %s", moment(p.Next))
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
		if p.Twice != nil {
			fmt.Fprintf(w, "  the clock was stepped back, and the time came twice: the first time was offset %d, as of %s\n", p.Twice.Offset, moment(p.Twice.Time))
		}
	}
	return nil
}

// Pruned prints what went from an archive, or, in a dry run, would go.
func Pruned(w io.Writer, name string, p archive.Plan, dryRun bool) error {
	if len(p.Removals) == 0 {
		fmt.Fprintf(w, "%s: nothing to prune\n", name)
	}
	for _, g := range p.Removals {
		verb := "is removed"
		switch {
		case g.Held:
			verb = "stays for now, for somebody reads it"
		case dryRun:
			verb = "would be removed"
		}
		why := "later ones have all of the window since " + clock(p.WindowStart)
		if g.Reason == archive.TooLarge {
			why = "the archive is too large"
		}
		lost := "no time is lost"
		if !g.To.IsZero() {
			lost = fmt.Sprintf("the times from %s to %s are no longer restorable", moment(g.From), moment(g.To))
			if dryRun || g.Held {
				lost = fmt.Sprintf("the times from %s to %s would no longer be restorable", moment(g.From), moment(g.To))
			}
		}
		fmt.Fprintf(w, "%s: generation %d (%s) %s: %s; %s\n", name, g.Generation, units.Size(g.Bytes), verb, why, lost)
	}
	for _, s := range p.Warnings {
		fmt.Fprintf(w, "%s: warning: %s\n", name, s)
	}
	_, err := fmt.Fprintf(w, "%s: %s of %s stay\n", name, units.Size(p.BytesAfter), units.Size(p.Bytes))
	return err
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}

// moment prints a time so that --at and --to take it back.
func moment(t time.Time) string { return t.Local().Format("2006-01-02T15:04:05.000Z07:00") }
