package archive

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"replicad/replica/units"
)

// Target is what to restore to; the zero value is the latest moment.
type Target struct {
	time       time.Time
	offset     int64
	text       string
	generation int           // zero for any
	stale      time.Duration // how old the state may be; below zero for quiet
	// Which of them hold. Of a bare number both do: it is whichever the archive
	// has.
	byTime, byOffset bool
}

// In gives the target in one generation: latest is where that ends.
func (t Target) In(generation int) Target {
	t.generation = generation
	return t
}

// AtMost gives the target with a bound on how old the state may be: at a time, or
// now for the latest moment. Without it a time has a bound of 60 s, and the
// latest moment has none.
func (t Target) AtMost(stale time.Duration) Target {
	t.stale = stale
	return t
}

// bound is how old the state may be; false where it may have any age.
func (t Target) bound() (time.Duration, bool) {
	switch {
	case t.stale > 0:
		return t.stale, true
	case t.byTime:
		return quiet, true
	}
	return 0, false
}

// String gives the target as it was written.
func (t Target) String() string {
	text := cmp.Or(t.text, "latest")
	if t.generation > 0 {
		text += fmt.Sprintf(" in generation %d", t.generation)
	}
	return text
}

// smallNumber is what a bare number must reach to be a moment: below it, people
// mean minutes or seconds as often as an offset.
const smallNumber = 100_000

// ParseTarget reads latest, a time, or an offset. A time is RFC 3339,
// "2006-01-02 15:04:05", 22:50 or "yesterday 22:50" (local), unix seconds or
// milliseconds, or a duration before now (15m, 2d). A bare number is a time or an
// offset, whichever the archive has; offset:N and time:N say which.
func ParseTarget(s string, now time.Time) (t Target, err error) {
	t.text = s
	if s == "" || s == "latest" {
		return t, nil
	}
	if text, named := strings.CutPrefix(s, "offset:"); named {
		if t.offset, t.byOffset = number(text); !t.byOffset {
			return t, fmt.Errorf("%q is no replication offset", text)
		}
		return t, nil
	}
	text, named := strings.CutPrefix(s, "time:")
	if n, ok := number(text); ok {
		if !named && n < smallNumber {
			return t, fmt.Errorf("%q is no moment: is %[1]sm (minutes ago) meant, or offset:%[1]s?", s)
		}
		t.offset, t.byOffset, t.time, t.byTime = n, !named, unixTime(n), true
		return t, nil
	}
	t.byTime = true
	if d, err := units.ParseAge(text); err == nil {
		t.time = now.Add(-d)
		return t, nil
	}
	// A time without a zone is local.
	if at, ok := clock(text, now); ok {
		t.time = at
		return t, nil
	}
	for _, form := range []string{time.RFC3339, time.DateTime, "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04", time.DateOnly} {
		if t.time, err = time.ParseInLocation(form, text, time.Local); err == nil {
			return t, nil
		}
	}
	return t, fmt.Errorf("%q is no moment: want latest, 2006-01-02T15:04:05Z, \"2006-01-02 15:04:05\" (local time), 22:50, \"yesterday 22:50\", unix seconds or milliseconds, a duration ago as 15m or 2d, or offset:N", s)
}

// clock reads a time of day, as 22:50 or 22:50:30: of today or of yesterday where
// that is said before it, and else the last that has come.
func clock(s string, now time.Time) (at time.Time, ok bool) {
	day, text, named := strings.Cut(s, " ")
	if !named {
		text = s
	}
	of, err := time.Parse(time.TimeOnly, text)
	if err != nil {
		of, err = time.Parse("15:04", text)
	}
	back, known := map[string]int{"today": 0, "yesterday": 1}[day]
	if err != nil || named != known {
		return at, false
	}
	y, m, d := now.Local().Date()
	at = time.Date(y, m, d-back, of.Hour(), of.Minute(), of.Second(), 0, time.Local)
	if !named && at.After(now) {
		at = time.Date(y, m, d-1, of.Hour(), of.Minute(), of.Second(), 0, time.Local)
	}
	return at, true
}

// number reads a number that is not below zero.
func number(s string) (n int64, ok bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n >= 0
}

// unixTime takes seconds, or milliseconds where seconds would lie beyond the
// year 5000.
func unixTime(n int64) time.Time {
	if n < 1e11 {
		return time.Unix(n, 0)
	}
	return time.UnixMilli(n)
}

// Range is what a generation can be restored to.
type Range struct {
	Generation int       `json:"generation"`
	From       time.Time `json:"from"`
	To         time.Time `json:"to"`
	FromOffset int64     `json:"from_offset"`
	ToOffset   int64     `json:"to_offset"`
}

// Point is the place in an archive that a target means.
type Point struct {
	Generation int    `json:"generation"`
	ReplID     string `json:"replication_id"`
	// Offset is the last byte that may be in the restored copy. The copy ends
	// at the last boundary at or before it.
	Offset int64 `json:"offset"`
	// Time is when the history reached Offset, by the marks of the timeline.
	// Next is the time of the next mark, zero where there is none.
	Time time.Time `json:"time"`
	Next time.Time `json:"next,omitzero"`
	// Twice is not nil where the clock was stepped back, so that the time came
	// twice: Time is the second time, Twice the first.
	Twice *Moment `json:"twice,omitempty"`
	// Lost is not nil where a generation before holds another state for the
	// time: what a failover has lost.
	Lost *LostPoint `json:"lost,omitempty"`
}

// LostPoint is a place behind a fork, in the generation that was left there.
type LostPoint struct {
	Generation int       `json:"generation"`
	Offset     int64     `json:"offset"`
	Time       time.Time `json:"time"`
}

// ErrUnavailable is what errors.Is finds in every [UnavailableError].
var ErrUnavailable = errors.New("nothing can be restored to")

// UnavailableError says that an archive has nothing for a target, and what it
// has instead.
type UnavailableError struct {
	Target   Target
	Reason   string
	Before   time.Time // the nearest time before the target that there is; zero for none
	After    time.Time // the nearest time behind it that there is; zero for none
	Ranges   []Range   // oldest first
	Problems []error   // of generations that could not be read
}

// Error says what is available instead.
func (e *UnavailableError) Error() string {
	text := fmt.Sprintf("%v %s: %s", ErrUnavailable, e.Target, e.Reason)
	switch {
	case !e.Before.IsZero() && !e.After.IsZero():
		text += fmt.Sprintf("; the nearest times are %s and %s", stamp(e.Before), stamp(e.After))
	case !e.Before.IsZero() || !e.After.IsZero():
		text += "; the nearest time is " + stamp(cmp.Or(e.Before, e.After))
	}
	for _, r := range e.Ranges {
		text += fmt.Sprintf("\n  generation %d: %s to %s, offsets %d to %d", r.Generation, stamp(r.From), stamp(r.To), r.FromOffset, r.ToOffset)
	}
	for _, p := range e.Problems {
		text += fmt.Sprintf("\n  %v", p)
	}
	return text
}

// Unwrap returns ErrUnavailable and what is wrong with generations.
func (e *UnavailableError) Unwrap() []error { return append([]error{ErrUnavailable}, e.Problems...) }

// stamp prints a time so that --to takes it back and means the same.
func stamp(t time.Time) string { return t.Local().Format("2006-01-02T15:04:05.000Z07:00") }

// quiet is how long a master may send nothing: its pings come every ten seconds
// (repl-ping-replica-period). So long after the last byte a generation is still
// taken to be what the master had.
const quiet = time.Minute

// Locate finds the generation and the offset that a target means, in the
// archive of one master, and opens that generation. The error is an
// [*UnavailableError] where there is none.
func Locate(dir string, to Target, now time.Time) (*Reader, Point, error) {
	for tries := 0; ; tries++ {
		r, p, err := locate(dir, to, now)
		if errors.Is(err, fs.ErrNotExist) && tries < 3 {
			continue // pruned meanwhile
		}
		return r, p, err
	}
}

func locate(dir string, to Target, now time.Time) (*Reader, Point, error) {
	isArchive, err := exists(filepath.Join(dir, lockName))
	if err != nil {
		return nil, Point{}, err
	}
	if !isArchive {
		return nil, Point{}, &UnavailableError{Target: to, Reason: fmt.Sprintf("%s is no archive", dir)}
	}
	running := locked(filepath.Join(dir, lockName))
	done, _, err := generations(dir)
	if err != nil {
		return nil, Point{}, err
	}
	e := &UnavailableError{Target: to}
	if to.generation > 0 {
		done = slices.DeleteFunc(done, func(g generation) bool { return g.number != to.generation })
	}
	var readers []*Reader // newest first
	var chosen *Reader
	defer func() {
		for _, r := range readers {
			if r != chosen {
				r.Close()
			}
		}
	}()
	for _, g := range slices.Backward(done) {
		r, err := openReader(g)
		if err != nil {
			e.Problems = append(e.Problems, err)
			continue
		}
		r.Running = running
		readers = append(readers, r)
		e.Ranges = append([]Range{r.Range()}, e.Ranges...)
	}
	if len(readers) == 0 {
		e.Reason = "there is no generation that can be read"
		if to.generation > 0 {
			e.Reason = "there is no such generation, or none that can be read: 'replicad list' names them"
		}
		return nil, Point{}, e
	}
	if newest := done[len(done)-1]; !to.byTime && !to.byOffset && readers[0].Number != newest.number {
		e.Reason = fmt.Sprintf("generation %d, which is the latest, can't be read", newest.number)
		e.Before = readers[0].Range().To
		return nil, Point{}, e
	}
	r, p, err := choose(readers, to, now, e)
	if err == nil {
		// A newer generation that can't be read may have what was meant.
		for _, g := range done {
			if g.number > r.Number && !slices.ContainsFunc(readers, func(r *Reader) bool { return r.Number == g.number }) {
				e.Reason = fmt.Sprintf("generation %d can't be read, and may have it; --generation %d takes what generation %d has, as of %s", g.number, r.Number, r.Number, stamp(p.Time))
				return nil, Point{}, e
			}
		}
	}
	chosen = r
	return r, p, err
}

// choose picks one of the readers, newest first; nil beside an error.
func choose(readers []*Reader, to Target, now time.Time, e *UnavailableError) (*Reader, Point, error) {
	switch {
	case !to.byTime && !to.byOffset:
		r, p, err := readers[0].pointAt(readers[0].End())
		if bound, is := to.bound(); err == nil && is && now.Sub(p.Time) > bound {
			return nil, p, e.tooOld(p.Time, now, bound)
		}
		return r, p, err
	case !to.byTime:
		return chooseOffset(readers, to.offset, e)
	case !to.byOffset:
		return chooseTime(readers, to, now, e)
	}
	r, p, err := chooseOffset(readers, to.offset, e)
	timed, q, err2 := chooseTime(readers, to, now, e)
	switch {
	case err == nil && err2 == nil:
		e.Reason = fmt.Sprintf("it is both a time and an offset of this archive: say time:%d or offset:%d", to.offset, to.offset)
		e.Before, e.After = time.Time{}, time.Time{}
		return nil, Point{}, e
	case err == nil:
		return r, p, nil
	case err2 == nil:
		return timed, q, nil
	}
	e.Reason = "it is neither a time nor an offset of this archive"
	return nil, Point{}, e
}

func chooseOffset(readers []*Reader, offset int64, e *UnavailableError) (*Reader, Point, error) {
	for _, r := range readers {
		if offset >= r.Timeline.BaseOffset && offset <= r.End() {
			return r.pointAt(offset)
		}
	}
	e.Reason = "no generation has that offset"
	return nil, Point{}, e
}

// tooOld says that the last state before a moment is older than it may be.
func (e *UnavailableError) tooOld(is, asked time.Time, bound time.Duration) error {
	age := asked.Sub(is).Round(time.Second)
	e.Before = is
	e.Reason = fmt.Sprintf("nothing was received in the %v before it, and a state may be %v old: --at-most-stale %v takes this one", age, bound, age+time.Second)
	return e
}

func chooseTime(readers []*Reader, to Target, now time.Time, e *UnavailableError) (*Reader, Point, error) {
	t := to.time
	for _, r := range readers {
		span := r.Range()
		if span.From.After(t) && !r.Timeline.SteppedBack {
			e.After = span.From
			continue
		}
		at, next, twice, err := r.At(t)
		if err != nil {
			return nil, Point{}, err
		}
		if span.From.After(t) && at.Offset == r.Timeline.BaseOffset { // no mark of the clock that was stepped back is before t
			e.After = span.From
			continue
		}
		// A master is never quiet for long. So a time long behind what was
		// received is one at which the master may have had more.
		if bound, _ := to.bound(); t.Sub(at.Time) > bound {
			err := e.tooOld(at.Time, t, bound)
			if t.Sub(now) > bound {
				e.Reason = "that is still to come: latest is the newest state"
			}
			return nil, Point{}, err
		}
		p := Point{Generation: r.Number, ReplID: r.ReplID(at.Offset), Offset: at.Offset, Time: at.Time, Next: next.Time, Twice: twice}
		p.Lost, err = r.lostAt(readers, t, at.Offset)
		return r, p, err
	}
	e.Reason = "that is before everything that is kept"
	return nil, Point{}, e
}

// lostAt says what the generation that was left at the reader's fork has for a
// time, where the reader's has no more than the fork.
func (r *Reader) lostAt(readers []*Reader, t time.Time, offset int64) (*LostPoint, error) {
	fork := r.Timeline.Fork
	if fork == (Fork{}) || offset > fork.Offset {
		return nil, nil
	}
	for _, was := range readers {
		if was.Number != fork.Generation {
			continue
		}
		at, _, _, err := was.At(t)
		if err != nil || at.Offset <= fork.Offset {
			return nil, err
		}
		return &LostPoint{was.Number, at.Offset, at.Time}, nil
	}
	return nil, nil
}

func (r *Reader) pointAt(offset int64) (*Reader, Point, error) {
	t, err := r.When(offset)
	if err != nil {
		return nil, Point{}, err
	}
	return r, Point{Generation: r.Number, ReplID: r.ReplID(offset), Offset: offset, Time: t}, nil
}
