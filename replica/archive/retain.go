package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"replicad/replica/units"
)

// Defaults of [Retention].
const (
	DefaultKeepFor         = 7 * 24 * time.Hour
	DefaultKeepGenerations = 2 // the least that may be asked for
)

// Retention says which generations of an archive stay. Whole generations go,
// the oldest first, so that what stays has no hole. The newest never goes.
type Retention struct {
	// KeepFor is the window: every time in it that can be restored stays so.
	KeepFor time.Duration
	// KeepGenerations is how many stay however old they are.
	KeepGenerations int
	// MaxBytes bounds the size of the finished generations of one archive,
	// where a file that several have counts once; 0 is no bound. It overrides
	// the other two. A full sync that is under way does not count, for it may
	// fail.
	MaxBytes int64
}

// Check says what is wrong with the values.
func (r Retention) Check() error {
	switch {
	case r.KeepFor < 0:
		return fmt.Errorf("keep-for %v is below zero", r.KeepFor)
	case r.KeepGenerations < DefaultKeepGenerations:
		return fmt.Errorf("keep-generations %d: at least %d must stay", r.KeepGenerations, DefaultKeepGenerations)
	case r.MaxBytes < 0:
		return fmt.Errorf("max-bytes %d is below zero", r.MaxBytes)
	}
	return nil
}

// Reason is why a generation goes.
type Reason string

// The reasons.
const (
	TooOld   Reason = "age"   // later generations have all of the window
	TooLarge Reason = "bytes" // the archive is larger than MaxBytes
)

// Plan says which generations go, and what that means.
type Plan struct {
	WindowStart time.Time `json:"window_start"`
	Bytes       int64     `json:"bytes"`       // of the finished generations
	BytesAfter  int64     `json:"bytes_after"` // of those that stay
	Removals    []Removal `json:"removals"`    // oldest first
	// Overfull: no more can go, and the archive is larger than MaxBytes.
	Overfull bool     `json:"overfull"`
	Warnings []string `json:"warnings,omitempty"`

	counted int // sound generations
	unseen  int // the newest generation that stays because its age was not seen
}

// Removal is a generation that goes.
type Removal struct {
	Generation int    `json:"generation"`
	Dir        string `json:"dir"`
	Bytes      int64  `json:"bytes"` // that go from the disk
	Reason     Reason `json:"reason"`
	// From and To are the times that can't be restored without the generation,
	// To not included; both are zero where there are none.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
	// Held: somebody reads the generation, or another prune removes it. It
	// stays, and so do those behind it.
	Held    bool `json:"held"`
	Removed bool `json:"removed"`

	sound bool
}

// sound says whether a generation can be restored: its base was read again and
// its timeline tells where everything is.
func (g Generation) sound() bool { return g.unsound() == "" }

// unsound says why a generation is not sound; "" where it is.
func (g Generation) unsound() string {
	switch {
	case g.Problem != "":
		return g.Problem
	case !g.Complete:
		return "it is not complete"
	case !g.BaseVerified:
		return "its base is not verified yet"
	}
	return ""
}

// retained gives the generations that retention looks at, oldest first: those
// that are finished, or were. While a daemon still writes the generation before
// the newest, the newest is a rebase that may yet fail, and does not count.
func (m Master) retained() []Generation {
	all := slices.DeleteFunc(slices.Clone(m.Generations), func(g Generation) bool {
		return filepath.Ext(g.Dir) == tmpSuffix
	})
	slices.SortStableFunc(all, func(a, b Generation) int { return a.Number - b.Number })
	if n := len(all); n > 1 && m.Running && all[n-2].Problem == "" && all[n-2].Complete && !all[n-2].Closed {
		all = all[:n-1]
	}
	return all
}

// Plan says which generations of a described archive go. It reads no file.
//
// The generation that restores a time is the newest that began at or before the
// time ([Locate]). So a generation may go by age where a later sound one began
// before the window. A clock that was wrong makes generations stay, never go:
// a generation that received something inside the window stays whatever the
// later ones claim, and nothing goes by age where the newest began after now. And
// the marks must have seen the whole window go by since the later one began: a
// clock that was set ahead by a year ages nothing.
func (r Retention) Plan(m Master, now time.Time) Plan {
	all := m.retained()
	p := Plan{WindowStart: now.Add(-r.KeepFor), Removals: []Removal{}}
	for _, g := range all {
		p.Bytes += g.Frees
		if g.sound() {
			p.counted++
		}
	}
	if len(all) == 0 {
		return p
	}
	newest := all[len(all)-1]
	if !newest.sound() {
		r.settle(&p)
		p.Warnings = []string{fmt.Sprintf("nothing goes as long as the newest generation, %d, is not known to be sound: %s", newest.Number, newest.unsound())}
		return p
	}
	clockRight := !newest.From.After(now)
	left, bytes := p.counted, p.Bytes
	for i, g := range all[:len(all)-1] {
		later, reason := all[i+1:], TooLarge
		enough := left > r.KeepGenerations || !g.sound()
		old := clockRight && enough && g.outlived(later, p.WindowStart, now)
		if old && seen(later, now) < r.KeepFor {
			old, p.unseen = false, max(p.unseen, g.Number)
		}
		if old {
			reason = TooOld
		} else if !r.full(bytes) {
			break
		}
		gone := Removal{Generation: g.Number, Dir: g.Dir, Bytes: g.Frees, Reason: reason, sound: g.sound()}
		gone.From, gone.To = g.alone(later)
		p.Removals = append(p.Removals, gone)
		bytes -= g.Frees
		if g.sound() {
			left--
		}
	}
	r.settle(&p)
	return p
}

func (r Retention) full(bytes int64) bool { return r.MaxBytes > 0 && bytes > r.MaxBytes }

// outlived says whether later generations have all that this one has of the
// window.
func (g Generation) outlived(later []Generation, window, now time.Time) bool {
	if g.To.After(window) && !g.To.After(now) {
		return false
	}
	return slices.ContainsFunc(later, func(l Generation) bool { return l.sound() && !l.From.After(window) })
}

// seen is how much time has gone by since the first sound one of some generations
// began, by what their marks have seen. Generations may overlap: after a rebase a
// new one begins in the past.
func seen(all []Generation, now time.Time) time.Duration {
	newest := all[len(all)-1]
	age := witnessed(now.Sub(newest.To)) // since where the one below begins
	most := time.Duration(0)
	for i, g := range slices.Backward(all) {
		if i+1 < len(all) {
			gap := all[i+1].From.Sub(g.To)
			age += min(witnessed(gap), longestGap) + min(0, gap)
		}
		if age += g.Witnessed; g.sound() {
			most = max(most, age)
		}
	}
	return most
}

// alone gives the times that only this generation restores: up to where a later
// one begins, or up to its own end where the master was not followed in
// between.
func (g Generation) alone(later []Generation) (from, to time.Time) {
	if g.From.IsZero() {
		return from, to
	}
	from, to = g.From, g.To.Add(time.Millisecond)
	for i, l := range later {
		if l.From.IsZero() {
			continue
		}
		// A silent master is no gap between this generation and the next.
		if l.From.Before(to) || i == 0 && !l.From.After(g.To.Add(quiet)) {
			to = l.From
		}
	}
	if !to.After(from) {
		return time.Time{}, time.Time{}
	}
	return from, to
}

// settle adds up what goes, and warns of what goes though keep-for or
// keep-generations want it.
func (r Retention) settle(p *Plan) {
	p.BytesAfter, p.Warnings = p.Bytes, nil
	if p.unseen > 0 {
		p.Warnings = append(p.Warnings, fmt.Sprintf("generations up to %d stay: they are older than keep-for by the clock, but since then less time was seen to go by; the clock was set ahead, or nothing was received for long", p.unseen))
	}
	sound := p.counted
	for _, g := range p.Removals {
		if g.Held {
			p.Warnings = append(p.Warnings, fmt.Sprintf("generation %d is held by a reader: it stays, and so do those behind it", g.Generation))
			continue
		}
		p.BytesAfter -= g.Bytes
		if g.sound {
			sound--
		}
		from := slices.MaxFunc([]time.Time{g.From, p.WindowStart}, time.Time.Compare)
		if g.Reason == TooLarge && from.Before(g.To) {
			p.Warnings = append(p.Warnings, fmt.Sprintf("max-bytes %s: without generation %d the times from %s to %s can't be restored, though keep-for %s wants them",
				units.FormatSize(r.MaxBytes), g.Generation, stamp(from), stamp(g.To), units.FormatAge(r.KeepFor)))
		}
	}
	if sound < min(r.KeepGenerations, p.counted) {
		p.Warnings = append(p.Warnings, fmt.Sprintf("max-bytes %s: of the %d generations that keep-generations wants %d stay", units.FormatSize(r.MaxBytes), r.KeepGenerations, sound))
	}
	if p.Overfull = r.full(p.BytesAfter); p.Overfull {
		p.Warnings = append(p.Warnings, fmt.Sprintf("max-bytes %s: %d bytes stay, and no more can go", units.FormatSize(r.MaxBytes), p.BytesAfter))
	}
}

// Prune removes the generations of one master's archive that retention lets go.
// The daemon that writes the archive may call it, and another process beside
// the daemon. With dryRun it removes nothing, and says what would go. The plan
// says what went, also beside an error.
//
// A generation that is held by a [Reader] stays, and so do those behind it.
func Prune(dir string, r Retention, now time.Time, dryRun bool) (Plan, error) {
	p := Plan{Removals: []Removal{}}
	if err := r.Check(); err != nil {
		return p, err
	}
	m, ok, err := Describe(dir)
	if err != nil {
		return p, err
	}
	if !ok {
		return p, fmt.Errorf("%s is no archive", dir)
	}
	if !dryRun {
		if err := sweepPruned(dir); err != nil {
			return p, err
		}
	}
	p = r.Plan(m, now)
	if len(p.Removals) > 0 {
		err = p.carryOut(dryRun)
		r.settle(&p)
	}
	return p, err
}

// carryOut removes the generations of the plan, up to the first that is held,
// and leaves in the plan what went, or would.
func (p *Plan) carryOut(dryRun bool) error {
	planned := p.Removals
	p.Removals = planned[:0]
	for _, g := range planned {
		f, err := LockDir(g.Dir, unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, fs.ErrNotExist): // another prune was faster
			p.Bytes -= g.Bytes
			if g.sound {
				p.counted--
			}
			continue
		case errors.Is(err, unix.EWOULDBLOCK):
			g.Held = true
			p.Removals = append(p.Removals, g)
			return nil
		case err != nil:
			return err
		}
		if !dryRun {
			err = generation{dir: g.Dir, number: g.Generation}.remove()
			g.Removed = err == nil
		}
		f.Close() // after the files went: another prune keeps out until then
		if err != nil {
			return err
		}
		p.Removals = append(p.Removals, g)
	}
	return nil
}

// remove removes a generation. Its name goes first, so that half a generation
// is never taken for a whole one. sweepPruned removes what a crash leaves.
func (g generation) remove() error {
	gone := g.dir + prunedSuffix
	if err := os.RemoveAll(gone); err != nil { // of the same number
		return err
	}
	if err := os.Rename(g.dir, gone); err != nil {
		return err
	}
	if err := SyncPath(filepath.Dir(g.dir)); err != nil {
		return err
	}
	if moved, err := filepath.EvalSymlinks(gone); err == nil && moved != gone {
		// It is a link to where somebody moved the folder.
		if err := os.RemoveAll(moved); err != nil {
			return err
		}
	}
	return os.RemoveAll(gone)
}

// sweepPruned removes what is left of generations whose removal a crash
// interrupted. A removal that is under way is left alone.
func sweepPruned(dir string) error { return RemoveLeft(dir, "generation-[0-9]*"+prunedSuffix) }
