package statuspage

import (
	"fmt"
	"time"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/daemon/status"
	"replicad/replica/units"
)

// From when on what is not as it should be is called so.
const (
	cutFor     = 5 * time.Second  // a link that is down longer is not merely reconnecting
	lagFor     = 10 * time.Second // everysec makes a second or two
	fullWithin = 6 * time.Hour    // the disk, at the pace of the last minutes
)

// verdict says whether a backup is sound. Class is good, warn or bad; Word
// changes with what is the matter, and has no figure that runs; the reasons have.
type verdict struct {
	Class   string
	Word    string
	Reasons []string
}

// add takes the graver class, and the word of the first reason that has it.
func (v *verdict) add(class, word, reason string) {
	grave := map[string]int{"good": 0, "warn": 1, "bad": 2}
	if grave[class] > grave[v.Class] {
		v.Class, v.Word = class, word
	}
	v.Reasons = append(v.Reasons, reason)
}

// judge looks at all that can make a backup less than sound, the gravest first.
// left is when the disk is full at the present pace; 0 where that is not known.
func judge(s status.Status, r reading, lag, left time.Duration, now time.Time) verdict {
	v := verdict{Class: "good", Word: "Sound"}
	if s.Stalled != "" {
		v.add("bad", "Can't write", fmt.Sprintf("For %s the archive can't write, and the link waits: %s", units.Span(now.Sub(s.StalledSince)), sentence(s.Stalled)))
	}
	judgeLink(&v, s, now)
	judgeArchive(&v, s, r)
	if lag > lagFor {
		v.add("warn", "Lagging", fmt.Sprintf("%s that were received wait for their fsync, for %s now.", units.Size(s.LagBytes()), units.Span(lag)))
	}
	if s.Overfull {
		v.add("warn", "Too large", "The archive is larger than max-bytes, and holds nothing that may go.")
	}
	if left > 0 && left < fullWithin {
		v.add("warn", "Disk fills", fmt.Sprintf("At the pace of the last minutes the disk is full in %s.", units.Span(left)))
	}
	return v
}

// judgeLink looks at the link.
func judgeLink(v *verdict, s status.Status, now time.Time) {
	down := now.Sub(s.DownSince)
	why := ""
	if s.LastFailure != "" && !s.LastFailureAt.Before(s.DownSince) {
		why = " The last failure: " + sentence(s.LastFailure)
	}
	switch {
	case s.Up():
	case !s.Wanted():
		v.add("warn", "Not following", "No master is followed, for REPLICAOF NO ONE was ordered; what came before it can be restored.")
	case !s.Following():
		v.add("bad", "No master", "No Sentinel has named the master yet: nothing is backed up.")
	case s.Phase == replica.Transfer:
		v.add("warn", "Full sync", "A full sync is under way; what came before it can be restored meanwhile.")
	case down < cutFor:
		v.add("warn", "Connecting", "The link does not stream yet."+why)
	default:
		v.add("bad", "Link down", fmt.Sprintf("Nothing has been received for %s: what the master writes is not backed up.%s", units.Span(down), why))
	}
}

// judgeArchive looks at what can be restored.
func judgeArchive(v *verdict, s status.Status, r reading) {
	switch {
	case r.At.IsZero():
		return
	case r.Err != nil:
		v.add("bad", "Can't read", "The archive can't be read: "+sentence(r.Err.Error()))
		return
	}
	sound, damaged, segments := 0, 0, 0
	for _, g := range r.Archive.Generations {
		switch {
		case restorable(g):
			sound++
		case g.Problem != "":
			damaged++
		}
		segments += g.Damaged
	}
	if damaged > 0 {
		v.add("warn", "Damage", fmt.Sprintf("Damaged, and not restorable: %s. The table of generations says why.", things(damaged, "generation")))
	}
	if segments > 0 {
		v.add("warn", "Damage", fmt.Sprintf("Not what was written: %s. replicad verify tells more, and a rebase makes a sound generation.", things(segments, "segment")))
	}
	if sound == 0 {
		v.add("bad", "No backup yet", "Nothing can be restored yet: the first full sync is not done.")
	}
}

// restorable says whether a generation can be restored at all.
func restorable(g archive.Generation) bool { return g.Complete && g.Problem == "" && !g.From.IsZero() }

// things writes a number with its noun.
func things(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return units.Thousands(int64(n)) + " " + noun + "s"
}
