package daemon

import (
	"fmt"
	"time"

	"replicad/replica/archive"
)

const (
	// pruneEvery is how often it is looked whether a generation may go; it is
	// also looked whenever a new one was made.
	pruneEvery = 10 * time.Minute
	// boundEvery is how often with max-bytes, which a stream reaches sooner
	// than a window passes.
	boundEvery = 30 * time.Second
	// overfullEvery is how often it is said that nothing more can go.
	overfullEvery = time.Hour
)

// prune lets old generations go, on a goroutine.
func (f *follower) prune(now time.Time) {
	if f.retention.KeepGenerations == 0 || f.pruning {
		return
	}
	f.pruning = true
	f.nextPrune = now.Add(pruneEvery)
	if f.retention.MaxBytes > 0 {
		f.nextPrune = now.Add(boundEvery)
	}
	f.work.Go(func() {
		plan, err := archive.Prune(f.dir, f.retention, time.Now(), false)
		f.loop.Post(func() { f.pruned(plan, err) })
	})
}

// pruned tells what went, and whether a rebase would make room.
func (f *follower) pruned(p archive.Plan, err error) {
	f.pruning = false
	for _, r := range p.Removals {
		if r.Held && f.relay != nil {
			if again := f.relay.LetGo(r.Generation, time.Now()); again > 0 {
				f.nextPrune = time.Now().Add(min(again, time.Until(f.nextPrune)))
			}
		}
		if r.Removed {
			f.tell(archive.Event{Kind: archive.GenerationPruned, Generation: r.Generation, Bytes: r.Bytes, Text: f.reason(r)})
		}
	}
	if err != nil {
		f.tell(archive.Event{Kind: archive.GenerationPruned, Err: err})
		return
	}
	f.near = f.retention.MaxBytes > 0 && p.BytesAfter > f.retention.MaxBytes/10*9
	if now := time.Now(); p.Overfull && now.After(f.nextOverfull) {
		f.nextOverfull = now.Add(overfullEvery)
		f.tell(archive.Event{Kind: archive.Overfull, Bytes: p.BytesAfter, Total: f.retention.MaxBytes})
	}
}

// reason says why a generation went, and what can't be restored any more.
func (f *follower) reason(r archive.Removal) string {
	why := fmt.Sprintf("keep-for %v needs it no longer", f.retention.KeepFor)
	if r.Reason == archive.TooLarge {
		why = fmt.Sprintf("the archive is larger than max-bytes %d", f.retention.MaxBytes)
	}
	if r.To.IsZero() {
		return why
	}
	const form = "2006-01-02T15:04:05.000Z07:00"
	return fmt.Sprintf("%s; no longer restorable: %s to %s", why, r.From.Local().Format(form), r.To.Local().Format(form))
}
