package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"replicad/replica/units"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Target is what to restore to.
type Target struct {
	kind   targetKind
	time   time.Time
	offset int64
	text   string
}

type targetKind uint8

const (
	toLatest targetKind = iota // the zero value
	toTime
	toOffset
	toNumber // a time or an offset, whichever the archive has
)

// String gives the target as it was written.
func (t Target) String() string {
	if t.text == "" {
		return "latest"
	}
	return t.text
}

// ParseTarget reads latest, a time, or an offset. A time is RFC 3339,
// "2006-01-02 15:04:05" (local), unix seconds or milliseconds, or a duration
// before now (15m, 2d). A bare number is a time or an offset, whichever the
// archive has; offset:N and time:N say which.
func ParseTarget(s string, now time.Time) (Target, error) {
	t := Target{text: s}
	kind, rest, named := strings.Cut(s, ":")
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case s == "" || s == "latest":
		return t, nil
	case err == nil && n >= 0:
		t.kind, t.offset, t.time = toNumber, n, unixTime(n)
		return t, nil
	case named && kind == "offset":
		t.kind = toOffset
		if t.offset, err = strconv.ParseInt(rest, 10, 64); err != nil || t.offset < 0 {
			return t, fmt.Errorf("%q is no replication offset", rest)
		}
		return t, nil
	case named && kind == "time":
		if n, err := strconv.ParseInt(rest, 10, 64); err == nil && n >= 0 {
			t.kind, t.time = toTime, unixTime(n)
			return t, nil
		}
		return ParseTarget(rest, now)
	}
	t.kind = toTime
	if d, err := units.ParseAge(s); err == nil {
		t.time = now.Add(-d)
		return t, nil
	}
	// A time without a zone is local.
	for _, form := range []string{time.RFC3339, time.DateTime, "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02T15:04", time.DateOnly} {
		if at, err := time.ParseInLocation(form, s, time.Local); err == nil {
			t.time = at
			return t, nil
		}
	}
	return t, fmt.Errorf("%q is no moment: want latest, 2006-01-02T15:04:05Z, \"2006-01-02 15:04:05\" (local time), unix seconds or milliseconds, a duration ago as 15m or 2d, or offset:N", s)
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
	var b strings.Builder
	fmt.Fprintf(&b, "%v %s: %s", ErrUnavailable, e.Target, e.Reason)
	switch {
	case !e.Before.IsZero() && !e.After.IsZero():
		fmt.Fprintf(&b, "; the nearest times are %s and %s", stamp(e.Before), stamp(e.After))
	case !e.Before.IsZero():
		fmt.Fprintf(&b, "; the nearest time is %s", stamp(e.Before))
	case !e.After.IsZero():
		fmt.Fprintf(&b, "; the nearest time is %s", stamp(e.After))
	}
	for _, r := range e.Ranges {
		fmt.Fprintf(&b, "\n  generation %d: %s to %s, offsets %d to %d", r.Generation, stamp(r.From), stamp(r.To), r.FromOffset, r.ToOffset)
	}
	for _, p := range e.Problems {
		fmt.Fprintf(&b, "\n  %v", p)
	}
	return b.String()
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
	var readers []*Reader // newest first
	keep := -1
	defer func() {
		for i, r := range readers {
			if i != keep {
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
		return nil, Point{}, e
	}
	if newest := done[len(done)-1]; to.kind == toLatest && readers[0].Number != newest.number {
		e.Reason = fmt.Sprintf("generation %d, which is the latest, can't be read", newest.number)
		e.Before = readers[0].Range().To
		return nil, Point{}, e
	}
	i, p, err := choose(readers, to, now, e)
	if err != nil {
		return nil, Point{}, err
	}
	keep = i
	return readers[i], p, nil
}

// choose picks one of the readers, newest first.
func choose(readers []*Reader, to Target, now time.Time, e *UnavailableError) (int, Point, error) {
	switch to.kind {
	case toLatest:
		p, err := readers[0].pointAt(readers[0].End())
		return 0, p, err
	case toOffset:
		return chooseOffset(readers, to.offset, e)
	case toTime:
		return chooseTime(readers, to.time, now, e)
	}
	// A bare number.
	i, p, err := chooseOffset(readers, to.offset, e)
	j, q, err2 := chooseTime(readers, to.time, now, e)
	switch {
	case err == nil && err2 == nil:
		e.Reason = fmt.Sprintf("it is both a time and an offset of this archive: say time:%d or offset:%d", to.offset, to.offset)
		e.Before, e.After = time.Time{}, time.Time{}
		return 0, Point{}, e
	case err == nil:
		return i, p, nil
	case err2 == nil:
		return j, q, nil
	}
	e.Reason = "it is neither a time nor an offset of this archive"
	return 0, Point{}, e
}

func chooseOffset(readers []*Reader, offset int64, e *UnavailableError) (int, Point, error) {
	for i, r := range readers {
		if offset >= r.Timeline.BaseOffset && offset <= r.End() {
			p, err := r.pointAt(offset)
			return i, p, err
		}
	}
	e.Reason = "no generation has that offset"
	return 0, Point{}, e
}

func chooseTime(readers []*Reader, t time.Time, now time.Time, e *UnavailableError) (int, Point, error) {
	e.Before, e.After = time.Time{}, time.Time{}
	for i, r := range readers {
		span := r.Range()
		if span.From.After(t) {
			e.After = span.From
			continue
		}
		// For a time behind the last byte the answer is that byte, if the
		// master can have had no more by then: a daemon follows the master,
		// or no more time has passed than a master may be quiet.
		live := i == 0 && r.Running && !t.After(now.Add(time.Second))
		if t.After(span.To.Add(quiet)) && !live {
			e.Before = span.To
			e.Reason = "nothing was received then"
			return 0, Point{}, e
		}
		at, next, twice, err := r.At(t)
		if err != nil {
			return 0, Point{}, err
		}
		return i, Point{Generation: r.Number, ReplID: r.ReplID(at.Offset), Offset: at.Offset, Time: at.Time, Next: next.Time, Twice: twice}, nil
	}
	e.Reason = "that is before everything that is kept"
	return 0, Point{}, e
}

func (r *Reader) pointAt(offset int64) (Point, error) {
	t, err := r.When(offset)
	return Point{Generation: r.Number, ReplID: r.ReplID(offset), Offset: offset, Time: t}, err
}
