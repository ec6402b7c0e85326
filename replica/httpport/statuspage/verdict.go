package statuspage

import (
	"fmt"
	"time"

	"replicad/replica"
	"replicad/replica/daemon/status"
	"replicad/replica/units"
)

// From these times on something is not as it should be.
const (
	cutFor     = 5 * time.Second  // a link that is down longer is not merely reconnecting
	lagFor     = 10 * time.Second // everysec makes a second or two
	fullWithin = 6 * time.Hour    // the disk, at the pace of the last minutes
)

// verdict says whether a backup is sound. Class is good, warn or bad. Word
// changes with what is the matter, and has no figure that runs; the reasons have.
type verdict struct {
	Class   string
	Word    string
	Reasons []string
}

func (v *verdict) warn(word, reason string) { v.add("warn", word, reason) }

func (v *verdict) bad(word, reason string) { v.add("bad", word, reason) }

// add adds a reason; the first one of the gravest class gives the word.
func (v *verdict) add(class, word, reason string) {
	if v.Class == "good" || v.Class != "bad" && class == "bad" {
		v.Class, v.Word = class, word
	}
	v.Reasons = append(v.Reasons, reason)
}

// judge looks at all that can make a backup less than sound, the gravest first.
// left is when the disk is full at the present pace; 0 where that is not known.
func judge(s status.Status, d stored, left time.Duration, now time.Time) verdict {
	v := verdict{Class: "good", Word: "Sound"}
	if s.Stalled != "" {
		v.bad("Can't write", fmt.Sprintf("For %s the archive can't write, and the link waits: %s", units.Span(now.Sub(s.StalledSince)), s.Stalled))
	}
	v.judgeLink(s, d.none(), now)
	v.judgeArchive(d)
	switch begins := s.Following() && !s.Up() && (s.Phase == replica.Transfer || asked(s) || now.Sub(s.DownSince) < cutFor); {
	case !d.none() || begins:
	case s.Up() && !d.at.After(s.Entered):
		v.warn("First sync", "The first full sync is done, and the archive is being read.")
	default:
		v.bad("No backup yet", "Nothing can be restored yet: the first full sync is not done.")
	}
	// During a full sync on two connections the stream waits for its base.
	if lag := s.Lag(now); lag > lagFor && s.Phase != replica.Transfer {
		v.warn("Lagging", fmt.Sprintf("%s that were received wait for their fsync, for %s now.", units.Size(s.LagBytes()), units.Span(lag)))
	}
	if s.Overfull {
		v.warn("Too large", "The archive is larger than max-bytes, and holds nothing that may go.")
	}
	if left > 0 && left < fullWithin {
		v.warn("Disk fills", fmt.Sprintf("At the pace of the last minutes the disk is full in %s.", units.Span(left)))
	}
	return v
}

// failed says whether an attempt has failed since the link is down.
func failed(s status.Status) bool {
	return s.LastFailure != "" && !s.LastFailureAt.Before(s.DownSince)
}

// asked says whether the master was asked for its data, and has not answered
// yet: with repl-diskless-sync-delay the answer takes seconds.
func asked(s status.Status) bool { return s.Phase == replica.Psync && !failed(s) }

// judgeLink looks at the link; none says that nothing can be restored yet. A
// first full sync is no alarm.
func (v *verdict) judgeLink(s status.Status, none bool, now time.Time) {
	down, why := now.Sub(s.DownSince), ""
	if failed(s) {
		why = " The last failure: " + s.LastFailure
	}
	switch {
	case s.Up():
	case !s.Wanted():
		v.warn("Not following", "No master is followed, for REPLICAOF NO ONE was ordered; what came before it can be restored.")
	case !s.Following():
		v.bad("No master", "No Sentinel has named the master yet: nothing is backed up.")
	case asked(s) && none:
		v.warn("First sync", "The master prepares the first full sync; when that is done, each moment from then on can be restored.")
	case s.Phase == replica.Transfer && none:
		v.warn("First sync", "The first full sync is under way; when it is done, each moment from then on can be restored.")
	case s.Phase == replica.Transfer:
		v.warn("Full sync", "A full sync is under way; what came before it can be restored meanwhile.")
	case down < cutFor || asked(s):
		v.warn("Connecting", "The link does not stream yet."+why)
	default:
		v.bad("Link down", fmt.Sprintf("Nothing has been received for %s: what the master writes is not backed up.%s", units.Span(down), why))
	}
}

func (v *verdict) judgeArchive(d stored) {
	if d.err != nil {
		v.bad("Can't read", "The archive can't be read: "+d.err.Error())
		return
	}
	if d.damaged > 0 {
		v.warn("Damage", fmt.Sprintf("Damaged, and not restorable: %s. The table of generations says why.", units.Count(d.damaged, "generation")))
	}
	if d.segments > 0 {
		v.warn("Damage", fmt.Sprintf("Not what was written: %s. replicad verify tells more, and a rebase makes a sound generation.", units.Count(d.segments, "segment")))
	}
}
